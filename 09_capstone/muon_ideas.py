"""Two changes of Muon that the course does not use; ablations.md says what they gave.

Dimensions: m x n a matrix.
"""

from typing import Any

import torch
from torch import Tensor

from newton_schulz import SCALES, orthogonalize
from optimizers import Muon


class NormalizedMuon(Muon):
    """Muon whose rows take steps of one size, by a running mean of their squares (NorMuon).

    Li et al. 2025, "NorMuon: making Muon more efficient and scalable". The step as a whole keeps
    its length.
    """

    beta = 0.95

    def _update_(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        averages = torch.stack([self._average(parameter, group) for parameter in parameters])
        directions = orthogonalize(averages.to(self.dtype), self.polynomials).float()
        lr = group["lr"] * SCALES[group["adjust_lr_fn"]](*averages.shape[-2:])
        for parameter, direction in zip(parameters, directions, strict=True):
            square = direction.square().mean(-1, keepdim=True)  # (m, 1), one per row
            seen = self.state[parameter].setdefault("row_square", square.clone())
            seen.lerp_(square, 1 - self.beta)
            even = direction / (seen.sqrt() + 1e-8)
            even *= direction.norm() / even.norm().clamp(min=1e-8)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(even, alpha=lr)


class EverySecondStep(Muon):
    """Muon that moves the matrices twice as far, in every second step: half of the products."""

    n_steps = 0

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update the matrices in even steps; in odd ones, only their momentum."""
        self.n_steps += 1
        for group in self.param_groups:
            if self.n_steps % 2:
                for parameter in group["params"]:
                    self._average(parameter, group)
            else:
                group["lr"] *= 2
        if self.n_steps % 2 == 0:
            super().step()

"""Ideas for the training that the course does not use, each a few lines over `Trainer` or `Muon`.

tools/ablations.py trains `laptop` with each of them; ablations.md says what they gave. They are for
one process, and don't save what they add to the state of a run.

Dimensions: B batch size, T sequence length, N steps of a run.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_loader import Batch, DataLoader
from newton_schulz import COEFFICIENTS
from optimizers import Muon
from training_loop import Trainer

NOISE = 0.05  # of the input tokens
EMA_DECAY = 0.99
TAIL = 0.5  # of the run, whose weights are averaged
DECAY = 0.1


class NoisyInputs(Trainer):
    """5% of the tokens that the model reads are random ones; the targets are right.

    Token-level noise, against memorizing: the same window never looks the same twice.
    """

    def _micro_batches(self) -> Iterator[Batch]:
        V = self.config.model.vocab_size
        for x, y in super()._micro_batches():
            generator = torch.Generator().manual_seed(self.config.seed + 1_000_003 * self.step)
            noisy = torch.rand(x.shape, generator=generator) < NOISE
            yield torch.where(noisy, torch.randint(V, x.shape, generator=generator), x), y


class ShortContextFirst(Trainer):
    """Half of the steps with windows half as long and twice as many of them; then as usual."""

    def _micro_batches(self) -> Iterator[Batch]:
        if self.step >= self.max_steps // 2:
            yield from super()._micro_batches()
            return
        for x, y in super()._micro_batches():
            half = self.seq_len // 2
            yield torch.cat(x.split(half, dim=1)), torch.cat(y.split(half, dim=1))  # (2B, T / 2)


class SmallBatchFirst(Trainer):
    """Half of the steps with half the batch, then half of them with half as much again.

    McCandlish et al. 2018: early gradients agree even in small batches, late ones are noisy.
    """

    def __init__(
        self, model: nn.Module, train_tokens: np.ndarray, *args: Any, **options: Any
    ) -> None:
        super().__init__(model, train_tokens, *args, **options)
        B = self.config.batch_size
        self.loaders = [
            DataLoader(train_tokens, rows, self.seq_len, self.config.seed, self.device)
            for rows in (B // 2, B + B // 2)
        ]

    def _micro_batches(self) -> Iterator[Batch]:
        late = self.step >= self.max_steps // 2
        yield self.loaders[late].batch(self.step)


class AveragedWeights(Trainer):
    """What is evaluated is a running mean of the weights (EMA): w = 0.99 w + 0.01 new.

    Polyak and Juditsky 1992; it removes what the last batches did.
    """

    mean: list[Tensor] | None = None

    def update(self, loss: float) -> tuple[float, float]:
        """A step, then the mean."""
        result = super().update(loss)
        self.average_()
        return result

    @torch.no_grad()
    def average_(self) -> None:
        """Move the mean towards the weights."""
        if self.mean is None:
            self.mean = [parameter.clone() for parameter in self.model.parameters()]
        for mean, parameter in zip(self.mean, self.model.parameters(), strict=True):
            mean.lerp_(parameter, 1 - EMA_DECAY)

    @torch.no_grad()
    def evaluate(self) -> float:
        """The loss with the mean in place of the weights, which come back afterwards."""
        if self.mean is None:
            return super().evaluate()
        weights = [parameter.clone() for parameter in self.model.parameters()]
        self.put(self.mean)
        loss = super().evaluate()
        self.put(weights)
        return loss

    def put(self, values: list[Tensor]) -> None:
        """Give every parameter of the model a value."""
        for parameter, value in zip(self.model.parameters(), values, strict=True):
            parameter.copy_(value)


class TailAverage(AveragedWeights):
    """The plain mean of the weights of the last half of a run, whose rate never falls.

    Averaging instead of decay, as in schedule-free training (Defazio et al. 2024).
    """

    n_averaged = 0

    @torch.no_grad()
    def average_(self) -> None:
        """Add the weights to the mean, if the tail has begun."""
        if self.step < (1 - TAIL) * self.max_steps:
            return
        self.n_averaged += 1
        if self.mean is None:
            self.mean = [parameter.clone() for parameter in self.model.parameters()]
        for mean, parameter in zip(self.mean, self.model.parameters(), strict=True):
            mean.lerp_(parameter, 1 / self.n_averaged)


class MatrixDecay(Trainer):
    """Weight decay for the matrices that Muon updates, and for nothing else."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for group in muon(self).param_groups:
            group["weight_decay"] = DECAY


class TableDecay(Trainer):
    """Weight decay for the embedding and the output layer, and for nothing else."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizers[-1].param_groups[0]["weight_decay"] = DECAY


class FiveSteps(Trainer):
    """Muon with five equal Newton-Schulz steps, as its authors have it, instead of three."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        muon(self).polynomials = (COEFFICIENTS,) * 5


class TwoTargetsTrainer(Trainer):
    """Targets for `model_ideas.TwoTargets`: the next token of T, then the one after it of T - 1."""

    def _micro_batches(self) -> Iterator[Batch]:
        for x, y in super()._micro_batches():
            yield x, torch.cat([y, y[:, 1:]], dim=1)  # y (B, 2T - 1)


def with_muon(kind: type[Muon]) -> type[Trainer]:
    """A trainer whose matrices are updated by another kind of Muon, with the same options."""

    class WithMuon(Trainer):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            old = muon(self)
            new = kind(old.param_groups, dtype=old.dtype, polynomials=old.polynomials)
            self.optimizers[self.optimizers.index(old)] = new

    return WithMuon


def muon(trainer: Trainer) -> Muon:
    """The trainer's optimizer of matrices."""
    (optimizer,) = (each for each in trainer.optimizers if isinstance(each, Muon))
    return optimizer

"""Two rules that turn a gradient into a step: AdamW for any parameter, Muon for matrices.

AdamW (Loshchilov and Hutter 2019, algorithm 2; without weight decay, Kingma and Ba 2015) gives each
parameter a step of its own: the running mean of its gradients, divided by their typical size.

    m = b1 m + (1 - b1) g         m_hat = m / (1 - b1^t)        both means start at zero; dividing
    v = b2 v + (1 - b2) g^2       v_hat = v / (1 - b2^t)        by 1 - b^t corrects for that
    w = w - lr decay w - lr m_hat / (sqrt(v_hat) + eps)

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) treats a matrix as a whole. It averages
the gradients, then gives all directions of the average the same strength: of its singular value
decomposition U S V^T it keeps U V^T, which newton_schulz.py approximates with matrix products.

    m = b m + (1 - b) g
    w = w - lr decay w - lr scale newton_schulz((1 - b) g + b m)

Embeddings, the output layer, and everything that is not a matrix are left to AdamW.

Dimensions: m x n a matrix, t the number of the step, w a parameter, g its gradient.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from newton_schulz import COEFFICIENTS, SCALES, Polynomial, orthogonalize
from utils.errors import UsageError, pick, run_program


class AdamW(Optimizer):
    """Adam with decoupled weight decay. `params` are parameters, or groups with their own options.

    The state uses the names of `torch.optim.AdamW`, so either can load the other's state_dict.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        check_options(lr=lr, eps=eps, weight_decay=weight_decay)
        check_options(below=1, beta1=betas[0], beta2=betas[1])
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in with_gradient(group):
                self._update_(parameter, group)

    def _update_(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad  # g
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        t = state["step"].item()
        beta1, beta2 = group["betas"]
        lr = group["lr"]
        # m: running mean of the gradient. lerp_ moves the old mean 1 - b1 of the way towards g
        mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
        # v: running mean of the squared gradient
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # sqrt(v_hat) + eps: the typical size of this parameter's gradients, never zero
        size = (square / (1 - beta2**t)).sqrt_().add_(group["eps"])
        # w - lr decay w: decoupled, so that v does not divide the decay as it divides the gradient
        parameter.mul_(1 - lr * group["weight_decay"])
        # w - lr m_hat / (sqrt(v_hat) + eps): the correction of m goes into the scalar factor
        parameter.addcdiv_(mean, size, value=-lr / (1 - beta1**t))


class Muon(Optimizer):
    """Momentum, made orthogonal. For matrices only: raises UsageError for any other parameter.

    Matrices of one shape are made orthogonal in one batch, which is faster than one by one, and in
    `dtype`: the result is approximate anyway, and bfloat16 is fast where the hardware has it. By
    default five Newton-Schulz steps do it, as in `torch.optim.Muon`; `polynomials` may hold others,
    such as newton_schulz.POLAR_EXPRESS. `adjust_lr_fn` is one of SCALES.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        adjust_lr_fn: str = "original",
        dtype: torch.dtype = torch.bfloat16,
        polynomials: Sequence[Polynomial] = (COEFFICIENTS,) * 5,
    ) -> None:
        check_options(lr=lr, weight_decay=weight_decay)
        check_options(below=1, momentum=momentum)
        pick(adjust_lr_fn, SCALES, what="adjust_lr_fn")
        self.dtype = dtype
        self.polynomials = polynomials
        options = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices. PyTorch calls this for the constructor's `params` too."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.ndim != 2:
                shape = tuple(parameter.shape)
                raise UsageError(
                    f"Muon updates only matrices; use AdamW for a parameter of shape {shape}"
                )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for parameters in same_shaped(with_gradient(group)):
                self._update_(parameters, group)

    def _update_(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update matrices of one shape, (m, n)."""
        averages = torch.stack([self._average(parameter, group) for parameter in parameters])
        # U V^T: the average with all its singular values close to 1
        directions = orthogonalize(averages.to(self.dtype), self.polynomials)  # (n_matrices, m, n)
        scale = SCALES[group["adjust_lr_fn"]](*averages.shape[-2:])
        lr = group["lr"]
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter.mul_(1 - lr * group["weight_decay"])  # w - lr decay w
            parameter.sub_(direction, alpha=lr * scale)  # w - lr scale U V^T

    def _average(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Update the momentum m and return what to orthogonalize."""
        gradient = parameter.grad  # g
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        weight = 1 - group["momentum"]
        average = state["momentum_buffer"].lerp_(gradient, weight)  # m = b m + (1 - b) g
        # Nesterov: (1 - b) g + b m, as if g were averaged in once more
        return average.lerp(gradient, weight) if group["nesterov"] else average


def with_gradient(group: dict[str, Any]) -> list[Tensor]:
    """Return the group's parameters that have a gradient."""
    return [parameter for parameter in group["params"] if parameter.grad is not None]


def same_shaped(parameters: list[Tensor]) -> Iterable[list[Tensor]]:
    """Sort parameters into lists that can be stacked: same shape, dtype and device."""
    stacks: dict[tuple[object, ...], list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        stacks[parameter.shape, parameter.dtype, parameter.device].append(parameter)
    return stacks.values()


def check_options(below: float = math.inf, **options: float) -> None:
    """Raise UsageError for an option outside the range from 0 to `below`, exclusive."""
    for name, value in options.items():
        if not 0 <= value < below:
            raise UsageError(f"{name} is {value}; it must be at least 0 and below {below:g}")


def main() -> None:
    """Show the step that each rule takes for one ill-conditioned gradient, by singular values."""
    torch.manual_seed(0)
    left = torch.randn(32, 16)
    right = torch.randn(16, 64)
    gradient = left @ torch.diag(torch.logspace(0, -3, 16)) @ right  # (32, 64), of rank 16
    steps = {"gradient": gradient}
    for rule in (AdamW, Muon):
        weight = torch.zeros(32, 64, requires_grad=True)
        weight.grad = gradient.clone()
        rule([weight], lr=1.0).step()
        steps[rule.__name__] = weight.detach()  # the weight was zero: now it is the step
    print("singular values 1, 4, 8, 12 and 16 of a gradient, and of each rule's step for it")
    for name, step in steps.items():
        values = torch.linalg.svdvals(step)[[0, 3, 7, 11, 15]]
        print(f"  {name:8}" + "".join(f"{value:10.4f}" for value in values))


if __name__ == "__main__":
    run_program(main)

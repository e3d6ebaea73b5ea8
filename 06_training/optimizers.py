"""Two rules that turn a gradient into a step: AdamW for any parameter, Muon for matrices.

AdamW (Loshchilov and Hutter 2019, algorithm 2; without its decay, Kingma and Ba 2015) gives every
number a step of its own: the mean of its gradients over their typical size.

    m = b1 m + (1 - b1) g         m_hat = m / (1 - b1^t)        both means start at zero; dividing
    v = b2 v + (1 - b2) g^2       v_hat = v / (1 - b2^t)        by 1 - b^t makes up for it
    w = w - lr decay w - lr m_hat / (sqrt(v_hat) + eps)

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) treats a matrix as one thing. It
averages the gradients, then gives the average equal strength in all its directions: of the singular
value decomposition U S V^T it keeps U V^T, which `newton_schulz` finds by multiplying matrices.

    m = b m + (1 - b) g
    w = w - lr decay w - lr scale newton_schulz((1 - b) g + b m)

Embeddings, the output layer, and everything that is not a matrix are left to AdamW.
Dimensions: m x n a matrix, t the number of the step.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from utils.errors import UsageError, pick, run_program

# How a matrix (m, n) stretches Muon's learning rate, since U V^T has the same singular values in
# every shape but smaller numbers in a large one. The second makes them as large as AdamW's usually
# are, about 0.2 (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
SCALES: dict[str, Callable[[int, int], float]] = {
    "original": lambda m, n: math.sqrt(max(1.0, m / n)),
    "match_rms_adamw": lambda m, n: 0.2 * math.sqrt(max(m, n)),
}


class AdamW(Optimizer):
    """Adam with decoupled weight decay. `params` are parameters, or groups with their own options.

    The state has the names of `torch.optim.AdamW`, so either can continue what the other began.
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
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in with_gradient(group):
                self._update_(parameter, group)

    def _update_(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        t, (beta1, beta2), lr = state["step"].item(), group["betas"], group["lr"]

        mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = (square / (1 - beta2**t)).sqrt_().add_(group["eps"])
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.addcdiv_(mean, size, value=-lr / (1 - beta1**t))


class Muon(Optimizer):
    """Momentum, made orthogonal. Takes matrices only: raises UsageError at anything else.

    Matrices of one shape go through `newton_schulz` together, which is faster than one by one, in
    `dtype`: its result is rough anyhow, and bfloat16 is fast where the processor has it.
    `adjust_lr_fn` is one of SCALES.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "original",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        check_options(lr=lr, weight_decay=weight_decay)
        check_options(below=1, momentum=momentum)
        pick(adjust_lr_fn, SCALES, what="adjust_lr_fn")
        self.dtype = dtype
        options = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        options |= {"nesterov": nesterov, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices. PyTorch calls this for the first ones too."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.ndim != 2:
                shape = tuple(parameter.shape)
                raise UsageError(f"Muon moves matrices; give a parameter of shape {shape} to AdamW")

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for parameters in same_shaped(with_gradient(group)):
                self._update_(parameters, group)

    def _update_(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        averages = torch.stack([self._average(parameter, group) for parameter in parameters])
        directions = newton_schulz(averages.to(self.dtype), group["ns_steps"])  # (matrices, m, n)
        lr, scale = group["lr"], SCALES[group["adjust_lr_fn"]](*averages.shape[-2:])
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter.mul_(1 - lr * group["weight_decay"])
            parameter.sub_(direction, alpha=lr * scale)

    def _average(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Update the momentum; Nesterov's variant mixes the gradient in once more."""
        state, gradient, new = self.state[parameter], parameter.grad, 1 - group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"].lerp_(gradient, new)
        return average.lerp(gradient, new) if group["nesterov"] else average


def newton_schulz(update: Tensor, steps: int = 5) -> Tensor:
    """Push every singular value of `update` (..., m, n) close to 1, and keep its directions.

    One step is X <- a X + (b X X^T + c (X X^T)^2) X. It turns each singular value s into
    a s + b s^3 + c s^5, so no decomposition is needed. The coefficients (Jordan et al. 2024) climb
    fast from zero and pay by ending near 1, not at it: after five steps, a value above 0.0016 of
    the Frobenius norm lies between 0.68 and 1.21, and a smaller one has grown up to 485-fold.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    if update.size(-2) > update.size(-1):
        return newton_schulz(update.mT, steps).mT  # X X^T is smaller the other way round
    x = update.reshape(-1, *update.shape[-2:])  # (matrices, m, n)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # now no singular value exceeds 1
    for _ in range(steps):
        gram = x @ x.mT  # (matrices, m, m)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b gram + c gram @ gram
        x = torch.baddbmm(x, polynomial, x, beta=a)  # a x + polynomial @ x
    return x.reshape(update.shape)


def with_gradient(group: dict[str, Any]) -> list[Tensor]:
    """Return the group's parameters that the backward pass reached."""
    return [parameter for parameter in group["params"] if parameter.grad is not None]


def same_shaped(parameters: list[Tensor]) -> Iterable[list[Tensor]]:
    """Sort parameters into lists that can be stacked: one shape, one type, one device."""
    stacks: dict[tuple[object, ...], list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        stacks[parameter.shape, parameter.dtype, parameter.device].append(parameter)
    return stacks.values()


def check_options(below: float = math.inf, **options: float) -> None:
    """Raise UsageError for an option outside 0 to `below`."""
    for name, value in options.items():
        if not 0 <= value < below:
            raise UsageError(f"{name} is {value}; it must be at least 0 and below {below:g}")


def main() -> None:
    """Show what each rule makes of one lopsided gradient: a step, and its singular values."""
    torch.manual_seed(0)
    left, right = torch.randn(32, 16), torch.randn(16, 64)
    gradient = left @ torch.diag(torch.logspace(0, -3, 16)) @ right  # (32, 64), of rank 16
    steps = {"gradient": gradient}
    for rule in (AdamW, Muon):
        weight = torch.zeros(32, 64, requires_grad=True)
        weight.grad = gradient.clone()
        rule([weight], lr=1.0).step()
        steps[rule.__name__] = weight.detach()
    print("singular values 1, 4, 8, 12 and 16 of a gradient, and of the step each rule makes of it")
    for name, step in steps.items():
        values = torch.linalg.svdvals(step)[[0, 3, 7, 11, 15]]
        print(f"  {name:8}" + "".join(f"{value:10.4f}" for value in values))


if __name__ == "__main__":
    run_program(main)

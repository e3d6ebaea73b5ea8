"""Three functions with a backward pass of their own: fewer trips through memory than autograd's.

Autograd differentiates one small operation at a time, and each writes all its numbers to memory and
reads them again. On a processor that can multiply faster than its memory can follow, that is what
takes the time. Worked out by hand, the derivative of the whole is shorter:

    y = n w               dx = (g w - n mean(g w n)) / r      n = x / r, r = sqrt(mean(x^2) + eps)
    y = R n               dx = (h - n mean(h n)) / r          R turns pairs; h = R^T g turns back
    y = max(x, 0)^2       dx = 2 g max(x, 0)

Here g is the gradient of y, and means go over the last axis. Reductions are taken in float32.
Dimensions: d features, the last axis.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from layer_norm import rms_normalize
from positional_embeddings import apply_rotary, rotary_angles
from utils.errors import run_program


class RMSNorm(torch.autograd.Function):
    """x (..., d) divided by its root mean square, times weight (d,); the result is of `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        gradient = grad_outputs[0].to(scale.dtype)
        if x.device.type == "cpu" and x.dtype == weight.dtype == scale.dtype:
            return *through_layer_norm(gradient, x, weight, scale), None, None
        normal = x * scale
        of_weight = (gradient * normal).reshape(-1, x.size(-1)).sum(0)
        of_x = through_norm_(gradient * weight, normal, scale)
        return of_x.to(x.dtype), of_weight, None, None


class NormalizeAndRotate(torch.autograd.Function):
    """Queries or keys (B, n_heads, T, d) with root mean square 1, then turned by their angles.

    cos and sin broadcast to (B, n_heads, T, d / 2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = inverse_rms(wide, eps)
        ctx.save_for_backward(x, scale, cos, sin)
        return turned(wide, cos, sin).mul_(scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None, None]:
        x, scale, cos, sin = ctx.saved_tensors
        turned_back = turned(grad_outputs[0].to(scale.dtype), cos, -sin)
        of_x = through_norm_(turned_back, x.to(scale.dtype) * scale, scale)
        return of_x.to(x.dtype), None, None, None


class ReLUSquared(torch.autograd.Function):
    """max(x, 0)^2; any shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad_outputs[0] * positive).mul_(2)


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last axis: x (..., d) -> (..., 1), float32 or wider."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
    return length.square_().div_(x.size(-1)).add_(eps).rsqrt_()


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`apply_rotary`, written into the result without pieces on the way; autograd sees nothing."""
    first, second = x.chunk(2, dim=-1)
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    one, two = result.chunk(2, dim=-1)
    torch.mul(first, cos, out=one).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=two).addcmul_(first, sin)
    return result


def through_layer_norm(
    gradient: Tensor, x: Tensor, weight: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """RMSNorm's gradients of x and weight, from the one pass that LayerNorm has on a processor.

    Told that the mean is zero, it has one term too many, for the mean's own share: put it back.
    """
    no_mean, shape = torch.zeros_like(scale), [x.size(-1)]
    of_x, of_weight, _ = torch.ops.aten.native_layer_norm_backward(
        gradient, x, shape, no_mean, scale, weight, None, [True, True, False]
    )
    too_much = (gradient @ weight).unsqueeze(-1).mul_(scale / x.size(-1))
    return of_x.add_(too_much), of_weight


def through_norm_(gradient: Tensor, normal: Tensor, scale: Tensor) -> Tensor:
    """(g - n mean(g n)) / r, written over `gradient`: what of it changes the direction of x."""
    along = torch.linalg.vecdot(gradient, normal).unsqueeze(-1).div_(-normal.size(-1))
    return gradient.addcmul_(normal, along).mul_(scale)


def main() -> None:
    """Compare each hand-made derivative with autograd's."""
    torch.manual_seed(0)
    x, w = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    cos, sin = rotary_angles(torch.arange(5), 8)
    pairs = {
        "RMSNorm": (RMSNorm.apply(x, w, 1e-5, x.dtype), rms_normalize(x) * w),
        "NormalizeAndRotate": (
            NormalizeAndRotate.apply(x, cos, sin, 1e-5),
            apply_rotary(rms_normalize(x), cos, sin),
        ),
        "ReLUSquared": (ReLUSquared.apply(x), torch.relu(x).square()),
    }
    for name, outputs in pairs.items():
        read_out = torch.randn_like(x)
        ours, autograds = (torch.autograd.grad((y * read_out).sum(), x)[0] for y in outputs)
        difference = (ours - autograds).abs().max().item()
        print(f"{name:20} largest difference of the gradients: {difference:.1e}")


if __name__ == "__main__":
    run_program(main)

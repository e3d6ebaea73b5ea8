"""Three autograd functions with hand-written backward passes that cause less memory traffic.

Autograd differentiates one small operation at a time, and each of them reads its inputs from memory
and writes its result back. On a processor that multiplies faster than its memory can deliver, this
traffic dominates the time. The derivative of the whole, derived by hand, needs less of it:

    y = n * w          dx = s (g*w - n mean(g*w*n))    n = s x,  s = 1 / sqrt(mean(x^2) + eps)
    y = R n            dx = s (h - n mean(h*n))        R rotates pairs,  h = R^T g
    y = max(x, 0)^2    dx = 2 g max(x, 0)

g is the gradient of the loss with respect to y, * multiplies elementwise, and every mean is over
the last axis. Reductions are computed in float32.

Dimensions: d features, the last axis.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from layer_norm import rms_normalize
from positional_embeddings import apply_rotary, rotary_angles
from utils.errors import run_program


class RMSNormFunction(torch.autograd.Function):
    """RMSNorm of x (..., d) with a weight (d,); the result has the given dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = inverse_rms(x, eps)  # s
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)  # y = s x * w

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        gradient = grad_outputs[0].to(scale.dtype)  # g
        if x.device.type == "cpu" and x.dtype == weight.dtype == scale.dtype:
            return *rms_norm_backward_on_cpu(gradient, x, weight, scale), None, None
        normalized = x * scale  # n
        grad_weight = (gradient * normalized).reshape(-1, x.size(-1)).sum(0)  # dw = sum of g*n
        grad_x = rms_normalize_backward_(gradient * weight, normalized, scale)
        return grad_x.to(x.dtype), grad_weight, None, None


class NormalizeAndRotateFunction(torch.autograd.Function):
    """Queries or keys (B, n_heads, T, d): root mean square 1, then rotated by their positions.

    cos and sin broadcast to (B, n_heads, T, d / 2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = inverse_rms(wide, eps)  # s
        ctx.save_for_backward(x, scale, cos, sin)
        return rotate(wide, cos, sin).mul_(scale).to(x.dtype)  # y = R n = s R x

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None, None]:
        x, scale, cos, sin = ctx.saved_tensors
        gradient = grad_outputs[0].to(scale.dtype)  # g
        rotated_back = rotate(gradient, cos, -sin)  # h = R^T g: the same angles, reversed
        normalized = x.to(scale.dtype) * scale  # n
        grad_x = rms_normalize_backward_(rotated_back, normalized, scale)
        return grad_x.to(x.dtype), None, None, None


class ReLUSquaredFunction(torch.autograd.Function):
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
        return (grad_outputs[0] * positive).mul_(2)  # dx = 2 g max(x, 0)


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    """s = 1 / sqrt(mean(x^2) + eps): x (..., d) -> (..., 1), float32 or wider."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
    return length.square_().div_(x.size(-1)).add_(eps).rsqrt_()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`apply_rotary` without intermediate tensors: both halves are written in place.

    Autograd cannot differentiate this; it runs inside the functions above only.
    """
    first, second = x.chunk(2, dim=-1)
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first_out, second_out = result.chunk(2, dim=-1)
    torch.mul(first, cos, out=first_out).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=second_out).addcmul_(first, sin)
    return result


def rms_norm_backward_on_cpu(
    gradient: Tensor, x: Tensor, weight: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """RMSNorm's gradients of x and of the weight, from PyTorch's one-pass LayerNorm kernel.

    LayerNorm computes y = z*w with z = s (x - m), and its backward kernel takes m and s as inputs:

        LayerNorm:   dx = s (g*w - mean(g*w) - z mean(g*w*z))      dw = sum over tokens of g*z

    With m = 0, z is RMSNorm's n: dw is right, and dx differs from RMSNorm's by one term, which
    LayerNorm has because its mean depends on x. Adding that term back gives RMSNorm's gradient:

        RMSNorm:     dx = s (g*w - n mean(g*w*n)) = (LayerNorm's dx at m = 0) + s mean(g*w)
    """
    zero_mean = torch.zeros_like(scale)
    grad_x, grad_weight, _ = torch.ops.aten.native_layer_norm_backward(
        gradient, x, [x.size(-1)], zero_mean, scale, weight, None, [True, True, False]
    )
    mean_term = (gradient @ weight).unsqueeze(-1).mul_(scale / x.size(-1))  # s mean(g*w)
    return grad_x.add_(mean_term), grad_weight


def rms_normalize_backward_(gradient: Tensor, normalized: Tensor, scale: Tensor) -> Tensor:
    """dx = s (g - n mean(g*n)), written over `gradient`.

    The subtraction removes the part of g along n: making x longer does not change n = s x.
    """
    negative_mean = torch.linalg.vecdot(gradient, normalized)
    negative_mean = negative_mean.unsqueeze(-1).div_(-normalized.size(-1))  # -mean(g*n)
    return gradient.addcmul_(normalized, negative_mean).mul_(scale)


def main() -> None:
    """Compare each hand-written gradient with autograd's."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, requires_grad=True)
    w = torch.randn(8, requires_grad=True)
    cos, sin = rotary_angles(torch.arange(5), 8)
    pairs = {
        "RMSNorm": (RMSNormFunction.apply(x, w, 1e-5, x.dtype), rms_normalize(x) * w),
        "NormalizeAndRotate": (
            NormalizeAndRotateFunction.apply(x, cos, sin, 1e-5),
            apply_rotary(rms_normalize(x), cos, sin),
        ),
        "ReLUSquared": (ReLUSquaredFunction.apply(x), torch.relu(x).square()),
    }
    for name, outputs in pairs.items():
        output_gradient = torch.randn_like(x)
        ours, autograds = (torch.autograd.grad((y * output_gradient).sum(), x)[0] for y in outputs)
        difference = (ours - autograds).abs().max().item()
        print(f"{name:20} largest difference of the gradients: {difference:.1e}")


if __name__ == "__main__":
    run_program(main)

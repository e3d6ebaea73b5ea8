"""Quantization: weights as small integers and a few scales, in a quarter of the bytes or fewer.

    scale_r = max |w_r| / 127         one per row r of the matrix (symmetric: 0 stays exactly 0)
    q_r     = round(w_r / scale_r)    integers from -127 to 127, one byte each
    w_r    ~= scale_r q_r             off by at most scale_r / 2

A row's scale is the same for all of its products, so it is applied once, after the sum:

    y_r = x . w_r ~= scale_r (x . q_r)

One scale per row is the weight format of LLM.int8() (Dettmers et al. 2022, section 2); 4 bits need
a scale for every few weights, as in Dettmers and Zettlemoyer 2023. Only linear layers are
quantized: they hold nearly all weights. Embeddings are looked up, not multiplied, and norms are
tiny.

    model = quantized(model)               the same model, its linear layers in 8 bits
    model = quantized(model, Int4Linear)   ... in 4 bits, 32 weights per scale

Dimensions: d_in inputs and d_out outputs of a layer, G groups of a row.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import UsageError, run_program

INT8_MAX = 127  # -128 is not used: without it, -w has the code -q
INT4_MAX = 7
GROUP = 32  # weights per 4-bit scale


# --- 8 bits, one scale per row ---


def quantize_rows(weight: Tensor, largest: int = INT8_MAX) -> tuple[Tensor, Tensor]:
    """Round each row of a matrix to integers from -largest to largest.

    weight (d_out, d_in) -> q (d_out, d_in) int8 and scale (d_out,) float32, with
    weight ~= scale[:, None] q. A row of zeros gets the scale 1.
    """
    weight = weight.float()  # bfloat16 can't even tell 127 codes of one sign apart
    scale = weight.abs().amax(dim=-1) / largest  # (d_out,): the step between two codes
    scale = scale.where(scale > 0, 1.0)  # 0 / 0 would be nan
    codes = torch.round(weight / scale[:, None])  # halves go to the even integer
    return codes.clamp(-largest, largest).to(torch.int8), scale


def dequantize_rows(q: Tensor, scale: Tensor) -> Tensor:
    """The matrix that q and scale stand for: (d_out, d_in), in the dtype of the scale."""
    return q * scale[:, None]


def int8_linear(x: Tensor, q: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., d_in) times the rows that q and scale stand for: (..., d_out).

    The product runs on the integers, and each of its columns is scaled once.
    """
    y = F.linear(x, q.to(x.dtype)) * scale  # (..., d_out)
    return y if bias is None else y + bias


class Int8Linear(nn.Module):
    """nn.Linear with its matrix in one byte per weight and a scale per row; not for training."""

    q: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        q, scale = quantize_rows(linear.weight.detach())
        # Buffers are saved and moved like parameters, but no optimizer changes them.
        self.register_buffer("q", q)
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        """The rounded matrix, for code that reads it (the fused parts, the output layer)."""
        return dequantize_rows(self.q, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        return int8_linear(x, self.q, self.scale, self.bias)


# --- 4 bits, one scale per group, two weights per byte ---


def pack_nibbles(q: Tensor) -> Tensor:
    """Two integers from -8 to 7 in each byte: (..., 2n) -> (..., n) uint8."""
    low, high = (q + 8).to(torch.uint8).unflatten(-1, (-1, 2)).unbind(-1)  # 0 to 15: half a byte
    return low | (high << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """The inverse of pack_nibbles: (..., n) uint8 -> (..., 2n) int8."""
    both = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    return both.to(torch.int8) - 8


class Int4Linear(nn.Module):
    """nn.Linear with half a byte per weight and a scale for every 32 of them; not for training.

    Raises UsageError if d_in is not divisible by 32.
    """

    packed: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        if linear.in_features % GROUP != 0:
            raise UsageError(f"{linear.in_features} inputs are not divisible by groups of {GROUP}")
        # Every group is a short row of its own: one large weight spoils 31 others, not the row.
        q, scale = quantize_rows(linear.weight.detach().reshape(-1, GROUP), INT4_MAX)
        self.register_buffer("packed", pack_nibbles(q))  # (d_out * G, 16)
        self.register_buffer("scale", scale.to(linear.weight.dtype))  # (d_out * G,)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())
        self.shape = linear.weight.shape

    @property
    def weight(self) -> Tensor:
        """The rounded matrix (d_out, d_in)."""
        return dequantize_rows(unpack_nibbles(self.packed), self.scale).view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out). A sum crosses groups, so the scales can't wait for it."""
        return F.linear(x, self.weight, self.bias)


# --- whole models ---


def quantized(
    model: nn.Module, layer: type[Int8Linear] | type[Int4Linear] = Int8Linear
) -> nn.Module:
    """A copy of the model in which every nn.Linear is such a layer; the model stays as it is."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            model.set_submodule(name, layer(module))
    return model


def size_in_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and of the buffers that are saved; a shared tensor counts once."""
    tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def main() -> None:
    """Quantize the small model of lesson 07: its size, and its loss on text it has not seen."""
    from data_loader import evaluation_blocks
    from evaluation import sum_losses
    from small_model import load_small_model
    from utils.mock_corpus import generate

    model, tokenizer = load_small_model()
    tokens = tokenizer.encode_array(generate(6401, seed=1)[:6401])  # other plays, same grammar
    batches = list(evaluation_blocks(tokens, model.config.max_seq_len, batch_size=25))
    models = {"float32": model, "int8": quantized(model), "int4": quantized(model, Int4Linear)}
    print(f"{'':8} {'bytes':>10} {'share':>6} {'loss':>8}")
    for name, each in models.items():
        size = size_in_bytes(each)
        loss = sum_losses(each, batches) / (len(tokens) - 1)
        print(f"{name:8} {size:>10,} {size / size_in_bytes(model):>6.1%} {loss:>8.4f}")


if __name__ == "__main__":
    run_program(main)

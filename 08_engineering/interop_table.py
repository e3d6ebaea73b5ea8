"""Converting weights between two layouts, with a table that says which tensor goes where.

    ours                                   theirs                            how
    blocks.0.attention.q_proj.weight  \
    blocks.0.attention.k_proj.weight   >   transformer.h.0.attn.c_attn.weight    joined, transposed
    blocks.0.attention.v_proj.weight  /

A format (interop_gpt2.py, interop_llama.py) is a list of rows, one for each tensor of theirs. Each
row knows how to make their tensor from ours and ours from theirs. Both directions come from the
same table, so they can't contradict each other. Nothing is rounded: values are only moved.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from utils.errors import CourseError, run_program

Weights = Mapping[str, Tensor]


class Row(Protocol):
    """One tensor of theirs, and what it is made of."""

    @property
    def theirs(self) -> str:
        """Its name in their file."""
        ...

    def to_theirs(self, weights: Weights) -> Tensor:
        """Their tensor, made from our weights."""
        ...

    def to_ours(self, tensor: Tensor) -> dict[str, Tensor]:
        """Our weights, taken out of their tensor. Raises CourseError if we can't express it."""
        ...


@dataclass(frozen=True)
class Linear:
    """Our weight, or several of them one below the other, as nn.Linear stores it: (out, in)."""

    theirs: str
    ours: tuple[str, ...]

    def to_theirs(self, weights: Weights) -> Tensor:
        return torch.cat([weights[name] for name in self.ours])

    def to_ours(self, tensor: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.ours, tensor.chunk(len(self.ours)), strict=True))


@dataclass(frozen=True)
class Conv1D:
    """The same, as GPT-2 stores its matrices: transposed, (in, out).

    Its authors wrote the linear layer as a convolution of width 1: y = x W, where nn.Linear
    computes y = x W^T.
    """

    theirs: str
    ours: tuple[str, ...]

    def to_theirs(self, weights: Weights) -> Tensor:
        return torch.cat([weights[name] for name in self.ours]).T

    def to_ours(self, tensor: Tensor) -> dict[str, Tensor]:
        return Linear(self.theirs, self.ours).to_ours(tensor.T)


@dataclass(frozen=True)
class Constant:
    """A parameter that they have and we don't: only this value computes what our model computes."""

    theirs: str
    value: float
    shape: tuple[int, ...]
    reason: str  # why another value can't be read

    def to_theirs(self, weights: Weights) -> Tensor:
        return torch.full(self.shape, self.value)

    def to_ours(self, tensor: Tensor) -> dict[str, Tensor]:
        if bool((tensor == self.value).all()):
            return {}
        low, high = tensor.min().item(), tensor.max().item()
        raise CourseError(
            f"{self.theirs} has values from {low:.4g} to {high:.4g}, not {self.value:g}: "
            f"{self.reason}"
        )


def export_weights(rows: Iterable[Row], ours: Weights) -> dict[str, Tensor]:
    """Their tensors by name, made from our state dict. Copies: the model keeps its own."""
    return {row.theirs: row.to_theirs(ours).clone().contiguous() for row in rows}


def import_weights(rows: Sequence[Row], theirs: Weights, shapes: Weights) -> dict[str, Tensor]:
    """Our state dict, made from their tensors; `shapes` are ours, without data (device "meta").

    Raises CourseError, naming the tensor, if one is missing, unexpected or of another shape.
    """
    check_tensors(theirs, {row.theirs: tuple(row.to_theirs(shapes).shape) for row in rows})
    ours: dict[str, Tensor] = {}
    for row in rows:
        for name, tensor in row.to_ours(theirs[row.theirs]).items():
            # Two of theirs may be one of ours (interop_llama.py): then they must be equal.
            if name in ours and not torch.equal(ours[name], tensor):
                raise CourseError(f"{row.theirs} should equal its twin: {name} is one matrix here")
            ours[name] = tensor.clone().contiguous()
    return ours


def check_tensors(found: Weights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compare names and shapes. Raises CourseError that names the first difference."""
    if missing := [name for name in expected if name not in found]:
        raise CourseError(f"the tensor {listed(missing)} is missing")
    if extra := [name for name in found if name not in expected]:
        raise CourseError(f"the tensor {listed(extra)} has no place in this model")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            actual = tuple(found[name].shape)
            raise CourseError(f"{name} has shape {actual}; with this config.json it is {shape}")


def count_layers(names: Iterable[str]) -> int:
    """How many different layer numbers occur: "transformer.h.3.ln_1.weight" is of layer 3."""
    return len({found[1] for name in names if (found := re.search(r"\.(\d+)\.", name))})


def listed(names: Sequence[str]) -> str:
    """The first name, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def main() -> None:
    """Show two kinds of rows at work on matrices small enough to print."""
    ours = {"q": torch.tensor([[1, 2], [3, 4]]), "k": torch.tensor([[5, 6], [7, 8]])}
    for row in (Linear("theirs", ("q", "k")), Conv1D("theirs", ("q", "k"))):
        theirs = row.to_theirs(ours)
        back = row.to_ours(theirs)
        same = all(torch.equal(back[name], ours[name]) for name in ours)
        print(f"{type(row).__name__:<7} {theirs.tolist()}   and back: {same}")


if __name__ == "__main__":
    run_program(main)

"""Your own code as the model: every exercise of lessons 01 to 04 that you have solved is used.

    solved         your code, from exercises/exercises.py
    to do          the reference
    wrong          refused, with the number of the exercise: no training on a mistake

Exercises are judged by their tests (my_pieces.py). The pieces that the model needs are then tried
in a small model, one at a time (part_gate.py), because a piece may pass its own tests and still
fail where a model calls it in another way.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from my_pieces import Piece, find_pieces
from part_gate import ADDITIVE, Difference, differences
from utils.config import ModelConfig
from utils.errors import CourseError
from utils.grader.exercises import ROOT, how_to
from utils.grader.guard import restored_state
from utils.grader.report import SOLVED, wrap

POSITION_PARTS = {  # by ModelConfig.position
    "learned": {"learned_positions"},
    "sinusoidal": {"sinusoidal_positions"},
    "rope": {"rotary_angles", "apply_rotary"},
    "alibi": {"alibi_slopes", "alibi_bias"},
}
ANY_MODEL = (  # configurations that use every part, for Parts.mine() without one
    ModelConfig(),
    ModelConfig(norm="rmsnorm", activation="swiglu", position="rope", n_kv_heads=2, bias=False),
    ModelConfig(position="alibi"),
    ModelConfig(position="sinusoidal", activation="relu2", norm_placement="post"),
)
INDENT = " " * 8  # under the labels of train.py
NOTE = 36  # columns that are left for a remark


def used_parts(config: ModelConfig) -> set[str]:
    """The parts that a model of this configuration calls, as fields of `Parts`."""
    grouped = config.kv_heads < config.n_heads  # then query heads share keys and values
    return {
        *("attention", "causal_mask", "split_heads", "merge_heads", "block", "token_embedding"),
        *(("grouped_query", "repeat_kv") if grouped else ("multi_head",)),
        "rms_norm" if config.norm == "rmsnorm" else "layer_norm",
        "swiglu" if config.activation == "swiglu" else "feed_forward",
        *POSITION_PARTS[config.position],
    }


@dataclass(frozen=True)
class MyParts:
    """Which parts of a model are the learner's own, and whose the others are."""

    own: dict[str, Any]  # field of Parts: your function or class
    used: tuple[Piece, ...]  # all that the model uses, yours and the reference's
    unused: tuple[Piece, ...]  # solved, but this model does not need them
    no_additive: frozenset[str]  # used, although they fail with additive masks

    def summary(self) -> str:
        """ "9 of 12 parts of this model are your own code"."""
        return f"{len(self.own)} of {len(self.used)} parts of this model are your own code"

    def table(self) -> str:
        """Whose each part is, in at most 80 columns, under the label "parts"."""
        lines = [f"parts   {self.summary()}"]
        lines += [f"{INDENT}{self._row(piece)}".rstrip() for piece in self.used]
        if self.unused:
            names = ", ".join(f"{piece.part} ({piece.number})" for piece in self.unused)
            lines += wrap(f"solved, but not part of this model: {names}", INDENT)
        return "\n".join(lines)

    def _row(self, piece: Piece) -> str:
        """ "split_heads          yours     2.1"."""
        whose = "yours" if piece.part in self.own else "reference"
        note = textwrap.shorten(self._note(piece), NOTE, placeholder=" ...")
        return f"{piece.part:<21}{whose:<10}{piece.number:<5}{note}"

    def _note(self, piece: Piece) -> str:
        if piece.part in self.no_additive:
            return "not for alibi: no additive masks"
        if piece.outcome == SOLVED:
            return ""
        left = [stub.rpartition(".")[2] for stub in piece.unfinished]
        return f"begun; left: {', '.join(left)}" if left else "to do"


def collect(
    config: ModelConfig | None = None,
    root: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> MyParts:
    """Judge the exercises of the course, and try those that models of this configuration use.

    Without a configuration, they are tried for all kinds of models. Raises CourseError, which names
    the exercise, if one is wrong, or passes its tests but computes something else in a model.
    """
    configs = ANY_MODEL if config is None else (config,)
    pieces = find_pieces(root or ROOT)
    needed = set().union(*map(used_parts, configs))
    solved = [piece for piece in pieces if piece.outcome == SOLVED]
    used = [piece for piece in solved if piece.part in needed]
    own = {piece.part: piece.value for piece in used}
    with restored_state():  # whatever a learner's code may set: the seed, the default dtype
        found = {piece.part: try_alone(piece, configs, device, dtype) for piece in used}
        try_together(own, configs, device, dtype)
    return MyParts(
        own,
        tuple(piece for piece in pieces if piece.part in needed and is_called(piece, own)),
        tuple(piece for piece in solved if piece.part not in needed),
        frozenset(part for part, limited in found.items() if limited),
    )


def is_called(piece: Piece, own: dict[str, Any]) -> bool:
    """Whether the model has this part: an attention layer of yours has its own way of splitting."""
    has_own_layer = "multi_head" in own or "grouped_query" in own
    return piece.part in own or not (has_own_layer and piece.part in ("split_heads", "merge_heads"))


# --- the gate ---


def try_alone(
    piece: Piece,
    configs: Sequence[ModelConfig],
    device: torch.device | str,
    dtype: torch.dtype,
) -> bool:
    """Try one piece in small models; whether it works with boolean masks only.

    That is enough where no model uses ALiBi. Raises CourseError for any other difference.
    """
    limited = False
    for config in configs:
        if piece.part not in used_parts(config):
            continue
        found = differences({piece.part: piece.value}, config, device, dtype)
        cases = [each.case for each in found]
        # Only ALiBi adds a bias to the scores. Elsewhere masks are boolean, and this part is right.
        if cases == [ADDITIVE] and all(each.position != "alibi" for each in configs):
            limited = True
        elif found:
            raise refusal(piece, found)
    return limited


def refusal(piece: Piece, found: Sequence[Difference]) -> CourseError:
    """The error that names the exercise, what was different, and what to do."""
    cases = ", ".join(each.case for each in found)
    error = next((each.error for each in found if each.error), None)
    raised = f" ({piece.describe(error)})" if error else ""
    return CourseError(
        f"your {piece.title} passes its tests, but a model with it differs from the reference: "
        f"{cases}{raised}; fix {piece.where()}, or go back to the stub, and so to the reference: "
        f"{how_to('reset', piece.number)} (keeps a copy of your file)"
    )


def try_together(
    own: dict[str, Any],
    configs: Sequence[ModelConfig],
    device: torch.device | str,
    dtype: torch.dtype,
) -> None:
    """Try all pieces at once. Raises CourseError if they fail although each one works alone."""
    for config in configs:
        part = {name: value for name, value in own.items() if name in used_parts(config)}
        found = differences(part, config, device, dtype) if len(part) > 1 else []
        if found:
            cases = ", ".join(each.case for each in found)
            raise CourseError(f"your parts work one by one, but not together: {cases}")

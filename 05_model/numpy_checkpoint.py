"""Read a checkpoint without PyTorch: its configuration, its weights as arrays, its characters.

A .safetensors file is a length, a JSON header (names, shapes, places, and this course's metadata)
and the raw numbers, so any language that can read JSON can read a model.
"""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from attention_numpy import Array
from utils.config import ModelConfig, from_dict
from utils.errors import CourseError, UsageError

CHECKPOINTS = Path(__file__).resolve().parents[1] / "09_capstone" / "checkpoints"


class NumpyCheckpoint(NamedTuple):
    """What is needed to run a model: its shape, its weights by name, its vocabulary."""

    config: ModelConfig
    weights: dict[str, Array]
    characters: str  # token i is characters[i], which is the whole tokenizer

    def encode(self, text: str) -> list[int]:
        """The token of each character. Raises UsageError for one that the model does not know."""
        unknown = [character for character in text if character not in self.characters]
        if unknown or not text:
            problem = f"character {unknown[0]!r} is unknown" if unknown else "the prompt is empty"
            known = "".join(sorted(self.characters))
            raise UsageError(f"{problem}; the {len(known)} characters are: {known!r}")
        return [self.characters.index(character) for character in text]


def read_checkpoint(path: Path) -> NumpyCheckpoint:
    """Read a file of lesson 08's save_checkpoint. Raises CourseError in one line."""
    if not path.is_file():
        raise CourseError(f"no checkpoint at {path}")
    try:
        # The arrays come straight from the file: torch is never imported.
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}  # other programs write none
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = from_dict(json.loads(metadata["model_config"]), ModelConfig)
        tokenizer = dict(json.loads(metadata["tokenizer"]))
    # Cut off, not a file of this format, without our metadata, or with other fields: one message.
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CourseError(
            f"{path} is damaged, or not a checkpoint of this course: {error}"
        ) from None
    if tokenizer.get("kind") != "char":  # learned tokens would need lesson 06's merges as well
        raise CourseError(f"{path}: its tokenizer is {tokenizer.get('kind')!r}; 'char' is needed")
    return NumpyCheckpoint(config, weights, tokenizer["characters"])


def newest_checkpoint(folder: Path = CHECKPOINTS) -> Path:
    """The newest checkpoint in a folder. Raises CourseError if there is none."""
    found = list(folder.glob("*.safetensors"))
    if not found:
        raise CourseError(f"no checkpoint in {folder}; train a model first: make demo")
    return max(found, key=lambda path: path.stat().st_mtime)  # names need not sort by time

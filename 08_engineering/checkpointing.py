"""Checkpoints for sampling: one `.safetensors` file that holds all one needs to make a model speak.

    weights     every parameter once, by name (tied weights are one parameter)
    metadata    format, model_config, tokenizer and what is known of the run, as JSON

The format is a length, a JSON header and raw numbers (github.com/huggingface/safetensors): reading
one can run no code, which cannot be said of a pickle. A file is written whole or not at all.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig, from_dict, to_dict
from utils.errors import CourseError, run_program
from utils.files import atomic_write_bytes

FORMAT = "tiny-transformer-1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model on disk, read back: what it is, how it reads text, and its weights."""

    model_config: ModelConfig
    tokenizer: CharTokenizer
    weights: dict[str, Tensor]
    info: dict[str, Any] = field(default_factory=dict)  # step, losses, corpus: for people
    name: str = "checkpoint"  # where it was read from, for messages

    def build_model(self, parts: Parts | None = None) -> TinyTransformerLM:
        """The model with these weights, on any engine; CourseError if they do not fit."""
        try:
            model = TinyTransformerLM(self.model_config, parts)
            model.load_state_dict(self.weights)
        except RuntimeError as error:  # too few, too many, of another shape, or no room for them
            reason = " ".join(str(error).split())
            raise CourseError(
                f"{self.name}: the weights do not fit their configuration: {reason}"
            ) from None
        return model


def save_checkpoint(
    path: Path | str,
    model: TinyTransformerLM,
    tokenizer: CharTokenizer,
    info: dict[str, Any] | None = None,
) -> None:
    """Write one file, atomically. Weights are stored in float32 as they stand."""
    weights = {name: w.detach().cpu().contiguous() for name, w in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "model_config": json.dumps(to_dict(model.config)),
        "tokenizer": json.dumps(tokenizer.to_dict()),
        "info": json.dumps(info or {}),
    }
    atomic_write_bytes(Path(path), save(weights, metadata))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a file that `save_checkpoint` wrote.

    Raises CourseError, in one line, if it is missing, truncated, or somebody else's.
    """
    path = Path(path)
    if not path.is_file():
        raise CourseError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            names = file.keys()  # clone(): these tensors are the file itself, mapped into memory
            weights = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise CourseError(
            f"{path} ({size:,} bytes) is truncated or not a checkpoint: {error}"
        ) from None
    try:
        return Checkpoint(
            from_dict(json.loads(metadata["model_config"]), ModelConfig),
            CharTokenizer.from_dict(json.loads(metadata["tokenizer"])),
            weights,
            dict(json.loads(metadata.get("info", "{}"))),
            str(path),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CourseError(f"{path}: its metadata is damaged: {error}") from None


def _check_format(path: Path, metadata: dict[str, str]) -> None:
    found = metadata.get("format")
    if found != FORMAT:
        what = f"has format {found!r}" if found else "names no format"
        raise CourseError(f"{path} is not a checkpoint of this course: it {what}, not {FORMAT!r}")


def main() -> None:
    """Save a small model, look at the file, and load it again."""
    import tempfile

    tokenizer = CharTokenizer.train("to be or not to be")
    model = TinyTransformerLM(ModelConfig(tokenizer.vocab_size, d_model=32, n_layers=2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        save_checkpoint(path, model, tokenizer, {"step": 0})
        print(f"{path.name}: {path.stat().st_size:,} bytes, {len(model.state_dict())} tensors")
        loaded = load_checkpoint(path)
        tokens = torch.tensor([tokenizer.encode("to be")])
        same = torch.equal(model(tokens), loaded.build_model()(tokens))
        print(f"loaded again, it gives the same logits: {same}")


if __name__ == "__main__":
    run_program(main)

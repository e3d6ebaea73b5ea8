"""Checkpoints for sampling: one `.safetensors` file with everything needed to generate text.

    weights     every parameter once, by name (tied weights are one parameter)
    metadata    format, model_config, tokenizer and information about the run, as JSON

The format is a length, a JSON header and raw tensor data (github.com/huggingface/safetensors).
Unlike a pickle, it cannot run code when it is loaded. A file is written completely or not at all.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from any_tokenizer import Tokenizer, tokenizer_from_dict
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, from_dict, to_dict
from utils.errors import CourseError, run_program
from utils.files import atomic_write_bytes

FORMAT = "tiny-transformer-1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model loaded from disk: its configuration, its tokenizer and its weights."""

    model_config: ModelConfig
    tokenizer: Tokenizer
    weights: dict[str, Tensor]
    info: dict[str, Any] = field(default_factory=dict)  # step, losses, corpus: for display
    name: str = "checkpoint"  # the file it was read from, for messages

    def build_model(self, parts: Parts | None = None) -> TinyTransformerLM:
        """The model with these weights, on any engine; CourseError if they do not fit."""
        try:
            self._check_sizes(parts)
            model = TinyTransformerLM(self.model_config, parts)
            model.load_state_dict(self.weights)
        except RuntimeError as error:  # missing, unexpected, of another shape, or out of memory
            reason = " ".join(str(error).split())
            raise CourseError(
                f"{self.name}: the weights do not fit their configuration: {reason}"
            ) from None
        return model

    def _check_sizes(self, parts: Parts | None) -> None:
        """Compare configuration and weights before memory is allocated. Raises RuntimeError.

        The layers are counted first: building a million of them takes minutes even on "meta".
        """
        stored = {name.split(".")[1] for name in self.weights if name.startswith("blocks.")}
        if len(stored) != self.model_config.n_layers:
            n_layers = self.model_config.n_layers
            raise RuntimeError(f"n_layers is {n_layers}, but {len(stored)} are stored")
        with torch.device("meta"):  # tensors with a shape and no data
            model = TinyTransformerLM(self.model_config, parts)
        model.load_state_dict(self.weights, assign=True)


def save_checkpoint(
    path: Path | str,
    model: TinyTransformerLM,
    tokenizer: Tokenizer,
    info: dict[str, Any] | None = None,
) -> None:
    """Write one file, atomically. Weights keep their precision (float32 in this course)."""
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

    Raises CourseError, in one line, if it is missing, truncated, inconsistent or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise CourseError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            names = file.keys()  # clone(): the tensors are views of the memory-mapped file
            weights = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise CourseError(
            f"{path} ({size:,} bytes) is truncated or not a checkpoint: {error}"
        ) from None
    try:
        checkpoint = Checkpoint(
            from_dict(json.loads(metadata["model_config"]), ModelConfig),
            tokenizer_from_dict(json.loads(metadata["tokenizer"])),
            weights,
            dict(json.loads(metadata.get("info", "{}"))),
            str(path),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CourseError(f"{path}: its metadata is damaged: {error}") from None
    _check_vocabulary(checkpoint)
    return checkpoint


def _check_format(path: Path, metadata: dict[str, str]) -> None:
    found = metadata.get("format")
    if found != FORMAT:
        what = f"format is {found!r}, not {FORMAT!r}" if found else "metadata has no format"
        raise CourseError(f"{path} is not a checkpoint of this course: its {what}")


def _check_vocabulary(checkpoint: Checkpoint) -> None:
    """Every token needs a row of the embedding, and every row a text to print."""
    tokens, V = checkpoint.tokenizer.vocab_size, checkpoint.model_config.vocab_size
    if tokens != V:
        raise CourseError(
            f"{checkpoint.name}: the tokenizer has {tokens} tokens, but vocab_size is {V}"
        )


def main() -> None:
    """Save a small model, inspect the file, and load it again."""
    import tempfile

    from tokenizer import CharTokenizer

    tokenizer = CharTokenizer.train("to be or not to be")
    model = TinyTransformerLM(ModelConfig(tokenizer.vocab_size, d_model=32, n_layers=2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        save_checkpoint(path, model, tokenizer, {"step": 0})
        print(f"{path.name}: {path.stat().st_size:,} bytes, {len(model.state_dict())} tensors")
        loaded = load_checkpoint(path)
        tokens = torch.tensor([tokenizer.encode("to be")])
        same = torch.equal(model(tokens), loaded.build_model()(tokens))
        print(f"the loaded model gives the same logits: {same}")


if __name__ == "__main__":
    run_program(main)

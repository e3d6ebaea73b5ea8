"""A Hugging Face folder: config.json, model.safetensors and tokenizer.json, written and read.

Nothing here needs the library transformers. The weights are one safetensors file, as ours are; the
other files are JSON. A folder that is damaged, or of a kind that can't be read here, is refused in
one line that names the file.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from utils.errors import CourseError, UsageError, run_program
from utils.files import atomic_write_bytes, atomic_write_text

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
INDEX = "model.safetensors.index.json"  # of weights that are spread over several files
FLOATS = (torch.float32, torch.bfloat16, torch.float16)  # float32 has all values of the others


# --- writing ---


def check_new(folder: Path) -> None:
    """Raise UsageError unless there is nothing that writing the folder could overwrite."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give the name of a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; give the name of a new folder")


def write_folder(folder: Path, weights: Mapping[str, Tensor], files: Mapping[str, Any]) -> None:
    """Write the weights and the JSON files, each atomically, and config.json last.

    A folder without config.json isn't a model, so a crash can't leave one that only looks complete.
    """
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The metadata says whose tensors these are; transformers refuses a file without it.
    atomic_write_bytes(folder / WEIGHTS, save(dict(weights), {"format": "pt"}))
    for name in sorted(files, key=lambda name: name == CONFIG):
        text = json.dumps(files[name], indent=2, ensure_ascii=False)
        atomic_write_text(folder / name, f"{text}\n")


# --- reading ---


@contextmanager
def naming_folder(folder: Path) -> Iterator[None]:
    """Put the folder in front of each error. Raises CourseError if there is none."""
    if not folder.is_dir():
        raise CourseError(f"no folder at {folder}")
    try:
        yield
    except CourseError as error:
        raise type(error)(f"{folder}: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The dictionary in a JSON file. Raises CourseError."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CourseError(f"{path.name} is missing") from None
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise CourseError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(stored, dict):
        raise CourseError(f"{path.name} holds no dictionary, but {stored!r:.40}")
    return stored


def read_config(folder: Path) -> dict[str, Any]:
    """config.json. Raises CourseError if it is missing or damaged, or for quantized weights."""
    stored = read_json(folder / CONFIG)
    if stored.get("quantization_config") is not None:
        raise CourseError("config.json has a quantization_config; only plain weights can be read")
    return stored


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors as float32, which changes no value. Raises CourseError."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise CourseError(f"{path.name} is missing{other_weights(folder)}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return {name: as_float32(name, tensor) for name, tensor in tensors.items()}
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise CourseError(
            f"{path.name} ({size:,} bytes) is truncated or damaged: {error}"
        ) from None


def other_weights(folder: Path) -> str:
    """Why there may be no model.safetensors."""
    if (folder / INDEX).exists():
        return f": the weights are sharded ({INDEX}), and only one file can be read"
    if pickles := sorted(folder.glob("*.bin")):
        return f": {pickles[0].name} is a pickle, which can run code and is never read here"
    return ""


def as_float32(name: str, tensor: Tensor) -> Tensor:
    """A copy in float32. Raises CourseError for a type that would lose precision."""
    if tensor.dtype not in FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise CourseError(f"{name} is {kind}; it may be float32, bfloat16 or float16")
    return tensor.to(torch.float32, copy=True)  # a copy: the file's own memory is mapped


def main() -> None:
    """Write a folder with one small tensor, and read it back."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tiny"
        write_folder(folder, {"w": torch.arange(3.0)}, {CONFIG: {"model_type": "tiny"}})
        print(sorted(path.name for path in folder.iterdir()))
        print(read_config(folder), read_weights(folder)["w"].tolist())


if __name__ == "__main__":
    run_program(main)

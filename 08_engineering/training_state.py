"""Where a run stands, on disk, so that it can go on after any accident.

    states/00000250-3fa29c/     one state: a folder that is there as a whole or not at all
        model.safetensors       the weights
        optimizer.safetensors   its running averages; the numbers beside them as JSON in the header
        random.safetensors      the state of every random generator
        position.json           steps done, step budget, losses: whatever is no tensor
        manifest.json           SHA-256 of each file, written last

sealed_folder.py writes the folder and verifies it. Two states are kept, so that if the last one is
damaged, the one before it can be used.
"""

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sealed_folder import DamagedError, read_sealed, write_sealed
from utils.errors import run_program
from utils.failpoint import failpoint

KEPT = 2


@dataclass(frozen=True)
class TrainingState:
    """Everything that decides what a run does next."""

    model: dict[str, Tensor]
    optimizers: list[dict[str, Any]]  # as Optimizer.state_dict() gives them
    random: dict[str, Tensor]
    position: dict[str, Any]  # ready for JSON; "step" must be in it

    @property
    def step(self) -> int:
        return self.position["step"]


# --- writing ---


def save_state(root: Path, state: TrainingState, run: str) -> Path:
    """Write a state of the run called `run` under root, and remove what is older than the last two.

    Raises OSError (disk full, no permission); then the states that were there still are.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{state.step:08d}-{secrets.token_hex(3)}"
    write_sealed(folder, contents(state), run)
    prune(root, folder)
    return folder


def contents(state: TrainingState) -> dict[str, bytes]:
    """The files of a state, but for the manifest."""
    tensors: dict[str, Tensor] = {}
    plain = [split_tensors(each, tensors, f"{i}") for i, each in enumerate(state.optimizers)]
    return {
        "model.safetensors": save(ready_to_save(state.model)),
        "optimizer.safetensors": save(ready_to_save(tensors), {"plain": json.dumps(plain)}),
        "random.safetensors": save(ready_to_save(state.random)),
        "position.json": json.dumps(state.position, indent=1).encode(),
    }


def ready_to_save(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in main memory, each with numbers of its own, in order."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def split_tensors(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """`value` with every tensor replaced by {"tensor": its path}; the tensors go into `tensors`.

    Dictionaries become lists of pairs, because the keys of an optimizer's state are numbers.
    """
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        pairs = [[key, split_tensors(v, tensors, f"{path}.{key}")] for key, v in value.items()]
        return {"pairs": pairs}
    if isinstance(value, list | tuple):
        return [split_tensors(v, tensors, f"{path}.{i}") for i, v in enumerate(value)]
    return value


def joined(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of split_tensors."""
    if isinstance(value, dict) and "tensor" in value:
        return tensors[value["tensor"]]
    if isinstance(value, dict):
        return {key: joined(v, tensors) for key, v in value["pairs"]}
    return [joined(v, tensors) for v in value] if isinstance(value, list) else value


def prune(root: Path, newest: Path) -> None:
    """Remove all but the last two states, and what crashes have left behind.

    A state of a later step than the newest is damaged: the run would have gone on from it.
    """
    older = [path for path in folders(root) if step_of(path) < step_of(newest)]
    kept = [*older, newest][-KEPT:]
    doomed = [path for path in folders(root) if path not in kept]
    for path in [*doomed, *root.glob(".*.tmp")]:
        if not path.name.startswith("."):
            hidden = path.with_name(f".{path.name}.tmp")  # half removed, it must not look whole
            path.rename(hidden)
            failpoint("state: old one renamed")
            path = hidden
        shutil.rmtree(path, ignore_errors=True)
    failpoint("state: pruned")


# --- reading ---


def folders(root: Path) -> list[Path]:
    """The states under root, the oldest first."""
    found = [path for path in root.glob("*-*") if path.name.partition("-")[0].isdigit()]
    return sorted(found, key=lambda path: (step_of(path), path.stat().st_mtime_ns))


def step_of(folder: Path) -> int:
    """The step that a state's folder is named after."""
    return int(folder.name.partition("-")[0])


def last_good_state(root: Path, run: str) -> tuple[TrainingState | None, list[str]]:
    """The newest state that is whole, and what is wrong with each newer one.

    None if nothing was ever saved. Raises DamagedError if there are states and none is good.
    """
    faults = []
    for folder in reversed(folders(root)):
        try:
            return load_state(folder, run), faults
        except DamagedError as error:
            faults.append(str(error))
    if faults:
        raise DamagedError(f"no state of {run} is whole: {'; '.join(faults)}")
    return None, []


def load_state(folder: Path, run: str) -> TrainingState:
    """Verify a state against its manifest, then read it. Raises DamagedError."""
    files = read_sealed(folder, run)
    try:
        optimizer = files["optimizer.safetensors"]
        header = int.from_bytes(optimizer[:8], "little")
        plain = json.loads(json.loads(optimizer[8 : 8 + header])["__metadata__"]["plain"])
        tensors = load(optimizer)
        return TrainingState(
            load(files["model.safetensors"]),
            [joined(each, tensors) for each in plain],
            load(files["random.safetensors"]),
            json.loads(files["position.json"]),
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DamagedError(f"{folder.name} cannot be read: {error!r}") from None


# --- random generators ---


def random_states() -> dict[str, Tensor]:
    """The state of every generator that PyTorch draws from here."""
    states = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        states[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: dict[str, Tensor]) -> None:
    """Let the generators go on where they were; those of devices that are not here are left out."""
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{index}"], index)
    if torch.backends.mps.is_available() and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def main() -> None:
    """Save a state three times, damage the newest, and see which one is used."""
    import tempfile

    weights = {"w": torch.arange(3.0)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for step in (10, 20, 30):
            state = TrainingState(weights, [], random_states(), {"step": step})
            last = save_state(root, state, "demo")
        print("kept:  ", [path.name.split("-")[0] for path in folders(root)])
        with (last / "model.safetensors").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x01")
        state, faults = last_good_state(root, "demo")
        print("fault: ", faults[0].partition("/")[2])
        print("used:   step", state.step if state else None)


if __name__ == "__main__":
    run_program(main)

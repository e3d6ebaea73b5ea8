"""The state of a run on disk, from which training resumes exactly.

    states/00000250-3fa29c/     one state: a folder that is complete or absent
        model.safetensors       the weights
        optimizer.safetensors   running averages; non-tensor state as JSON in the header
        random.safetensors      the state of every random generator
        position.json           step, step budget, losses: whatever is not a tensor
        manifest.json           SHA-256 of each file, written last

sealed_folder.py writes the folder and verifies it; state_tree.py takes the optimizer's nested state
apart. Two states are kept: if the newer one is damaged, the older one is used.
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

from run_folder import folders, step_of
from sealed_folder import DamagedError, read_sealed, write_sealed
from state_tree import flatten, ready_for_json, unflatten
from utils.errors import run_program
from utils.failpoint import failpoint

KEPT = 2


@dataclass(frozen=True)
class TrainingState:
    """Everything that determines how training continues."""

    model: dict[str, Tensor]
    optimizers: list[dict[str, Any]]  # as Optimizer.state_dict() gives them
    random: dict[str, Tensor]
    position: dict[str, Any]  # plain JSON values, among them "step"

    @property
    def step(self) -> int:
        return self.position["step"]


# --- writing ---


def save_state(root: Path, state: TrainingState, run: str) -> Path:
    """Write a state of the run called `run` under root, and remove all but the last two.

    Raises OSError (disk full, no permission); the existing states are then untouched.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{state.step:08d}-{secrets.token_hex(3)}"
    write_sealed(folder, contents(state), run)
    prune(root, folder)
    return folder


def contents(state: TrainingState) -> dict[str, bytes]:
    """The files of a state, except the manifest."""
    tensors: dict[str, Tensor] = {}
    structure = [flatten(each, tensors) for each in state.optimizers]
    return {
        "model.safetensors": save(ready_to_save(state.model)),
        "optimizer.safetensors": save(ready_to_save(tensors), {"plain": json.dumps(structure)}),
        "random.safetensors": save(ready_to_save(state.random)),
        "position.json": json.dumps(ready_for_json(state.position), indent=1).encode(),
    }


def ready_to_save(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, contiguous, and sharing no memory."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def prune(root: Path, newest: Path) -> None:
    """Remove all but the last two states, and temporary folders left by crashes.

    A state of a later step than `newest` is damaged: otherwise the run would have resumed there.
    """
    older = [path for path in folders(root) if step_of(path) < step_of(newest)]
    kept = [*older, newest][-KEPT:]
    surplus = [path for path in folders(root) if path not in kept]
    for path in [*surplus, *root.glob(".*.tmp")]:
        if not path.name.startswith("."):
            hidden = path.with_name(
                f".{path.name}.tmp"
            )  # a half-removed folder must not look like a state
            path.rename(hidden)
            failpoint("state: old one renamed")
            path = hidden
        shutil.rmtree(path, ignore_errors=True)
    failpoint("state: pruned")


# --- reading ---


def last_good_state(root: Path, run: str) -> tuple[TrainingState | None, list[str]]:
    """The newest intact state, and what is wrong with each newer one.

    None if nothing was ever saved. Raises DamagedError if there are states but none is intact.
    """
    faults = []
    for folder in reversed(folders(root)):
        try:
            return load_state(folder, run), faults
        except DamagedError as error:
            faults.append(str(error))
    if faults:
        raise DamagedError(f"no state of {run} is intact: {'; '.join(faults)}")
    return None, []


def load_state(folder: Path, run: str) -> TrainingState:
    """Verify a state against its manifest, then read it. Raises DamagedError."""
    files = read_sealed(folder, run)
    try:
        optimizer = files["optimizer.safetensors"]
        header = int.from_bytes(optimizer[:8], "little")  # its length
        metadata = json.loads(optimizer[8 : 8 + header])["__metadata__"]
        structure = json.loads(metadata["plain"])
        tensors = load(optimizer)
        return TrainingState(
            load(files["model.safetensors"]),
            [unflatten(each, tensors) for each in structure],
            load(files["random.safetensors"]),
            json.loads(files["position.json"]),
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DamagedError(f"{folder.name} cannot be read: {error!r}") from None


# --- random generators ---


def random_states() -> dict[str, Tensor]:
    """The state of every random generator of PyTorch on this machine."""
    states = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        states[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: dict[str, Tensor]) -> None:
    """Restore the generators; those of absent devices are skipped."""
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{index}"], index)
    if torch.backends.mps.is_available() and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def main() -> None:
    """Save three states, damage the newest, and see which one is used."""
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

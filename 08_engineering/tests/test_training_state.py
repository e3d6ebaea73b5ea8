"""The state of a run is restored bit for bit; if it is damaged, the previous one is used."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import training_state
from optimizers import AdamW, Muon
from sealed_folder import DamagedError, read_sealed, write_sealed
from tiny_transformer_lm import TinyTransformerLM
from training_state import (
    KEPT,
    TrainingState,
    contents,
    folders,
    last_good_state,
    load_state,
    random_states,
    restore_random_states,
    save_state,
)
from utils import failpoint
from utils.config import ModelConfig

RUN = "20261121-101530-laptop-3fa29c81d04e"
FILES = ("model.safetensors", "optimizer.safetensors", "random.safetensors", "position.json")
SAVE = """
import sys
from pathlib import Path
import torch
from training_state import TrainingState, save_state
for step in (10, 20, 30):
    weights = {"w": torch.full((3,), float(step))}
    save_state(Path(sys.argv[1]), TrainingState(weights, [], {}, {"step": step}), "run")
"""
FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from training_state import TrainingState, save_state
for step, size in ((10, 10), (20, 10), (30, 10_000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
    state = TrainingState({"w": torch.zeros(size)}, [], {}, {"step": step})
    save_state(Path(sys.argv[1]), state, "run")
"""


def state(step: int, value: float = 0.0) -> TrainingState:
    """A small state; `value` distinguishes it from others of its step."""
    return TrainingState({"w": torch.tensor([value])}, [], {}, {"step": step})


def steps(root: Path) -> list[int]:
    return [int(path.name.split("-")[0]) for path in folders(root)]


def good(root: Path) -> TrainingState:
    """The last good state, which must exist."""
    found, _ = last_good_state(root, RUN)
    assert found is not None
    return found


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


DAMAGES = [flip_a_bit, cut, empty, Path.unlink]


# --- the same bits ------------------------------------------------------------------------------


TENSORS = {
    "odd numbers": torch.tensor([0.1, -0.0, torch.nan, torch.inf, 1e-45]),
    "bfloat16": torch.linspace(-3, 3, 12).view(3, 4).to(torch.bfloat16),
    "not contiguous": torch.linspace(-3, 3, 12).view(4, 3).T,
    "a part of another": torch.linspace(-3, 3, 5)[2:4],
    "a single number": torch.tensor(3.0),
    "nothing": torch.zeros(0, 4),
    "whole numbers": torch.arange(5),
    "booleans": torch.tensor([True, False]),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_a_tensor_is_restored_bit_for_bit(tmp_path: Path, tensor: Tensor) -> None:
    before = TrainingState({"w": tensor}, [{"state": {0: {"m": tensor}}}], {}, {"step": 1})
    after = load_state(save_state(tmp_path, before, RUN), RUN)
    for found in (after.model["w"], after.optimizers[0]["state"][0]["m"]):
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert bits(found) == bits(tensor)


def bits(tensor: Tensor) -> list[int]:
    return tensor.detach().contiguous().flatten().view(torch.uint8).tolist()


def test_non_tensor_state_is_restored_unchanged(tmp_path: Path) -> None:
    plain = {
        "state": {0: {"step": 3, "name": "m"}, 1: {}},
        "param_groups": [{"lr": 0.1 + 0.2, "params": [0, 1], "flag": True, "none": None}],
    }
    position = {"step": 7, "loss": 1 / 3, "nested": {"list": [1, None, "a"]}}
    before = TrainingState({}, [plain, {"state": {}}], {}, position)
    after = load_state(save_state(tmp_path, before, RUN), RUN)
    assert after.optimizers == [plain, {"state": {}}]
    assert (after.position, after.step) == (position, 7)


def test_saving_changes_nothing_and_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    optimizer: dict[str, Any] = {"state": {0: {"m": torch.randn(3)}}, "param_groups": [{"b": (1,)}]}
    before = TrainingState({"w": torch.randn(2)}, [optimizer], random_states(), {"step": 1})
    first = contents(before)
    assert optimizer["param_groups"] == [{"b": (1,)}]
    after = load_state(save_state(tmp_path, before, RUN), RUN)
    assert contents(after) == first == contents(before)


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], n: int) -> list[float]:
    """Take n steps on random tokens, with dropout."""
    losses = []
    for _ in range(n):
        tokens = torch.randint(11, (4, 8))  # drawn from the generator that is saved
        loss = model(tokens).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def fresh(seed: int) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    """A model with tied weights and dropout, and two optimizers."""
    config = ModelConfig(11, max_seq_len=8, d_model=16, n_layers=1, n_heads=2, dropout=0.2)
    model = TinyTransformerLM(config, seed=seed)
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "blocks" in name]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    return model, [Muon(matrices, dtype=torch.float32), AdamW(others)]


def state_of(model: nn.Module, optimizers: list[torch.optim.Optimizer], step: int) -> TrainingState:
    states = [optimizer.state_dict() for optimizer in optimizers]
    return TrainingState(model.state_dict(), states, random_states(), {"step": step})


def resumed(saved: TrainingState) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    model, optimizers = fresh(seed=1)  # another seed: all that counts must come from the state
    model.load_state_dict(saved.model)
    for optimizer, old in zip(optimizers, saved.optimizers, strict=True):
        optimizer.load_state_dict(old)
    restore_random_states(saved.random)
    return model, optimizers


def test_training_continues_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    model, optimizers = fresh(seed=0)
    train(model, optimizers, 3)
    save_state(tmp_path, state_of(model, optimizers, 3), RUN)
    expected = train(model, optimizers, 3), contents(state_of(model, optimizers, 6))
    torch.rand(5)
    others = resumed(good(tmp_path))
    assert (train(*others, 3), contents(state_of(*others, 6))) == expected


@pytest.mark.parametrize("forgotten", ["optimizers", "random"])
def test_without_one_part_of_the_state_training_would_differ(
    tmp_path: Path, forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizers = fresh(seed=0)
    train(model, optimizers, 3)
    save_state(tmp_path, state_of(model, optimizers, 3), RUN)
    expected = train(model, optimizers, 3)
    if forgotten == "random":
        monkeypatch.setattr(sys.modules[__name__], "restore_random_states", lambda states: None)
    else:
        for kind in (AdamW, Muon):
            monkeypatch.setattr(kind, "load_state_dict", lambda optimizer, state: None)
    assert train(*resumed(good(tmp_path)), 3) != expected


def test_a_generator_of_an_absent_device_is_skipped() -> None:
    states = random_states()
    first = torch.rand(3)
    restore_random_states({**states, "cuda:7": torch.zeros(16, dtype=torch.uint8)})
    assert torch.equal(torch.rand(3), first)


# --- which states are kept ----------------------------------------------------------------------


def test_the_last_two_are_kept_and_the_newest_is_used(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save_state(tmp_path / "states", state(step), RUN)
    assert KEPT == 2
    assert steps(tmp_path / "states") == [30, 40]
    assert good(tmp_path / "states").step == 40
    assert list((tmp_path / "states").glob(".*")) == []


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000):  # one digit more than the names allow for
        save_state(tmp_path, state(step), RUN)
    assert steps(tmp_path) == [99_999_999, 100_000_000]


def test_of_two_states_of_one_step_the_later_is_used_and_the_earlier_is_kept(
    tmp_path: Path,
) -> None:
    for step, value in ((10, 1.0), (20, 2.0), (20, 3.0)):
        save_state(tmp_path, state(step, value), RUN)
    assert steps(tmp_path) == [10, 20]
    assert good(tmp_path).model["w"].tolist() == [3.0]


def test_having_no_saved_state_is_not_an_error(tmp_path: Path) -> None:
    assert last_good_state(tmp_path / "states", RUN) == (None, [])
    (tmp_path / ".00000010-abcdef.tmp").mkdir()  # a crash in the very first save
    (tmp_path / "notes-of-mine").mkdir()
    assert last_good_state(tmp_path, RUN) == (None, [])


def test_leftovers_of_a_crash_are_removed_by_the_next_save(tmp_path: Path) -> None:
    (tmp_path / ".00000010-abcdef.tmp").mkdir()
    (tmp_path / ".00000010-abcdef.tmp" / "model.safetensors").write_bytes(b"half")
    save_state(tmp_path, state(10), RUN)
    assert [path.name[:8] for path in tmp_path.iterdir()] == ["00000010"]


# --- damaged ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_the_previous_one_is_used(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    for step in (10, 20):
        last = save_state(tmp_path, state(step), RUN)
    damage(last / name)
    found, faults = last_good_state(tmp_path, RUN)
    assert found is not None and found.step == 10
    assert len(faults) == 1 and faults[0].startswith(f"{last.name}/{name} ")


def test_a_state_of_another_run_is_skipped(tmp_path: Path) -> None:
    save_state(tmp_path, state(10), RUN)
    last = save_state(tmp_path, state(20), "another-run")
    found, faults = last_good_state(tmp_path, RUN)
    assert found is not None and found.step == 10
    assert faults == [f"{last.name}/manifest.json belongs to another run, another-run"]


def test_if_no_state_is_intact_the_error_names_them_all(tmp_path: Path) -> None:
    for step in (10, 20):
        flip_a_bit(save_state(tmp_path, state(step), RUN) / "position.json")
    with pytest.raises(DamagedError, match=f"^no state of {RUN} is intact: 00000020-.*; 00000010-"):
        last_good_state(tmp_path, RUN)


def test_an_intact_folder_that_is_not_a_state_is_skipped_too(tmp_path: Path) -> None:
    save_state(tmp_path, state(10), RUN)
    for step, changes in (
        (20, {"position.json": b"{"}),
        (30, {"optimizer.safetensors": b"\0" * 9}),
    ):
        write_sealed(tmp_path / f"{step:08d}-abcdef", {**contents(state(step)), **changes}, RUN)
    write_sealed(tmp_path / "00000040-abcdef", {"position.json": b"{}"}, RUN)
    found, faults = last_good_state(tmp_path, RUN)
    assert found is not None and found.step == 10
    assert [fault.split("-")[0] for fault in faults] == ["00000040", "00000030", "00000020"]


def test_damaged_states_of_later_steps_do_not_displace_good_ones(tmp_path: Path) -> None:
    for step in (10, 20, 30):  # 30 is a third one, as after a kill between rename and prune
        write_sealed(tmp_path / f"{step:08d}-abcdef", contents(state(step)), RUN)
    for step in (20, 30):
        flip_a_bit(tmp_path / f"{step:08d}-abcdef" / "model.safetensors")
    assert good(tmp_path).step == 10
    save_state(tmp_path, state(15), RUN)
    assert steps(tmp_path) == [10, 15]
    assert last_good_state(tmp_path, RUN)[1] == []


def test_a_damaged_state_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    for step in (10, 20):
        last = save_state(tmp_path, state(step), RUN)
    flip_a_bit(last / "model.safetensors")
    save_state(tmp_path, state(20, 1.0), RUN)
    assert steps(tmp_path) == [10, 20]
    assert good(tmp_path).model["w"].tolist() == [1.0]


def test_a_clock_that_is_set_back_loses_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour, step in enumerate((10, 20, 30)):
        last = save_state(tmp_path, state(step), RUN)
        earlier = time.time() - 3600 * (hour + 1)
        os.utime(last, (earlier, earlier))
    assert steps(tmp_path) == [20, 30]
    assert good(tmp_path).step == 30


# --- killed, and full ---------------------------------------------------------------------------


def killed(program: str, root: Path, at: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(root)],
        env={**os.environ, failpoint.VARIABLE: at},
        capture_output=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("manifest.json: half written@3", [10, 20]),
        ("sealed: renamed@3", [10, 20, 30]),
        ("state: old one renamed", [20, 30]),  # which was 10, and not removed yet
        ("state: pruned@3", [20, 30]),
    ],
)
def test_killed_in_the_third_save_at_least_two_good_states_remain(
    tmp_path: Path, at: str, expected: list[int]
) -> None:
    assert killed(SAVE, tmp_path, at).returncode == failpoint.EXIT_CODE
    assert steps(tmp_path) == expected
    found, faults = last_good_state(tmp_path, "run")
    assert found is not None and not faults
    assert found.model["w"].tolist() == [float(expected[-1])] * 3
    save_state(tmp_path, state(40), "run")
    assert steps(tmp_path) == [expected[-1], 40]
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files (POSIX)")
def test_a_full_disk_leaves_the_existing_states(tmp_path: Path) -> None:
    done = killed(FULL_DISK, tmp_path, at="")
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert steps(tmp_path) == [10, 20]
    assert [load_state(folder, "run").step for folder in folders(tmp_path)] == [10, 20]
    assert list(tmp_path.glob(".*")) == []  # nothing half written


def test_a_failed_save_leaves_the_existing_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (10, 20):
        save_state(tmp_path, state(step), RUN)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training_state, "write_sealed", full)
        with pytest.raises(OSError, match="No space left"):
            save_state(tmp_path, state(30), RUN)
    assert [read_sealed(folder, RUN) for folder in folders(tmp_path)] == [
        contents(state(step)) for step in (10, 20)
    ]

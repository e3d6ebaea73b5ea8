"""Start-up time and peak memory, measured on small programs written by the tests."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import train_args
from checkpointing import load_checkpoint
from model.config import preset
from tokenizer import CharTokenizer
from tools.benchmarks import processes
from tools.benchmarks.interleave import Settings
from tools.benchmarks.processes import first_character, memory, peak_memory, startup
from training_data import TrainingData
from utils.errors import CourseError

counts_memory = pytest.mark.skipif(
    importlib.util.find_spec("resource") is None, reason="Windows does not record peak memory"
)
MIB = 2**20


@pytest.fixture
def settings() -> Settings:
    """Two rounds, on a text that does not begin with a letter."""
    text = "\n -abc"
    tokenizer = CharTokenizer.train(text)
    tokens = np.tile(tokenizer.encode_array(text), 20)
    return Settings(TrainingData("a line", "a line", tokenizer, tokens, tokens), "a.txt", rounds=2)


def program(folder: Path, text: str) -> list[str]:
    """Write a program and return the command that runs it."""
    path = folder / "program.py"
    path.write_text(text, encoding="utf-8")
    return [sys.executable, str(path)]


def test_a_program_that_prints_is_timed(tmp_path: Path) -> None:
    assert first_character(program(tmp_path, "print('hello')")) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit('first\\nlast words')", "program.py failed: last words"),
        ("print('hello', flush=True); raise SystemExit(3)", "program.py failed: no output"),
        ("", "program.py failed: no output"),
    ],
)
def test_a_program_that_fails_or_prints_nothing_is_named(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(CourseError, match=message):
        first_character(program(tmp_path, text))


@counts_memory
def test_peak_memory_is_that_of_the_program_and_not_of_its_parent(tmp_path: Path) -> None:
    ballast = np.ones(400 * MIB, dtype=np.uint8)  # makes this process large
    small = peak_memory(program(tmp_path, "pass"))
    large = peak_memory(program(tmp_path, f"bytearray(b'x') * {200 * MIB}"))
    assert ballast.nbytes == 400 * MIB
    assert 1 < small < 100
    assert 190 < large - small < 230


@counts_memory
def test_a_program_that_fails_has_no_peak_memory(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"program\.py failed: no"):
        peak_memory(program(tmp_path, "raise SystemExit('no')"))


def test_sample_py_is_timed_on_a_checkpoint_of_the_laptop_preset(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    real = first_character

    def checked(command: list[str]) -> float:
        if "--checkpoint" in command:
            path = command[command.index("--checkpoint") + 1]
            shapes.append(load_checkpoint(path).model_config)
            return real(command) and 2.0
        return 1.0

    monkeypatch.setattr(processes, "first_character", checked)
    (section,) = startup(Settings(settings.data, rounds=1))
    assert shapes == [settings.fit(preset("laptop").model)]
    assert [(row.label, row.values) for row in section.rows] == [
        ("sample.py --max-tokens 1", (2.0,)),
        ("import torch in a bare Python process", (1.0,)),
    ]


def test_start_up_is_timed_at_most_three_times(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "first_character", lambda command: 1.0)
    (section,) = startup(Settings(settings.data, rounds=9))
    assert [len(row.values) for row in section.rows] == [3, 3]


@counts_memory
@pytest.mark.parametrize(("quick", "n_steps"), [(True, 20), (False, 100)])
def test_memory_is_measured_on_train_py_with_valid_flags(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, quick: bool, n_steps: int
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(processes, "peak_memory", lambda command: commands.append(command) or 5.0)
    (section,) = memory(Settings(settings.data, "a.txt", quick=quick))
    monkeypatch.setattr(sys, "argv", commands[0][1:])
    args = train_args.parse_args()
    assert Path(sys.argv[0]).is_file()
    assert (args.preset, args.data, int(args.max_steps)) == ("laptop", "a.txt", n_steps)
    assert args.out_dir.parent == args.checkpoint_dir
    assert not args.checkpoint_dir.exists()  # the run's files are deleted
    assert commands[1] == processes.IMPORT_TORCH
    assert [row.values for row in section.rows] == [(5.0,), (5.0,)]


def test_without_a_record_of_peak_memory_the_row_gives_the_reason(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (section,) = memory(settings)
    (row,) = section.rows
    assert row.values == ()
    assert row.note.startswith("not measured")

"""experiments.py: which runs it makes, that none is repeated, and what it keeps of them.

post_train.py itself is tested in test_post_train.py; here a stand-in writes what it would write.
"""

import importlib.util
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from matplotlib import pyplot as plt

import run_places
from checkpointing import save_checkpoint
from post_training import experiments, reward_errors
from post_training.experiments import GROUPS, KL_WEIGHTS, REWARD_MODELS, RUNS, START, runs_of
from post_training.post_run import ANSWER_COLUMNS, ANSWERS_FILE
from post_training.preferences import NOTHING, Pair, read_pairs, write_pairs
from post_training.reward_errors import (
    COLUMNS,
    PairSets,
    epochs,
    learn_reward,
    make_pair_sets,
    with_slip,
)
from post_training.tasks import Continue, Prompt
from run_folder import write_result
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.recipes import MODERN

N_CHARS = 30_000
CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ROWS = ((0, 0.25), (2, 0.5))  # step and right, of every run that the stand-in makes
PAIR = Pair(Prompt("a prompt", NOTHING, ""), "chosen", "rejected")
Call = Callable[..., Any]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model that has learned nothing."""
    config = ModelConfig(len(CHARACTERS), max_seq_len=192, d_model=16, n_layers=1, n_heads=2)
    path = tmp_path / "base.safetensors"
    model = TinyTransformerLM(ModelConfig(**{**vars(config), **MODERN}), seed=1)
    save_checkpoint(path, model, CharTokenizer(CHARACTERS), {"corpus": "mock"})
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The command lines of the runs that were started; a stand-in makes them."""
    commands: list[list[str]] = []

    def run(command: Sequence[str]) -> SimpleNamespace:
        commands.append([*command[2:]])
        folder = Path(command[command.index("--out-dir") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        rows = [f"{step},{right},,,0.1,1,,0.5,{step}.123456" for step, right in ROWS]
        text = "\n".join([",".join(ANSWER_COLUMNS), *rows, ""])
        (folder / ANSWERS_FILE).write_text(text, encoding="utf-8")
        write_result(folder, {"outcome": "finished"})
        return SimpleNamespace(returncode=0)

    def make(*arguments: Any, **keywords: Any) -> PairSets:
        commands.append(["pairs"])
        return {"training": [PAIR], "pairs": [PAIR], "slips": []}

    def learn(
        base: Path, sets: PairSets, *arguments: Any, **keywords: Any
    ) -> list[dict[str, float]]:
        assert sets == make()
        commands[-1] = ["reward model", str(keywords["noise"])]
        return [dict.fromkeys(COLUMNS, 0.5)]

    monkeypatch.setattr(experiments.subprocess, "run", run)
    monkeypatch.setattr(reward_errors, "learn_reward", learn)
    monkeypatch.setattr(reward_errors, "make_pair_sets", make)
    monkeypatch.setattr(run_places, "HERE", tmp_path / "capstone")
    monkeypatch.setattr(experiments, "PICTURES", tmp_path / "pictures")
    (tmp_path / "pictures").mkdir()
    return commands


def measured(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "measured.json").read_text(encoding="utf-8"))


# --- which runs ---------------------------------------------------------------------------------


def test_without_a_name_all_runs_are_made_with_each_seed() -> None:
    everything = [*RUNS, *REWARD_MODELS]
    assert list(runs_of(None, [1, 2])) == [(name, seed) for seed in (1, 2) for name in everything]


def test_a_run_comes_after_the_one_whose_model_it_starts_from() -> None:
    assert START == {"length": "follow"}
    assert list(runs_of("length", [3])) == [("follow", 3), ("length", 3)]
    assert list(runs_of("kl", [1])) == [(f"kl-{weight}", 1) for weight in KL_WEIGHTS]
    assert {name for names in GROUPS.values() for name in names} == {*RUNS, *REWARD_MODELS}


# --- what is made and kept ----------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
def test_every_run_is_made_once_and_kept(
    call_program: Call, started: list[list[str]], tmp_path: Path, base: Path, quick: bool
) -> None:
    flags = ("--base", base, *(["--quick"] if quick else []))
    done = call_program(experiments.main, *flags)
    assert (done.code, done.err) == (0, "")
    n = len(RUNS) + len(REWARD_MODELS)
    assert len(started) == n + 1 and started.count(["pairs"]) == 1  # for both reward models
    assert all(f"run {i} of {n}: " in done.out for i in range(1, n + 1))
    quick_place = tmp_path / "capstone" / "runs" / "quick-experiments"
    found = measured(quick_place if quick else tmp_path / "pictures")
    assert set(found) == {*RUNS, *REWARD_MODELS}
    assert [(row["step"], row["right"]) for row in found["grpo"]["1"]] == list(ROWS)
    assert found["grpo"]["1"][1]["seconds"] == 2.1235  # four digits
    (row,) = found["reward-model"]["1"]
    assert {name: row[name] for name in COLUMNS} == dict.fromkeys(COLUMNS, 0.5)
    assert 0 <= row["seconds"] < 60
    again = call_program(experiments.main, *flags)
    assert len(started) == n + 1 and again.out.count(", finished before") == n
    assert measured(quick_place if quick else tmp_path / "pictures") == found


def test_a_run_for_length_starts_from_the_model_that_follows(
    call_program: Call, started: list[list[str]], base: Path
) -> None:
    call_program(experiments.main, "--base", base, "--only", "length")
    follow, length = started
    assert follow[follow.index("--checkpoint") + 1] == str(base)
    start = Path(length[length.index("--checkpoint") + 1])
    assert (start.parent.name, start.name) == ("experiment-follow-1", "last.safetensors")


def test_an_interrupted_run_is_resumed(
    call_program: Call, started: list[list[str]], tmp_path: Path, base: Path
) -> None:
    folder = tmp_path / "capstone" / "runs" / "experiment-word-1"
    (folder / "states").mkdir(parents=True)
    call_program(experiments.main, "--base", base, "--only", "word")
    assert "--resume" in started[0] and "--overwrite" not in started[0]


def test_a_run_that_fails_is_named(
    call_program: Call, started: list[list[str]], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(returncode=130)
    monkeypatch.setattr(experiments.subprocess, "run", lambda command: failed)
    done = call_program(experiments.main, "--base", base, "--only", "word")
    assert done.code == 1
    assert "experiment-word-1 ended with 130" in done.err


# --- the errors of a reward model ---------------------------------------------------------------


def test_a_slip_is_one_wrong_letter() -> None:
    task, rng = Continue(n_chars=N_CHARS), random.Random(0)
    for prompt in task.prompts(20, rng):
        slip = with_slip(task, prompt, rng)
        assert sum(a != b for a, b in zip(prompt.answer, slip, strict=True)) == 1
        assert not task.judge(prompt, slip).is_right


def test_pairs_are_made_once_and_the_same_every_time(base: Path) -> None:
    sets = make_pair_sets(base, 0, n_pairs=9, task_chars=N_CHARS)
    assert {name: len(pairs) for name, pairs in sets.items()} == {
        "training": 9,
        "pairs": 1,
        "slips": 1,
    }
    assert make_pair_sets(base, 0, n_pairs=9, task_chars=N_CHARS) == sets
    assert make_pair_sets(base, 1, n_pairs=9, task_chars=N_CHARS)["training"] != sets["training"]


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    sets = {"training": [PAIR, replace(PAIR, chosen="an\nother")], "pairs": []}
    write_pairs(tmp_path / "pairs.json", sets)
    assert read_pairs(tmp_path / "pairs.json") == sets


def test_an_epoch_shows_every_pair_once() -> None:
    pairs = [replace(PAIR, chosen=str(i)) for i in range(5)]
    batches = list(islice(epochs(pairs, 2, random.Random(0)), 6))
    assert [len(batch) for batch in batches] == [2, 2, 1] * 2
    first, second = ([*chain(*batches[i : i + 3])] for i in (0, 3))
    assert first != second
    assert sorted(pair.chosen for pair in first) == sorted(pair.chosen for pair in second)
    assert {pair.chosen for pair in first} == {*"01234"}


def test_a_reward_model_is_judged_while_it_learns_and_the_same_every_time(base: Path) -> None:
    sets = make_pair_sets(base, 0, n_pairs=8, task_chars=N_CHARS)
    sizes: dict[str, Any] = {"n_steps": 3, "eval_interval": 2, "batch_size": 2}
    rows = list(learn_reward(base, sets, 0, **sizes))
    assert [row["step"] for row in rows] == [0, 2, 3]
    assert all(tuple(row) == COLUMNS for row in rows)
    assert (rows[0]["pairs"], rows[0]["slips"]) == (0.5, 0.5)  # all rewards are 0: a guess
    assert all(0 <= row[name] <= 1 for row in rows for name in ("pairs", "slips"))
    assert list(learn_reward(base, sets, 0, **sizes)) == rows


# --- the pictures -------------------------------------------------------------------------------


@pytest.fixture
def draw_post() -> ModuleType:
    path = Path(experiments.__file__).parent / "pictures" / "draw.py"
    spec = importlib.util.spec_from_file_location("_draw_post_training", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_was_measured_can_be_drawn(draw_post: ModuleType) -> None:
    row = {"step": 0, "right": 0.5, "kl": 0.1, "reward": 1.0, "val_loss": 0.6, "seconds": 1.0}
    runs: dict[str, Any] = {name: {"1": [row, row]} for name in RUNS}
    runs |= {name: {"1": [dict.fromkeys(COLUMNS, 0.5)]} for name in REWARD_MODELS}
    assert len(draw_post.cheated(runs).axes) == 2 * 3
    assert len(draw_post.kl_weights(runs).axes[0].get_legend().get_texts()) == len(KL_WEIGHTS)
    assert len(draw_post.reward_errors(runs).axes) == 2
    plt.close("all")

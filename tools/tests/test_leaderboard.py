"""tools/leaderboard.py: three tiny runs pass, and each rule refuses a run that breaks it."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import train
import training_data
from checkpointing import load_checkpoint, save_checkpoint
from run_folder import run_id_of
from tools import leaderboard
from tools.benchmarks import leaderboard_rules
from tools.benchmarks.leaderboard_page import (
    Entry,
    add_entry,
    is_current,
    read_entries,
    render,
)
from tools.benchmarks.leaderboard_runs import EntryRun
from train_args import new_config, parse_args
from training_state import last_good_state, save_state
from utils.config import TrainConfig, load_config, save_config
from utils.corpus import Corpus

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "data" / "simple_sequences.txt").read_text(encoding="utf-8") * 8
COMMIT = "c0ffee" + 34 * "0"
# A context above 256, so that the two losses differ.
SIZES = ("--max-seq-len", 300, "--d-model", 16, "--n-layers", 1, "--batch-size", 1)
FLAGS = ("--preset", "smoke", *SIZES, "--max-steps", 4, "--eval-interval", 2, "--device", "cpu")

Call = Callable[..., Any]
Break = Callable[[Path], None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three runs by train.py on a small text that stands for Tiny Shakespeare."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_data, "load_corpus", small_shakespeare)
        patch.setattr("experiment_tracking.git_state", lambda: {"commit": COMMIT, "dirty": False})
        patch.setattr("run_curves.plot_metrics", lambda folder, data: None)
        for seed in range(3):
            places = ("--out-dir", root / f"run-{seed}", "--checkpoint-dir", root / "best")
            words = (*FLAGS, "--dtype", "float32", "--seed", seed, *places)
            patch.setattr(sys, "argv", ["09_capstone/train.py", *map(str, words)])
            assert train.main() == 0
    return root


def small_shakespeare(source: str) -> Corpus:
    return Corpus("shakespeare", TEXT, "Tiny Shakespeare, found: here")


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of the three runs, and their text in place of the real one."""
    monkeypatch.setattr(training_data, "load_corpus", small_shakespeare)
    return [shutil.copytree(trained / f"run-{seed}", tmp_path / f"run-{seed}") for seed in range(3)]


@pytest.fixture
def call(call_program: Call, tmp_path: Path) -> Call:
    """Run the program; it writes into a folder of its own."""
    return partial(call_program, leaderboard.main, "--out", tmp_path / "board")


def failed(out: str) -> list[str]:
    """The names of the checks that are not met."""
    return [
        line.removeprefix("[FAIL]").strip().partition(":")[0]
        for line in out.splitlines()
        if line.startswith("[FAIL]")
    ]


def equal_loss(run: Path) -> float:
    """The loss in blocks of 256, one block at a time."""
    model = load_checkpoint(run / "best.safetensors").build_model().eval()
    tokenizer = load_checkpoint(run / "best.safetensors").tokenizer
    tokens, total = torch.tensor(tokenizer.encode(TEXT[int(0.9 * len(TEXT)) :])), 0.0
    for start in range(0, len(tokens) - 1, 256):
        x, y = tokens[start : start + 256], tokens[start + 1 : start + 257]
        with torch.no_grad():
            total += F.cross_entropy(model(x[None, : len(y)])[0], y, reduction="sum").item()
    return total / (len(tokens) - 1)


# --- runs that pass ---


def test_three_seeds_that_keep_the_rules_pass_and_without_a_name_nothing_is_written(
    call: Call, runs: list[Path], tmp_path: Path
) -> None:
    done = call(*runs)
    assert (done.code, done.err) == (0, "")
    verdicts = [line for line in done.out.splitlines() if line.startswith("[")]
    assert len(verdicts) == 11
    assert all(line.startswith("[OK]   ") for line in verdicts)
    assert f", {equal_loss(runs[2]):.4f} at equal evaluation" in " ".join(done.out.split())
    assert "row    (no name), seeds 0, 1, 2" in done.out
    assert done.out.endswith('Nothing was written. To enter this row, add --name "NAME".\n')
    assert not (tmp_path / "board").exists()


def test_the_row_has_the_losses_that_a_plain_loop_computes(
    call: Call, runs: list[Path], tmp_path: Path
) -> None:
    done = call(*reversed(runs), "--name", "tiny")
    assert done.code == 0
    assert f"wrote {tmp_path / 'board' / 'leaderboard.json'}\n" in done.out
    (entry,) = read_entries(tmp_path / "board")
    losses = [equal_loss(run) for run in runs]
    assert entry.equal == pytest.approx(losses, abs=1e-5)
    assert entry.own != entry.equal
    assert (entry.seeds, entry.commit, entry.context) == ((0, 1, 2), COMMIT, 300)
    page = (tmp_path / "board" / "LEADERBOARD.md").read_text(encoding="utf-8")
    mean = sum(losses) / 3
    spread = math.sqrt(sum((loss - mean) ** 2 for loss in losses) / 2)
    row = next(line for line in page.splitlines() if line.startswith("| tiny |"))
    assert row.startswith(f"| tiny | {mean:.4f} ± {spread:.4f}, 3 seeds | ")
    assert f"| {entry.parameters:,} |" in row
    assert f"`{COMMIT[:12]}` | `python 09_capstone/train.py --preset smoke" in row


def test_the_command_of_the_row_asks_for_the_configuration_of_the_runs(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("--dtype", "float32"):  # as if "auto" had chosen it
        change(runs[1], "environment.json", lambda old, word=word: old["command"].remove(word))
    command = EntryRun(runs[1]).command
    assert str(runs[1].parent) not in command and "--seed" not in command
    monkeypatch.setattr(sys, "argv", [*command.split()[1:], "--seed", "1"])
    requested, used = new_config(parse_args()), EntryRun(runs[1]).config
    vocabulary = replace(requested.model, vocab_size=used.model.vocab_size)
    assert replace(requested, model=vocabulary, tokenizer="char") == used


def test_rows_are_sorted_by_their_mean_and_one_of_the_same_name_is_replaced(
    tmp_path: Path,
) -> None:
    for name, mean in (("second", 1.5), ("third", 1.6), ("first", 1.9), ("first", 1.4)):
        add_entry(tmp_path, entry(name, mean))
    assert [each.name for each in read_entries(tmp_path)] == ["first", "second", "third"]
    page = (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8")
    places = [
        page.index(f"| {name} | {mean} ±")
        for name, mean in (("first", "1.4000"), ("second", "1.5000"), ("third", "1.6000"))
    ]
    assert places == sorted(places)
    assert "no entry yet" not in page


def entry(name: str, mean: float) -> Entry:
    equal = (mean - 0.1, mean, mean + 0.1)
    numbers = ((0, 1, 2), equal, equal, 64, 804_224, (60.0, 61.0, 62.0))
    return Entry(name, *numbers, "a CPU, 2 cores", COMMIT, "python 09_capstone/train.py")


# --- runs that break a rule ---


def change(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a JSON file of a run in place."""
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def environment(**values: Any) -> Break:
    return lambda run: change(run, "environment.json", lambda old: old.update(values))


def result(**values: Any) -> Break:
    return lambda run: change(run, "result.json", lambda old: old.update(values))


def config(**values: Any) -> Break:
    def edit(run: Path) -> None:
        path = run / "config.yaml"
        save_config(replace(load_config(path, TrainConfig), **values), path)

    return edit


def position(edit: Callable[[dict[str, Any]], object]) -> Break:
    """Edit what the state of a run says of it, with new hashes."""

    def save(run: Path) -> None:
        state, _ = last_good_state(run / "states", run_id_of(run))
        assert state is not None
        edit(state.position)
        save_state(run / "states", state, run_id_of(run))

    return save


def place(**values: Any) -> Break:
    return position(lambda old: old["place"].update(values))


def append(name: str, text: str) -> Break:
    def edit(run: Path) -> None:
        with (run / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return edit


def checkpoint(info: dict[str, Any], shift: float = 0.0) -> Break:
    """Other facts, or other weights, in best.safetensors."""

    def edit(run: Path) -> None:
        saved = load_checkpoint(run / "best.safetensors")
        model = saved.build_model()
        for weight in model.parameters():
            weight.data += shift * torch.randn_like(weight)
        save_checkpoint(run / "best.safetensors", model, saved.tokenizer, {**saved.info, **info})

    return edit


def remove(name: str) -> Break:
    return lambda run: (run / name).unlink()


LATE = "5,1.0,1.0,1.0,0.0,1.0,{}\n"  # a row of metrics.csv: its last column is the seconds
GIT = {"commit": COMMIT, "dirty": True}


@pytest.mark.parametrize(
    ("edit", "names", "found"),
    [
        (remove("result.json"), "finished evaluation", "run-1: not finished"),
        (append("log.txt", "2026-11-30 12:00:00  resumed at step 2\n"), "finished", "resumed"),
        (append("metrics.csv", LATE.format(300.1)), "training-time", "run-1: 300.1 s, more than"),
        (environment(torch_threads=3), "processor", "run-1: 3 threads"),
        (place(threads=3), "processor", "run-1: 3 threads"),
        (position(lambda old: old.update(workers=3)), "processor", "run-1: 3 threads"),
        (place(device="cuda:0"), "processor", "run-1: trained on cuda:0"),
        (config(data="mock"), "data same-settings", "run-1: trained on mock"),
        (checkpoint({"corpus": "mock"}), "data", "trained on mock, in place of shakespeare"),
        (place(data="another text"), "data", "its text or its split is another one"),
        (config(init_from="other"), "weights same-settings", "started from other"),
        (environment(git=None), "code same-settings", "run-1: no git commit was recorded"),
        (environment(git=GIT), "code", "run-1: uncommitted changes on top of c0ffee000000"),
        (environment(command=["tools/sweep.py"]), "command", "run-1: started by tools/sweep.py"),
        (
            environment(command=["train.py", "--config", "09_capstone/runs/old/config.yaml"]),
            "command",
            "config.yaml is not part of the commit",
        ),
        (environment(command=["train.py", "--config=.../x.yaml"]), "command", ".../x.yaml is not"),
        (config(seed=0), "seeds", "0, 0, 2: every run needs another seed"),
        (config(lr=0.5), "same-settings", "lr is 0.004 or 0.5"),
        (
            environment(git={"commit": "f00d" + 36 * "0", "dirty": False}),
            "same-settings",
            "commit is",
        ),
        (result(equal_evaluation=1.0), "evaluation", "at equal evaluation, but the run recorded"),
        (result(best=1.0), "evaluation", "at its own context, but the run recorded 1.0000"),
        (result(best=math.nan), "evaluation", "at its own context, but the run recorded nan"),
        (checkpoint({}, shift=0.3), "evaluation", "at its own context, but the run recorded"),
        (
            lambda run: change(run, "result.json", lambda old: old.pop("equal_evaluation")),
            "evaluation",
            "the run has not recorded 'equal_evaluation'; it may be from an older version",
        ),
    ],
)
def test_a_run_that_breaks_a_rule_is_refused_by_that_rule_alone(
    call: Call, runs: list[Path], tmp_path: Path, edit: Break, names: str, found: str
) -> None:
    edit(runs[1])
    done = call(*runs, "--name", "tiny")
    assert (done.code, done.err) == (1, "")
    # A second rule follows where one broken file matters to both.
    assert failed(done.out) == [name.replace("-", " ") for name in names.split()]
    assert found in " ".join(done.out.split())
    assert "\nNo row: " in done.out
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize(
    "edit",
    [
        append("metrics.csv", LATE.format(300.0)),
        environment(torch_threads=2),
        environment(command=["train.py", "--config", "08_engineering/examples/smoke.yaml"]),
    ],
)
def test_what_just_keeps_a_rule_passes(call: Call, runs: list[Path], edit: Break) -> None:
    edit(runs[1])
    assert call(*runs).code == 0


def test_five_million_parameters_are_too_many(
    call: Call, runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    n = EntryRun(runs[0]).parameters
    assert n == sum(p.numel() for p in EntryRun(runs[0]).checkpoint.build_model().parameters())
    assert leaderboard_rules.TOO_MANY_PARAMETERS == 5_000_000
    monkeypatch.setattr(leaderboard_rules, "TOO_MANY_PARAMETERS", n + 1)
    assert call(*runs).code == 0
    monkeypatch.setattr(leaderboard_rules, "TOO_MANY_PARAMETERS", n)
    done = call(*runs)
    assert failed(done.out) == ["parameters"]
    assert f"run-0: {n:,} parameters" in done.out


def test_with_fewer_seeds_the_missing_ones_are_named(call: Call, runs: list[Path]) -> None:
    done = call(runs[1], "--name", "tiny")
    assert (done.code, failed(done.out)) == (1, ["seeds"])
    said = " ".join(done.out.split())
    assert "1; at least 3 are needed: train again with --seed 0 and --seed 2" in said
    assert "train again with --seed 2" in " ".join(call(*runs[:2]).out.split())


@pytest.mark.parametrize(
    "name", ["config.yaml", "environment.json", "metrics.csv", "log.txt", "best.safetensors"]
)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\xff{")])
def test_a_damaged_run_breaks_rules_and_is_not_a_traceback(
    call: Call, runs: list[Path], name: str, damage: Break
) -> None:
    damage(runs[1] / name)
    done = call(*runs)
    assert (done.code, done.err) == (1, "")
    assert failed(done.out)
    assert "run-1" in done.out or "config.yaml" in done.out


def test_a_run_without_states_is_refused(call: Call, runs: list[Path]) -> None:
    shutil.rmtree(runs[1] / "states")
    assert failed(call(*runs).out) == ["processor", "data"]


def test_every_line_fits_80_columns(call: Call, runs: list[Path]) -> None:
    environment(git=None)(runs[1])
    refused, passed = call(*runs).out, call(runs[0], runs[2]).out
    assert max(map(len, (refused + passed).splitlines())) <= 80


# --- the page, and the command line ---


def test_the_committed_page_is_what_the_entries_say() -> None:
    assert is_current(ROOT / "09_capstone"), "write it again: python tools/leaderboard.py --page"


def test_a_board_without_entries_says_so(tmp_path: Path) -> None:
    assert "| no entry yet |" in render(read_entries(tmp_path))


def test_check_fails_on_a_page_that_is_out_of_date(call: Call, tmp_path: Path) -> None:
    missing = call("--check")
    assert (missing.code, missing.out) == (1, "")
    assert call("--page").code == 0
    assert call("--check").code == 0
    page = tmp_path / "board" / "LEADERBOARD.md"
    page.write_text(page.read_text(encoding="utf-8") + "edited\n", encoding="utf-8")
    stale = call("--check")
    assert (stale.code, stale.out, stale.err.count("\n")) == (1, "", 1)
    assert "is out of date; python tools/leaderboard.py --page writes it again" in stale.err


def test_a_damaged_file_of_entries_is_an_error_in_one_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    for text in ("{", "[]", '{"entries": [1]}', '{"entries": [{"name": "x"}]}'):
        (tmp_path / "board" / "leaderboard.json").write_text(text, encoding="utf-8")
        done = call("--check")
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "is not a file of entries" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the run is missing; name one"),
        (["no-such-run"], "no run 'no-such-run'"),
        (["--name", "tiny"], "the run is missing; name one"),
        (["run", "--name", ""], "--name '': 1 to 40 letters"),
        (["run", "--name", "a|b"], "--name 'a|b': 1 to 40 letters"),
        (["run", "--name", "x" * 41], "1 to 40 letters"),
        (["run", "--check"], "--check takes no run and no name"),
        (["--page", "--name", "tiny"], "--page takes no run and no name"),
        (["--chek"], "did you mean '--check'?"),
        (["run", "--out", __file__], "is a file, not a folder"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(call: Call, words: list[str], message: str) -> None:
    done = call(*words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("error: ")
    assert message in done.err

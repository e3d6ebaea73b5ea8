"""train.py: what a run writes, that it can be repeated, and how it refuses, stops and fails.

The program runs inside the test process, which has torch loaded already; only what needs a process
of its own (signals, a closed pipe) gets one. No test writes outside its temporary folder.
"""

import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.image import imread

import engine
import train
from checkpointing import load_checkpoint
from logging_utils import read_csv, read_jsonl
from model.config import preset
from run_places import WRITTEN
from training_loop import Trainer
from utils.config import TrainConfig, load_config

CAPSTONE = Path(__file__).parents[1]
TEXT = CAPSTONE.parent / "data" / "simple_sequences.txt"
PREPARE = CAPSTONE / "data" / "prepare_data.py"
SMOKE = ("--preset", "smoke", "--dtype", "float32")
SHORT = (*SMOKE, "--max-steps", 6, "--eval-interval", 3, "--log-interval", 1)
QUICK = (*SHORT, "--sample-interval", 0)


Call = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("training_folders")


@pytest.fixture
def call(call_program: Call) -> Call:
    """Run train.py with these arguments."""
    return partial(call_program, train.main)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, with a published copy next to it."""
    root = tmp_path_factory.mktemp("finished")
    arguments = [*SHORT, "--data", TEXT, *places(root)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        assert train.main() == 0
    return root / "run"


def places(root: Path) -> list[object]:
    return ["--out-dir", root / "run", "--checkpoint-dir", root / "checkpoints"]


def losses(folder: Path) -> list[tuple[float | None, ...]]:
    """The metrics of a run without the seconds."""
    rows = read_csv(folder / "metrics.csv")
    return [tuple(value for name, value in row.items() if name != "seconds") for row in rows]


def weights(path: Path) -> dict[str, list[Any]]:
    return {name: w.tolist() for name, w in load_checkpoint(path).weights.items()}


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


# --- what a run writes --------------------------------------------------------------------------


def test_a_run_writes_only_the_files_that_overwrite_removes(finished: Path) -> None:
    left = {path.name for path in finished.iterdir()} - {"tensorboard"}  # where it is installed
    # The lock file stays, unlocked; published.json says which published file a new run may replace.
    assert left == {*WRITTEN, "states", "run.lock", "published.json"}


def test_metrics_in_both_formats_hold_a_row_for_every_step_and_the_same_numbers(
    finished: Path,
) -> None:
    rows = read_csv(finished / "metrics.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["val_loss"] is not None for row in rows] == [False, False, True] * 2
    assert read_jsonl(finished / "metrics.jsonl") == rows


def test_the_first_loss_is_the_logarithm_of_the_vocabulary_size(finished: Path) -> None:
    vocabulary = set(TEXT.read_text(encoding="utf-8"))
    first = read_csv(finished / "metrics.csv")[0]["train_loss"]
    assert first == pytest.approx(math.log(len(vocabulary)), abs=1e-6)


def test_the_curves_are_a_picture(finished: Path) -> None:
    height, width, _ = imread(finished / "curves.png").shape
    assert min(height, width) > 300


def test_the_environment_names_the_torch_that_ran(finished: Path) -> None:
    environment = json.loads((finished / "environment.json").read_text(encoding="utf-8"))
    assert environment["torch"] == torch.__version__
    assert environment["command"][1:3] == ["--preset", "smoke"]


def test_the_log_records_evaluations_and_the_end(finished: Path) -> None:
    lines = (finished / "log.txt").read_text(encoding="utf-8").splitlines()
    messages = [line.split("  ", 1)[1] for line in lines]  # after date and time
    assert [message.split(":")[0] for message in messages] == ["step 3", "step 6", "step 6 of 6"]
    assert re.search(r": finished; saving states took \d+\.\d\d s, \d+\.\d% of", messages[-1])


def test_a_sample_has_its_step_as_heading_and_300_characters(finished: Path) -> None:
    heading, text = (finished / "samples.txt").read_text(encoding="utf-8").split("\n", 1)
    assert heading == "--- step 6 ---"
    assert len(text) == 300 + len("\n\n")


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(finished: Path) -> None:
    evaluated = [row for row in read_csv(finished / "metrics.csv") if row["val_loss"] is not None]
    lowest = min(evaluated, key=lambda row: row["val_loss"] or 0.0)
    info = load_checkpoint(finished / "best.safetensors").info
    assert (info["step"], info["val_loss"]) == (lowest["step"], lowest["val_loss"])


def test_an_earlier_evaluation_stays_the_best_when_later_ones_are_worse(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter([2.0, 1.0, 3.0])
    monkeypatch.setattr(Trainer, "evaluate", lambda trainer: next(given))
    done = call(*QUICK, "--eval-interval", 2, "--data", TEXT, *places(tmp_path))
    assert load_checkpoint(tmp_path / "run" / "best.safetensors").info["step"] == 4
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").info["step"] == 6
    assert "best    validation loss 1.0000 nats, 1.443 bits per character" in done.out


LONG_CONTEXT = ("--max-seq-len", 300, "--batch-size", 1, "--max-steps", 2, "--eval-interval", 1)


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """A text whose last tenth is longer than a context of 300, in tokens of either kind."""
    path = tmp_path / "long.txt"
    path.write_text(TEXT.read_text(encoding="utf-8") * 8, encoding="utf-8")
    return path


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def test_a_longer_context_is_also_evaluated_in_blocks_of_256_characters(
    call: Call, tmp_path: Path, long_text: Path
) -> None:
    done = call(*QUICK, *LONG_CONTEXT, "--data", long_text, *places(tmp_path))
    result = result_of(tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run" / "best.safetensors")
    text = long_text.read_text(encoding="utf-8")
    tokens = torch.tensor(checkpoint.tokenizer.encode(text[int(0.9 * len(text)) :]))
    model, total = checkpoint.build_model().eval(), 0.0
    for start in range(0, len(tokens) - 1, 256):
        x, y = tokens[start : start + 256], tokens[start + 1 : start + 257]
        total += F.cross_entropy(model(x[None, : len(y)])[0], y, reduction="sum").item()
    equal = total / (len(tokens) - 1)
    assert result["equal_evaluation"] == pytest.approx(equal, abs=1e-5)
    assert result["best"] != result["equal_evaluation"]
    bits = equal / math.log(2)
    line = f"equal   {equal:.4f} nats, {bits:.3f} bits per character, in blocks of 256 characters"
    assert f" bits per character\n{line}\n" in done.out
    assert len(line) <= 80


def test_learned_tokens_are_evaluated_in_nats_per_character(
    call: Call, tmp_path: Path, long_text: Path
) -> None:
    flags = ("--tokenizer", "bpe", "--vocab-size", 280)
    done = call(*QUICK, *LONG_CONTEXT, *flags, "--data", long_text, *places(tmp_path))
    assert "nats per token" in done.out
    result = result_of(tmp_path / "run")
    tokenizer = load_checkpoint(tmp_path / "run" / "best.safetensors").tokenizer
    text = long_text.read_text(encoding="utf-8")
    tokens = tokenizer.encode(text[int(0.9 * len(text)) :])
    per_token = (len(text) - int(0.9 * len(text)) - len(tokenizer.decode(tokens[:1]))) / (
        len(tokens) - 1
    )
    assert per_token > 1.2
    # Two steps teach it little, so both losses are near log 280 per token.
    assert result["equal_evaluation"] == pytest.approx(result["best"] / per_token, rel=0.05)
    assert f"equal   {result['equal_evaluation']:.4f} nats" in done.out


def test_a_short_context_has_one_loss_and_one_line(call: Call, tmp_path: Path) -> None:
    done = call(*QUICK, "--data", TEXT, *places(tmp_path))
    result = result_of(tmp_path / "run")
    assert result["equal_evaluation"] == result["best"]
    assert "\nequal " not in done.out


def test_the_validation_loss_is_the_mean_over_every_character_kept_unseen(finished: Path) -> None:
    checkpoint = load_checkpoint(finished / "last.safetensors")
    text = TEXT.read_text(encoding="utf-8")
    tokens = torch.tensor(checkpoint.tokenizer.encode(text[int(0.9 * len(text)) :]))
    model, T, total = checkpoint.build_model().eval(), 32, 0.0
    for start in range(0, len(tokens) - 1, T):
        x, y = tokens[start : start + T], tokens[start + 1 : start + T + 1]
        total += F.cross_entropy(model(x[None, : len(y)])[0], y, reduction="sum").item()
    assert checkpoint.info["val_loss"] == pytest.approx(total / (len(tokens) - 1), abs=1e-5)


def test_the_best_model_is_published_under_the_name_of_the_run(finished: Path) -> None:
    published = finished.parent / "checkpoints"
    assert files(published) == {"run.safetensors": (finished / "best.safetensors").read_bytes()}


def test_without_folders_a_run_gets_one_of_its_own_and_sample_needs_no_name(
    call: Call, tmp_path: Path
) -> None:
    done = call(*QUICK, "--data", TEXT)
    (folder,) = (tmp_path / "capstone" / "runs").iterdir()
    (published,) = (tmp_path / "capstone" / "checkpoints").iterdir()
    assert "-smoke-" in folder.name
    assert published.name == f"{folder.name}.safetensors"
    assert done.out.endswith(
        "sample  python 09_capstone/sample.py\n"
        "watch   python tools/export_demo.py --out my_model.html\n"
    )


def test_a_run_in_the_current_folder_is_published_under_that_folders_name(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert call(*QUICK, "--data", TEXT, "--out-dir", ".").code == 0
    assert (tmp_path / "capstone" / "checkpoints" / "mine.safetensors").exists()


def test_the_output_fits_80_columns(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "a_folder_with_a_long_name" / "another_one_inside_it"
    folder.mkdir(parents=True)
    (folder / "poems.txt").write_bytes(TEXT.read_bytes())
    done = call(*QUICK, "--data", folder / "poems.txt")
    told = [line for line in done.out.splitlines() if str(tmp_path) not in line]
    assert len(told) == 9  # a path alone may be longer
    assert max(map(len, told)) <= 80
    assert done.err == ""


def test_two_precisions_are_announced_before_they_are_timed(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fastest(probes: dict[str, object], device: torch.device) -> str:
        announced.append(capsys.readouterr().out)
        return "float32"

    announced: list[str] = []
    monkeypatch.setattr(engine, "fastest", fastest)
    arguments = [*QUICK, "--dtype", "auto", "--device", "cpu", "--data", TEXT, *places(tmp_path)]
    assert call(*arguments).code == 0
    line = "timing  a few steps in float32 and bfloat16, to take the faster"
    assert [out.splitlines()[-1] for out in announced] == [line]
    assert len(line) <= 80


# --- the same again -----------------------------------------------------------------------------


def test_the_same_command_gives_the_same_numbers(
    call: Call, finished: Path, tmp_path: Path
) -> None:
    call(*SHORT, "--data", TEXT, *places(tmp_path))
    assert losses(tmp_path / "run") == losses(finished)
    for name in ("best.safetensors", "last.safetensors"):
        assert weights(tmp_path / "run" / name) == weights(finished / name)
    said, before = (folder / "samples.txt" for folder in (tmp_path / "run", finished))
    assert said.read_text(encoding="utf-8") == before.read_text(encoding="utf-8")


def test_another_seed_gives_other_numbers(call: Call, finished: Path, tmp_path: Path) -> None:
    call(*SHORT, "--data", TEXT, "--seed", 1, *places(tmp_path))
    assert losses(tmp_path / "run")[1:] != losses(finished)[1:]


def test_the_runs_own_configuration_gives_the_same_run_again(
    call: Call, finished: Path, tmp_path: Path
) -> None:
    call("--config", finished / "config.yaml", *places(tmp_path))
    assert losses(tmp_path / "run") == losses(finished)
    assert (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8") == (
        finished / "config.yaml"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("fastest", ["float32", "bfloat16"])
def test_a_measured_precision_is_recorded_so_that_the_run_can_be_repeated(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: str
) -> None:
    monkeypatch.setattr("engine.fastest", lambda probes, device: fastest)
    call(*QUICK, "--dtype", "auto", "--data", TEXT, *places(tmp_path))
    config = tmp_path / "run" / "config.yaml"
    assert load_config(config, TrainConfig).dtype == fastest
    monkeypatch.setattr("engine.fastest", lambda probes, device: "neither")
    call("--config", config, *places(tmp_path / "again"))
    assert losses(tmp_path / "again" / "run") == losses(tmp_path / "run")


def test_a_flag_wins_over_the_file_which_wins_over_the_preset(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("batch_size: 3\nmax_steps: 5\nmodel: {n_layers: 1}\n", encoding="utf-8")
    flags = ("--max-steps", 2, "--sample-interval", 0, "--data", TEXT)
    call("--preset", "smoke", "--config", file, *flags, *places(tmp_path))
    config = load_config(tmp_path / "run" / "config.yaml", TrainConfig)
    assert (config.max_steps, config.batch_size, config.model.n_layers) == (2, 3, 1)
    assert config.model.d_model == preset("smoke").model.d_model


def test_a_prepared_folder_trains_the_same_as_its_text(
    call: Call, finished: Path, tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("prepare_data", PREPARE)
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.prepare(program.find_source(str(TEXT)), tmp_path / "prepared")
    call(*SHORT, "--data", tmp_path / "prepared", *places(tmp_path))
    assert losses(tmp_path / "run") == losses(finished)
    best = "best.safetensors"
    assert weights(tmp_path / "run" / best) == weights(finished / best)


def test_the_reference_and_the_fused_engine_have_the_same_losses(
    call: Call, tmp_path: Path
) -> None:
    # AdamW: Muon makes every direction of a gradient equally long, rounding errors among them.
    for parts in ("reference", "fused"):
        arguments = ("--parts", parts, "--optimizer", "adamw", "--data", TEXT)
        call(*QUICK, *arguments, *places(tmp_path / parts))
    ours, theirs = (
        np.array(losses(tmp_path / parts / "run"), dtype=np.float64)
        for parts in ("reference", "fused")
    )
    np.testing.assert_allclose(ours[:, :3], theirs[:, :3], rtol=0, atol=1e-5)  # nan: no evaluation


def test_bfloat16_trains_to_nearly_the_same_loss(
    call: Call, finished: Path, tmp_path: Path
) -> None:
    call(*QUICK, "--dtype", "bfloat16", "--data", TEXT, *places(tmp_path))
    ours, theirs = losses(tmp_path / "run")[-1][2], losses(finished)[-1][2]
    assert ours != theirs
    assert ours == pytest.approx(theirs, abs=0.05)
    stored = load_checkpoint(tmp_path / "run" / "last.safetensors").weights
    assert {w.dtype for w in stored.values()} == {torch.float32}


def test_minutes_become_a_number_of_steps(call: Call, tmp_path: Path) -> None:
    minutes = ("--max-minutes", 1e-4, "--max-steps", 10_000, "--eval-interval", 10_000)
    done = call(*SMOKE, *minutes, "--sample-interval", 0, "--data", TEXT, *places(tmp_path))
    config = load_config(tmp_path / "run" / "config.yaml", TrainConfig)
    assert done.code == 0
    assert (config.max_steps, config.max_minutes) == (31, None)  # 30 to measure, then one
    assert read_csv(tmp_path / "run" / "metrics.csv")[-1]["step"] == 31


# --- texts of every kind ------------------------------------------------------------------------

CHINESE = "".join(chr(0x4E00 + i) for i in range(5000))


@pytest.mark.parametrize(
    ("text", "vocab_size"),
    [("ab" * 50_000, 2), ("a" * 2000, 1), (CHINESE, 5000)],
    ids=["one line of 100,000", "one character", "5,000 characters"],
)
def test_odd_texts_train(call: Call, tmp_path: Path, text: str, vocab_size: int) -> None:
    (tmp_path / "odd.txt").write_text(text, encoding="utf-8")
    done = call(*SHORT, "--data", tmp_path / "odd.txt", *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    first, *_, last = (row[1] for row in losses(tmp_path / "run"))
    assert first == pytest.approx(math.log(vocab_size), abs=1e-5)
    assert last is not None and math.isfinite(last)
    assert (tmp_path / "run" / "samples.txt").exists()


# --- tokens of both kinds ------------------------------------------------------------------------


def test_the_first_loss_of_learned_tokens_is_the_logarithm_of_their_number(
    call: Call, tmp_path: Path
) -> None:
    flags = ("--tokenizer", "bpe", "--vocab-size", 280)
    done = call(*SHORT, *flags, "--data", TEXT, *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert "tokens of a vocabulary of 280: " in done.out
    told = [line for line in done.out.splitlines() if str(tmp_path) not in line]
    assert max(map(len, told)) <= 80
    first = read_csv(tmp_path / "run" / "metrics.csv")[0]["train_loss"]
    assert first == pytest.approx(math.log(280), abs=1e-6)
    config = load_config(tmp_path / "run" / "config.yaml", TrainConfig)
    assert (config.tokenizer, config.model.vocab_size) == ("bpe", 280)
    # The same again, from the run's own configuration
    assert call("--config", tmp_path / "run" / "config.yaml", *places(tmp_path / "again")).code == 0
    assert losses(tmp_path / "again" / "run") == losses(tmp_path / "run")


def test_bits_per_character_are_all_nats_per_ln_2_per_character(call: Call, tmp_path: Path) -> None:
    """From the loss of every token of the validation split, added up here."""
    flags = ("--tokenizer", "bpe", "--vocab-size", 300)
    done = call(*SHORT, *flags, "--data", TEXT, *places(tmp_path))
    checkpoint = load_checkpoint(tmp_path / "run" / "last.safetensors")
    text = TEXT.read_text(encoding="utf-8")
    val = text[int(0.9 * len(text)) :]
    tokens = torch.tensor(checkpoint.tokenizer.encode(val))
    model, T, nats = checkpoint.build_model().eval(), 32, 0.0
    for start in range(0, len(tokens) - 1, T):
        x, y = tokens[start : start + T], tokens[start + 1 : start + T + 1]
        nats += F.cross_entropy(model(x[None, : len(y)])[0], y, reduction="sum").item()
    predicted = len(val) - len(checkpoint.tokenizer.decode(tokens[:1]))
    bits = nats / math.log(2) / predicted
    assert checkpoint.info["val_bits_per_char"] == pytest.approx(bits, abs=1e-5)
    rows = read_csv(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["val_bits_per_char"] == checkpoint.info["val_bits_per_char"]
    assert f"nats per token, {bits:.3f} bits per character" in done.out
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert f"({bits:.4f} bits per character)" in log


def test_bits_per_character_of_characters_are_the_loss_in_bits(finished: Path) -> None:
    for row in read_csv(finished / "metrics.csv"):
        loss, bits = row["val_loss"], row["val_bits_per_char"]
        assert bits == (None if loss is None else loss / math.log(2))


def test_characters_are_the_default_and_recorded_by_name(finished: Path) -> None:
    config = load_config(finished / "config.yaml", TrainConfig)
    assert (config.tokenizer, config.model.vocab_size) == (
        "char",
        len(set(TEXT.read_text("utf-8"))),
    )


def test_a_text_that_repeats_too_little_gives_fewer_tokens_and_says_so(
    call: Call, tmp_path: Path
) -> None:
    (tmp_path / "ab.txt").write_text("ab " * 500, encoding="utf-8")
    flags = ("--tokenizer", "bpe", "--vocab-size", 5000)
    done = call(*QUICK, *flags, "--data", tmp_path / "ab.txt", *places(tmp_path))
    assert done.code == 0
    assert "        5,000 were requested, but no more pairs of tokens repeat\n" in done.out
    config = load_config(tmp_path / "run" / "config.yaml", TrainConfig)
    assert config.model.vocab_size == 261  # 256 bytes, "ab", " ab", and three special tokens


def test_without_a_size_512_tokens_are_learned(call: Call, tmp_path: Path) -> None:
    done = call(*QUICK, "--tokenizer", "bpe", "--data", TEXT, *places(tmp_path))
    assert "tokens of a vocabulary of 512: " in done.out


def test_a_prepared_folder_brings_its_tokenizer(call: Call, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("prepare_data", PREPARE)
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.prepare(program.find_source(str(TEXT)), tmp_path / "prepared", "bpe", 280)
    call(*QUICK, "--data", tmp_path / "prepared", *places(tmp_path / "a"))
    flags = ("--tokenizer", "bpe", "--vocab-size", 280)
    call(*QUICK, "--data", TEXT, *flags, *places(tmp_path / "b"))
    assert losses(tmp_path / "a" / "run") == losses(tmp_path / "b" / "run")


# --- refused ------------------------------------------------------------------------------------

REFUSED = {
    "preset": (["--preset", "latop"], 2, "unknown preset 'latop' (did you mean 'laptop'?)"),
    "flag": (["--max-step", 5], 2, "unknown argument --max-step (did you mean '--max-steps'?)"),
    "stray word": (["laptop"], 2, "unknown argument laptop"),
    "no number": (["--d-model", "wide"], 2, "d_model 'wide' is not a whole number"),
    "no whole number": (["--max-steps", "1.5"], 2, "max_steps '1.5' is not a whole number"),
    "not divisible": (["--d-model", 32, "--n-heads", 5], 2, "32 is not divisible by n_heads 5"),
    "zero": (["--batch-size", 0], 2, "batch_size 0 is out of range"),
    "negative": (["--lr", -1], 2, "lr -1.0 is out of range"),
    "nan": (["--lr", "nan"], 2, "lr nan is out of range"),
    "word": (["--schedule", "cosin"], 2, "unknown schedule 'cosin' (did you mean 'cosine'?)"),
    "parts": (["--parts", "fusd"], 2, "unknown parts 'fusd' (did you mean 'fused'?)"),
    "dtype": (["--dtype", "float16"], 2, "choose one of: auto, float32, bfloat16"),
    "device": (["--device", "abacus"], 2, "unknown device 'abacus'"),
    "size of characters": (["--vocab-size", 300], 2, "--vocab-size 300 needs --tokenizer bpe"),
    "small vocabulary": (
        ["--tokenizer", "bpe", "--vocab-size", 258],
        *(2, "vocab_size 258 is too small: 256 bytes and 3 special tokens need at least 259"),
    ),
    "tokenizer": (["--tokenizer", "bpa"], 2, "unknown tokenizer 'bpa' (did you mean 'bpe'?)"),
    "absent device": (["--device", "cuda:7"], 2, "'cuda:7' is not available"),
    "no file": (["--data", "{root}/poem.txt"], 2, "(did you mean 'poems.txt'?)"),
    "empty file": (["--data", "{root}/empty.txt"], 1, "empty.txt is empty"),
    "not UTF-8": (["--data", "{root}/latin.txt"], 1, "byte 0xe9 at offset 3"),
    "a folder": (["--data", "{root}"], 2, "is a folder"),
    "short": (["--data", "{root}/tiny.txt"], 1, "training split has 18 tokens; a context of 32"),
    "short end": (["--data", "{root}/short.txt"], 1, "validation split has 30 tokens"),
    "no config": (["--config", "{root}/no.yaml"], 2, "no configuration file at"),
    "config field": (["--config", "{root}/typo.yaml"], 2, "(did you mean 'max_steps'?)"),
    "config type": (["--config", "{root}/type.yaml"], 2, "d_model 'wide' is not a whole number"),
    "config damaged": (["--config", "{root}/damaged.yaml"], 1, "is not valid YAML or JSON"),
    "file for a folder": (["--out-dir", "{root}/poems.txt"], 2, "poems.txt is a file"),
    "below a file": (["--out-dir", "{root}/poems.txt/run"], 2, "poems.txt is a file"),
    "published in a file": (["--checkpoint-dir", "{root}/poems.txt"], 2, "poems.txt is a file"),
    "full folder": (["--out-dir", "{root}"], 2, "is not empty; add --resume"),
}


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_gives_one_line_and_writes_nothing(
    call: Call, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    root = tmp_path / "files"
    root.mkdir()
    contents = {
        **{"poems.txt": TEXT.read_bytes(), "empty.txt": b"", "latin.txt": b"caf\xe9" * 500},
        **{"tiny.txt": b"ab" * 10, "short.txt": b"abc" * 100, "typo.yaml": b"max_stesp: 3"},
        **{"type.yaml": b"model: {d_model: wide}", "damaged.yaml": b"{"},
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
    given = [str(argument).replace("{root}", str(root)) for argument in arguments]
    done = call(*SMOKE, "--data", TEXT, *given)
    assert done.code == code
    assert done.err.startswith("error: ")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert files(root) == contents
    assert list(tmp_path.iterdir()) == [root]


def test_a_folder_without_permission_is_refused_at_the_start(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    done = call(*SMOKE, "--data", TEXT, "--out-dir", tmp_path / "run")
    assert (done.code, done.out) == (1, "")
    assert f"no permission to write in {tmp_path}" in done.err
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_one_name_are_published_side_by_side(call: Call, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        out_dir = ("--out-dir", tmp_path / parent / "run")
        done = call(*QUICK, "--data", TEXT, *out_dir, "--checkpoint-dir", tmp_path / "best")
        assert done.code == 0
    names = sorted(path.name for path in (tmp_path / "best").iterdir())
    assert names == ["run-2.safetensors", "run.safetensors"]
    assert "saved   as run-2.safetensors: run.safetensors belongs to another run\n" in done.out
    assert f"sample.py --checkpoint {tmp_path / 'best' / 'run-2.safetensors'}\n" in done.out


def test_a_run_with_a_very_long_name_finishes(call: Call, tmp_path: Path) -> None:
    out_dir = ("--out-dir", tmp_path / ("x" * 230))
    done = call(*QUICK, "--data", TEXT, *out_dir, "--checkpoint-dir", tmp_path / "best")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "best" / f"{'x' * 230}.safetensors").exists()


def test_a_name_that_is_too_long_is_refused_before_the_training(call: Call, tmp_path: Path) -> None:
    done = call(*QUICK, "--data", TEXT, "--out-dir", tmp_path / ("x" * 250))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "the name has 250 bytes; at most" in done.err
    assert list(tmp_path.iterdir()) == []


def test_the_result_is_written_before_the_picture_is_drawn(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def draw(folder: Path, data: object) -> None:
        seen.append((folder / "result.json").exists())
        seen.append((tmp_path / "checkpoints" / "run.safetensors").exists())

    monkeypatch.setattr("run_curves.plot_metrics", draw)
    assert call(*QUICK, "--data", TEXT, *places(tmp_path)).code == 0
    assert seen == [True, True]


def test_overwrite_removes_the_files_of_a_run_and_nothing_else(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "samples.txt").write_text("of the run before", encoding="utf-8")
    arguments = (*QUICK, "--data", TEXT, *places(tmp_path))
    assert call(*arguments).code == 2
    assert set(files(folder)) == {"notes.txt", "samples.txt"}
    assert call(*arguments, "--overwrite").code == 0
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert not (folder / "samples.txt").exists()
    assert len(losses(folder)) == 6


def test_a_run_that_is_refused_leaves_the_one_it_would_have_replaced(
    call: Call, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").write_bytes(b"precious")
    (tmp_path / "tiny.txt").write_text("too short", encoding="utf-8")
    assert call(*QUICK, "--data", tmp_path / "tiny.txt", "--overwrite", *places(tmp_path)).code == 1
    assert files(tmp_path / "run") == {"best.safetensors": b"precious"}


# --- stopped ------------------------------------------------------------------------------------


def interrupt(monkeypatch: pytest.MonkeyPatch, at_step: int, times: int) -> None:
    """Press Ctrl-C in the middle of a step."""
    train_step = Trainer.train_step

    def interrupted(trainer: Trainer) -> tuple[float, float, float]:
        if trainer.step + 1 == at_step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return train_step(trainer)

    monkeypatch.setattr(Trainer, "train_step", interrupted)


def test_ctrl_c_ends_after_the_step_and_saves(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr("run_curves.plot_metrics", lambda folder, data: drawn.append(folder))
    interrupt(monkeypatch, at_step=5, times=1)
    done = call(*QUICK, "--data", TEXT, *places(tmp_path))
    assert done.code == 130
    assert "interrupted at step 5 of 6; the state is saved" in done.out
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").info["step"] == 5
    assert load_checkpoint(tmp_path / "checkpoints" / "run.safetensors").info["step"] == 3
    assert "step 5 of 6: interrupted" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert drawn == [tmp_path / "run"]
    assert len(losses(tmp_path / "run")) == 5


def test_an_interrupted_run_is_the_beginning_of_the_whole_one(
    call: Call, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, at_step=4, times=1)
    call(*QUICK, "--data", TEXT, *places(tmp_path))
    assert losses(tmp_path / "run") == losses(finished)[:4]


def test_a_second_ctrl_c_exits_at_once_and_saves_no_half_step(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, at_step=5, times=2)
    done = call(*QUICK, "--data", TEXT, *places(tmp_path))
    assert (done.code, done.err) == (130, "interrupted\n")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").info["step"] == 3


def test_signal_handlers_are_restored_after_the_run(call: Call, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    call(*QUICK, "--data", TEXT, *places(tmp_path))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# --- failed -------------------------------------------------------------------------------------


def test_a_non_finite_loss_stops_the_run_and_keeps_its_files(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(trainer: Trainer) -> float:
        if trainer.step == 6:
            return 1.0
        for parameter in trainer.model.parameters():
            parameter.data.fill_(math.nan)
        return 2.0

    monkeypatch.setattr(Trainer, "evaluate", breaking)
    done = call(*QUICK, "--data", TEXT, *places(tmp_path))
    assert done.code == 1
    assert done.err.startswith("error: step 4: the loss is nan;")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "checkpoints" / "run.safetensors").exists()
    assert "the loss is nan" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")


def test_a_non_finite_loss_keeps_the_last_good_weights(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer.train_step

    def poisoned(trainer: Trainer) -> tuple[float, float, float]:
        if trainer.step == 4:  # after the evaluation at step 3
            for parameter in trainer.model.parameters():
                parameter.data.fill_(math.nan)
        return real(trainer)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    assert call(*QUICK, "--data", TEXT, *places(tmp_path)).code == 1
    kept = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert kept.info["step"] == 3
    assert all(weight.isfinite().all() for weight in kept.weights.values())


def test_a_configuration_is_not_replaced_by_the_run_that_reads_it(
    call: Call, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("max_steps: 3\n", encoding="utf-8")
    done = call(*QUICK, "--config", folder / "config.yaml", "--overwrite", *places(tmp_path))
    assert (done.code, done.out) == (2, "")
    assert "--overwrite would replace" in done.err
    assert (folder / "config.yaml").read_text(encoding="utf-8") == "max_steps: 3\n"


def test_an_unknown_users_home_folder_is_refused_by_name(call: Call, tmp_path: Path) -> None:
    done = call(*QUICK, "--data", "~no-user-of-this-name/x.txt", *places(tmp_path))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "~no-user-of-this-name/x.txt" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files (POSIX)")
def test_a_full_disk_gives_one_line_and_keeps_the_last_good_checkpoint(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    evaluate = Trainer.evaluate

    def fill_the_disk(trainer: Trainer) -> float:
        if trainer.step == 6:  # from here on no file can grow beyond 20 kB; a checkpoint is larger
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        return evaluate(trainer)

    monkeypatch.setattr(Trainer, "evaluate", fill_the_disk)
    try:
        done = call(*QUICK, "--data", TEXT, *places(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.code == 1
    assert done.err == f"error: File too large: {tmp_path / 'run'}\n"
    for name in ("best.safetensors", "last.safetensors"):
        assert load_checkpoint(tmp_path / "run" / name).info["step"] == 3
    assert not list((tmp_path / "run").glob(".*"))  # nothing half written


def test_a_model_too_large_for_memory_gives_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")

    monkeypatch.setattr("training_run.build_model", too_large)
    done = call(*QUICK, "--data", TEXT, *places(tmp_path))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err == "error: out of memory; use a smaller model or batch\n"
    assert list(tmp_path.iterdir()) == []


# --- as a program -------------------------------------------------------------------------------


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start train.py in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(CAPSTONE / "train.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_rows(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the metrics have a row below their heading."""
    while not path.exists() or path.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, "the program ended before its first row"
        time.sleep(0.02)


LONG = ("--max-steps", 1_000_000, "--eval-interval", 1_000_000, "--log-interval", 1)
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these signals")


@posix
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_from_outside_saves_and_exits(tmp_path: Path, name: str) -> None:
    process = start(*SMOKE, *LONG, "--data", TEXT, *places(tmp_path))
    wait_for_rows(tmp_path / "run" / "metrics.csv", process)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after this step" in err and "Traceback" not in err
    step = load_checkpoint(tmp_path / "run" / "last.safetensors").info["step"]
    assert f"interrupted at step {step} of 1000000" in out
    assert read_csv(tmp_path / "run" / "metrics.csv")[-1]["step"] == step


@posix
def test_a_run_in_a_terminal_that_is_closed_saves_its_state(tmp_path: Path) -> None:
    import pty

    terminal, inside = pty.openpty()
    arguments = [*SMOKE, *LONG, "--data", TEXT, *places(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLED, CAPSTONE / "train.py", *map(str, arguments)],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(inside)
    path = tmp_path / "run" / "metrics.csv"
    while not path.exists() or path.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, os.read(terminal, 10_000)
        time.sleep(0.02)
    os.close(terminal)  # now the system sends SIGHUP, and every write to the terminal fails
    assert process.wait(timeout=60) == 130
    step = load_checkpoint(tmp_path / "run" / "last.safetensors").info["step"]
    assert read_csv(path)[-1]["step"] == step
    assert f"step {step} of 1000000: interrupted" in (tmp_path / "run" / "log.txt").read_text(
        encoding="utf-8"
    )


CONTROLLED = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # this terminal controls this process: its end is our SIGHUP
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@posix
def test_under_nohup_a_run_continues(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(CAPSTONE / "train.py"), *map(str, [*SMOKE, *LONG, "--data", TEXT])]
        + [str(place) for place in places(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    path = tmp_path / "run" / "metrics.csv"
    while not path.exists() or path.read_bytes().count(b"\n") < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    rows = path.read_bytes().count(b"\n")
    while path.read_bytes().count(b"\n") < rows + 5:  # it still trains
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells of a closed pipe otherwise")
def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    process = start(*QUICK, "--data", TEXT, *places(tmp_path))
    assert process.stdout and process.stderr
    assert process.stdout.readline().startswith("data    your file: ")
    process.stdout.close()  # as `| head -1` does
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0

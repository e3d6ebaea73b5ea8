"""--compile: it trains, evaluates, samples and resumes, or is refused before the run begins."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train
from checkpointing import load_checkpoint
from engine import CompiledForward, build_model, check_compiler, choose_engine
from fast_decoder import FastDecoder, fast_decode_step
from generator import TextGenerator
from model.config import PRESETS, preset
from tokenizer import CharTokenizer
from training_loop import Trainer
from utils.config import SampleConfig, TrainConfig
from utils.errors import UsageError, run_program
from utils.kv_cache import KVCache

# PyTorch's compiler uses functions that PyTorch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

V = 16
TOKENIZER = CharTokenizer("".join(map(chr, range(97, 97 + V))))
SMALL = {"vocab_size": V, "max_seq_len": 12, "d_model": 16, "n_layers": 1, "n_heads": 2}
FLAGS = [
    *("--data", "data/simple_sequences.txt", "--device", "cpu", "--dtype", "bfloat16"),
    *("--max-seq-len", "16", "--d-model", "16", "--n-layers", "1", "--n-heads", "2"),
    *("--batch-size", "4", "--max-steps", "4", "--eval-interval", "2", "--save-interval", "2"),
    *("--sample-interval", "2", "--log-interval", "1"),
]


def small(name: str, **changes: Any) -> TrainConfig:
    """A preset's configuration at the smallest size that keeps every kind of layer."""
    config = preset(name)
    model = replace(config.model, **SMALL, dropout=0.0)
    sizes = {"batch_size": 3, "max_steps": 4, "warmup_steps": 0}
    return replace(config, model=model, device="cpu", dtype="float32", **sizes, **changes)


def new_trainer(config: TrainConfig) -> Trainer:
    """A trainer whose validation split leaves a smaller last batch and a shorter last block."""
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    n_validation = 12 * (8192 // 12) + 12 * 5 + 7
    tokens = np.random.default_rng(0).integers(V, size=n_validation).astype(np.uint16)
    return Trainer(model, tokens, tokens, config, engine.device, engine.dtype)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_evaluates_and_samples_as_it_does_without(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated by torch.compile, but run by PyTorch: C++ would take a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compiled = new_trainer(small(name, compile=True))
    plain = new_trainer(small(name, compile=False))
    assert isinstance(compiled.model.forward, CompiledForward)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    for _ in range(2):
        losses = [trainer.train_step()[0] for trainer in (compiled, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert compiled.evaluate() == pytest.approx(plain.evaluate(), rel=1e-4)
    sampling = SampleConfig(prompt="ab", max_tokens=30, temperature=0)
    texts = []
    for trainer in (compiled, plain):
        trainer.model.load_state_dict(plain.model.state_dict())
        generator = TextGenerator(trainer.model, trainer.config.model, TOKENIZER, fast_decode_step)
        texts.append("".join(generator.stream(sampling)))
    assert texts[0] == texts[1]
    trained = compiled.model.eval()
    step = fast_decode_step(trained, KVCache(compiled.config.model, 1))
    assert isinstance(step, FastDecoder)  # compiling does not cost the fast path
    compiled.train_step()  # and training continues after evaluation and sampling


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run train.py with these arguments; returns its exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_program(train.main)
        assert isinstance(left.value.code, int)
        return left.value.code

    return run


@pytest.mark.compiler
def test_a_compiled_run_resumes_to_the_same_weights(
    program: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the preset that has dropout, whose random numbers are part of what is resumed.

    The other presets would only give the C++ compiler other kernels, for half a minute.
    """
    run, checkpoints = tmp_path / "run", tmp_path / "checkpoints"
    places = ("--out-dir", run, "--checkpoint-dir", checkpoints)
    assert program("--preset", "full", *FLAGS, "--compile", *places) == 0
    assert ", compiled on cpu" in capsys.readouterr().out
    assert "--- step 4 ---" in (run / "samples.txt").read_text(encoding="utf-8")
    uninterrupted = load_checkpoint(run / "last.safetensors").build_model().state_dict()
    # As if it had been killed after step 2: no result, and no later state.
    (run / "result.json").unlink()
    *_, newest = sorted((run / "states").iterdir())
    shutil.rmtree(newest)
    assert program("--resume", *places) == 0
    assert "resume  step 2 of 4" in capsys.readouterr().out
    resumed = load_checkpoint(run / "last.safetensors").build_model().state_dict()
    assert not any("_orig_mod" in name for name in resumed)
    for name, weight in uninterrupted.items():
        assert torch.equal(weight, resumed[name]), name


NO_COMPILER = "--compile does not work here: torch.compile needs a C++ compiler (g++, clang, MSVC)"


def fail_to_compile(*arguments: object, **options: object) -> Any:
    raise RuntimeError("No working C++ compiler found\nand a second line")


def test_without_a_compiler_it_is_refused_in_one_line_before_the_run_begins(
    program: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch, "compile", fail_to_compile)
    places = ("--out-dir", tmp_path / "run", "--checkpoint-dir", tmp_path / "checkpoints")
    assert program("--preset", "smoke", *FLAGS, "--compile", *places) == 2
    refusal = capsys.readouterr().err
    assert refusal.startswith(f"error: {NO_COMPILER}")
    assert refusal.endswith("leave --compile out (No working C++ compiler found)\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "missing"), [("cpu", r"a C\+\+ compiler \(g\+\+"), ("cuda", "Triton for device")]
)
def test_the_refusal_names_what_the_device_needs(
    device: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "ones", lambda *shape, **options: None)
    monkeypatch.setattr(torch, "compile", fail_to_compile)
    with pytest.raises(UsageError, match=f"torch.compile needs {missing}"):
        check_compiler(torch.device(device))

"""tools/make_pictures.py: the two pictures, drawn from a tiny run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bpe_tokenizer import train_bpe
from checkpointing import save_checkpoint
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools import make_pictures
from utils.config import ModelConfig

TEXT = "to be"
METRICS = "step,train_loss,val_loss,learning_rate\n1,3.5,,0.1\n2,3.0,3.1,0.05\n"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of a model with two layers of two heads."""
    tokenizer = CharTokenizer.train(TEXT)
    model = TinyTransformerLM(
        ModelConfig(tokenizer.vocab_size, max_seq_len=8, d_model=16, n_layers=2, n_heads=2)
    )
    save_checkpoint(tmp_path / "best.safetensors", model, tokenizer)
    (tmp_path / "metrics.csv").write_text(METRICS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_program: Run
) -> Run:
    """Run the program on that run; exit code, output and errors."""
    monkeypatch.setattr(make_pictures, "PICTURES", tmp_path)
    return partial(call_program, make_pictures.main, "--run", run_folder, "--text", TEXT)


def test_both_pictures_are_written(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--layer", "1", "--head", "1")
    assert (code, err) == (0, "")
    for name in ("attention.png", "loss.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert str(tmp_path / name) in out


def test_learned_tokens_label_the_picture(run: Run, run_folder: Path) -> None:
    tokenizer = train_bpe("to be " * 9, 262)
    model = TinyTransformerLM(
        ModelConfig(tokenizer.vocab_size, max_seq_len=8, d_model=16, n_layers=2, n_heads=2)
    )
    save_checkpoint(run_folder / "best.safetensors", model, tokenizer)
    assert run("--layer", "1")[0] == 0


@pytest.mark.parametrize("flags", [("--layer", "2"), ("--layer", "1", "--head", "-1")])
def test_a_head_that_the_model_does_not_have_is_one_line(run: Run, flags: tuple[str, ...]) -> None:
    code, _, err = run(*flags)
    assert (code, err.count("\n")) == (1, 1)
    assert "the model has 2 layers with 2 heads each, counted from 0" in err

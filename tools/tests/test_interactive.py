"""tools/interactive.py is sample.py --interactive under another name."""

import io
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpointing import save_checkpoint
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig

PROGRAM = Path(__file__).parents[1] / "interactive.py"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A model of one letter, whose output is certain."""
    tokenizer = CharTokenizer.train("a")
    config = ModelConfig(1, max_seq_len=8, d_model=8, n_layers=1, n_heads=1)
    save_checkpoint(tmp_path / "a.safetensors", TinyTransformerLM(config), tokenizer)
    return tmp_path / "a.safetensors"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program on what is typed; exit code, output and errors."""

    def run(*arguments: object, typed: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(PROGRAM), *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(PROGRAM), run_name="__main__")
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def test_it_continues_what_is_typed_until_the_input_ends(run: Run, checkpoint: Path) -> None:
    typed = "aa\n/max_tokens 5\nb\naa\n"
    code, out, err = run("--checkpoint", checkpoint, "--max-tokens", 3, typed=typed)
    assert (code, err) == (0, "model   a: no loss recorded\n")
    _, first, setting, mistake, second, _ = out.split("\n> ")
    assert (first, setting, second) == ("aaaaa\n", "max_tokens 5\n", "aaaaaaa\n")
    assert mistake.startswith("error: unknown character 'b'")


def test_a_missing_checkpoint_gives_one_line(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--checkpoint", tmp_path / "none.safetensors", typed="")
    assert (code, out) == (1, "")
    assert err == f"error: no checkpoint at {tmp_path / 'none.safetensors'}\n"


def test_other_modes_are_refused(run: Run, checkpoint: Path) -> None:
    code, out, err = run("--checkpoint", checkpoint, "--compare", typed="")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_its_help_lists_no_other_mode(run: Run) -> None:
    code, out, _ = run("--help", typed="")
    assert code == 0
    assert "--checkpoint" in out and "--top-k" in out
    assert "--compare" not in out and "--interactive" not in out

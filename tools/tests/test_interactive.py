"""tools/interactive.py is sample.py --interactive under another name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from checkpointing import save_checkpoint
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig

PROGRAM = Path(__file__).parents[1] / "interactive.py"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A model of one letter, so that what it says is certain."""
    tokenizer = CharTokenizer.train("a")
    config = ModelConfig(1, max_seq_len=8, d_model=8, n_layers=1, n_heads=1)
    save_checkpoint(tmp_path / "a.safetensors", TinyTransformerLM(config), tokenizer)
    return tmp_path / "a.safetensors"


def run(*arguments: object, typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        input=typed,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_it_continues_what_is_typed_until_the_input_ends(checkpoint: Path) -> None:
    done = run("--checkpoint", checkpoint, "--max-tokens", 3, typed="aa\n/max_tokens 5\nb\naa\n")
    assert (done.returncode, done.stderr) == (0, "")
    _, first, setting, mistake, second, _ = done.stdout.split("\n> ")
    assert (first, setting, second) == ("aaaaa\n", "max_tokens 5\n", "aaaaaaa\n")
    assert mistake.startswith("error: unknown character 'b'")


def test_a_missing_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    done = run("--checkpoint", tmp_path / "none.safetensors", typed="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: no checkpoint at {tmp_path / 'none.safetensors'}\n"

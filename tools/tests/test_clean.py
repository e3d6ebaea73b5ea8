"""tools/clean.py removes what can be generated again, and nothing else."""

from pathlib import Path

import pytest

from tools.clean import clean

GONE = [
    "utils/__pycache__/errors.pyc",
    "09_capstone/model/__pycache__/config.pyc",
    ".pytest_cache/README.md",
    ".ruff_cache/0/x",
    "01_attention/.ipynb_checkpoints/notebook.ipynb",
    "tiny_transformer_course.egg-info/PKG-INFO",
    "build/lib/x.py",
    ".coverage",
]
KEPT = [
    "utils/errors.py",
    "data/tiny_shakespeare.txt",
    "data/__pycache__/x",
    "09_capstone/runs/a/build/best.safetensors",
    "09_capstone/checkpoints/dist/best.safetensors",
    "09_capstone/data/shakespeare/train.npy",
    ".git/build/x",
]
ENVIRONMENT = ".venv/lib/__pycache__/x.pyc"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with leftovers, a thousand bytes in each file."""
    for name in [*GONE, *KEPT, ENVIRONMENT]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    return tmp_path


def test_caches_are_removed_but_no_runs_checkpoints_data_or_environment(root: Path) -> None:
    clean(root)
    assert [name for name in GONE if (root / name).exists()] == []
    assert [name for name in [*KEPT, ENVIRONMENT] if not (root / name).exists()] == []


def test_everything_includes_the_environment(root: Path) -> None:
    clean(root, everything=True)
    assert not (root / ".venv").exists()
    assert [name for name in KEPT if not (root / name).exists()] == []


def test_it_prints_what_it_removed(root: Path) -> None:
    (root / "build" / "large").write_bytes(bytes(2_500_000))
    lines = clean(root)
    assert "removed build (2.5 MB)" in lines
    assert "removed utils/__pycache__ (0.0 MB)" in lines
    assert len(lines) == len(GONE)
    assert clean(root) == []

"""Remove what Python and its tools leave behind: caches, build folders, measured coverage.

    python tools/clean.py          caches and build folders
    python tools/clean.py --all    the environment .venv too (make install creates it again)

Runs, checkpoints and data are never removed. Standard library only: it works without .venv.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFTOVERS = {
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    "build",
    "dist",
}
KEPT = {".git", ".venv", "data", "runs", "checkpoints"}


def leftovers(folder: Path) -> Iterator[Path]:
    """Folders below `folder` that can be generated again; those in KEPT are not searched."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.is_symlink() or path.name in KEPT:
            continue
        if path.name in LEFTOVERS or path.name.endswith(".egg-info"):
            yield path
        else:
            yield from leftovers(path)


def size_of(folder: Path) -> int:
    """The total size of the files below `folder` in bytes; links are not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def clean(root: Path, everything: bool = False) -> list[str]:
    """Remove what can be generated again below `root`; return one line per removed folder."""
    folders = list(leftovers(root))
    if everything and (root / ".venv").is_dir():
        folders.append(root / ".venv")
    measured = [*root.glob(".coverage"), *sorted(root.glob(".coverage.*"))]
    removed = [remove_file(path) for path in measured]
    for folder in folders:
        megabytes = size_of(folder) / 1e6
        shutil.rmtree(folder)
        removed.append(f"removed {folder.relative_to(root).as_posix()} ({megabytes:.1f} MB)")
    return removed


def remove_file(path: Path) -> str:
    """Remove a file; returns the line that says so."""
    megabytes = path.stat().st_size / 1e6
    path.unlink()
    return f"removed {path.name} ({megabytes:.1f} MB)"


def main() -> int:
    """Clean the repository; 0 done, 1 if something could not be removed."""
    parser = argparse.ArgumentParser(description="Remove caches and build leftovers.")
    parser.add_argument("--all", action="store_true", help="remove .venv too")
    try:
        removed = clean(ROOT, everything=parser.parse_args().all)
    except OSError as error:
        print(f"error: cannot remove {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print("\n".join(removed or ["nothing to remove"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

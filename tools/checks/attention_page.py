"""Is the committed interactive page made of the sources that are here, and small enough?"""

from pathlib import Path

from tools.attention_page.assemble import SOURCES_TAG, assemble, embedded_model, sources_hash
from tools.checks.result import Result

PAGE = "01_attention/interactive_demo.html"
SOURCES = "tools/attention_page"
LARGEST = 1_500_000  # bytes
REBUILD = "run: python tools/export_demo.py --lesson"


def check_attention_page(root: Path, module: str | None) -> list[Result]:
    """The page of lesson 01: there, up to date, with a model, and under LARGEST bytes."""
    if module not in (None, "01_attention", "tools"):
        return []
    path = root / PAGE
    problems = page_problems(path, root / SOURCES)
    size = f"{path.stat().st_size:,} bytes" if path.is_file() else "missing"
    return [Result("interactive page", not problems, size, tuple(problems))]


def page_problems(path: Path, sources: Path) -> list[str]:
    """What is wrong with a page that was made of these sources."""
    if not path.is_file():
        return [f"{PAGE} is missing; {REBUILD} --train"]
    text = path.read_text(encoding="utf-8")
    problems = staleness(text, sources)
    if (size := path.stat().st_size) >= LARGEST:
        problems.append(f"{size:,} bytes; it must be under {LARGEST:,}")
    return [f"{PAGE}: {problem}" for problem in problems]


def staleness(text: str, sources: Path) -> list[str]:
    """Whether the page is what the sources and the model inside it give today."""
    named = SOURCES_TAG.search(text)
    if named is None:
        return [f"it does not say what it was made of; {REBUILD}"]
    if named[1] != sources_hash(sources):
        return [f"stale, {sources.name} has changed since it was built; {REBUILD}"]
    try:
        description = embedded_model(text)
    except ValueError as error:
        return [f"{error}; {REBUILD} --train"]
    if description is None:
        return [f"it holds no model; {REBUILD} --train"]
    if text != assemble(description, sources):
        return [f"it was changed by hand; {REBUILD}"]
    return []

"""Notebooks and the code in Markdown pages: does all of it run?"""

import importlib.util
import re
from pathlib import Path

from tools.checks.course_files import kept_files, markdown_files
from tools.checks.result import SKIPPED, Result
from tools.checks.suites import run_pytest, summarise

NOT_RUN = re.compile(r"^\s*```(?:py|python|python3)\b.*\bnotest\b", re.MULTILINE)


def check_notebooks(root: Path, module: str | None) -> list[Result]:
    """Do the notebooks run? Cells marked NBVAL_CHECK_OUTPUT must print what they printed."""
    found = [path for path in kept_files(root) if path.suffix == ".ipynb"]
    notebooks = [path.as_posix() for path in found if module in (None, path.parts[0])]
    # Jupyter warns about its own old paths and open sockets; that is not for us to fix.
    options = ["-p", "nbval", "--nbval-lax", "-W", "default", *notebooks]
    code, cases = run_pytest(root, options) if notebooks else (0, [])
    result = summarise("notebooks", cases)
    passed = result.passed and code in (0, 5)
    detail = f"{len(notebooks)} notebooks, cells: {result.detail}"
    return [Result("notebooks", passed, detail, result.problems, result.seconds)]


def check_text_blocks(root: Path, module: str | None) -> list[Result]:
    """Does the Python in the Markdown run? Blocks marked `notest` are counted, not run."""
    if importlib.util.find_spec("pytest_markdown_docs") is None:
        missing = "needs pytest-markdown-docs: python tools/install.py --dev"
        return [Result("text blocks", True, "tool not installed", (missing,), status=SKIPPED)]
    pages = markdown_files(root, module)
    texts = [(root / page).read_text(encoding="utf-8") for page in pages]
    left_out = sum(len(NOT_RUN.findall(text)) for text in texts)
    options = ["--markdown-docs", "-m", "markdown-docs", *(page.as_posix() for page in pages)]
    code, cases = run_pytest(root, options) if pages else (0, [])
    result = summarise("text blocks", cases)
    passed = result.passed and code in (0, 5)
    detail = f"{result.detail}, {left_out} notest"
    return [Result("text blocks", passed, detail, result.problems, result.seconds)]

"""Notebooks and the code in Markdown pages: does all of it run?"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.checks.course_files import kept_files, markdown_files
from tools.checks.pages import blocks_of, page_problems
from tools.checks.result import Result
from tools.checks.suites import run_pytest, summarise

# Two notebooks at once, each in a process of its own: the tests leave PyTorch one thread.
AT_ONCE = ("-p", "xdist", "-n", "2", "--dist", "loadfile")


def check_notebooks(root: Path, module: str | None) -> list[Result]:
    """Do the notebooks run? Cells marked NBVAL_CHECK_OUTPUT must print what they printed."""
    found = [path for path in kept_files(root) if path.suffix == ".ipynb"]
    notebooks = [path.as_posix() for path in found if module in (None, path.parts[0])]
    # Jupyter warns about its own old paths and open sockets; that is not for us to fix.
    options = ["-p", "nbval", "--nbval-lax", "-W", "default", *AT_ONCE, *notebooks]
    code, cases = run_pytest(root, options) if notebooks else (0, [])
    result = summarise("notebooks", cases)
    passed = result.passed and code in (0, 5)
    detail = f"{len(notebooks)} notebooks, cells: {result.detail}"
    return [Result("notebooks", passed, detail, result.problems, result.seconds)]


def check_text_blocks(root: Path, module: str | None) -> list[Result]:
    """Does the Python in the Markdown run, and print what the page shows?

    Blocks marked `notest` are counted, not run.
    """
    start = time.perf_counter()
    pages = [root / page for page in markdown_files(root, module)]
    blocks = [block for page in pages for block in blocks_of(page.read_text(encoding="utf-8"))]
    with ThreadPoolExecutor(max_workers=2) as pool:  # each page has a process of its own
        found = list(pool.map(lambda page: page_problems(page, root), pages))
    problems = tuple(problem for problems, _ in found for problem in problems)
    n_run = sum(block.runs for block in blocks)
    n_compared = sum(compared for _, compared in found)
    detail = f"{n_run} blocks, {n_compared} outputs compared, {len(blocks) - n_run} notest"
    seconds = time.perf_counter() - start
    return [Result("text blocks", not problems, detail, problems, seconds)]

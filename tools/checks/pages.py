"""The Python in Markdown pages runs, and prints what the page shows.

A page is one Python session: its `python` blocks run from top to bottom, in the root of the
repository, and may use what earlier ones defined. A `text` block that follows one directly shows
what it prints: the words exactly, whole numbers exactly, other numbers to within one of the last
digit shown, because platforms round differently. A block marked `python notest` is not run.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from utils.files import atomic_write_text
from utils.grader.forked import CAN_FORK, forker

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds per page
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<flags>[^\n]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d*)?(?:e[-+]?\d+)?(?![\w])")
PYTHON = ("py", "python", "python3")
SESSION = "import sys; from tools.checks.pages import session; session(sys.argv[1])"


@dataclass(frozen=True)
class Block:
    """A fenced Python block of a page, and the output that the page shows below it."""

    line: int  # of its first line of code
    code: str
    runs: bool
    expected: str | None = None
    place: tuple[int, int] | None = None  # of the expected output, in the page's text
    end: int = 0  # of the block, in the page's text
    indent: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a block did: what it printed, and the error that ended it, "" if none did."""

    printed: str
    error: str = ""


def blocks_of(text: str) -> list[Block]:
    """The Python blocks of a page, in order."""
    fences = list(FENCE.finditer(text))
    found = []
    for fence, following in zip_longest(fences, fences[1:]):
        if fence["language"] not in PYTHON:
            continue
        shown = following is not None and following["language"] == "text"
        if following is not None and shown and text[fence.end() : following.start()].strip() == "":
            place = following.span("body")
            expected = dedented(following["body"], fence["indent"])
        else:
            place, expected = None, None
        found.append(
            Block(
                line=text.count("\n", 0, fence.start("body")) + 1,
                code=dedented(fence["body"], fence["indent"]),
                runs="notest" not in fence["flags"].split(),
                expected=expected,
                place=place,
                end=fence.end(),
                indent=fence["indent"],
            )
        )
    return found


def dedented(body: str, indent: str) -> str:
    """The body of a fence in a list item, without the indent of the item."""
    return "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))


# --- running: in a process of its own, so that a page can break nothing else ---


def run_page(page: Path, root: Path = ROOT) -> list[Outcome]:
    """Run a page's blocks in a new Python session; blocks after an error are not run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    run_process = run_forked if CAN_FORK else run_new
    try:
        code, printed, errors = run_process(page.resolve(), root, environment)
    except subprocess.TimeoutExpired:
        return [Outcome("", f"the page was still running after {TIMEOUT} seconds")]
    if code != 0:
        last = (errors.strip() or f"exit code {code}").splitlines()[-1]
        return [Outcome("", last)]
    return [Outcome(**outcome) for outcome in json.loads(printed.splitlines()[-1])]


def run_new(page: Path, root: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Run `session` in a new process; returns its exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(page)],
        cwd=root,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout, done.stderr


def run_forked(page: Path, root: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """The same in a process that is forked from one with torch loaded."""
    with tempfile.TemporaryFile() as errors:
        call = "tools.checks.pages:session"
        process = forker().start(call, [str(page)], root, environment, errors.fileno())
        late = threading.Event()
        timer = threading.Timer(TIMEOUT, lambda: (late.set(), process.kill()))
        timer.start()
        with process.stdin, process.stdout:
            printed = process.stdout.read().decode("utf-8", "replace")
        code = process.wait()
        timer.cancel()
        if late.is_set():
            raise subprocess.TimeoutExpired(call, TIMEOUT)
        errors.seek(0)
        return code, printed, errors.read().decode("utf-8", "replace")


def session(page: str) -> None:
    """Run the blocks of a page here, and print the outcomes as one line of JSON."""
    text = Path(page).read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    outcomes: list[dict[str, str]] = []
    for block in blocks_of(text):
        if not block.runs:
            continue
        printed, error = run_block(block, page, namespace)
        outcomes.append({"printed": printed, "error": error})
        if error:
            break
    print("\n" + json.dumps(outcomes))


def run_block(block: Block, name: str, namespace: dict[str, Any]) -> tuple[str, str]:
    """What a block prints, and its error with the line of the page, "" if there is none."""
    code = "\n" * (block.line - 1) + block.code  # so that line numbers are those of the page
    stdout = io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout):
            exec(compile(code, name, "exec"), namespace)  # the page is ours
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
        line = frames[-1].lineno if frames else block.line
        return stdout.getvalue(), f"line {line}: {type(error).__name__}: {error}"
    return stdout.getvalue(), ""


# --- comparing ---


def page_problems(page: Path, root: Path = ROOT) -> tuple[list[str], int]:
    """What is wrong with a page, one line per problem, and how many outputs were compared."""
    blocks = [block for block in blocks_of(page.read_text(encoding="utf-8")) if block.runs]
    name = page.relative_to(root).as_posix() if page.is_relative_to(root) else str(page)
    problems, compared = [], 0
    for block, outcome in zip(blocks, run_page(page, root) if blocks else [], strict=False):
        if outcome.error:
            problems.append(f"{name}: {outcome.error}")
            break
        if block.expected is not None:
            compared += 1
        problem = output_problem(outcome.printed, block.expected)
        if problem:
            problems.append(f"{name}:{block.line}: {problem}")
    return problems, compared


def output_problem(printed: str, expected: str | None) -> str:
    """How what was printed differs from what the page shows; "" if it does not."""
    if expected is None:
        return f"prints {first_line(printed)!r}, which the page does not show" if printed else ""
    for number, (ours, shown) in enumerate(padded(printed, expected), start=1):
        if not alike(ours, shown):
            return f"output line {number} is {ours!r}, where the page shows {shown!r}"
    return ""


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return next((line for line in text.splitlines() if line.strip()), "")


def padded(printed: str, expected: str) -> Iterator[tuple[str, str]]:
    """The lines of both side by side, "" where one has ended."""
    return zip_longest(printed.rstrip().splitlines(), expected.rstrip().splitlines(), fillvalue="")


def alike(ours: str, shown: str) -> bool:
    """Whether two lines have the same words and, within the last digit shown, the same numbers."""
    if words_of(ours) != words_of(shown):
        return False
    pairs = zip(NUMBER.findall(ours), NUMBER.findall(shown), strict=True)
    return all(close(mine, theirs) for mine, theirs in pairs)


def words_of(line: str) -> list[str]:
    """The line without its numbers; how many spaces pad a number does not count."""
    return NUMBER.sub("#", line).split()


def close(ours: str, shown: str) -> bool:
    """Whole numbers must be equal, others differ by one of the last digit shown at most."""
    mine, theirs = (float(number.replace(",", "")) for number in (ours, shown))
    mantissa, _, exponent = shown.partition("e")
    if "." not in mantissa and not exponent:
        return mine == theirs
    digits = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - digits)
    return abs(mine - theirs) <= 1.001 * unit  # 0.659 - 0.658 is a little more than 0.001


# --- writing ---


def write_outputs(page: Path) -> list[str]:
    """Put what the blocks print into the page; returns the errors that stopped it."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for block in blocks_of(text) if block.runs]
    outcomes = run_page(page) if blocks else []
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for block, outcome in reversed(list(zip(blocks, outcomes, strict=False))):
        if not outcome.error and output_problem(outcome.printed, block.expected):
            text = with_output(text, block, outcome.printed)
    atomic_write_text(page, text)
    return errors


def with_output(text: str, block: Block, printed: str) -> str:
    """The page with this output below the block."""
    lines = [(block.indent + line).rstrip() for line in printed.rstrip().splitlines()]
    body = "".join(f"{line}\n" for line in lines)
    if block.place is not None:
        start, end = block.place
        return text[:start] + body + text[end:]
    fence = f"\n{block.indent}```text\n{body}{block.indent}```"
    return text[: block.end] + fence + text[block.end :]

"""The process that runs a learner's code, so that nothing in it can harm the program that asks.

It imports what takes long, reports "ready", waits for a job on standard input, runs pytest on it,
reports each event as one line of JSON, and is ready for the next job. utils/grader/runner.py
starts it, reads the events, and may kill it.
"""

import builtins
import json
import os
import pdb
import sys
from typing import Any

import pytest
import torch  # takes a second, before the job arrives

from utils.grader import guard
from utils.grader.pytest_plugin import EXERCISE, case_of
from utils.grader.report import Case

OPTIONS = [
    "-q",
    "--no-header",
    "--rootdir=.",  # as an absolute path, pytest would expand a $ in it
    "--pythonwarnings=ignore::pytest.PytestAssertRewriteWarning",  # the plugin is loaded already
    "-pno:cacheprovider",
    "-pno:logging",  # its handlers take longer than most tests, and nothing here reads the log
    # A learner's leftover threads and objects would otherwise fail the next exercise.
    "-pno:threadexception",
    "-pno:unraisableexception",
    # The summary would repeat each case, without an event, for longer than the reader waits.
    "--no-summary",
]


class EventReporter:
    """A pytest plugin that reports each event as one line of JSON."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.mark: dict[str, str] = {}  # the secret of the job, if it has one

    def send(self, event: str, **details: Any) -> None:
        self.stream.write(json.dumps({"event": event, **details, **self.mark}) + "\n")
        self.stream.flush()

    def pytest_sessionstart(self) -> None:
        refuse_terminal()  # after pytest has installed its own pdb.set_trace

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.send("error", phase="collection", message=f"{report.nodeid}: {cause(report)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if EXERCISE in item.stash:
            self.send("start", exercise=item.stash[EXERCISE][1].id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        self.send("loaded")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Report the result of a test that ran, or the error that kept it from running."""
        case = case_of(report)
        if case is not None and case.outcome:
            self.send("case", **as_json(case))
        elif report.failed:
            test = report.nodeid.rpartition("::")[2]
            self.send("error", phase=report.when, message=f"{test}: {cause(report)}")


def cause(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The error of a report in one line."""
    text = report.longreprtext
    errors = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    lines = errors or [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no message"


def as_json(case: Case) -> dict[str, Any]:
    """A case without sets, which JSON lacks; utils/grader/runner.py restores them."""
    explained = None if case.explained_by is None else sorted(case.explained_by)
    sets = {"resembles": sorted(case.resembles), "refuted": sorted(case.refuted)}
    return {**vars(case), "explained_by": explained, **sets}


def refuse_terminal() -> None:
    """Make `breakpoint()` and `input()` raise at once, instead of waiting for a person."""
    os.environ["PYTHONBREAKPOINT"] = "utils.grader.guard.refuse_debugger"
    pdb.set_trace = guard.refuse_debugger
    builtins.input = guard.refuse_input


def main() -> None:
    """Run each job, {"root": folder, "arguments": [...]}, until the input ends or a line is empty.

    Each event of a job with a "secret" repeats it: a line that something else writes does not.
    The jobs of one process must have the same root: Python imports the test files only once.
    """
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a learner prints past pytest's capture must not look like an event
    torch.set_num_threads(
        1
    )  # tensors are small here; on a busy machine threads wait for each other
    reporter = EventReporter(stream)
    reporter.send("ready")
    while line := sys.stdin.readline().strip():
        job = json.loads(line)
        reporter.mark = {"secret": job["secret"]} if "secret" in job else {}
        os.chdir(job["root"])
        code = pytest.main([*OPTIONS, *job["arguments"]], plugins=[reporter])
        reporter.send("end", code=int(code))
        reporter.send("ready")
    os._exit(0)  # threads that a learner left running do not keep the process alive


if __name__ == "__main__":
    main()

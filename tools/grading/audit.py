"""The process that asks a submission's functions again, from outside.

It runs the tests of the exercises that claim to be solved. The tests, the expected values and the
comparison are in this process; the submission's code is in another, in a sandbox, and only answers
(tools/grading/answers.py). So a submission that has patched the grader, or has written "solved"
somewhere, gains nothing: here it has to return the right values.

The random inputs are drawn from a seed that is chosen when grading begins, not from the one that
stands in the repository. A job is one line of JSON:

    {"root": folder, "arguments": [test, ...], "seed": 7, "lesson": "01_attention",
     "submission": exercises.py, "copy": scrubbed copy, "sandbox": the fields of a Sandbox}
"""

try:
    from utils.grader.learner_code import LoadError, read_source
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import json
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tools.grading.remote import Connection, RemoteError, remote_module
from tools.grading.sandbox import Sandbox, View
from utils.grader import guard
from utils.grader.pytest_plugin import LEARNERS
from utils.grader.worker import OPTIONS, EventReporter

# This process only waits for answers, each of which has its own limit (tools/grading/remote.py):
# the wall time of an exercise must not count as if it computed.
PATIENCE = 24.0


class AuditReporter(EventReporter):
    """Reports for each test whether it passed."""

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """No exercise is announced: a test stands for itself."""

    def pytest_runtest_call(self) -> None:
        """Nothing to report before a test has run."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            why = "" if report.passed else report.longreprtext[:500]
            self.send("test", test=report.nodeid, passed=report.passed, why=why)


class Audit:
    """A pytest plugin: the tests of one submission, with inputs from another seed."""

    def __init__(self, job: dict[str, Any], connection: Connection) -> None:
        self.job = job
        self.connection = connection
        self.path = Path(job["root"]) / job["lesson"] / "exercises" / "exercises.py"

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Put the remote module where the tests look for the learner's."""
        config.stash[LEARNERS][self.path] = self._learner()  # pyright: ignore[reportArgumentType]

    def _learner(self) -> SimpleNamespace:
        try:
            source = read_source(Path(self.job["submission"]))
            module = remote_module(self.connection)
            return SimpleNamespace(source=source, module=module, problem=self.connection.problem)
        except (LoadError, RemoteError) as error:
            return SimpleNamespace(source=None, module=SimpleNamespace(), problem=str(error))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        seed = self.job["seed"]
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)


def main() -> None:
    """Run each job until the input ends."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    guard.PATIENCE = PATIENCE
    reporter = AuditReporter(stream)
    reporter.send("ready")
    while line := sys.stdin.readline().strip():
        job = json.loads(line)
        os.chdir(job["root"])
        place = f"{job['lesson']}/exercises/exercises.py"
        view = View(Path(job["copy"]), {place: Path(job["submission"])})
        connection = Connection(Sandbox(**job["sandbox"]), view, place)
        try:
            plugins = [reporter, Audit(job, connection)]
            code = pytest.main([*OPTIONS, *job["arguments"]], plugins=plugins)
        finally:
            connection.end()
        reporter.send("end", code=int(code))
        reporter.send("ready")
    os._exit(0)


if __name__ == "__main__":
    main()

"""The process that runs a learner's code, so that nothing in it can hurt the one who asks.

It imports what takes long, says "ready", waits for one job on standard input, runs pytest on it,
and tells each event as one line of JSON. utils/grader/runner.py starts it, listens, and may kill
it.
"""

import json
import os
import sys
from typing import Any

import pytest

import utils.grader.guard  # noqa: F401 - torch takes a second to import: do it before the job comes
from utils.grader.pytest_plugin import CASE, EXERCISE
from utils.grader.report import Case


class Narrator:
    """A pytest plugin that tells what happens."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def say(self, event: str, **details: Any) -> None:
        self.stream.write(json.dumps({"event": event, **details}) + "\n")
        self.stream.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if EXERCISE in item.stash:
            self.say("start", exercise=item.stash[EXERCISE][1].id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        self.say("loaded")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        case = item.stash.get(CASE, None)
        if case is not None:
            self.say("case", **as_json(case))


def as_json(case: Case) -> dict[str, Any]:
    """A case as JSON can hold it; utils/grader/runner.py turns the lists into sets again."""
    explained = None if case.explained_by is None else sorted(case.explained_by)
    return {**vars(case), "explained_by": explained, "refuted": sorted(case.refuted)}


def main() -> None:
    """Wait for a job, {"root": folder, "arguments": [...]}, and do it; an empty line: leave."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a learner prints past pytest's capture must not look like an event
    narrator = Narrator(stream)
    narrator.say("ready")
    line = sys.stdin.readline()
    if not line.strip():
        return
    job = json.loads(line)
    os.chdir(job["root"])
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", job["root"]]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # the plugin is here already
    # What a learner's threads and dropped objects leave behind would fail whoever comes next.
    options += ["-p", "no:threadexception", "-p", "no:unraisableexception"]
    code = pytest.main([*options, *job["arguments"]], plugins=[narrator])
    narrator.say("end", code=int(code))
    stream.flush()
    os._exit(0)  # threads that a learner left running do not keep the process


if __name__ == "__main__":
    main()

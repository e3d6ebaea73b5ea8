"""Grade a made-up class of 30, twelve of them hostile, and print what each tried and got.

    python tools/grading_trial.py                 the whole class: minutes
    python tools/grading_trial.py --only forger   one or a few of them

Afterwards the course must be as it was, nothing may still run, and no student may have more points
than the answers that really are right. Exit code 1 if that is not so.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import hashlib
import os
import socket
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import psutil
from tqdm import tqdm

from tools.checks.course_files import kept_files
from tools.grading import formats
from tools.grading.class_page import class_page
from tools.grading.grades import Graded
from tools.grading.hostile import Student, the_class
from tools.grading.judging import Grader
from tools.grading.sandbox import has_user
from tools.grading.submissions import entries, read_submissions
from utils.command_line import OneLineParser
from utils.files import atomic_write_text
from utils.grader.exercises import ROOT, lessons
from utils.grader.report import SOLVED, wrap

INDENT = 7 * " "


def main() -> int:
    """Grade the class; 1 if someone got more or less than they deserve, or something broke."""
    parser = OneLineParser(description="Grade a made-up class of 30, twelve of them hostile.")
    parser.add_argument("--only", nargs="*", default=[], help="names of students")
    parser.add_argument("--jobs", type=int, default=2, help="sandboxes at the same time")
    parser.add_argument("--output", default="", help="a folder for the CSV files and the page")
    options = parser.parse_args()
    lesson = lessons()[1]
    before = fingerprint()
    with listener() as (port, heard), tempfile.TemporaryDirectory() as folder:
        students = the_class(lesson, port)
        if options.only:
            students = [one for one in students if one.name in options.only]
        hand_in(students, Path(folder), lesson.name)
        submissions = read_submissions(entries(Path(folder)), [lesson])
        start = time.perf_counter()
        with Grader(options.jobs) as grader:
            with tqdm(total=len(submissions), desc="grading", disable=None) as bar:
                graded = grader.grade_all(submissions, [lesson], lambda _: bar.update())
            weakness = grader.weakness
            users = [one.user for one in grader.sandboxes if one.user]
        seconds = time.perf_counter() - start
        left = [
            one.pid for one in psutil.process_iter() if any(has_user(one, user) for user in users)
        ]
    if options.output:
        path = Path(options.output)
        path.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path / "grades.csv", formats.grades_csv(graded, [lesson]))
        page = class_page(graded, [lesson], "A made-up class", weakness)
        atomic_write_text(path / "class.html", page)
    found = {one.name: one for one in graded}
    good = [report(one, found[one.name]) for one in students]
    checks = {
        "every submission is graded": len(graded) == len(students),
        "the course is as it was": fingerprint() == before,
        "nothing still runs": not left,
        "no connection arrived": not heard,
    }
    load = "" if not hasattr(os, "getloadavg") else f", load {os.getloadavg()[1]:.1f}"
    print(f"\n{len(students)} submissions in {seconds:.0f} s, {options.jobs} at a time{load}")
    print("\n".join(f"{'ok' if fine else 'FAILED':<7}{name}" for name, fine in checks.items()))
    print(f"{sum(good)} of {len(students)} got exactly what they deserve")
    return int(not all([*good, *checks.values()]))


def hand_in(students: list[Student], folder: Path, lesson: str) -> None:
    """Write each student's file, as a folder or a zip in turn."""
    for at, one in enumerate(students):
        place = f"{lesson}/exercises/exercises.py"
        if at % 2:
            with zipfile.ZipFile(folder / f"{one.name}.zip", "w") as archive:
                archive.writestr(f"my-course/{place}", one.text)
        else:
            file = folder / one.name / place
            file.parent.mkdir(parents=True)
            file.write_text(one.text, encoding="utf-8")


def report(student: Student, graded: Graded) -> bool:
    """Print what a student got; whether that is what they deserve."""
    solved = {one for one, grade in graded.grades.items() if grade.verdict.outcome == SOLVED}
    extra, missing = sorted(solved - student.deserves), sorted(student.deserves - solved)
    sign = "FAILED" if extra or missing else "ok"
    got = f"{len(solved)} of {len(student.deserves)} deserved"
    print(f"{sign:<7}{student.name:<13}{got:<19}{graded.seconds:>5.0f} s")
    for name, ids in (("extra", extra), ("missing", missing)):
        if ids:
            print(f"       {name}: {', '.join(ids)}")
    if student.tries:
        print("\n".join(wrap(f"tries {student.tries}", INDENT, 2)))
        for one in ("1.2", "1.3"):
            found = graded.grades[one].verdict
            text = found.message.replace("\n", " ")[:230] or found.outcome
            print("\n".join(wrap(f"{one}: {text}", INDENT, 5)))
    return not extra and not missing


def fingerprint() -> str:
    """A hash of every file of the course."""
    digest = hashlib.sha256()
    for path in kept_files(ROOT):
        digest.update(path.as_posix().encode() + (ROOT / path).read_bytes())
    return digest.hexdigest()


class listener:  # noqa: N801 - used like a function
    """A server on this machine that counts who connects."""

    def __enter__(self) -> tuple[int, list[object]]:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.heard: list[object] = []
        threading.Thread(target=self._listen, daemon=True).start()
        return self.socket.getsockname()[1], self.heard

    def _listen(self) -> None:
        try:
            while True:
                self.heard.append(self.socket.accept())
        except OSError:
            pass

    def __exit__(self, *_: object) -> None:
        self.socket.close()


if __name__ == "__main__":
    run_program(main)

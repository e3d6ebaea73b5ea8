"""Grade the submissions of a class: in a sandbox, and each answer once more from outside.

    python tools/grade.py ann.zip bob/ --lesson 01_attention
    python tools/grade.py --each submissions --format csv --output grades
    python tools/grade.py /autograder/submission --lesson 01_attention --format gradescope
        --output /autograder/results/results.json

A submission is a folder, a zip or one exercises.py; only files of that name are taken from it.
Each lesson is judged in a scrubbed copy of the course, behind bubblewrap where that works. What
that protects from, and what it does not, is in 00_setup/for_instructors.md.

Formats: `table` prints a line per student. `csv` writes grades.csv, misconceptions.csv and
class.html into the folder --output. `gradescope` and `classroom50` write the JSON file of one
submission to --output, or one file per submission into that folder.

Exit code 0 if every submission was graded, whatever the grades; 1 if a file was refused or an
answer is disputed: the table, the page and the JSON say which.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.command_line import OneLineParser
from utils.errors import UsageError, pick
from utils.files import atomic_write_text
from utils.grader.exercises import ROOT, Lesson, lessons

FORMATS = ("table", "csv", "gradescope", "classroom50")
MOST_JOBS = 32


def main(root: Path = ROOT) -> int:
    """Grade the submissions; 1 if there is something that the instructor has to look at."""
    options = parse()
    course = lessons(root)
    # Imported late: bad usage is reported at once, without waiting for torch.
    from tools.grading.submissions import entries, read_submissions

    paths = [Path(one) for one in options.submissions]
    if options.each:
        paths = [one for path in paths for one in entries(path)]
    submissions = read_submissions(paths, course)
    chosen = choose(options.lesson, course, [name for one in submissions for name in one.files])
    check_output(options, len(submissions))

    from tools.grading.judging import Grader

    with Grader(options.jobs, audits=options.confirm, walls=options.sandbox) as grader:
        if grader.weakness:
            print(f"note: {grader.weakness}", file=sys.stderr)
        count = len(submissions) * len(chosen)
        with tqdm(total=count, desc="grading", leave=False, disable=None) as bar:
            graded = grader.grade_all(submissions, chosen, lambda name: bar.update())
        write(options, graded, chosen, grader.weakness)
    return int(any(one.problems for one in graded))


def parse() -> argparse.Namespace:
    """The command line. Raises UsageError."""
    parser = OneLineParser(description="Grade the submissions of a class.")
    parser.add_argument("submissions", nargs="+", help="a folder, a .zip or an exercises.py each")
    parser.add_argument("--each", action="store_true", help="each entry of a folder is one")
    parser.add_argument("--lesson", action="append", default=[], help="default: all handed in")
    parser.add_argument("--format", default="table", help=", ".join(FORMATS))
    parser.add_argument(
        "--output",
        default="",
        help="with csv, or several submissions: a folder for the files; with one submission: "
        "its JSON file; not with table, which is printed",
    )
    parser.add_argument("--title", default="Tiny Transformer Course", help="of the class page")
    parser.add_argument("--jobs", type=int, default=2, help="sandboxes at the same time")
    parser.add_argument(
        "--sandbox",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use bubblewrap where it works",
    )
    parser.add_argument(
        "--confirm",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask again from outside what claims to be solved",
    )
    options = parser.parse_args()
    pick(options.format, FORMATS, "format")
    if options.format == "table" and options.output:
        raise UsageError(
            f"--output {options.output} needs a format that writes files: --format csv, "
            "gradescope or classroom50; the table is printed"
        )
    if not 1 <= options.jobs <= MOST_JOBS:
        raise UsageError(f"--jobs is {options.jobs}; allowed: 1 to {MOST_JOBS}")
    return options


def choose(names: Sequence[str], course: Sequence[Lesson], handed_in: list[str]) -> list[Lesson]:
    """The lessons to grade: those asked for, or else all that someone has handed in."""
    known = [lesson.name for lesson in course]
    wanted = {pick(name.rstrip("/\\"), known, "lesson") for name in names} or set(handed_in)
    if not wanted:
        raise UsageError("no submission holds an exercises.py of a lesson; see --lesson")
    return [lesson for lesson in course if lesson.name in wanted]


def check_output(options: argparse.Namespace, count: int) -> None:
    """Raise UsageError before anything is graded, if the results could not be written."""
    if options.format == "table":
        return
    if not options.output:
        raise UsageError(f"--format {options.format} needs --output")
    path = Path(options.output)
    is_folder = options.format == "csv" or count > 1
    if is_folder and path.is_file():
        raise UsageError(f"--output {path} is a file; {count} submissions need a folder")
    if not is_folder and path.is_dir():
        raise UsageError(f"--output {path} is a folder; name the file, such as {path}/results.json")
    (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)


def write(
    options: argparse.Namespace, graded: Sequence[Any], course: Sequence[Lesson], weakness: str
) -> None:
    """Write or print the results."""
    from tools.grading import formats
    from tools.grading.class_page import class_page

    if options.format == "table":
        print("\n".join(formats.table(graded, course)))
        return
    path = Path(options.output)
    if options.format == "csv":
        atomic_write_text(path / "grades.csv", formats.grades_csv(graded, course))
        atomic_write_text(path / "misconceptions.csv", formats.misconceptions_csv(graded))
        page = class_page(graded, course, options.title, weakness)
        atomic_write_text(path / "class.html", page)
        print(f"wrote grades.csv, misconceptions.csv and class.html to {path}")
        return
    make = formats.gradescope if options.format == "gradescope" else formats.classroom50
    for one in graded:
        file = path if len(graded) == 1 else path / f"{one.name}.json"
        atomic_write_text(file, json.dumps(make(one, course), indent=1))
    print(f"wrote {path}")


if __name__ == "__main__":
    run_program(main)

"""learning_paths.md: the hours add up, and are those that the READMEs of finished lessons state.

A test that fails here after a README has changed says which cell of the page has to follow.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tools.checks.layout import LESSONS
from tools.validate_all import READY

FOLDER = Path(__file__).resolve().parents[1]
ROOT = FOLDER.parent
PAGE = (FOLDER / "learning_paths.md").read_text(encoding="utf-8")
COLUMNS = ("theory, exercises", "code, notebook", "challenges", "everything")
UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)
NUMBER = rf"(?:\d+(?:\.\d+)?|{'|'.join(UNITS)})(?: and a half)?"
STATED = re.compile(rf"Allow (?:about )?({NUMBER}) (minutes|hours?)")
OWN_PROJECT = "a project of your own"  # may be longer than the lesson


class Row(NamedTuple):
    """A row of a path."""

    when: str
    folder: str
    what: str
    hours: float


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def sections() -> dict[str, str]:
    """The text below each heading of the second level."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def paths() -> dict[str, list[Row]]:
    """The rows of each path, without the line of the total."""
    found = {}
    for heading, text in sections().items():
        if "| when | folder | what | hours |" in text:
            lines = [cells(line) for line in text.splitlines() if line.startswith("|")][2:]
            found[heading] = [
                Row(when, folder, what, float(hours))
                for when, folder, what, hours in lines
                if when != "total"
            ]
    return found


def hours_table() -> dict[str, dict[str, float]]:
    """The table of the hours: lesson, column, hours; its last line is called "total"."""
    table = {}
    for line in sections()["The hours"].splitlines():
        if re.match(r"\| (\[0|total)", line):
            name, *hours, _ = cells(line)
            key = name.partition("]")[0].lstrip("[")
            table[key] = dict(zip(COLUMNS, map(float, hours), strict=True))
    return table


def kind_of(folder: str) -> str:
    """The last cell of a lesson's line: "counted" or "planned"."""
    (line,) = re.findall(rf"^\| \[{folder}\].*$", PAGE, re.MULTILINE)
    return cells(line)[-1]


def parts_of(row: Row, table: dict[str, dict[str, float]]) -> float | None:
    """The hours that the table has for what a row names, None if it names something else."""
    lesson = table[row.folder]
    if row.what == "all but the challenges":
        return lesson["everything"] - lesson["challenges"]
    return lesson.get(row.what)


def number(words: str) -> float:
    """ "four and a half" is 4.5."""
    whole, half, _ = words.partition(" and a half")
    return (UNITS.index(whole) if whole in UNITS else float(whole)) + bool(half) / 2


def stated_hours(folder: str) -> float:
    """The hours that a lesson's README allows."""
    found = STATED.search(" ".join((ROOT / folder / "README.md").read_text("utf-8").split()))
    assert found is not None, f"{folder}/README.md does not say how long it takes"
    return number(found[1]) / (60 if found[2] == "minutes" else 1)


def test_the_table_has_every_lesson_and_adds_up() -> None:
    table = hours_table()
    total = table.pop("total")
    assert list(table) == list(LESSONS)
    for name, row in table.items():
        assert row["everything"] == sum(row[column] for column in COLUMNS[:3]), name
    for column in COLUMNS:
        assert total[column] == sum(row[column] for row in table.values()), column
    theory, code = total[COLUMNS[0]], total[COLUMNS[1]]
    sentence = f'"all but the challenges" means {theory + code:g} hours: {theory:g} + {code:g}.'
    assert sentence in " ".join(PAGE.split())


def test_the_total_is_what_the_course_promises() -> None:
    promise = re.search(
        r"take a beginner (\d+) to (\d+) hours",
        " ".join((ROOT / "README.md").read_text("utf-8").split()),
    )
    assert promise is not None, "README.md no longer says how long the course takes"
    assert int(promise[1]) <= hours_table()["total"]["everything"] <= int(promise[2])


def test_counted_and_planned_hours_add_up() -> None:
    table = hours_table()
    total = table.pop("total")["everything"]
    counted = sum(row["everything"] for name, row in table.items() if kind_of(name) == "counted")
    assert f"| {counted:g} counted, {total - counted:g} planned |" in PAGE


@pytest.mark.parametrize("folder", READY)
def test_a_finished_lesson_has_the_hours_of_its_readme(folder: str) -> None:
    on_page, in_readme = hours_table()[folder]["everything"], stated_hours(folder)
    assert on_page == in_readme, (
        f"{folder}/README.md allows {in_readme:g} hours; learning_paths.md has {on_page:g}. "
        "Change its table, then every path whose total no longer adds up"
    )


def test_an_unfinished_lesson_is_called_planned() -> None:
    table = hours_table()
    assert all(kind_of(name) == "planned" for name in table if name not in (*READY, "total"))


def test_lesson_01_is_divided_as_its_readme_says() -> None:
    readme = " ".join((ROOT / "01_attention" / "README.md").read_text("utf-8").split())
    found = re.search(
        rf"hours: ({NUMBER}) for the theory with exercises .*?, ({NUMBER})\s+for the two "
        rf"challenges, .*?, and ({NUMBER}) for the reference code and the notebook",
        readme,
    )
    assert found is not None
    theory, challenges, code = map(number, found.groups())
    row = hours_table()["01_attention"]
    assert [row[column] for column in COLUMNS[:3]] == [theory, code, challenges]
    table = hours_table()
    assert row["everything"] == max(table[lesson]["everything"] for lesson in LESSONS)


@pytest.mark.parametrize("name", paths())
def test_a_path_adds_up_to_the_hours_in_its_heading(name: str) -> None:
    rows = paths()[name]
    (total,) = re.findall(r"^\| total \| \| \| ([\d.]+) \|$", sections()[name], re.MULTILINE)
    assert sum(row.hours for row in rows) == float(total)
    assert name.endswith(f": {total} hours")


@pytest.mark.parametrize("name", paths())
def test_a_path_keeps_to_the_hours_of_the_lessons(name: str) -> None:
    table = hours_table()
    per_lesson: dict[str, float] = defaultdict(float)
    for row in paths()[name]:
        assert (ROOT / row.folder).is_dir(), row
        named = parts_of(row, table)
        assert named is None or row.hours == named, f"{row} but the table has {named} hours"
        if row.what != OWN_PROJECT:
            per_lesson[row.folder] += row.hours
    for folder, hours in per_lesson.items():
        assert hours <= table[folder]["everything"], folder
    claim = re.search(r"\b(everything|all but the challenges)\b", sections()[name], re.I)
    if claim:
        left_out = "all but" in claim[1].lower()
        assert dict(per_lesson) == {
            lesson: table[lesson]["everything"] - left_out * table[lesson]["challenges"]
            for lesson in LESSONS
        }


@pytest.mark.parametrize("name", paths())
def test_the_days_of_a_path_are_as_long_as_it_says(name: str) -> None:
    limits = re.search(r"(?:days|blocks|weeks) of ([\d.]+) to ([\d.]+) hours", sections()[name])
    if limits is None:
        return
    days: dict[str, float] = defaultdict(float)
    for row in paths()[name]:
        days[row.when] += row.hours
    assert float(limits[1]) <= min(days.values()), days
    assert max(days.values()) <= float(limits[2]), days


def test_every_path_that_the_course_was_asked_for_is_there() -> None:
    hours = {name.rpartition(": ")[0]: name for name in paths()}
    wanted = (
        *("Just show me code", "A weekend", "Experienced", "Absolute beginner"),
        *("Two weekends, or a month", "Five days", "One week", "Eight days, full-time"),
        *("Seven steps", "Two weeks", "Four weeks"),
    )
    assert sorted(hours) == sorted(wanted)
    assert 10 <= sum(row.hours for row in paths()[hours["Experienced"]]) <= 15
    assert len({row.when for row in paths()[hours["Seven steps"]]}) == 7
    assert len({row.when for row in paths()[hours["Eight days, full-time"]]}) == 8


def test_the_hours_of_a_few_exercises_are_enough_for_them() -> None:
    text = (ROOT / "01_attention" / "exercises" / "exercises.yaml").read_text("utf-8")
    minutes = {each["id"]: each["minutes"] for each in yaml.safe_load(text)}
    ids = list(minutes)
    for row in (row for rows in paths().values() for row in rows if row.folder == "01_attention"):
        named = re.findall(r"1\.\d+", row.what)
        if " to " in row.what:
            named = ids[ids.index(named[0]) : ids.index(named[1]) + 1]
        assert sum(minutes[each] for each in named) <= 60 * row.hours, row

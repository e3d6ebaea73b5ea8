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
    """The last cell of a lesson's line: "counted", "estimated" or "planned"."""
    (line,) = re.findall(rf"^\| \[{folder}\].*$", PAGE, re.MULTILINE)
    return cells(line)[-1]


def parts_of(row: Row, table: dict[str, dict[str, float]]) -> float | None:
    """The hours that the table has for what a row names, None if it names something else."""
    lesson = table[row.folder]
    if row.what == "all but the challenges":
        return lesson["everything"] - lesson["challenges"]
    return lesson.get(row.what)


def core(table: dict[str, dict[str, float]]) -> dict[str, float]:
    """The hours of each lesson in the core: those of its theory and exercises."""
    return {name: table[name][COLUMNS[0]] for name in LESSONS}


def text_of(path: Path) -> str:
    """A file, its lines joined."""
    return " ".join(path.read_text("utf-8").split())


def number(words: str) -> float:
    """ "four and a half" is 4.5."""
    whole, half, _ = words.partition(" and a half")
    return (UNITS.index(whole) if whole in UNITS else float(whole)) + bool(half) / 2


def stated_hours(folder: str) -> float:
    """The hours that a lesson's README allows."""
    found = STATED.search(text_of(ROOT / folder / "README.md"))
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


def test_the_core_adds_up_and_the_page_says_what_it_leaves_out() -> None:
    table = hours_table()
    theory, code, challenges, _ = COLUMNS
    total, page = table["total"], text_of(FOLDER / "learning_paths.md")
    for sentence in (
        f'"the core" means the column "{theory}" of every lesson, {total[theory]:g} hours.',
        f"the challenges, {total[challenges]:g} hours;",
        f"code and notebooks, {total[code]:g} hours.",
    ):
        assert sentence in page
    extra = re.search(
        rf"If you have ({NUMBER}) more hours, take the notebook of lesson 00; if you have "
        rf"({NUMBER}), code and notebook of lesson 01 as well",
        page,
    )
    assert extra is not None
    first, second = (table[name][code] for name in LESSONS[:2])
    assert [number(words) for words in extra.groups()] == [first, first + second]


def test_what_the_unfinished_lessons_take_today() -> None:
    table = hours_table()
    planned = [name for name in LESSONS if kind_of(name) == "planned"]
    today = sum(stated_hours(name) for name in planned)
    later = sum(core(table)[name] for name in planned)
    assert later - today >= table["00_setup"][COLUMNS[1]], "the page says that they are enough"
    assert (
        f"lessons {planned[0][:2]} to {planned[-1][:2]} takes the {today:g} hours that their "
        f"READMEs give, and in the core they have {later:g}. The other {later - today:g} hours "
        "are enough for the notebook of lesson 00"
    ) in text_of(FOLDER / "learning_paths.md")


def test_the_readme_of_the_course_promises_these_hours() -> None:
    promise = re.search(
        r"take a beginner about ([\d.]+) hours, or ([\d.]+) without notebooks and challenges",
        text_of(ROOT / "README.md"),
    )
    assert promise is not None, "README.md no longer says how long the course takes"
    table = hours_table()
    assert float(promise[1]) == table["total"]["everything"]
    assert float(promise[2]) == sum(core(table).values())


def test_the_map_of_the_course_has_the_hours_of_today() -> None:
    table = hours_table()
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in LESSONS:
        (hours,) = re.findall(rf"^\| \[{name}\].*\| ([\d.]+)[^|]*\|$", readme, re.MULTILINE)
        planned = kind_of(name) == "planned"
        assert float(hours) == (stated_hours(name) if planned else table[name]["everything"]), name


def test_the_readme_of_the_course_names_the_finished_lessons() -> None:
    finished = [name[:2] for name in LESSONS if kind_of(name) != "planned"]
    sentence = f"**Lessons {finished[0]} to {finished[-1]} are complete today**"
    assert sentence in text_of(ROOT / "README.md")


def test_hours_of_every_kind_add_up() -> None:
    table = hours_table()
    sums: dict[str, float] = dict.fromkeys(("counted", "estimated", "planned"), 0.0)
    for name in LESSONS:
        sums[kind_of(name)] += table[name]["everything"]
    (line,) = re.findall(r"^\| total \|.*(?:counted|estimated|planned) \|$", PAGE, re.MULTILINE)
    assert cells(line)[-1] == ", ".join(f"{hours:g} {kind}" for kind, hours in sums.items())


@pytest.mark.parametrize("folder", READY)
def test_a_finished_lesson_has_the_hours_of_its_readme(folder: str) -> None:
    on_page, in_readme = hours_table()[folder]["everything"], stated_hours(folder)
    assert on_page == in_readme, (
        f"{folder}/README.md allows {in_readme:g} hours; learning_paths.md has {on_page:g}. "
        "Change its table, then every path whose total no longer adds up"
    )


def test_the_hours_of_finished_lessons_are_not_called_planned() -> None:
    finished = [name for name in LESSONS if kind_of(name) != "planned"]
    # The page may know a lesson before READY does: whoever finishes one changes both, one by one.
    assert finished in (list(LESSONS[: len(READY)]), list(LESSONS[: len(READY) + 1]))


@pytest.mark.parametrize("folder", [lesson for lesson in READY if lesson != "00_setup"])
def test_a_finished_lesson_is_divided_as_its_readme_says(folder: str) -> None:
    found = re.search(
        rf"hours: ({NUMBER}) for the theory with exercises .*?, ({NUMBER}) for [^,]* challenges, "
        rf".*?, and ({NUMBER}) for (?:the )?reference code and (?:the )?notebook",
        text_of(ROOT / folder / "README.md"),
    )
    assert found is not None
    theory, challenges, code = map(number, found.groups())
    row = hours_table()[folder]
    assert [row[column] for column in COLUMNS[:3]] == [theory, code, challenges]


def test_lesson_00_is_divided_as_its_readme_says() -> None:
    found = re.search(
        rf"hours: half an hour to install .*?, ({NUMBER}) for the theory with its eight exercises, "
        rf"({NUMBER}) for the notebook",
        text_of(FOLDER / "README.md"),
    )
    assert found is not None
    theory, notebook = map(number, found.groups())
    row = hours_table()["00_setup"]
    assert [row[column] for column in COLUMNS[:3]] == [0.5 + theory, notebook, 0]


def test_lessons_01_to_04_take_three_fifths_of_the_time() -> None:
    table = hours_table()
    longest = sum(table[name]["everything"] for name in LESSONS[1:5])
    assert longest == pytest.approx(table["total"]["everything"] * 3 / 5, abs=1)
    assert "Lessons 01 to 04 take three fifths of the time" in text_of(FOLDER / "learning_paths.md")


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
    above_the_table = sections()[name].partition("|")[0].lower()
    if "the core" in above_the_table:
        assert per_lesson == core(table)
    elif "everything" in above_the_table:
        assert per_lesson == {lesson: table[lesson]["everything"] for lesson in LESSONS}


def test_the_paths_that_promise_it_hold_the_core_or_everything() -> None:
    promises = {name: sections()[name].partition("|")[0].lower() for name in paths()}
    whole = f": {sum(core(hours_table()).values()):g} hours"
    for name, promise in promises.items():
        assert ("the core" in promise) == name.endswith(whole), name
        assert promise.lstrip().startswith("everything") == name.startswith(("Two weeks:", "Four"))


def test_the_experienced_path_grows_to_15_hours_with_the_challenges_of_02_and_03() -> None:
    (name,) = (name for name in paths() if name.startswith("Experienced"))
    assert "If you have 15 hours, spend the other three on the challenges" in " ".join(PAGE.split())
    table = hours_table()
    extra = table["02_multi_head"]["challenges"] + table["03_transformer_blocks"]["challenges"]
    assert extra == 3 == 15 - sum(row.hours for row in paths()[name])


@pytest.mark.parametrize("name", paths())
def test_the_days_of_a_path_are_as_long_as_it_says(name: str) -> None:
    text = " ".join(sections()[name].split())
    limits = re.search(r"(?:days|blocks|weeks) of ([\d.]+)(?: to ([\d.]+))? hours", text)
    if limits is None:
        return
    days: dict[str, float] = defaultdict(float)
    for row in paths()[name]:
        days[row.when] += row.hours
    assert float(limits[1]) <= min(days.values()), days
    assert max(days.values()) <= float(limits[2] or limits[1]), days


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


@pytest.mark.parametrize("folder", READY)
def test_the_hours_of_a_few_exercises_are_enough_for_them(folder: str) -> None:
    text = (ROOT / folder / "exercises" / "exercises.yaml").read_text("utf-8")
    minutes = {each["id"]: each["minutes"] for each in yaml.safe_load(text)}
    ids = list(minutes)
    for row in (row for rows in paths().values() for row in rows if row.folder == folder):
        named = re.findall(rf"\b{int(folder[:2])}\.\d+", row.what)
        if len(named) == 2 and f"{named[0]} to {named[1]}" in row.what:
            named = ids[ids.index(named[0]) : ids.index(named[1]) + 1]
        assert sum(minutes[each] for each in named) <= 60 * row.hours, row

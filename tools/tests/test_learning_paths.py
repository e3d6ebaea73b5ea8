"""00_setup/learning_paths.md: the hours add up, and are those of the finished lessons' READMEs.

A test that fails here after a README has changed says which cell of the page has to follow.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from model.config import preset
from my_parts import used_parts
from my_pieces import PIECES
from tools.checks.layout import LESSONS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "00_setup"
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
    """The last cell of a lesson's line: "counted" or "estimated"."""
    (line,) = re.findall(rf"^\| \[{folder}\].*$", PAGE, re.MULTILINE)
    return cells(line)[-1]


def parts_of(row: Row, table: dict[str, dict[str, float]]) -> float | None:
    """The hours that the table has for what a row names, None if it names something else."""
    lesson = table[row.folder]
    if row.what == "the core":
        return core()[row.folder]
    return lesson.get(row.what)


class CoreRow(NamedTuple):
    """A line of the table of the core."""

    exercises: str
    sections: str
    minutes: str
    reading: str
    hours: float


def core_table() -> dict[str, CoreRow]:
    """The table of the core: lesson, line; its last line is called "total"."""
    lines = [cells(line) for line in sections()["The core"].splitlines() if line.startswith("|")]
    return {name: CoreRow(*line, hours=float(hours)) for name, *line, hours in lines[2:]}


def core() -> dict[str, float]:
    """The hours of each lesson in the core."""
    return {name: core_table()[name].hours for name in LESSONS}


def entries(folder: str) -> dict[str, dict]:
    """The exercises of a lesson, by their ids."""
    text = (ROOT / folder / "exercises" / "exercises.yaml").read_text("utf-8")
    return {each["id"]: each for each in yaml.safe_load(text)}


def ids_in(text: str, folder: str) -> list[str]:
    """ "1.1 to 1.3, 1.5" is 1.1, 1.2, 1.3, 1.5: the ids of a lesson that a text names."""
    ids, one = list(entries(folder)), rf"\b{int(folder[:2])}\.\d+\b"
    found = []
    for first, last in re.findall(rf"({one})(?: to ({one}))?", text):
        found += ids[ids.index(first) : ids.index(last or first) + 1]
    assert found == sorted(set(found), key=ids.index), f"{folder}: {text}"
    return found


def headed(page: Path) -> dict[str, str]:
    """The text below each heading of the second level of a page."""
    parts = re.split(r"^## (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def to_read(folder: str, cell: str) -> str:
    """The text of the sections and pages that the core names."""
    theory = headed(ROOT / folder / "theory.md")
    if cell.startswith("all"):
        return " ".join(theory.values())
    headings, text = list(theory), ""
    for first, last in re.findall(r"\*([^*]+)\*(?: to \*([^*]+)\*)?", cell):
        named = headings[headings.index(first) : headings.index(last or first) + 1]
        assert named, cell
        text += " ".join(theory[heading] for heading in named)
    for page in re.findall(r"\w+\.md", cell):
        text += (ROOT / folder / page).read_text("utf-8")
    return text


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


@pytest.mark.parametrize("folder", LESSONS)
def test_the_core_is_what_the_yaml_marks(folder: str) -> None:
    marked = [each for each, entry in entries(folder).items() if entry.get("core")]
    assert ids_in(core_table()[folder].exercises, folder) == marked


def test_the_core_adds_up() -> None:
    table, rows = hours_table(), core_table()
    total = rows.pop("total")
    assert list(rows) == list(LESSONS)
    assert total.hours == sum(row.hours for row in rows.values()) == 30.5
    for name, row in rows.items():
        assert row.hours <= table[name][COLUMNS[0]] + table[name][COLUMNS[2]], name


@pytest.mark.parametrize("folder", LESSONS)
def test_a_row_of_the_core_has_the_minutes_of_its_exercises(folder: str) -> None:
    row, exercises = core_table()[folder], entries(folder)
    named = ids_in(row.exercises, folder)
    assert int(row.minutes) == sum(exercises[each]["minutes"] for each in named)
    assert row.hours * 60 == int(row.minutes) + int(row.reading)


@pytest.mark.parametrize("folder", LESSONS)
def test_the_sections_of_the_core_lead_to_its_exercises(folder: str) -> None:
    row = core_table()[folder]
    prose = re.sub(r"```.*?```", "", to_read(folder, row.sections), flags=re.DOTALL)
    announced = " ".join(re.findall(r"\*\*([^*]+)\*\*", prose))
    for each in ids_in(row.exercises, folder):
        assert re.search(rf"\b{re.escape(each)}\b", announced), each


@pytest.mark.parametrize("folder", LESSONS[1:4])
def test_the_theory_says_which_exercises_are_not_in_the_core(folder: str) -> None:
    theory = text_of(ROOT / folder / "theory.md")
    marked = re.findall(r"\b(\d+\.\d+)\*\* \(not in the core\)", theory)
    core_ids = ids_in(core_table()[folder].exercises, folder)
    others = [each for each, entry in entries(folder).items() if not entry.get("challenge")]
    assert marked == [each for each in others if each not in core_ids]


def test_every_part_of_the_default_model_is_in_the_core() -> None:
    rows = core_table()
    for part in used_parts(preset("laptop").model):
        folder, name = PIECES[part]
        (written,) = (
            each["id"]
            for each in entries(folder).values()
            if name in {stub.partition(".")[0] for stub in each["stubs"]}
        )
        assert written in ids_in(rows[folder].exercises, folder), part


def test_the_core_says_which_exercises_it_leaves_out() -> None:
    rows, text = core_table(), " ".join(sections()["The core"].split())
    found = re.search(r"all challenges but ([\d.]+): .*? (\d+) other exercises: (.*?\d)\. ", text)
    assert found is not None
    kept, count, others = found.groups()
    left, challenges = [], []
    for folder in LESSONS:
        named = ids_in(rows[folder].exercises, folder)
        for each, entry in entries(folder).items():
            if each in named:
                assert not entry.get("challenge") or each == kept
            else:
                (challenges if entry.get("challenge") else left).append(each)
    assert kept not in challenges
    said = [each for folder in LESSONS for each in ids_in(others, folder)]
    wrong = sorted(set(said) ^ set(left))
    assert said == left, f"learning_paths.md, 'The core', names or forgets as left out: {wrong}"
    assert len(left) == int(count)


def test_the_core_says_what_the_rest_takes() -> None:
    table = hours_table()
    code, total = COLUMNS[1], table["total"]
    text = " ".join(sections()["The core"].split())
    assert f"is more than half of the course's {total['everything']:g} hours." in text
    assert sum(core().values()) < total["everything"] / 2
    assert f"the reading of the reference code, {total[code]:g} hours." in text
    extra = re.search(
        rf"If you have ({NUMBER}) more hours, take the notebook of lesson 00; if you have "
        rf"({NUMBER}), code and notebook of lesson 01 as well",
        text,
    )
    assert extra is not None
    first, second = (table[name][code] for name in LESSONS[:2])
    assert [number(words) for words in extra.groups()] == [first, first + second]


def test_the_readme_of_the_course_promises_these_hours() -> None:
    promise = re.search(
        r"take a beginner about ([\d.]+) hours, or ([\d.]+) for the core",
        text_of(ROOT / "README.md"),
    )
    assert promise is not None, "README.md no longer says how long the course takes"
    table = hours_table()
    assert float(promise[1]) == table["total"]["everything"]
    assert float(promise[2]) == sum(core().values())


def test_the_map_of_the_course_has_these_hours() -> None:
    table = hours_table()
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in LESSONS:
        (hours,) = re.findall(rf"^\| \[{name}\].*\| ([\d.]+) \| ([\d.]+) \|$", readme, re.MULTILINE)
        assert list(map(float, hours)) == [core()[name], table[name]["everything"]], name
    (total,) = re.findall(r"^\| total \| \| ([\d.]+) \| ([\d.]+) \|$", readme, re.MULTILINE)
    assert list(map(float, total)) == [sum(core().values()), table["total"]["everything"]]
    assert 25 <= float(total[0]) <= 35, "what a beginner can find in a month of evenings"


def test_hours_of_every_kind_add_up() -> None:
    table = hours_table()
    sums: dict[str, float] = dict.fromkeys(("counted", "estimated"), 0.0)
    for name in LESSONS:
        sums[kind_of(name)] += table[name]["everything"]
    (line,) = re.findall(r"^\| total \|.*(?:counted|estimated) \|$", PAGE, re.MULTILINE)
    assert cells(line)[-1] == ", ".join(f"{hours:g} {kind}" for kind, hours in sums.items())


@pytest.mark.parametrize("folder", LESSONS)
def test_the_readme_of_a_lesson_has_the_hours_of_its_core(folder: str) -> None:
    found = re.search(
        rf"\[the core\]\(\S+#the-core\) of the lesson takes about ({NUMBER}) hours?\.",
        text_of(ROOT / folder / "README.md"),
    )
    assert found is not None
    assert number(found[1]) == core()[folder]


@pytest.mark.parametrize("folder", LESSONS)
def test_a_finished_lesson_has_the_hours_of_its_readme(folder: str) -> None:
    on_page, in_readme = hours_table()[folder]["everything"], stated_hours(folder)
    assert on_page == in_readme, (
        f"{folder}/README.md allows {in_readme:g} hours; learning_paths.md has {on_page:g}. "
        "Change its table, then every path whose total no longer adds up"
    )


@pytest.mark.parametrize("folder", [lesson for lesson in LESSONS if lesson != "00_setup"])
def test_a_finished_lesson_is_divided_as_its_readme_says(folder: str) -> None:
    found = re.search(
        rf"hours: ({NUMBER}) for the theory with exercises .*?, ({NUMBER}) for [^,]* challenges?, "
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


def test_lessons_01_to_05_take_the_share_of_the_time_that_the_page_says() -> None:
    table = hours_table()
    longest = sum(table[name]["everything"] for name in LESSONS[1:6])
    sentence = f"Lessons 01 to 05 take {longest / table['total']['everything']:.0%} of the time"
    assert sentence in text_of(FOLDER / "learning_paths.md")


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
        assert per_lesson == core()
    elif "everything" in above_the_table:
        assert per_lesson == {lesson: table[lesson]["everything"] for lesson in LESSONS}


def test_the_paths_that_promise_it_hold_the_core_or_everything() -> None:
    promises = {name: sections()[name].partition("|")[0].lower() for name in paths()}
    whole = f": {sum(core().values()):g} hours"
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


def test_step_3_is_as_long_as_the_page_says() -> None:
    (name,) = (name for name in paths() if name.startswith("Seven steps"))
    hours = sum(row.hours for row in paths()[name] if row.when.startswith("3"))
    whole = sum(core().values())
    assert f"Step 3 takes {hours:g} of the {whole:g} hours." in " ".join(sections()[name].split())


@pytest.mark.parametrize("folder", LESSONS)
def test_a_core_path_that_cuts_a_lesson_has_its_exercises_once(folder: str) -> None:
    whole = ids_in(core_table()[folder].exercises, folder)
    for name, rows in paths().items():
        if not name.endswith(f": {sum(core().values()):g} hours"):
            continue
        of_lesson = [row.what for row in rows if row.folder == folder]
        if of_lesson != ["the core"]:
            assert [each for what in of_lesson for each in ids_in(what, folder)] == whole, name


@pytest.mark.parametrize("folder", LESSONS)
def test_the_hours_of_a_few_exercises_are_enough_for_them(folder: str) -> None:
    exercises = entries(folder)
    for row in (row for rows in paths().values() for row in rows if row.folder == folder):
        named = ids_in(row.what, folder)
        assert sum(exercises[each]["minutes"] for each in named) <= 60 * row.hours, row

"""The ten lessons as one text: the same parts in the same order, one rule for the same thing."""

import re
from pathlib import Path

import pytest

from tools.checks.layout import LESSONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for lesson in LESSONS for page in (ROOT / lesson).glob("*.md"))
SECTIONS = (
    *("What you will learn", "What you need first", "What is here", "Five steps"),
    *("What you can now do", "Questions to test yourself"),
)
STEPS = ("1. Read", "2. Write", "3. Compare", "4. Explore", "5. Test")
KEYS = (
    "It checks your code each time you save, and moves on when an exercise is solved. Its keys: h "
    "gives a hint, n goes to the next exercise, s shows the solution of the one that you solved "
    "last, r restores the stub, q quits. Use another terminal for all other commands."
)
YEAR = re.compile(r"\[[^\]\[]*?((?:19|20)\d\d)\]\(https://arxiv\.org/abs/(\d\d)\d\d\.\d+\)")
HISTORY = re.compile(
    r"^\| (\d{4}) \| \[[^\]]*\]\(https://arxiv\.org/abs/(\d\d)\d\d\.", re.MULTILINE
)


def readme(lesson: str) -> str:
    """The README of a lesson, its lines joined."""
    return (ROOT / lesson / "README.md").read_text(encoding="utf-8")


def headings(page: Path) -> list[str]:
    """The headings of the second level of a page."""
    return re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def name_of(page: Path) -> str:
    """ "07_sampling/kv_cache.md"."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_readme_has_the_same_sections_in_the_same_order(lesson) -> None:
    found = [each for each in headings(ROOT / lesson / "README.md") if each in SECTIONS]
    assert found == list(SECTIONS)
    assert re.search(r"^Next: ", readme(lesson), re.MULTILINE)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_five_steps_have_the_same_names(lesson) -> None:
    steps = readme(lesson).partition("\n## Five steps\n")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\*\*(\d\. \w+)", steps, re.MULTILINE)) == STEPS


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_readme_explains_the_keys_of_watch_in_the_same_words(lesson) -> None:
    assert KEYS in " ".join(readme(lesson).split())


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_theory_begins_with_its_pytorch_and_ends_with_what_was_met(lesson) -> None:
    found = headings(ROOT / lesson / "theory.md")
    assert re.fullmatch(r"The (?:Python and )?PyTorch you need", found[0])
    assert re.fullmatch(r"What real (?:models|systems|projects) do(?: today)?", found[-2])
    assert found[-1] == "What did you meet?"


@pytest.mark.parametrize("lesson", LESSONS[:-1])  # the last one's notebooks are about your model
def test_a_notebook_ends_with_three_questions(lesson) -> None:
    notebooks = (ROOT / lesson).glob("*.ipynb")
    assert any("Three questions to take along" in each.read_text("utf-8") for each in notebooks)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_map_and_the_order_of_the_lessons_have_its_title(lesson) -> None:
    title = re.search(r"^# Lesson (\d\d: .+)$", readme(lesson), re.MULTILINE)
    assert title, "the first line names the lesson"
    short = title[1].replace(":", "").partition(",")[0]
    assert f"[{short}]" in readme("00_setup") or lesson == "00_setup"
    questions = (ROOT / "00_setup" / "review_questions.md").read_text(encoding="utf-8")
    assert f"## Lesson {title[1].partition(',')[0]}" in questions


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_year_of_a_paper_is_that_of_its_number(page) -> None:
    text = page.read_text(encoding="utf-8")
    cited = [*YEAR.findall(text), *HISTORY.findall(text)]
    assert all(year[2:] == number for year, number in cited)


def test_an_exercise_says_that_it_is_a_challenge_where_the_list_does() -> None:
    for lesson in LESSONS:
        stubs = (ROOT / lesson / "exercises" / "exercises.py").read_text(encoding="utf-8")
        entries = (ROOT / lesson / "exercises" / "exercises.yaml").read_text(encoding="utf-8")
        listed = re.findall(
            r'^- id: "([\d.]+)"(?:(?!^- id).)*?^  challenge: true', entries, re.M | re.S
        )
        said = re.findall(r'"""Exercise ([\d.]+), a challenge:', stubs)
        assert said == listed, lesson

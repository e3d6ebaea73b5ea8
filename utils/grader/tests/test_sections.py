"""utils/grader/sections.py: the section that leads to an exercise, in every lesson."""

from pathlib import Path

import pytest

from utils.grader.exercises import Exercise, Lesson, lessons
from utils.grader.sections import announced, section_before

PAGE = """# The lesson

Exercise **1.1** is mentioned here.

## A box of **1.2**

```python
# **Now write 1.1.**
## no heading
```

Read this. **Now write 1.1**, and
**1.2** (not in the core).

### Below

**Now repair 1.3 to 1.5.** The line of **11.6** belongs to another lesson.
"""


def exercise(number: int, page: str = "theory.md") -> Exercise:
    hints = ("a", "b", "c")
    return Exercise(f"1.{number}", "", "write", ("f",), 1, 1, "", hints, ("test_f",), page=page)


@pytest.mark.parametrize(
    ("number", "heading", "line"),
    [
        *((1, "A box of **1.2**", 5), (2, "A box of **1.2**", 5)),
        *((number, "Below", 15) for number in (3, 4, 5)),
    ],
)
def test_the_section_is_the_one_that_ends_with_the_exercise(
    tmp_path: Path, number: int, heading: str, line: int
) -> None:
    (tmp_path / "01_first").mkdir()
    (tmp_path / "01_first" / "theory.md").write_text(PAGE, encoding="utf-8")
    section = section_before(Lesson(tmp_path / "01_first", ()), exercise(number))
    assert section is not None
    assert (section.heading, section.line) == (heading, line)


def test_an_exercise_that_no_page_leads_to_has_no_section(tmp_path: Path) -> None:
    lesson = Lesson(tmp_path / "01_first", ())
    assert section_before(lesson, exercise(1)) is None
    lesson.folder.mkdir()
    (lesson.folder / "theory.md").write_text(PAGE, encoding="utf-8")
    assert section_before(lesson, exercise(6)) is None
    assert section_before(lesson, exercise(1, page="other.md")) is None


def test_another_page_of_the_lesson_may_prepare_an_exercise(tmp_path: Path) -> None:
    lesson = Lesson(tmp_path / "01_first", ())
    lesson.folder.mkdir()
    (lesson.folder / "costs.md").write_text("## Costs\n\n**Now write 1.7.**", encoding="utf-8")
    section = section_before(lesson, exercise(7))
    assert section is not None
    assert (section.page.name, section.heading) == ("costs.md", "Costs")


@pytest.mark.parametrize(
    ("paragraph", "ids"),
    [
        ("**Now predict 4.1, then write 4.2.**", ["4.1", "4.2"]),
        ("**Now write 4.5.** Four lines. **Write 4.6** next", ["4.5", "4.6"]),
        ("**Now repair 4.9 to 4.12.**", ["4.9", "4.10", "4.11", "4.12"]),
        ("**4.9** is a challenge", []),
        ("**Now write 14.9.**", []),
    ],
)
def test_a_paragraph_announces_exercises_in_bold(paragraph: str, ids: list[str]) -> None:
    assert announced(paragraph, 4) == ids


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.name)
def test_every_exercise_of_the_course_has_a_section_that_exists(lesson: Lesson) -> None:
    before = ("", 0)
    for one in lesson.exercises:
        section = section_before(lesson, one)
        assert section is not None, f"no page of {lesson.name} ends a section with {one.id}"
        lines = section.page.read_text(encoding="utf-8").splitlines()
        assert lines[section.line - 1].lstrip("#").strip() == section.heading
        assert not section.heading.startswith(("The PyTorch you need", "What did you meet")), one.id
        here = (section.page.as_posix(), section.line)
        assert here[0] != before[0] or here >= before, f"{one.id} comes before what it builds on"
        before = here

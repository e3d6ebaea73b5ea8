"""resources.md: well-formed links, each once, and each with a time to use it."""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
PAGE = (FOLDER / "resources.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((https?://[^)]+)\)")


def test_no_link_is_listed_twice() -> None:
    links = LINK.findall(PAGE)
    assert len(links) > 50 and len(links) == len(set(links))
    assert all(link.startswith("https://") for link in links)


def test_numbers_of_arxiv_have_their_form() -> None:
    for page in ("resources.md", "learning_paths.md"):
        text = (FOLDER / page).read_text(encoding="utf-8")
        for number in re.findall(r"arxiv\.org/([^)\s]+)", text):
            assert re.fullmatch(r"abs/(\d\d)(0[1-9]|1[0-2])\.(\d{4}|\d{5})", number), number


def test_the_year_of_a_paper_is_that_of_its_number() -> None:
    rows = re.findall(r"arxiv\.org/abs/(\d\d)\d\d\.\d+\) \([^()]*?(20\d\d)\)", PAGE)
    assert len(rows) > 20
    assert all(number == year[2:] for number, year in rows)


def test_every_row_says_after_which_lesson() -> None:
    for heading in ("Papers", "Posts", "Code to read"):
        section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| [")]
        assert rows and all(re.search(r"\| 0\d \|$", row) for row in rows), heading

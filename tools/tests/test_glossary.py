"""00_setup/glossary.md: in order, complete, and each term where its link says."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tools.checks.links import slug_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "00_setup"
PAGE = (FOLDER / "glossary.md").read_text(encoding="utf-8")
README = (FOLDER / "README.md").read_text(encoding="utf-8")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BOLD = re.compile(r"\*\*([^*]+)\*\*")

# What the theory prints in bold as a term, where the glossary has it under a longer name.
LONGER = {
    "absolute": "absolute positions",
    "atomic": "atomic write",
    "bigram": "bigram model",
    "causal": "causal mask",
    "cosine": "cosine schedule",
    "flashattention": "flash attention",
    "floating": "floating mask",
    "learned": "absolute positions",
    "multi-head latent attention": "latent attention",
    "relative": "relative positions",
    "sinusoidal": "sinusoidal positions",
    "t5": "bucket",
    "the validation loss": "validation loss",
    "tied": "weight tying",
    "warm up": "warm-up",
}
# What is bold because it matters there, and not because it is introduced.
EMPHASIS = {
    *("block", "zero", "larger base", "none", "fall", "half precision", "reproducible"),
    *("rename", "what fsync promise", "one row, one line, one write", "once, at the boundary"),
    *("bit for bit", "the same tokens, the same logit", "budget", "6 n per token", "the gap"),
    "if the text ends before the budget doe",
}


class Entry(NamedTuple):
    """A row of the table of terms."""

    names: list[str]
    meaning: str
    lesson: str
    heading: str
    target: str


def entries() -> list[Entry]:
    """The rows of the table of terms, in the order of the page."""
    table = PAGE.partition("\n## Terms\n")[2]
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| (\d\d) \[([^\]]+)\]\(([^)]+)\) \|$", table, re.MULTILINE
    )
    return [Entry(names_of(term), *rest) for term, *rest in rows]


def names_of(term: str) -> list[str]:
    """ "nat, bit" is two names; "byte-pair encoding (BPE)" too."""
    if term.startswith("warm-up, stable"):
        return ["warm-up, stable, decay", "wsd"]
    return [name for name in re.split(r", | \(|\)", term) if name]


def plain(text: str) -> str:
    """Text as it is read: lower case, one space between words, no marks of Markdown."""
    return " ".join(re.sub(r"[*`$\\]", "", text).replace("_", " ").lower().split())


def singular(term: str) -> str:
    """ "batches" is "batch", "views" is "view", "loss" stays."""
    return re.sub(r"(?<=ch)es$|(?<=[^s])s$", "", term)


def section(path: Path, heading: str) -> str:
    """The title of a page, a heading and the text below it."""
    text = path.read_text(encoding="utf-8")
    start = re.search(rf"^## {re.escape(heading)}$", text, re.MULTILINE)
    assert start, (path.name, heading)
    below = re.split(r"^## ", text[start.end() :], flags=re.MULTILINE)[0]
    return f"{text.splitlines()[0]} {heading} {below}"


def bold_terms(lesson: Path) -> set[str]:
    """What a theory prints in bold, but for instructions and sentences."""
    text = CODE.sub("", (lesson / "theory.md").read_text(encoding="utf-8"))
    found = {plain(bold) for bold in BOLD.findall(text)}
    return {
        singular(bold)
        for bold in found
        if not bold.endswith((".", "?")) and not re.search(r"\d\.\d|now |architectures\.md", bold)
    }


def test_there_are_as_many_terms_as_a_page_can_hold() -> None:
    assert 60 <= len(entries()) <= 120


def test_the_terms_are_in_alphabetical_order_and_each_there_once() -> None:
    firsts = [entry.names[0].casefold() for entry in entries()]
    assert firsts == sorted(firsts)
    names = [name.casefold() for entry in entries() for name in entry.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.names[0])
def test_the_section_behind_a_link_has_the_term(entry) -> None:
    target, _, anchor = entry.target.partition("#")
    path = (FOLDER / target).resolve()
    assert path.relative_to(ROOT).parts[0].startswith(entry.lesson)
    assert anchor == slug_of(entry.heading)
    text = plain(section(path, entry.heading))
    for name in entry.names:
        known = {plain(name), *(short for short, long in LONGER.items() if long == name)}
        is_short = name.isupper() and f"({name})" in PAGE  # an abbreviation beside its long form
        assert is_short or any(singular(each) in text for each in known), (name, entry.heading)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.names[0])
def test_a_meaning_is_one_sentence_or_two(entry) -> None:
    assert entry.meaning.endswith(".")
    assert len(re.findall(r"[.?](?: |$)", entry.meaning)) <= 2
    assert len(entry.meaning) < 200


@pytest.mark.parametrize(
    "lesson", sorted(ROOT.glob("0*/theory.md")), ids=lambda path: path.parent.name
)
def test_what_a_theory_introduces_in_bold_is_here(lesson) -> None:
    names = {singular(plain(name)) for entry in entries() for name in entry.names}
    terms = {singular(LONGER.get(bold, bold)) for bold in bold_terms(lesson.parent)}
    assert terms - names <= EMPHASIS


def test_the_shapes_are_those_of_the_readme() -> None:
    rows = re.findall(
        r"^\| `[^|]+` ?[^|]*\| [^|]+ \|$", PAGE.partition("\n## Terms\n")[0], re.MULTILINE
    )
    assert len(rows) > 8
    assert all(row in README for row in rows)


@pytest.mark.parametrize("page", ["README.md", "00_setup/README.md"])
def test_the_readmes_lead_here(page) -> None:
    assert "glossary.md)" in (ROOT / page).read_text(encoding="utf-8")

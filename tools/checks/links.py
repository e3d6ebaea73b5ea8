"""Are the links in the Markdown pages valid? Links to the web are not followed.

A link is valid when git tracks the file or folder that it names, so that a fresh clone has it, and
when the page has the heading that the link names after a `#`.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from tools.checks.course_files import kept_files, markdown_files
from tools.checks.result import Result

FENCE = re.compile(r"^[ >]*(`{3,}|~{3,}).*?^[ >]*\1[`~]*[ ]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)[^`].*?\1")
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
LINK = re.compile(
    r"\]\(<?([^)\s>]+)"  # [text](target)
    r"|^ {0,3}\[[^\]^][^\]]*\]: *(\S+)"  # [text]: target, but not [^1]: a footnote
    r"|\b(?:href|src)=\"([^\"]+)\"",
    re.MULTILINE,
)
HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?)[ #]*$", re.MULTILINE)
ANCHOR = re.compile(r"<[^>]*\b(?:id|name)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def check_links(root: Path, module: str | None) -> list[Result]:
    """Is every relative link of every page valid, anchor included?"""
    kept = [path.as_posix() for path in kept_files(root)]
    folders = {parent.as_posix() for name in kept for parent in PurePosixPath(name).parents}
    places = {*kept, *folders}
    count = 0
    problems = []
    for page in markdown_files(root, module):
        for line, link in links_of((root / page).read_text(encoding="utf-8")):
            count += 1
            problem = problem_with(link, page, root, places)
            if problem:
                problems.append(f"{page.as_posix()}:{line}: {link}: {problem}")
    return [Result("links", not problems, f"{count} links", tuple(problems))]


def links_of(text: str) -> list[tuple[int, str]]:
    """(line, target) of each link into this repository, code and formulas left out."""
    for hidden in (FENCE, CODE, FORMULA):
        text = hidden.sub(blank, text)
    found = [(match.start(), next(filter(None, match.groups()))) for match in LINK.finditer(text)]
    return [
        (text.count("\n", 0, start) + 1, target)
        for start, target in found
        if not ELSEWHERE.match(target)
    ]


def blank(match: re.Match[str]) -> str:
    """As many line breaks as the match has, so that line numbers stay correct."""
    return "\n" * match[0].count("\n")


def problem_with(link: str, page: Path, root: Path, places: set[str]) -> str | None:
    """What is wrong with a link on a page, None if it is valid."""
    name, _, anchor = unquote(link).partition("#")
    start = "." if name.startswith("/") else page.parent.as_posix()
    place = posixpath.normpath(posixpath.join(start, name.lstrip("/"))) if name else page.as_posix()
    if place not in places:
        there = not place.startswith("..") and (root / place).exists()
        return "git does not track this file" if there else "no such file in the repository"
    if anchor and place.endswith(".md"):
        text = (root / place).read_text(encoding="utf-8")
        return None if anchor in anchors_of(text) else "no such heading"
    return None


def anchors_of(text: str) -> set[str]:
    """The anchors of a page: those that GitHub derives from headings, and those in HTML."""
    text = FENCE.sub(blank, text)
    anchors = set(ANCHOR.findall(text))
    seen: dict[str, int] = {}
    for heading in HEADING.findall(text):
        slug = slug_of(heading)
        times = seen.get(slug, 0)
        seen[slug] = times + 1
        anchors.add(f"{slug}-{times}" if times else slug)
    return anchors


def slug_of(heading: str) -> str:
    """GitHub's anchor: "Step 1: `softmax`, [again](x.md)" becomes "step-1-softmax-again"."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # of a link, the text counts
    words = re.sub(r"<[^>]*>", "", words)
    return re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")

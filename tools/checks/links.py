"""Do the links in the Markdown lead anywhere? Links within the repository; the web is not asked.

A link is good when the file or folder it names is kept in git (so that it is there in a fresh
clone) and, after a `#`, when that page has such a heading.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from tools.checks.layout import kept_files, markdown_files
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
    """Does every relative link of every page resolve, anchor included?"""
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
    """(line, target) of each link to this repository; code and formulas hold none."""
    for hidden in (FENCE, CODE, FORMULA):
        text = hidden.sub(blank, text)
    found = [(match.start(), next(filter(None, match.groups()))) for match in LINK.finditer(text)]
    return [
        (text.count("\n", 0, start) + 1, target)
        for start, target in found
        if not ELSEWHERE.match(target)
    ]


def blank(match: re.Match[str]) -> str:
    """As many line breaks as the match had, so that line numbers stay true."""
    return "\n" * match[0].count("\n")


def problem_with(link: str, page: Path, root: Path, places: set[str]) -> str | None:
    """What is wrong with a link on a page, None when it is good."""
    name, _, anchor = unquote(link).partition("#")
    start = "." if name.startswith("/") else page.parent.as_posix()
    place = posixpath.normpath(posixpath.join(start, name.lstrip("/"))) if name else page.as_posix()
    if place not in places:
        return "no such file in the repository"
    if anchor and place.endswith(".md"):
        text = (root / place).read_text(encoding="utf-8")
        return None if anchor in anchors_of(text) else "no such heading"
    return None


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page, and those written in HTML."""
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
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link counts by its text
    words = re.sub(r"<[^>]*>", "", words)
    return re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")

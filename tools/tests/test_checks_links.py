"""tools/checks/links.py finds the links that lead nowhere, and only those."""

from pathlib import Path

import pytest

from tools.checks.links import anchors_of, check_links, links_of, slug_of

PAGES = {
    "README.md": "# The Course\n\n## Setup & first steps\n\n## Notes\n\n## Notes\n",
    "01_one/README.md": "# One\n",
    "01_one/first.py": "",
}


def problems(root: Path, text: str) -> tuple[str, ...]:
    """What the check says of a page 01_one/theory.md with that text."""
    for name, content in {**PAGES, "01_one/theory.md": text}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return check_links(root, None)[0].problems


@pytest.mark.parametrize(
    "link",
    [
        "[a](README.md)",
        "[a](../README.md#setup--first-steps)",
        "[a](../README.md#notes-1)",
        "[a](#here)",
        "[a](first.py#L1)",
        "[a](../01_one)",
        "[a](/01_one/first.py)",
        '[a](README.md "a title")',
        "[![image](first.py)](README.md)",
        "[a]: README.md",
        "[^1]: a footnote",
        '<a href="README.md">',
        "[a](https://example.org/nowhere.md)",
        "[a](mailto:someone@example.org)",
        "`[a](nowhere.md)`",
        "```\n[a](nowhere.md)\n```",
        "$f[i](x)$ and $$g[i](y)$$",
    ],
)
def test_a_link_that_leads_somewhere_passes(link: str, tmp_path: Path) -> None:
    assert problems(tmp_path, f"# Here\n\n{link}\n") == ()


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[a](nowhere.md)", "no such file"),
        ("[a](readme.md)", "no such file"),  # macOS and Windows would find it, GitHub does not
        ("[a](../../outside.md)", "no such file"),
        ("[a](#there)", "no such heading"),
        ("[a](../README.md#notes-2)", "no such heading"),
        ("[a]: nowhere.md", "no such file"),
        ('<img src="nowhere.png">', "no such file"),
        ("[![image](nowhere.png)](README.md)", "no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_named_with_its_line(
    link: str, said: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, f"# Here\n```\ncode\n```\n{link}\n")
    assert len(found) == 1
    assert found[0].startswith("01_one/theory.md:5: ")
    assert said in found[0]


@pytest.mark.parametrize(
    ("heading", "slug"),
    [  # as GitHub renders them
        ("Step 1: `softmax`, by hand", "step-1-softmax-by-hand"),
        ("What's next?", "whats-next"),
        ("d_model and n_heads", "d_model-and-n_heads"),
        ("A [link](x.md) in it", "a-link-in-it"),
        ("Q & A", "q--a"),
    ],
)
def test_anchors_are_those_of_github(heading: str, slug: str) -> None:
    assert slug_of(heading) == slug
    assert anchors_of(f"# {heading} #\n") == {slug}


def test_a_comment_in_code_is_not_a_heading() -> None:
    assert anchors_of('# One\n```python\n# two\n```\n<a id="three"></a>\n') == {"one", "three"}


def test_lines_are_counted_through_code() -> None:
    text = "```\na\n\nb\n```\n[x](y.md) and [z](w.md)\n"
    assert links_of(text) == [(6, "y.md"), (6, "w.md")]

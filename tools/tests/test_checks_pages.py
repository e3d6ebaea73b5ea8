"""tools/checks/pages.py: a page whose code prints what it shows passes, and every lie is named."""

from pathlib import Path

import pytest

from tools.checks.pages import alike, blocks_of, output_problem, page_problems, write_outputs

GOOD = """# A page

```python
x = 2 / 3
print(f"{x:.3f}")
```
```text
0.667
```

1. In a list, the session goes on:

   ```python
   print("three times", 3 * x)
   ```

   ```text
   three times 2.0
   ```

```python notest
this is no Python
```

```
python 09_capstone/train.py
```
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_page_that_tells_the_truth_has_no_problem(tmp_path: Path) -> None:
    assert page_problems(written(tmp_path, GOOD), tmp_path) == ([], 2)


def test_blocks_are_found_with_their_lines_and_outputs() -> None:
    first, second, third = blocks_of(GOOD)
    assert (first.line, first.expected, first.runs) == (4, "0.667\n", True)
    assert (second.code, second.expected) == ('print("three times", 3 * x)\n', "three times 2.0\n")
    assert not third.runs


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("0.667", "0.669", "page.md:4: output line 1 is '0.667', where the page shows '0.669'"),
        ("times 2.0", "times  3.0", "page.md:14: output line 1 is 'three times 2.0', where the "),
        ("three times 2.0", "thrice 2.0", "page.md:14: output line 1 is 'three times 2.0'"),
        ("```text\n0.667\n```\n", "", "page.md:4: prints '0.667', which the page does not show"),
        ("0.667\n", "0.667\nmore\n", "page.md:4: output line 2 is '', where the page shows 'more'"),
        ("x = 2 / 3", "x = 2 / 0", "page.md: line 4: ZeroDivisionError: division by zero"),
        ("x = 2 / 3", "x = 2 +", "page.md: line 4: SyntaxError: invalid syntax"),
        ("3 * x)", "3 * y)", "page.md: line 14: NameError: name 'y' is not defined"),
    ],
)
def test_what_is_not_true_is_named(tmp_path: Path, was: str, becomes: str, said: str) -> None:
    assert was in GOOD
    [problem], _ = page_problems(written(tmp_path, GOOD.replace(was, becomes)), tmp_path)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("ours", "shown", "same"),
    [
        ("tensor([0.6590, 0.2424])", "tensor([0.6591, 0.2423])", True),
        ("tensor([0.6590, 0.2424])", "tensor([0.6592, 0.2424])", False),
        ("9.9995e-01", "9.9994e-01", True),
        ("9.9995e-01", "9.9993e-01", False),
        ("9.9995e-01", "9.9995e-02", False),
        ("(3, 7)", "(3, 6)", False),  # a shape is not rounded
        ("1,024 scores", "1,024 scores", True),
        ("1,024 scores", "1,025 scores", False),
        ("-0.000", "0.000", True),
        ("the    cat", "the cat", True),
        ("nan", "0.5", False),
        ("-inf", "inf", False),
        ("True", "False", False),
        ("d_k4", "d_k8", False),
        ("1.", "1.5", False),
        ("0.5 0.5", "0.5", False),
    ],
)
def test_words_are_exact_and_numbers_may_differ_by_one_of_the_last_digit(
    ours: str, shown: str, same: bool
) -> None:
    assert alike(ours, shown) is same


def test_a_block_without_output_needs_none() -> None:
    assert output_problem("", None) == ""
    assert output_problem("\n", "") == ""


def test_outputs_can_be_written_into_the_page(tmp_path: Path) -> None:
    wrong = GOOD.replace("0.667", "0.1").replace("\n   ```text\n   three times 2.0\n   ```\n", "")
    page = written(tmp_path, wrong)
    assert page_problems(page, tmp_path)[0]
    assert write_outputs(page) == []
    assert page_problems(page, tmp_path) == ([], 2)
    assert "   ```\n   ```text\n   three times 2.0\n   ```\n" in page.read_text(encoding="utf-8")
    again = page.read_text(encoding="utf-8")
    write_outputs(page)
    assert page.read_text(encoding="utf-8") == again

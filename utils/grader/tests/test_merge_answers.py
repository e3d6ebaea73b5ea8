"""A newer release of exercises.py takes over everything that the learner wrote."""

import ast

import pytest

from utils.grader.merge_answers import MergeError, merge_answers

BASE = '''"""Exercises."""

import math

from torch import Tensor

from utils.grader.check import check_file

LIMIT = 3


def softmax(x: Tensor) -> Tensor:
    """Exercise 1.1: shares that sum to 1."""
    raise NotImplementedError("Exercise 1.1: softmax")  # TODO: your code here


def scores(q: Tensor, k: Tensor) -> Tensor:
    """Exercise 1.2: how well a key answers."""
    raise NotImplementedError("Exercise 1.2: scores")  # TODO: your code here


class Head:
    """Exercise 1.3: one head."""

    def __init__(self, d: int) -> None:
        self.d = d

    def forward(self, x: Tensor) -> Tensor:
        """Exercise 1.3: the output."""
        raise NotImplementedError("Exercise 1.3: Head.forward")  # TODO: your code here

    def size(self) -> int:
        """Also exercise 1.3: how many parameters."""
        raise NotImplementedError("Exercise 1.3: Head.size")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
'''
RAISE_11 = '    raise NotImplementedError("Exercise 1.1: softmax")  # TODO: your code here\n'
RAISE_12 = '    raise NotImplementedError("Exercise 1.2: scores")  # TODO: your code here\n'
RAISE_13 = (
    '        raise NotImplementedError("Exercise 1.3: Head.forward")  # TODO: your code here\n'
)
ANSWER_11 = "    e = x.exp()  # numerators\n    return e / e.sum(-1, keepdim=True)\n"
MINE = BASE.replace(RAISE_11, ANSWER_11)


def test_without_changes_of_the_course_the_learners_file_is_the_result():
    assert merge_answers(BASE, MINE, BASE).text == MINE


def test_without_answers_the_new_file_is_the_result():
    new = BASE.replace("LIMIT = 3", "LIMIT = 4").replace("how well", "how poorly")
    merged = merge_answers(BASE, BASE, new)
    assert merged.text == new
    assert merged.kept == merged.notes == []


def test_an_answer_stands_below_the_new_docstring():
    new = BASE.replace("shares that sum to 1", "positive shares that sum to 1")
    merged = merge_answers(BASE, MINE, new)
    assert merged.text == new.replace(RAISE_11, ANSWER_11)
    assert merged.kept == ["1.1"]
    assert merged.notes == ["1.1 softmax: its description changed: read it again"]


def test_an_answer_stands_below_new_arguments_and_the_note_says_so():
    new = BASE.replace("softmax(x: Tensor)", "softmax(x: Tensor, dim: int = -1)")
    merged = merge_answers(BASE, MINE, new)
    assert merged.text == new.replace(RAISE_11, ANSWER_11)
    assert "arguments changed" in merged.notes[0]


def test_first_lines_that_the_learner_changed_stay():
    mine = MINE.replace("softmax(x: Tensor)", "softmax(x: Tensor, axis=-1)")
    new = BASE.replace("shares that sum to 1", "positive shares that sum to 1")
    merged = merge_answers(BASE, mine, new)
    assert "softmax(x: Tensor, axis=-1)" in merged.text and ANSWER_11 in merged.text
    assert "still yours" in merged.notes[1]


def test_a_renamed_exercise_keeps_its_answer_and_its_old_name():
    new = BASE.replace("softmax", "shares")
    mine = MINE.replace(RAISE_12, "    return softmax(q @ k.T)\n")
    merged = merge_answers(BASE, mine, new)
    assert "def shares(x: Tensor)" in merged.text and "def softmax" not in merged.text
    assert "softmax = shares" in merged.text
    assert merged.notes == ["1.1 shares was called softmax: your answer has the new name"]
    assert merged.kept == ["1.1", "1.2"]


def test_a_renumbered_exercise_is_found_by_its_name():
    new = BASE.replace("1.1", "1.9")
    merged = merge_answers(BASE, MINE, new)
    assert "Exercise 1.9: shares that" in merged.text and ANSWER_11 in merged.text


def test_a_removed_exercise_leaves_its_answer_at_the_end():
    start, end = BASE.index("def softmax"), BASE.index("def scores")
    new = BASE[:start] + BASE[end:]
    merged = merge_answers(BASE, MINE, new)
    assert ANSWER_11 in merged.text
    assert merged.text.index("def softmax") > merged.text.index("class Head")
    assert merged.text.index("def softmax") < merged.text.index("if __name__")
    assert "1.1 softmax no longer exists" in merged.notes[0]


def test_an_added_exercise_comes_as_a_stub_between_the_answers():
    stub = 'def mask(T: int):\n    raise NotImplementedError("Exercise 1.4: mask")\n\n\n'
    new = BASE.replace("def scores", stub + "def scores")
    merged = merge_answers(BASE, MINE, new)
    assert merged.text == new.replace(RAISE_11, ANSWER_11)


def test_helpers_imports_and_comments_of_the_learner_stay_where_they_were():
    mine = (
        MINE.replace("import math\n", "import math\nimport numpy as np\n")
        .replace("def scores", "# my own helper\ndef half(x):\n    return x / 2\n\n\ndef scores")
        .replace("LIMIT = 3\n", "LIMIT = 3\nFACTOR = 2  # mine\n")
    )
    new = BASE.replace("how well", "how poorly")
    merged = merge_answers(BASE, mine, new)
    for text in ("import numpy as np\n", "# my own helper\ndef half(x):", "FACTOR = 2  # mine"):
        assert text in merged.text
    assert merged.text.index("import numpy") < merged.text.index("LIMIT")
    assert merged.text.index("def half") < merged.text.index("def scores")


def test_of_a_class_each_method_is_merged():
    mine = BASE.replace(RAISE_13, "        return self.d * x\n").replace(
        "        self.d = d\n", "        self.d = d\n        self.cache = None\n"
    )
    new = BASE.replace("how many parameters", "how many weights").replace("one head", "a head")
    merged = merge_answers(BASE, mine, new)
    for text in (
        "return self.d * x",
        "self.cache = None",
        "how many weights",
        '"""Exercise 1.3: a head."""',
    ):
        assert text in merged.text
    ast.parse(merged.text)


def test_what_the_course_added_to_a_class_is_there():
    mine = BASE.replace(RAISE_13, "        return self.d * x\n")
    new = BASE.replace(
        "    def size", "    def reset(self) -> None:\n        self.d = 0\n\n    def size"
    )
    merged = merge_answers(BASE, mine, new)
    assert "def reset" in merged.text and "return self.d * x" in merged.text


def test_a_name_bound_by_an_assignment_still_wins():
    stub = BASE[BASE.index("def softmax") : BASE.index("def scores")]
    mine = BASE.replace(stub, "softmax = lambda x: x.exp() / x.exp().sum(-1, True)\n\n\n")
    merged = merge_answers(BASE, mine, BASE.replace("how well", "how poorly"))
    tree = ast.parse(merged.text)
    binding = [
        node.lineno
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name == "softmax")
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "softmax")
    ]
    assert "lambda x: x.exp()" in merged.text.splitlines()[max(binding) - 1]


def test_of_two_definitions_the_last_is_the_answer_and_the_first_stays():
    first = "def softmax(x):\n    return x  # first try\n\n\n"
    mine = MINE.replace("def softmax", first + "def softmax")
    merged = merge_answers(BASE, mine, BASE.replace("sum to 1", "sum to one"))
    assert "first try" in merged.text and "sum to one" in merged.text
    assert merged.text.index("first try") < merged.text.index("numerators")


@pytest.mark.parametrize("change", ["", "sum to one"])
def test_merging_twice_changes_nothing_more(change):
    new = BASE.replace("sum to 1", change or "sum to 1")
    once = merge_answers(BASE, MINE, new).text
    assert merge_answers(BASE, once, new).text == once
    assert merge_answers(new, once, new).text == once


def test_an_unknown_base_keeps_the_answers():
    new = BASE.replace("how well", "how poorly")
    merged = merge_answers(None, MINE, new)
    assert ANSWER_11 in merged.text and "how poorly" in merged.text


def test_line_ends_and_a_byte_order_mark_do_not_matter():
    mine = "\ufeff" + MINE.replace("\n", "\r\n")
    assert merge_answers(BASE, mine, BASE).text == MINE


def test_a_file_that_python_cannot_read_is_refused():
    with pytest.raises(MergeError, match="line 14"):
        merge_answers(BASE, MINE.replace("e = x.exp()", "e = x.exp("), BASE)


def test_comments_at_the_end_stay():
    assert "# the end" in merge_answers(BASE, MINE + "# the end\n", BASE).text


def test_notes_in_a_stub_and_above_everything_stay():
    mine = "# my file\n" + BASE.replace(RAISE_12, "    # idea: a product\n" + RAISE_12)
    merged = merge_answers(BASE, mine, BASE.replace("how well", "how poorly"))
    assert "# my file" in merged.text and "# idea: a product" in merged.text
    assert "how poorly" in merged.text

"""utils/grader/feedback.py: right answers of any style pass, wrong ones get useful messages."""

import math
import re
from collections import Counter, namedtuple
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from utils.grader.calls import Call, Misconception, history
from utils.grader.feedback import (
    Wrong,
    expect,
    expect_equal,
    expect_parameters,
    expect_same_gradients,
)
from utils.grader.resemblance import diagnosis, misconceptions_with_same_error
from utils.grader.values import copy_of, short_repr


@pytest.fixture(autouse=True)
def a_new_history() -> Iterator[None]:
    history.clear()
    yield
    history.clear()


def called(
    result: Any, *args: Any, wrong: Sequence[Misconception] = (), name: str = "double"
) -> Any:
    """Record in the history that a learner's function returned this result."""
    history.add(Call(name, args, {}, torch.get_rng_state(), wrong, result=result))
    return result


def problem(actual: Any, expected: Any, **options: Any) -> Wrong:
    """The error that expect_equal raises for a wrong answer."""
    with pytest.raises(Wrong) as error:
        expect_equal(actual, expected, **options)
    return error.value


# --- answers that are right ---

TABLE = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (torch.einsum("ij->ij", TABLE) * 1.0000001, TABLE),
        (torch.tensor([[float(x) for x in row] for row in TABLE]), TABLE),
        ((TABLE.double() / 3).float() * 3, TABLE),
        (nn.Parameter(TABLE), TABLE),
        (TABLE.T.contiguous().T, TABLE),
        ([TABLE, TABLE], (TABLE, TABLE)),
        (torch.tensor([1e8 + 8]), torch.tensor([1e8])),
        (torch.tensor([math.nan, math.inf]), torch.tensor([math.nan, math.inf])),
        (torch.tensor([0.999], dtype=torch.bfloat16), torch.tensor([1.0], dtype=torch.bfloat16)),
        (torch.tensor([0.999], dtype=torch.float16), torch.tensor([1.0], dtype=torch.float16)),
        (torch.empty(0, 3), torch.empty(0, 3)),
        (torch.tensor(3), 3),
        (torch.tensor(3.0), 3),
        (np.float32(0.25), 0.25),
        (np.int64(3), 3),
        (np.array(2.5), 2.5),
        (np.True_, True),
        (3.0, 3),
        (0.1 + 0.2, 0.3),
        (math.inf, math.inf),
        ([1, 2], [1, 2]),
        ([np.int64(1), 2.0], [1, 2]),
        ("abc", "abc"),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_a_right_answer_passes_whatever_its_style(actual, expected):
    expect_equal(called(actual), expected)


def test_an_answer_that_requires_gradients_is_compared_like_any_other():
    expect_equal(called(TABLE.clone().requires_grad_() * 1), TABLE)


# --- answers that are wrong: kind, shape, dtype, device ---


@pytest.mark.parametrize(
    ("actual", "expected", "said"),
    [
        (None, TABLE, "the result: got None; is a return missing?"),
        (None, 3.0, "the result: got None; is a return missing?"),
        (
            TABLE.numpy(),
            TABLE,
            "the result: this is a NumPy array; expected a tensor: "
            "torch's functions, in place of np.",
        ),
        (TABLE.tolist(), TABLE, "the result: this is a list; expected a tensor"),
        (1.0, TABLE, "the result: this is a float; expected a tensor"),
        (3, torch.tensor(3), "the result: this is an int; expected a tensor"),
        ("3", 3, "the result: this is a str; expected a number"),
        (1j, 1.0, "the result: this is a complex; expected a number"),
        (torch.ones(1), 1.0, "the result: this is a tensor; expected a number"),
        (4, 3, "the result: got 4; expected 3"),
        (40, 30, "the result: got 40; expected 30\nNote: that is 4/3 times the expected number"),
        (3.001, 3, "the result: got 3.001; expected 3"),
        (0.3001, 0.3, "the result: got 0.3001; expected 0.3"),
        (math.nan, 1.0, "the result: got nan; expected 1.0"),
        (1.0, math.inf, "the result: got 1.0; expected inf"),
        (np.False_, True, "the result: got False; expected True"),
        ("ab", "abc", "the result: got 'ab'; expected 'abc'"),
        ((1, 2), [1, 2], "the result: got (1, 2); expected [1, 2]"),
        ([TABLE], [1.0], "the result: got (float32 (2, 3)); expected [1.0]"),
        (TABLE, "abc", "the result: got float32 (2, 3); expected 'abc'"),
        (TABLE, (TABLE, 1), "it returned a tensor; expected 2 values: "),
        ((TABLE,), (TABLE, 1), "it returned 1 values; expected 2 values: "),
        (
            (TABLE, 2),
            (TABLE, 1),
            "the result[1]: got 2; expected 1",
        ),
    ],
)
def test_a_wrong_type_is_reported_with_both_types(actual, expected, said):
    parts = "the result[0], the result[1]"
    assert problem(actual, expected).message == said + parts * said.endswith(": ")


SHAPES = [
    ((3, 2), "(3, 2); expected (2, 3): the same sizes in another order"),
    ((2, 1, 3), "(2, 1, 3); expected (2, 3): they differ only by axes of size 1"),
    ((1, 2, 3), "(1, 2, 3); expected (2, 3): they differ only by axes of size 1"),
    ((2, 4), "(2, 4); expected (2, 3)"),
    ((6,), "(6,); expected (2, 3)"),
    ((), "(); expected (2, 3)"),
]


@pytest.mark.parametrize(("shape", "said"), SHAPES)
def test_a_wrong_shape_is_reported_with_its_relation_to_the_right_one(shape, said):
    wrong = problem(torch.zeros(shape), TABLE, what="the scores (T_q, T_k)")
    assert wrong.message == f"the scores (T_q, T_k): shape {said}"
    assert wrong.margin == math.inf


@pytest.mark.parametrize(
    ("actual", "said"),
    [
        (TABLE.double(), "dtype torch.float64; expected torch.float32"),
        (TABLE.long(), "dtype torch.int64; expected torch.float32"),
        (TABLE.to("meta"), "on device meta; expected cpu"),
    ],
)
def test_a_wrong_dtype_or_device_is_reported(actual, said):
    assert problem(actual, TABLE).message == f"the result: {said}"


# --- answers that are wrong: values ---


def test_the_first_difference_is_reported_with_a_count_and_both_rows():
    actual = TABLE.clone()
    actual[1, 1:] = torch.tensor([40.5, -1.0])
    wrong = problem(actual, TABLE)
    assert wrong.message.splitlines() == [
        "the result: the first difference at [1, 1]: got 40.5, expected 4 (2 of 6 values differ)",
        "    yours        3  40.5    -1",
        "    expected     3     4     5",
        "Note: only row 1 differs",
    ]
    assert wrong.margin == pytest.approx(36.5 / 5e-5)


def test_a_long_row_is_not_printed():
    assert problem(torch.zeros(2, 40), torch.ones(2, 40)).message == (
        "the result: the first difference at [0, 0]: got 0, expected 1 (80 of 80 values differ)\n"
        "Note: every value is the expected one plus -1"
    )


def test_booleans_differ_like_numbers():
    mask = torch.ones(2, 2, dtype=torch.bool)
    said = problem(mask.tril(), mask).message
    assert said.startswith("the result: the first difference at [0, 1]: got False, expected True")


def test_a_single_value_has_no_index():
    said = problem(torch.tensor(1.0), torch.tensor(2.0)).message
    assert said == "the result: the first difference: got 1, expected 2"


def test_nan_is_reported():
    actual = TABLE.clone()
    actual[1, 2] = math.nan
    wrong = problem(actual, TABLE, what="it")
    assert wrong.message == (
        "it: the first difference at [1, 2]: got nan, expected 5 (1 of 6 values differ)\n"
        "    yours       3    4  nan\n"
        "    expected    3    4    5\n"
        "Note: 1 of your 6 values is nan"
    )
    assert wrong.margin == math.inf


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0])
def test_nan_and_infinity_must_match_exactly(value):
    for truth in (math.nan, 7.0 if value else math.inf):
        problem(torch.tensor([value]), torch.tensor([truth]))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float64, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 2e-2)],
)
def test_the_tolerance_depends_on_the_dtype_and_the_expected_value(dtype, tolerance):
    truth = torch.tensor([3.0], dtype=dtype)
    expect_equal((truth.double() + 3 * tolerance).to(dtype), truth)
    problem((truth.double() + 5 * tolerance).to(dtype), truth)


def test_for_a_tuple_each_part_has_its_own_name():
    what = ("the output", "the weights")
    said = problem((TABLE, TABLE), (TABLE, TABLE + 1), what=what).message
    assert said.startswith("the weights: the first difference at [0, 0]")
    said = problem((TABLE, TABLE, 3), (TABLE, TABLE), what=what).message
    assert said == "it returned 3 values; expected 2 values: the output, the weights"
    assert problem(None, (TABLE, TABLE), what=what).message.startswith("the output and the weights")


NUMBERS = {"the mean": 0.04, "the error": 0.5, "the rest": math.nan}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"the mean": -0.04}, "the table, the mean: -0.04; expected 0.04"),
        ({"the error": 0.50012}, "the table, the error: 0.5001; expected 0.5"),
        ({"the error": 0.50002}, "the table, the error: 0.50002; expected 0.5"),
        ({"the error": math.nan}, "the table, the error: nan; expected 0.5"),
        ({"the rest": 0.0}, "the table, the rest: 0; expected nan"),
        ({"the error": "none"}, "the table, the error: none; expected 0.5"),
        ({"more": 1.0}, "the table: more should not be there"),
    ],
)
def test_the_first_entry_of_a_table_that_differs_is_reported(changes, said):
    assert problem(NUMBERS | changes, NUMBERS, what="the table").message.splitlines()[0] == said


def test_numbers_of_a_table_may_be_rounded_and_the_right_ones_are_told():
    close = {name: number + 1e-7 for name, number in NUMBERS.items()}
    expect_equal(close, NUMBERS, what="the table")
    _, factor, right = problem(close | {"the mean": -0.04}, NUMBERS).message.splitlines()
    assert factor == "Note: that is -1 times the expected number"
    assert right == "Note: right already: the error, the rest"
    words = {"the mode": "train", "the step": "3"}
    assert "Note" not in problem(words | {"the step": "2"}, words).message


def test_a_view_is_applied_to_both_answers():
    expect_equal(TABLE, -TABLE, view=torch.abs)
    said = problem(TABLE, TABLE + 1, view=torch.abs).message
    assert "the first difference at [0, 0]: got 0, expected 1" in said


def test_an_answer_that_the_view_cannot_use_is_wrong():
    said = problem(TABLE.bool(), TABLE, view=torch.linalg.inv).message
    assert said.startswith("the result, bool (2, 3), cannot be used: ")


def test_the_message_begins_with_the_call():
    answer = called(TABLE, TABLE, 3, torch.tensor(0.5), (TABLE, 1), "long" * 20, len)
    call, said = problem(answer, TABLE.T).message.splitlines()
    assert call == (
        "double([[0, 1, 2], [3, 4, 5]], 3, 0.5, (float32 (2, 3), 1), "
        "'longlonglonglonglonglonglonglonglong..., len)"
    )
    assert said.startswith("the result: shape (2, 3); expected (3, 2)")


def test_expect_raises_its_message():
    expect(True, "nothing")
    with pytest.raises(Wrong) as error:
        expect(False, "the mask must not be learned")
    assert error.value.message == "the mask must not be learned"
    assert error.value.explained_by is None


# --- gradients ---


def leaf() -> Tensor:
    return TABLE.clone().requires_grad_()


def test_the_same_gradients_pass_in_another_style():
    x = leaf()
    expect_same_gradients(torch.einsum("ij,ij->ij", x, x), x.square(), {"x": x})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: x.square().detach(), "the values are right, but no gradient flows back"),
        (
            lambda x: x.detach() * x,
            "the values are right, but the gradient of x: the first difference at",
        ),
        (lambda x: x.detach().square() + 0 * leaf(), "no gradient flows back through them"),
        (lambda x: torch.tensor(x.square().tolist()), "no gradient flows back through them"),
        (lambda x: Broken.apply(x), "the backward pass fails: no way back"),
    ],
)
def test_missing_or_wrong_gradients_are_reported(wrong, said):
    x = leaf()
    with pytest.raises(Wrong) as error:
        expect_same_gradients(wrong(x), x.square(), {"x": x})
    assert said in error.value.message


class Broken(torch.autograd.Function):
    """A square whose backward pass raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.square()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError("no way back")


def test_an_unused_input_needs_no_gradient():
    x, unused = leaf(), leaf()
    expect_same_gradients(x * 2, x + x, {"x": x, "unused": unused})


# --- misconceptions ---


def halved(x: Tensor) -> Tensor:
    """the numbers are halved,
    and should be doubled"""
    return x / 2


def unchanged(x: Tensor) -> Tensor:
    """nothing is done"""
    return x * 1


def forgotten(x: Tensor) -> None:
    """nothing is returned"""


def squared(x: Tensor) -> Tensor:
    """the numbers are squared"""
    return x * x


def failing(x: Tensor) -> Tensor:
    """this raises"""
    raise ValueError("no")


WRONG = (halved, unchanged, forgotten, squared, failing)


def test_a_diagnosis_is_the_docstring_on_one_line_or_the_name():
    assert diagnosis(halved) == "the numbers are halved, and should be doubled"
    assert diagnosis(lambda x: x) == "<lambda>"


def explained(answer: Tensor, x: Tensor, wrong: Sequence[Misconception] = WRONG) -> Any:
    return problem(called(answer, x, wrong=wrong), 2 * x).explained_by


def test_a_misconception_with_the_same_answer_explains_it():
    assert explained(TABLE * 0.5, TABLE) == {"the numbers are halved, and should be doubled"}
    assert explained(TABLE + 0, TABLE) == {"nothing is done"}


def test_an_answer_unlike_all_misconceptions_has_no_explanation():
    assert explained(TABLE - 7, TABLE) == frozenset()


def test_two_misconceptions_that_agree_on_these_inputs_both_explain():
    ones = torch.ones(3)
    assert explained(ones, ones) == {"nothing is done", "the numbers are squared"}


def test_a_missing_return_needs_no_misconception():
    wrong = problem(called(None, TABLE, wrong=WRONG), 2 * TABLE)
    assert wrong.message == (
        "double([[0, 1, 2], [3, 4, 5]])\nthe result: got None; is a return missing?"
    )
    assert wrong.explained_by == frozenset()


def test_a_misconception_that_is_right_here_does_not_explain_a_wrong_answer():
    two = torch.full((3,), 2.0)  # here squaring is doubling
    assert explained(two * 3, two, [squared]) == frozenset()


def test_a_misconception_that_is_right_within_the_tolerance_does_not_explain_either():
    def nearly(x: Tensor) -> Tensor:
        """it is a little off"""
        return 2 * x + 1.5e-5

    x = torch.tensor([0.5], dtype=torch.float64)  # so the tolerance is 2e-5
    assert explained(2 * x + 3e-5, x, [nearly]) == frozenset()


def test_right_answers_refute_the_misconceptions_that_would_have_failed():
    two = torch.full((3,), 2.0)
    expect_equal(called(2 * two, two, wrong=WRONG), 2 * two)
    assert history.refuted == {diagnosis(each) for each in WRONG} - {"the numbers are squared"}


def test_one_mistake_in_two_spellings_is_named_whichever_is_met() -> None:
    def threefold(x: Tensor) -> Tensor:
        """the factor is not 2"""
        return 3 * x

    def fourfold(x: Tensor) -> Tensor:
        """the factor is not 2"""
        return 4 * x

    x = torch.tensor([1.0, 2.0])
    for factor in (3, 4):
        wrong = problem(called(factor * x, x, wrong=[threefold, fourfold]), 2 * x)
        assert wrong.explained_by == {"the factor is not 2"}
    zero = torch.zeros(2)
    expect_equal(called(2 * zero, zero, wrong=[threefold, fourfold]), zero)
    assert history.refuted == set()  # both are right here
    expect_equal(called(2 * x, x, wrong=[threefold, lambda x: 2 * x]), 2 * x)
    assert history.refuted == {"the factor is not 2"}


def test_wrong_answers_refute_nothing():
    explained(TABLE + 0, TABLE)
    assert history.refuted == set()


def test_an_answer_of_unknown_origin_is_compared_but_not_explained():
    called(TABLE, TABLE, wrong=WRONG)
    assert problem(TABLE.clone(), 2 * TABLE).explained_by is None
    expect_equal(2 * TABLE, 2 * TABLE)
    assert history.refuted == set()


def pair_swapped(x: Tensor) -> tuple[Tensor, Tensor]:
    """the two are exchanged"""
    return x + 2, x + 1


def second_forgotten(x: Tensor) -> tuple[Tensor, Tensor]:
    """the second is as the first"""
    return x + 1, x + 1


def only_one(x: Tensor) -> Tensor:
    """only one is returned"""
    return x + 1


PAIRS = (pair_swapped, second_forgotten, only_one)


def test_an_element_of_a_tuple_is_traced_to_its_call_and_index():
    right, swapped = (TABLE + 1, TABLE + 2), (TABLE + 2, TABLE + 1)
    called(swapped, TABLE, wrong=PAIRS)
    assert problem(swapped[0], right[0]).explained_by == {"the two are exchanged"}
    both = {"the two are exchanged", "the second is as the first"}
    assert problem(swapped[1], right[1]).explained_by == both
    assert problem(swapped, right).explained_by == {"the two are exchanged"}


def test_a_part_that_is_right_refutes_only_those_wrong_in_that_part():
    answer = (TABLE + 1, TABLE)
    called(answer, TABLE, wrong=PAIRS)
    expect_equal(answer[0], TABLE + 1)
    assert history.refuted == {"the two are exchanged", "only one is returned"}


def test_an_answer_is_traced_to_the_last_call_that_returned_it():
    called(TABLE, TABLE, wrong=[halved], name="first")
    called(TABLE, TABLE, wrong=[unchanged], name="second")
    wrong = problem(TABLE, 2 * TABLE)
    assert wrong.message.startswith("second(")
    assert wrong.explained_by == {"nothing is done"}


def test_the_last_eight_calls_are_remembered():
    answers = [called(TABLE + number, name=f"call{number}") for number in range(9)]
    assert problem(answers[1], TABLE).message.startswith("call1(")
    assert problem(answers[0], TABLE - 1).message.startswith("the result: the first difference")


def test_misconceptions_cannot_modify_each_others_inputs():
    def spoiling(x: Tensor) -> Tensor:
        """the input is overwritten"""
        return x.zero_()

    x = TABLE.clone()
    assert explained(x * 0.5, x, [spoiling, halved]) == {diagnosis(halved)}
    assert torch.equal(x, TABLE)


def test_a_misconception_that_warns_still_explains():
    def turned(x: Tensor) -> Tensor:
        """.T reverses all axes"""
        return x.T

    x = torch.arange(24.0).view(2, 3, 4)
    assert explained(x.permute(2, 1, 0), x, [turned]) == {".T reverses all axes"}


# --- answers that resemble a misconception ---


def resembled(answer: Any, x: Tensor, truth: Any, *wrong: Misconception) -> Any:
    error = problem(called(answer, x, wrong=wrong), truth)
    assert error.explained_by == frozenset()
    return error.resembles


@pytest.mark.parametrize("disguise", [Tensor.double, lambda x: x[None], lambda x: x[None, :, None]])
def test_the_same_values_in_another_dtype_or_shape_resemble_a_misconception(disguise):
    assert resembled(disguise(TABLE / 2), TABLE, 2 * TABLE, *WRONG) == {diagnosis(halved)}


def test_right_values_in_a_wrong_dtype_resemble_nothing():
    def right_but_double(x: Tensor) -> Tensor:
        """the numbers are float64"""
        return 2 * x.double()

    assert resembled(2 * TABLE.half(), TABLE, 2 * TABLE, right_but_double, *WRONG) == frozenset()


def test_one_part_of_a_tuple_is_enough_to_resemble():
    answer = (TABLE + 2, TABLE - 7)  # the first as if exchanged, the second of its own
    truth = (TABLE + 1, TABLE + 2)
    assert resembled(answer, TABLE, truth, *PAIRS) == {"the two are exchanged"}


def named_half(x: Tensor) -> tuple[str, None, Tensor]:
    """the values are halved"""
    return "name", None, x / 2


@pytest.mark.parametrize("name", ["name", "another"])
def test_a_right_part_that_is_not_a_tensor_is_passed_over(name):
    answer, truth = (name, None, (TABLE / 2).double()), ("name", None, 2 * TABLE)
    expected = {"the values are halved"} if name == "name" else frozenset()
    assert resembled(answer, TABLE, truth, named_half) == expected


def negative(x: Tensor) -> dict[str, float]:
    """the sign is reversed"""
    return {"mean": -1.0, "error": 2.0}


def worded(x: Tensor) -> dict[str, str]:
    """only words are given"""
    return {"mean": "none", "error": "some"}


def test_the_first_wrong_number_of_a_table_is_enough_to_resemble():
    truth = {"mean": 1.0, "error": 2.0}
    for error in (2.0, 3.0):  # the second number is wrong in a way of its own
        answer = {"mean": -1.0, "error": error}
        found = problem(called(answer, TABLE, wrong=[negative, worded]), truth)
        assert found.resembles == {"the sign is reversed"}
    assert resembled({"mean": 1.0, "error": 3.0}, TABLE, truth, negative) == frozenset()
    words = {"mean": "two", "error": "few"}  # words coincide too easily
    assert resembled({"mean": "none", "error": "all"}, TABLE, words, worded) == frozenset()


def test_what_explains_an_answer_resembles_it_too():
    error = problem(called(TABLE / 2, TABLE, wrong=WRONG), 2 * TABLE)
    assert error.resembles == error.explained_by == {diagnosis(halved)}


def test_arrays_resemble_as_tensors_do():
    def halved_array(x: np.ndarray) -> np.ndarray:
        """the numbers are halved"""
        return x / 2

    x = np.array([1.0, 2.0, 3.0])
    answer = called((x / 2).astype(np.float32), x, wrong=[halved_array])
    assert problem(answer, 2 * x).resembles == {"the numbers are halved"}


# --- misconceptions and chance ---


def dropped_and_halved(x: Tensor) -> Tensor:
    """the numbers are halved after dropout"""
    return torch.dropout(x, 0.5, True) / 2


def test_a_misconception_draws_the_random_numbers_that_the_learner_drew():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    x = torch.ones(50)
    answer = torch.dropout(x, 0.5, True) / 2
    truth = answer * 4
    call = Call("drop", (x,), {}, state, [dropped_and_halved], result=answer)
    history.add(call)
    torch.rand(3)  # the test itself draws more numbers: its random state must not change
    before = torch.get_rng_state()
    assert problem(answer, truth).explained_by == {"the numbers are halved after dropout"}
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_argument_starts_from_the_same_state():
    def drawn(generator: torch.Generator) -> Tensor:
        """the numbers are drawn and nothing more"""
        return torch.rand(5, generator=generator)

    generator = torch.Generator().manual_seed(5)
    call = Call("draw", copy_of((generator,)), {}, torch.get_rng_state(), [drawn])
    call.result = drawn(generator)
    history.add(call)
    assert problem(call.result, call.result + 1).explained_by == {diagnosis(drawn)}


class Layer(nn.Module):
    """A linear layer with dropout; its constructor draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear(x))

    def linear_layer(self) -> nn.Module:
        """A layer without dropout whose only part has the name linear."""
        return nn.ModuleDict({"linear": self.linear})


class Negative(Layer):
    """the sign is wrong"""

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


class Doubled(Layer):
    """it is doubled"""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class OtherNames(nn.Module):
    """its parameters have other names"""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


def test_a_misconception_class_gets_the_same_weights_mode_and_random_numbers():
    wrong_classes = (Negative, Doubled, OtherNames)
    for mode in (True, False):
        mine = Negative().train(mode)

        def build(other: Any, mine: nn.Module = mine) -> nn.Module:
            twin = other()
            twin.load_state_dict(mine.state_dict())
            return twin.train(mine.training)

        x = torch.ones(40, 3)
        call = Call("Layer.forward", (x,), {}, torch.get_rng_state(), wrong_classes, build)
        call.result = mine(x)
        history.add(call)
        wrong = problem(call.result, -call.result)
        assert wrong.explained_by == {"the sign is wrong"}
        assert bool((call.result == 0).any()) == mode  # dropout is active only in training mode


class Narrow(nn.Module):
    """the layer is too narrow"""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width - 1, bias=bias)


class NoBias(nn.Module):
    """the argument bias is ignored"""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)


class Renamed(nn.Module):
    """the parameter has another name"""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=bias)


class WithBuffer(nn.Module):
    """a mask is stored in the layer"""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=bias)
        self.register_buffer("mask", torch.ones(3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Narrow, ", linear.weight: (2, 3); expected (3, 3)"),
        (NoBias, "linear.bias is missing; yours are: linear.weight"),
        (
            Renamed,
            "linear.weight is missing; yours are: projection.weight, projection.bias",
        ),
        (WithBuffer, "mask should not be there"),
        (lambda width: 3, "cannot be used: a layer is asked for, a class that is derived from"),
    ],
)
def test_a_layer_with_other_parameters_is_named_by_its_misconception(wrong, message):
    known = (Narrow, NoBias, Renamed, WithBuffer)
    call = Call("Layer", (3,), {}, torch.get_rng_state(), known)
    call.result = wrong(3)
    history.add(call)
    with pytest.raises(Wrong, match=re.escape(message)) as error:
        expect_parameters(call.result, Layer().linear_layer())
    assert error.value.explained_by == ({diagnosis(wrong)} if wrong in known else set())


def test_a_layer_with_the_right_parameters_refutes_what_would_have_others():
    call = Call("Layer", (3,), {}, torch.get_rng_state(), (Narrow, Renamed))
    call.result = Layer().linear_layer()
    history.clear()
    history.add(call)
    expect_parameters(call.result, Layer().linear_layer())
    assert history.refuted == {diagnosis(Narrow), diagnosis(Renamed)}


# --- errors ---


def test_an_error_is_explained_by_the_misconceptions_that_raise_the_same():
    def wrong_axes(x: Tensor) -> Tensor:
        """the axes do not fit"""
        return x @ x

    call = Call("double", (TABLE,), {}, torch.get_rng_state(), (*WRONG, wrong_axes))
    for run, names in ((lambda: TABLE @ TABLE, {"the axes do not fit"}), (lambda: [][1], set())):
        with pytest.raises(Exception) as error:
            run()
        call.error = error.value
        assert misconceptions_with_same_error(call) == names


def test_the_same_message_of_another_error_type_explains_nothing():
    call = Call("double", (TABLE,), {}, torch.get_rng_state(), [failing])
    call.error = TypeError("no")
    assert misconceptions_with_same_error(call) == frozenset()
    call.error = ValueError("not this one")
    assert misconceptions_with_same_error(call) == frozenset()
    call.error = ValueError("no")
    assert misconceptions_with_same_error(call) == {"this raises"}


# --- copies and short names ---

Point = namedtuple("Point", "x y")


def test_a_copy_is_equal_but_shares_no_memory():
    values = {"t": TABLE.clone(), "a": np.ones(2), "l": [TABLE.clone()], "c": Counter("aab")}
    twin = copy_of((values, Point(TABLE.clone(), 1)))
    values["t"].zero_()
    values["a"][:] = 5
    values["l"][0].zero_()
    values["l"].append(1)
    values["c"]["a"] = 9
    assert torch.equal(twin[0]["t"], TABLE)
    assert twin[0]["a"].tolist() == [1, 1]
    assert len(twin[0]["l"]) == 1
    assert torch.equal(twin[0]["l"][0], TABLE)
    assert twin[0]["c"] == Counter("aab")
    assert type(twin[0]["c"]) is Counter
    assert torch.equal(twin[1].x, TABLE)


def test_functions_and_modules_are_not_copied():
    layer = nn.Linear(2, 2)
    assert copy_of([len, layer]) == [len, layer]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (TABLE.long(), "int64 (2, 3)"),
        (np.ones((2, 3)), "float64 (2, 3)"),
        (torch.tensor(0.123456789), "0.123457"),
        ([TABLE, 3], "(float32 (2, 3), 3)"),
        ([1, 2], "[1, 2]"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11..."),
        (None, "None"),
        (nn.Identity(), "Identity"),
        (math.sqrt, "sqrt"),
    ],
)
def test_a_value_is_shown_in_a_few_characters(value, said):
    assert short_repr(value) == said


def test_a_call_is_shown_with_the_names_of_its_arguments():
    call = Call("f", (TABLE, 2), {"dim": -1, "mask": None}, torch.get_rng_state())
    call.names = ("x", "times")
    assert str(call) == "f(x=[[0, 1, 2], [3, 4, 5]], times=2, dim=-1, mask=None)"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.tensor([1e4, -math.inf, math.nan]), "[1e+04, -inf, nan]"),
        (torch.tensor([[True, False]]), "[[True, False]]"),
        (torch.tensor([1, 2]), "[1, 2]"),
        (torch.tensor(0.5), "0.5"),
        (torch.tensor([1 / 3], dtype=torch.float64), "[0.3333]"),
        (torch.zeros(3, 2, 2), "[[[0, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]"),
        (np.array([[1.5, 2.0]]), "[[1.5, 2]]"),
        (np.array([True]), "[True]"),
        (torch.zeros(13), "float32 (13,)"),
        (torch.zeros(1, 1, 1, 2), "float32 (1, 1, 1, 2)"),
        (np.zeros((5, 7)), "float64 (5, 7)"),
        (torch.zeros(2, device="meta"), "float32 (2,)"),
        (torch.zeros((), device="meta"), "float32 ()"),
        (torch.zeros(0, 3), "float32 (0, 3)"),
        (torch.tensor([1 + 2j]), "[(1+2j)]"),
        (nn.Parameter(torch.ones(2)), "[1, 1]"),
        (torch.device("meta"), "meta"),
        (torch.float64, "torch.float64"),
        (3, "3"),
        (True, "True"),
        ("long", "'long'"),
    ],
)
def test_a_small_input_is_shown_whole_and_a_large_one_by_dtype_and_shape(value, said):
    call = Call("f", (value,), {}, torch.get_rng_state(), names=("x",))
    assert str(call) == f"f(x={said})"


def test_an_argument_without_a_name_is_shown_by_its_value():
    call = Call("f", (1, 2, 3), {"dim": -1}, torch.get_rng_state(), names=("x", "2"))
    assert str(call) == "f(x=1, 2, 3, dim=-1)"

"""Exercises 9.10 to 9.16 and the reference: the same arguments, and the numbers of the hints."""

import ast
import inspect
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from post_training.dpo import dpo_loss
from post_training.grpo import group_advantages, kl_k3
from post_training.ppo import clipped_objective
from post_training.reward_model import bradley_terry_loss
from post_training.sft import answer_loss
from utils.grader.exercises import read_lesson
from utils.grader.mistakes import pairs_of
from utils.grader.pytest_plugin import load_misconceptions

LESSON = read_lesson(Path(__file__).resolve().parents[1])
FUNCTIONS = {
    "9.11": answer_loss,
    "9.12": bradley_terry_loss,
    "9.13": dpo_loss,
    "9.14": group_advantages,
    "9.15": kl_k3,
    "9.16": clipped_objective,
}


def worked(number: str) -> str:
    """The second hint, which works an example by hand."""
    return LESSON.exercise(number).hints[1]


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("number", FUNCTIONS)
def test_a_stub_has_the_arguments_of_the_reference(number: str) -> None:
    tree = ast.parse(LESSON.file.read_text(encoding="utf-8"))
    reference: Callable[..., object] = FUNCTIONS[number]
    assert LESSON.exercise(number).stubs == (reference.__name__,)
    (stub,) = (
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == reference.__name__
    )
    parameters = inspect.signature(reference).parameters.values()
    assert [one.arg for one in stub.args.args] == [one.name for one in parameters]
    defaults = [one.default for one in parameters if one.default is not one.empty]
    assert [ast.literal_eval(one) for one in stub.args.defaults] == defaults


def test_the_numbers_of_9_10_by_hand() -> None:
    rewards = row(1, 0, 0, 0, 0)
    assert math.isclose((1 - rewards.mean()) / rewards.std(correction=0), 2)
    loss = dpo_loss(row(-10), row(-12), row(-11), row(-9), beta=0.5)
    k3 = kl_k3(row(0.5).log(), row(0.25).log()).item()
    assert f"log(1 + e^-2) = {loss:.3f}" in worked("9.10")
    assert f"0.5 - 1 + {math.log(2):.3f} = {k3:.3f}" in worked("9.10")
    up, down = clipped_objective(row(1.3, 0.7).log(), row(1, 1).log(), row(1, 1)).tolist()
    assert "1.3 with the advantage +1 counts as 1.2, one of 0.7 with +1 as 0.7" in worked("9.10")
    assert math.isclose(up, 1.2) and math.isclose(down, 0.7)


def test_one_wrong_number_of_9_10_is_not_told_as_two_mistakes_in_its_loss() -> None:
    known = load_misconceptions(LESSON.misconceptions_file())["predict_post_training"]
    truth = known[0].function()
    for pair in pairs_of(known):
        wrong = [mine != right for mine, right in zip(pair(), truth, strict=True)]
        assert wrong != [False, True, False, False, False], pair.diagnoses


def test_the_numbers_of_9_12_by_hand() -> None:
    first = bradley_terry_loss(row(2), row(1))
    second = bradley_terry_loss(row(0), row(3))
    both = bradley_terry_loss(row(2, 0), row(1, 3))
    said = f"{first:.3f} and log(1 + e^3) = {second:.3f}, and their mean is {both:.3f}"
    assert said in worked("9.12")


def test_the_numbers_of_9_13_by_hand() -> None:
    loss = dpo_loss(row(-20), row(-30), row(-23), row(-31), beta=0.5)
    assert f"the loss is log(1 + e^-1) = {loss:.3f}" in worked("9.13")


def test_the_numbers_of_9_14_by_hand() -> None:
    right, wrong = group_advantages(row(1, 0, 0, 0, 0)[None])[0, :2].tolist()
    assert f"with 1e-4 in the denominator {right:.4f} and {wrong:.4f}" in worked("9.14")


def test_the_numbers_of_9_15_by_hand() -> None:
    k3 = kl_k3(row(0.5, 0.25).log(), row(0.25, 0.5).log()).tolist()
    assert f"0.5 - 1 - log 0.5 = {k3[0]:.3f}" in worked("9.15")
    assert f"2 - 1 - log 2 = {k3[1]:.3f}" in worked("9.15")


def test_the_sample_deviation_makes_advantages_smaller_by_13_percent() -> None:
    solutions = LESSON.solutions.read_text(encoding="utf-8")
    assert "by 13% for G = 4" in solutions
    assert round(100 * (1 - math.sqrt(3 / 4))) == 13

"""What the primer and the two notebooks say, and no block or marked cell prints."""

import json
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tools.checks.pages import blocks_of

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "shape_debugging_primer.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted(LESSON.glob("*.ipynb"))
OUTPUTS = "".join(block.expected or "" for block in blocks_of(PAGE))


def markdown_of(notebook: str) -> str:
    """All the text of a notebook, without its code, as one line."""
    cells = json.loads((LESSON / notebook).read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return " ".join(" ".join(texts).split())


# --- the primer ---


def test_each_of_the_ten_errors_shows_code_its_output_and_how_to_find_it() -> None:
    sections = re.split(r"^### (\d+)\. ", PAGE.partition("## A hunt")[0], flags=re.MULTILINE)[1:]
    assert sections[::2] == [str(number) for number in range(1, 11)]
    for section in sections[1::2]:
        assert all(block.expected for block in blocks_of(section))
        assert blocks_of(section) and "**Find it:**" in section


def test_every_message_of_the_table_is_one_that_the_page_has_printed() -> None:
    table = PAGE.partition("## From the symptom to the cause")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) >= 8
    for message in messages:
        pattern = ".*".join(re.escape(part) for part in re.split(r"\.\.\.", message))
        assert re.search(pattern, OUTPUTS), message


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    assert f"log 11 is {math.log(11):.3f}" in PAGE


def test_against_all_targets_at_once_the_mean_is_best_and_costs_their_variance() -> None:
    target = torch.randn(7)
    predicted = target.mean().expand(7, 1).clone().requires_grad_()
    loss = (predicted - target).square().mean()
    loss.backward()
    assert predicted.grad is not None
    torch.testing.assert_close(predicted.grad, torch.zeros(7, 1))
    torch.testing.assert_close(loss.detach(), target.var(correction=0))


def test_mse_loss_warns_of_two_shapes_and_a_subtraction_does_not() -> None:
    predicted, target = torch.zeros(3, 1), torch.zeros(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (predicted - target).shape == (3, 3)
    with pytest.warns(UserWarning, match="different to the input size"):
        F.mse_loss(predicted, target)


def test_with_one_example_a_softmax_over_the_batch_gives_ones() -> None:
    assert torch.softmax(torch.randn(1, 6), dim=0).eq(1).all()


def test_squeezing_an_axis_that_is_longer_than_1_does_nothing() -> None:
    assert torch.zeros(3, 5).squeeze(-1).shape == (3, 5)


def test_the_column_that_the_hunt_reads_is_the_one_it_names() -> None:
    labels = 10 * torch.arange(3)[:, None] + torch.arange(5)
    *first, last = labels.view(5, 3)[:, 0].tolist()
    assert f"{', '.join(map(str, first))} and {last}" in PAGE


def test_for_a_single_sequence_the_view_is_a_transpose() -> None:
    x = torch.randn(1, 5, 8)
    assert torch.equal(x.view(5, 1, 8), x.transpose(0, 1))


# --- the notebooks ---


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_shows_a_path_of_the_machine_that_made_it(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [json.dumps(cell.get("outputs", [])) for cell in cells]
    text = re.sub(r'"image/png": "[^"]*"', "", " ".join(texts))
    assert not re.search(r"[\s\"'(]/\w+/|[A-Z]:\\|site-packages/", text)


def test_the_numbers_that_the_refresher_names() -> None:
    text = markdown_of("pytorch_refresher.ipynb")
    next_above_1 = 1 + torch.finfo(torch.bfloat16).eps
    assert f"the next number above 1 that bfloat16 can write is {next_above_1:.4f}" in text
    assert f"$\\log 3$ is {math.log(3):.2f}" in text
    assert f"for 65 characters it should be about {math.log(65):.2f}" in text


def descend(
    make: Callable[..., torch.optim.Optimizer], lr: float, height: float = 0.5
) -> torch.Tensor:
    """Where 40 steps end in the refresher's valley, from (-4, 1)."""
    p = torch.tensor([-4.0, 1.0], requires_grad=True)
    optimizer = make([p], lr=lr)
    for _ in range(40):
        optimizer.zero_grad()
        (height * (p[0] ** 2 + 25 * p[1] ** 2)).backward()
        optimizer.step()
    return p.detach()


def test_adam_takes_the_same_path_on_a_loss_a_thousand_times_as_high() -> None:
    low, high = (descend(torch.optim.Adam, 0.3, height) for height in (0.5, 500.0))
    torch.testing.assert_close(low, high, rtol=1e-3, atol=1e-3)


def test_sgd_diverges_with_the_larger_learning_rate() -> None:
    assert descend(torch.optim.SGD, 0.07).abs().max() < 0.3
    assert descend(torch.optim.SGD, 0.09).abs().max() > 1000


def test_a_reshape_of_a_transpose_copies_unless_an_axis_has_size_1() -> None:
    for shape, shared in (((3, 4), False), ((1, 4), True)):
        x = torch.zeros(shape)
        x.mT.reshape(-1)[0] = 5
        assert bool(x.any()) is shared

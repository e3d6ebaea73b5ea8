"""The numbers of theory.md that no code block prints, and the message that the README shows."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attention import apply_mask, causal_mask, scaled_dot_product_attention, softmax

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "theory.md").read_text(encoding="utf-8")
MATRIX = re.compile(r"(\S[^=]*?)=\s*\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}")


def matrices() -> dict[str, Tensor]:
    """Every matrix of the worked example, by the name that stands before it."""
    found = {}
    for name, body in MATRIX.findall(" ".join(PAGE.split())):
        rows = [[float(cell) for cell in row.split("&")] for row in body.split("\\\\")]
        name = re.split(r"\$\$|\\q?quad", name)[-1].strip()
        found[name] = torch.tensor(rows)
    return found


def assert_on_page(shown: Tensor, computed: Tensor, digits: int = 3) -> None:
    """The page shows what was computed, to the digits it gives."""
    torch.testing.assert_close(computed, shown, rtol=0, atol=0.51 * 10**-digits)


def test_the_worked_example_is_right_to_every_digit() -> None:
    on_page = matrices()
    assert len(on_page) == 13
    x = on_page["x"]
    q, k, v = (x @ on_page[name] for name in ("W_q", "W_k", "W_v"))
    for name, value in {"q": q, "k": k, "v": v, "q k^T": q @ k.T}.items():
        assert_on_page(on_page[name], value)
    assert_on_page(on_page["\\frac{q k^T}{\\sqrt{d_k}}"], q @ k.T / 2)
    output, weights = scaled_dot_product_attention(q, k, v)
    assert_on_page(on_page["\\text{weights}"], weights)
    assert_on_page(on_page["\\text{output}"], output)
    masked_output, masked = scaled_dot_product_attention(q, k, v, causal_mask(3))
    assert_on_page(on_page["\\text{masked weights}"], masked)
    assert_on_page(on_page["\\text{masked output}"], masked_output)
    assert "e = 2.718 and e² = 7.389" in PAGE
    assert [f"{math.e:.3f}", f"{math.e**2:.3f}"] == ["2.718", "7.389"]
    assert f"{math.e**2 + 1 + math.e:.3f}" == "11.107" and "11.107" in PAGE
    assert f"0.665 × 6 + 0.090 × 3 + 0.245 × 0 = {output[1, 0]:.2f}" in PAGE


def test_exp_overflows_where_the_page_says_so() -> None:
    assert "`exp(89)` is already too large for float32" in PAGE
    exps = torch.tensor([88.0, 89.0]).exp()
    assert exps.isinf().tolist() == [False, True]


@pytest.mark.parametrize("divided", [False, True])
def test_the_table_of_the_division(draw: ModuleType, divided: bool) -> None:
    variance, largest, gradient = draw.measure_saturation(1024, divided)
    [row] = re.findall(rf"\| 1024 \| {'yes' if divided else 'no'} \| (.*) \|", PAGE)
    shown = [float(cell) for cell in row.split("|")]
    assert np.allclose([variance, largest, gradient], shown, rtol=0.02, atol=0.005)


def test_the_variance_of_a_score_is_d_k() -> None:
    torch.manual_seed(0)
    n, d_k = 20_000, 64
    scores = (torch.randn(n, d_k) * torch.randn(n, d_k)).sum(-1)
    standard_error = math.sqrt((2 + 6 / d_k) / n)  # from the fourth moment of such a sum
    assert abs(scores.var().item() / d_k - 1) < 4 * standard_error


def test_the_derivative_of_a_weight_with_respect_to_its_own_score() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0])
    jacobian = torch.autograd.functional.jacobian(softmax, scores)
    p = softmax(scores)
    assert isinstance(jacobian, Tensor)
    torch.testing.assert_close(jacobian.diagonal(), p * (1 - p))


def test_the_table_of_the_costs() -> None:
    d = 512
    weights, inputs = 0, 0
    for T in (256, 1024, 8192):
        projections, products = 4 * T * d**2 // 2**20, 2 * T**2 * d // 2**20
        weights, inputs = T * T * 4 // 2**10, 3 * T * d * 4 // 2**10  # float32: 4 bytes
        assert f"| {T} | {projections} | {products} | {weights} | {inputs} |" in PAGE
    said = f"the weights fill {weights // 2**10} MiB, and q, k and v only {inputs // 2**10} MiB."
    assert said in PAGE


def test_the_costs_are_those_that_pytorch_counts() -> None:
    T, d = 24, 8
    x, W = torch.randn(T, d), torch.randn(d, d)
    with FlopCounterMode(display=False) as counter:
        output, _ = scaled_dot_product_attention(x @ W, x @ W, x @ W)
        torch.mm(output, W)
    assert counter.get_total_flops() == 2 * (4 * T * d**2 + 2 * T**2 * d)  # 2 per multiply-add


def test_the_table_of_the_online_softmax() -> None:
    m, total, weighted = -math.inf, 0.0, 0.0
    for score, value in ((1, 10), (3, 20), (2, 30)):
        old, m = m, max(m, score)
        factor, term = math.exp(old - m), math.exp(score - m)
        total, weighted = total * factor + term, weighted * factor + term * value
        assert f"| {score} | {value} | {m} | {factor:.4f} | {total:.4f} | {weighted:.4f} |" in PAGE
    output = softmax(torch.tensor([1.0, 3.0, 2.0])) @ torch.tensor([10.0, 20.0, 30.0])
    assert math.isclose(weighted / total, output.item(), rel_tol=1e-6)
    assert f"{weighted:.4f} / {total:.4f} = {output:.3f}" in PAGE


def test_a_plain_softmax_gives_nan_where_ours_gives_zeros() -> None:
    nothing = apply_mask(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))
    assert torch.softmax(nothing, -1).isnan().all() and not softmax(nothing).any()


def test_the_trained_head_of_the_picture_looks_after_its_earlier_self(draw: ModuleType) -> None:
    figure = draw.learned_head()
    _, after = (axes.images[0].get_array() for axes in figure.axes[:2])
    rows = np.arange(8, 16)
    assert (np.ma.filled(after, 0.0)[rows, rows - 7] > 0.9).all()


def test_the_readmes_show_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = "return torch.ones(T, T).triu()"
    shown = shown_to_learner("1.3", body)
    for readme in (LESSON / "README.md", LESSON.parent / "README.md"):
        assert shown in readme.read_text(encoding="utf-8")

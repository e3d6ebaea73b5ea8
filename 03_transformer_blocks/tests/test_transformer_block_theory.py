"""The numbers of the pages that no code block prints.

What takes minutes to train (which depth fails, six loss curves, the load of the experts) is kept in
pictures/measured.json, which `pictures/draw.py --measure` writes: here the pages are compared with
that file, and only its cheapest entries are measured again.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attention import causal_mask
from feedforward import FeedForward, SwiGLU, gelu
from layer_norm import LayerNorm, RMSNorm
from mixture_of_experts import load_balance_loss, route
from multi_head import MultiHeadAttention
from stack_lab import StackLM, corpus, final_loss, train, unigram_entropy
from transformer_block import TransformerBlock

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "theory.md").read_text(encoding="utf-8")
EXPERTS = (LESSON / "mixture_of_experts.md").read_text(encoding="utf-8")
MEASURED = json.loads((LESSON / "pictures" / "measured.json").read_text(encoding="utf-8"))
MATRIX = re.compile(r"\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}", re.DOTALL)


def matrices() -> list[Tensor]:
    """Every matrix of the page, in order."""
    bodies = [" ".join(body.split()) for body in MATRIX.findall(PAGE)]
    return [
        torch.tensor([[float(cell) for cell in row.split("&")] for row in body.split("\\\\")])
        for body in bodies
    ]


def words(text: str) -> str:
    """The text with its line breaks as spaces."""
    return " ".join(text.split())


def test_the_worked_example_is_right_to_every_digit() -> None:
    x, normalized, g_y, g, last, g_x = (matrix.double() for matrix in matrices())
    torch.testing.assert_close(LayerNorm(6, eps=0.0).double()(x).detach(), normalized)
    weight = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    y = nn.functional.layer_norm(x, (6,), weight, bias, eps=0.0)
    gradients = torch.autograd.grad(y, (x, weight, bias), g_y)
    torch.testing.assert_close(gradients[0], g_x)
    for gradient, row in zip(gradients[1:], ([-6, 0, 0, 0, 0, 9], [3, 0, 3, 0, 0, 9]), strict=True):
        torch.testing.assert_close(gradient, torch.tensor(row, dtype=torch.float64))
        assert str(row) in PAGE
    torch.testing.assert_close(g, (g_y * weight).detach())
    torch.testing.assert_close(last, 2 * g_x)
    assert g.mean(-1).tolist() == [2, 1] and (g * normalized).mean(-1).tolist() == [-0.5, 1]
    assert "the means are 2 and -0.5, for the second 1 and 1" in words(PAGE)
    assert not g_x.sum(-1).any() and not (g_x * normalized).sum(-1).any()


def test_means_deviations_and_roots() -> None:
    first, second = matrices()[0]
    assert [first.mean(), second.mean()] == [5, 10]
    assert (first - 5).tolist() == [-4, 0, 0, 0, 2, 2]
    assert first.var(correction=0) == second.var(correction=0) == 4
    assert "sum to 24, so the variance is 24 / 6 = 4" in words(PAGE)
    x = torch.tensor([1.0, 7.0, 5.0, 5.0])
    assert x.square().sum() == 100
    torch.testing.assert_close(RMSNorm(4)(x), torch.tensor([0.2, 1.4, 1.0, 1.0]))
    assert f"GELU(-1) is {gelu(torch.tensor(-1.0)):.3f}" in PAGE


def test_the_stream_grows_in_a_pre_norm_stack(draw: ModuleType) -> None:
    pre, post = draw.measure_stream("pre"), draw.measure_stream("post")
    sizes = [x.square().mean().sqrt().item() for x in (pre[0], pre[-1], post[-1])]
    assert f"from {sizes[0]:.1f} to {sizes[1]:.1f} in twelve blocks" in words(PAGE)
    assert f"{sizes[2]:.2f}" == "1.00" and "Their size stays 1" in words(PAGE)
    cosines = [draw.mean_cosine(found[-1], found[0]) for found in (pre, post)]
    assert f"cosine with the embedding is still {cosines[0]:.2f}" in words(PAGE)
    assert f"the cosine ends at {cosines[1]:.2f}" in words(PAGE)


def test_the_gradients_of_the_last_block(draw: ModuleType) -> None:
    found = {
        (placement, n): draw.measure_gradients(placement, n)[-1].item()
        for placement in ("pre", "post")
        for n in (2, 24)
    }
    shown = [
        *re.findall(r"from (\d\.\d+) for 2 blocks to (\d\.\d+) for 24", words(PAGE))[0],
        *re.findall(r"it stays where it was, (\d\.\d+) and (\d\.\d+)", words(PAGE))[0],
    ]
    for measured, text in zip(found.values(), shown, strict=True):
        assert math.isclose(measured, float(text), rel_tol=0.05)


def test_the_table_of_the_depths_is_what_was_measured() -> None:
    found = MEASURED["warmup"]
    rows = re.findall(r"^\| (\d) \| (.*) \|$", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == list(found["pre"])
    for depth, cells in rows:
        shown = [f"{a:.2f}, {b:.2f}" for a, b in (found[name][depth] for name in found)]
        assert cells.split(" | ") == shown


def test_what_the_page_says_about_the_depths() -> None:
    found, floor = MEASURED["warmup"], unigram_entropy()
    assert f"{floor:.2f}" == "3.20"
    assert max(found["post"]["4"]) < 2.7 and min(found["post"]["5"]) > floor - 0.1
    assert max(found["post, warm-up"]["5"]) < 2.7
    assert all(max(losses) < 2.7 for losses in found["pre"].values())


def test_small_first_weights_let_six_post_norm_blocks_train() -> None:
    """Three seconds: 80 steps, enough to leave the character frequencies."""
    torch.manual_seed(0)
    losses = train(StackLM(6, "post", std=0.02), n_steps=80)
    assert final_loss(losses) < unigram_entropy() - 0.3


def test_one_of_the_depths_measured_again(draw: ModuleType) -> None:
    """Two blocks, for 300 steps: about two seconds."""
    again = draw.measure_depth(2, "post", seed=0)
    assert math.isclose(again, MEASURED["warmup"]["post"]["2"][0], abs_tol=0.1)


def test_each_curve_shows_its_symptom(draw: ModuleType) -> None:
    found, floor, guess = MEASURED["curves"], unigram_entropy(), math.log(len(corpus()[1]))
    assert f"57 characters, {guess:.2f}" in PAGE and len(corpus()[1]) == 57
    for name in ("sound", "no causal mask", "no residual connections", "learning rate too low"):
        assert abs(found[name][0] - guess) < 0.1
    assert min(found["sound"][:50]) < floor and 2.0 < sum(found["sound"][-20:]) / 20 < 2.5
    assert min(found["learning rate too low"]) > floor
    assert max(found["learning rate too high"]) > 5 * guess
    assert found["initial weights too large"][0] > 2 * guess
    assert abs(sum(found["no residual connections"][-50:]) / 50 - floor) < 0.05
    assert found["no causal mask"][-1] < 1.0
    assert set(draw.LETTERS.values()) == set(found)


def test_the_curves_start_where_they_started_when_they_were_drawn(draw: ModuleType) -> None:
    for name, options in {
        "sound": {},
        "no causal mask": {"masked": False},
        "initial weights too large": {"std": 1.0},
    }.items():
        again = draw.curve(n_steps=3, **options)
        before = torch.tensor(MEASURED["curves"][name][:3])
        assert torch.allclose(torch.tensor(again), before, atol=0.02)


def test_the_letters_of_the_exercise_are_those_of_the_picture(draw: ModuleType) -> None:
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    for letter, name in draw.LETTERS.items():
        assert f'"{name}": "{letter}"' in text


def test_the_table_of_the_budget() -> None:
    sizes = {"GPT-2 small": (768, 3072, 1024, 2), "Llama 7B": (4096, 11008, 2048, 3)}
    for name, (d_model, d_ff, T, n_matrices) in sizes.items():
        weights = 4 * d_model**2 + n_matrices * d_model * d_ff
        products = 2 * T**2 * d_model
        cells = f"{weights / 1e6:.1f} | {T * weights / 1e6:.0f} | {products / 1e6:.0f}"
        share = products / (T * weights + products)
        assert f"| {name} | {cells} | {share:.0%} |" in PAGE


def test_the_budget_is_what_pytorch_counts() -> None:
    T, d_model, d_ff = 24, 16, 40
    block = TransformerBlock(
        MultiHeadAttention(d_model, 4, bias=False),
        FeedForward(d_model, d_ff, bias=False),
        LayerNorm(d_model),
        LayerNorm(d_model),
    )
    with FlopCounterMode(display=False) as counter:
        block(torch.randn(1, T, d_model), causal_mask(T))
    weights = 4 * d_model**2 + 2 * d_model * d_ff
    assert counter.get_total_flops() == 2 * (T * weights + 2 * T**2 * d_model)


def test_a_gated_network_is_two_thirds_as_wide() -> None:
    d_model, d_ff = 12, 48
    gated, plain = (
        SwiGLU(d_model, 2 * d_ff // 3, bias=False),
        FeedForward(d_model, d_ff, bias=False),
    )
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (gated, plain)]
    assert counts[0] == counts[1]
    assert 2 * d_ff // 3 == 8 * d_model // 3 == 32  # for d_ff = 4 d_model
    assert -(-2 * 4 * 4096 // (3 * 256)) * 256 == 11008  # Llama 7B


def test_two_zero_factors_never_move() -> None:
    network = FeedForward(8, 32)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    loss = (network(torch.randn(3, 5, 8)) * torch.randn(3, 5, 8)).sum()
    matrices_of = network.up_proj.weight, network.down_proj.weight
    assert not any(g.any() for g in torch.autograd.grad(loss, matrices_of))


def test_the_examples_of_the_experts() -> None:
    gates = route(torch.tensor([2.0, 1.0, 0.0, 1.5]), 2)
    assert f"the gates are {gates[0]:.3f} and {gates[3]:.3f}" in words(EXPERTS)
    exps = [math.exp(2), math.exp(1.5)]
    assert f"{exps[0]:.3f} and {exps[1]:.3f} sum to {sum(exps):.3f}" in words(EXPERTS)
    loss = 3 * (2 / 3 * 0.6 + 1 / 3 * 0.3)
    assert math.isclose(loss, 1.5)
    one = torch.tensor([[100.0, 0.0, 0.0]])
    assert math.isclose(load_balance_loss(one, route(one, 1)).item(), 3)
    logits = torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(route(logits, 1).square().sum(), logits)
    assert not gradient.any()  # with k = 1 the router gets none


def test_the_table_of_the_experts_is_what_was_measured() -> None:
    found = MEASURED["experts"]
    for factor, (loss, *load) in found.items():
        row = f"| {factor} | {min(load):.2f} | {max(load):.2f} | {loss:.2f} |"
        assert row in EXPERTS
    _, *load = found["0"]
    assert f"the largest share is {max(load) / min(load):.0f} times the smallest" in words(EXPERTS)
    assert found["0.01"][0] <= found["0"][0] + 0.01


def test_the_lab_starts_from_equal_probabilities() -> None:
    torch.manual_seed(0)
    model = StackLM(2)
    probabilities = torch.softmax(model(torch.zeros(1, 32, dtype=torch.long)), -1)
    assert probabilities.max() < 2 / len(corpus()[1])


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = """
        centered = x - x.mean(-1, keepdim=True)
        normalized = centered / (x.std(-1, keepdim=True) + self.eps)
        return normalized * self.weight + (0 if self.bias is None else self.bias)
    """
    shown = shown_to_learner("3.2", body)
    assert shown in (LESSON / "README.md").read_text(encoding="utf-8")

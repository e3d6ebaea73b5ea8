"""The numbers of theory.md that no code block prints, and the message that the README shows."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attention import scaled_dot_product_attention
from grouped_query_attention import grouped_attention
from multi_head import MultiHeadAttention, merge_heads, split_heads
from sparse_attention import block_sparse_attention

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "theory.md").read_text(encoding="utf-8")
MATRIX = re.compile(r"(\S[^=]*?)=\s*\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}")
SEEDS = range(3)


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
    assert len(on_page) == 14
    x = on_page["x"]
    q, k, v = (x @ on_page[name] for name in ("W_q", "W_k", "W_v"))
    for name, value in {"q": q, "k": k, "v": v}.items():
        assert_on_page(on_page[name], value)
    heads = [split_heads(part[None], 2) for part in (q, k, v)]
    output, weights = scaled_dot_product_attention(heads[0], heads[1], heads[2])
    for head in range(2):
        scores = heads[0][0, head] @ heads[1][0, head].T
        assert_on_page(on_page[f"q_{head} k_{head}^T"], scores)
        assert_on_page(on_page[f"\\text{{weights}}_{head}"], weights[0, head])
    merged = merge_heads(output)[0]
    assert_on_page(on_page["\\text{merged}"], merged)
    assert_on_page(on_page["\\text{output}"], merged @ on_page["W_o"])
    root, large = math.sqrt(2), math.exp(math.sqrt(2))
    numbers = [f"{root:.3f}", f"{large:.3f}", f"{large + 2:.3f}", f"{large / (large + 2):.3f}"]
    assert [*numbers, f"{1 / (large + 2):.3f}"] == ["1.414", "4.113", "6.113", "0.673", "0.164"]
    assert all(number in PAGE for number in numbers)


def test_the_worked_example_is_the_layer_itself() -> None:
    on_page = matrices()
    layer = MultiHeadAttention(4, 2, bias=False)
    names = {"q_proj": "W_q", "k_proj": "W_k", "v_proj": "W_v", "out_proj": "W_o"}
    layer.load_state_dict({f"{name}.weight": on_page[W].T for name, W in names.items()})
    assert_on_page(on_page["\\text{output}"], layer(on_page["x"][None])[0].detach())


@pytest.mark.parametrize(("n_heads", "width"), [(1, 32), (1, 128), (2, 32)])
def test_the_table_of_one_head_and_two(draw: ModuleType, n_heads: int, width: int) -> None:
    shares = [draw.train_reader(n_heads, width, seed=seed)[1] for seed in SEEDS]
    [row] = re.findall(rf"\| {n_heads} \| {width} \| (.*) \|", PAGE)
    shown = [float(cell) for cell in row.split("|")]
    assert np.allclose(np.mean(shares, axis=0), shown, atol=0.04)


def test_a_network_behind_one_head_decodes_two_places_and_not_four(draw: ModuleType) -> None:
    two = draw.train_reader(1, 32, 2, 128)[1]
    assert min(two) > 0.99
    worst = min(draw.train_reader(1, 32, 4, 128)[1])
    with_four_heads = min(draw.train_reader(4, 32, 4)[1])
    assert "got 0.80 on the\nworst of them, four heads with a matrix 1.00" in PAGE
    assert np.allclose([worst, with_four_heads], [0.80, 1.00], atol=0.04)


def test_the_only_head_divides_itself_and_two_heads_divide_the_work(draw: ModuleType) -> None:
    torch.manual_seed(1)
    letters = torch.randint(8, (50, 10))
    for n_heads in (1, 2):
        weights = draw.train_reader(n_heads)[0].weights(letters)[:, :, 2:]  # rows with both places
        places = [weights.diagonal(offset, -2, -1).mean((0, 2)) for offset in (1, 0)]
        nearer, farther = (place.tolist() for place in places)
        if n_heads == 1:
            assert 0.35 < farther[0] < nearer[0] < 0.65
        else:
            assert {a > b for a, b in zip(nearer, farther, strict=True)} == {True, False}


def test_no_matrix_reads_both_places_from_one_mixture() -> None:
    """The claim of the first section, for any shares and the best matrix there is.

    Of 0.6 a + 0.4 b, with every pair of different letters: a regression finds a, and not b.
    """
    n = 8
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    mixed = torch.zeros(len(pairs), n + 1)
    mixed[:, n] = 1.0  # a bias
    for row, (a, b) in enumerate(pairs):
        mixed[row, a], mixed[row, b] = 0.6, 0.4
    right = []
    for which in range(2):
        target = torch.tensor([pair[which] for pair in pairs])
        readout = nn.Linear(n + 1, n, bias=False)
        optimizer = torch.optim.LBFGS(readout.parameters(), max_iter=200)

        def closure() -> Tensor:
            optimizer.zero_grad()  # noqa: B023
            loss = nn.functional.cross_entropy(readout(mixed), target)  # noqa: B023
            loss.backward()
            return loss

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        right.append((readout(mixed).argmax(-1) == target).float().mean().item())
    assert right[0] == 1.0
    assert right[1] < 0.5


def test_the_table_of_shapes() -> None:
    shapes = []
    layer = MultiHeadAttention(512, 8)

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None):
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        shapes.extend([q.shape, weights.shape, output.shape])
        return output, weights

    assert layer(torch.zeros(3, 5, 512), attend=attend).shape == (3, 5, 512)
    assert shapes == [(3, 8, 5, 64), (3, 8, 5, 5), (3, 8, 5, 64)]


def test_the_table_of_the_costs() -> None:
    T, d_model = 512, 512
    for n_heads in (1, 8, 64):
        layer = MultiHeadAttention(d_model, n_heads)
        parameters = sum(p.numel() for p in layer.parameters())
        kept = []

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None):
            output, weights = scaled_dot_product_attention(q, k, v, mask)
            kept.append(weights.numel())  # noqa: B023
            return output, weights

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(torch.zeros(1, T, d_model), attend=attend)
        work = counter.get_total_flops() // 2
        row = f"| {n_heads} | {d_model // n_heads} | {parameters:,} | {work:,} | {kept[0]:,} |"
        assert row in PAGE


def test_the_scores_of_a_head_have_the_rank_of_its_width() -> None:
    q, k = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    assert torch.linalg.matrix_rank(q @ k.T) == 3


def test_heads_learn_to_look_back_and_to_copy(draw: ModuleType) -> None:
    model, losses = draw.train_two_layers(600, seed=0)
    previous, score = draw.head_scores(model)
    assert previous[0].max() > 0.9 > 0.2 > previous[1].max()
    assert score[1].min() > 0.7 > 0.1 > score[0].max()
    assert "fell from 2.92 to below 0.1 within 600 steps" in PAGE
    assert abs(losses[0] - 2.92) < 0.02 and losses[-1] < 0.1


def test_the_period_of_a_text_is_where_it_repeats(draw: ModuleType) -> None:
    tokens, period = draw.repeated_texts(50)
    assert set(period.flatten().tolist()) <= set(range(6, 13))
    for text, shift in zip(tokens, period.flatten().tolist(), strict=True):
        assert torch.equal(text[shift:], text[:-shift])


def test_the_maps_of_the_reading_exercise_show_what_they_are_said_to(draw: ModuleType) -> None:
    maps = draw.which_head_maps()
    rows = torch.arange(6, 12)
    targets = {"A": 0 * rows, "B": rows - 5, "C": rows - 1, "D": rows - 6}
    assert all(torch.equal(maps[name][6:].argmax(-1), key) for name, key in targets.items())


def test_query_head_h_reads_key_value_head_h_over_n_repeats() -> None:
    q, k = torch.randn(1, 8, 1, 4), torch.randn(1, 2, 5, 4)
    v = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 5, 1)
    output, _ = grouped_attention(q, k, v)
    assert output.flatten().round().tolist() == [0.0] * 4 + [1.0] * 4


def test_the_table_of_the_cache() -> None:
    for n_kv_heads in (32, 8, 1):
        per_token = 2 * 32 * n_kv_heads * 128 * 2  # keys and values, layers, width, bytes
        total = per_token * 8192 / 2**30
        assert f"| {n_kv_heads} | {per_token:,} | {total:.3f} GiB |" in PAGE


def test_the_table_of_the_latent() -> None:
    values = {
        "multi-head": 2 * 128 * 128,
        "grouped, 8 key-value heads": 2 * 8 * 128,
        "latent": 512 + 64,
        "multi-query": 2 * 128,
    }
    for name, count in values.items():
        cache = count * 60 * 131_072 * 2 / 2**30
        assert f"| {name} | {count:,} | {cache:.2f} GiB |" in PAGE
    assert values["latent"] / values["multi-query"] == 2.25 and "2.25 key-value heads" in PAGE


def test_the_table_of_the_blocks() -> None:
    window, width = 64, 64
    for T in (512, 2048, 8192):
        n_blocks = T // window
        masked = 2 * T * T * width / 2**20
        blocks = 2 * (2 * n_blocks - 1) * window**2 * width / 2**20
        assert f"| {T} | {masked:.0f} | {blocks:.1f} |" in PAGE
    T = 512
    i, j = torch.arange(T)[:, None], torch.arange(T)
    q = k = v = torch.randn(T, width)
    with FlopCounterMode(display=False) as counter:
        block_sparse_attention(q, k, v, (j <= i) & (i - j < window), window)
    assert counter.get_total_flops() / 2 / 2**20 == 7.5


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = "B, T, width = x.shape; return x.view(B, n_heads, T, width // n_heads)"
    shown = shown_to_learner("2.1", body)
    assert shown in (LESSON / "README.md").read_text(encoding="utf-8")

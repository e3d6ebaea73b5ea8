"""The numbers of the pages that no code block prints.

What takes long to train (the first steps, gaps, jumps, sorting) is kept in pictures/measured.json,
which `pictures/draw.py --measure` writes: here the pages are compared with that file.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import encoder
import encoder_decoder
from attention import causal_mask, scaled_dot_product_attention
from budgets import (
    GPT_2,
    LLAMA_3_8B,
    activation_values,
    cache_bytes,
    count_parameters,
    parameters_by_kind,
    training_flops,
    training_state_bytes,
)
from initialization import first_loss
from layer_norm import LayerNorm
from linear_attention import linear_attention
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "theory.md").read_text(encoding="utf-8")
FAMILIES = (LESSON / "architectures.md").read_text(encoding="utf-8")
ARCHITECTURE = (LESSON / "architecture.md").read_text(encoding="utf-8")
WALK = (LESSON / "forward_pass_walkthrough.md").read_text(encoding="utf-8")
MEASURED = json.loads((LESSON / "pictures" / "measured.json").read_text(encoding="utf-8"))
MATRIX = re.compile(r"\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}", re.DOTALL)


def words(text: str) -> str:
    """The text with its line breaks as spaces."""
    return " ".join(text.split())


def matrices() -> list[Tensor]:
    """Every matrix of the theory, in order."""
    bodies = [" ".join(body.split()) for body in MATRIX.findall(PAGE)]
    return [
        torch.tensor([[float(cell) for cell in row.split("&")] for row in body.split("\\\\")])
        for body in bodies
    ]


def test_the_worked_example_is_right_to_every_digit() -> None:
    tokens, E, P, start, normed, update, after, last, normed_again, turned, logits = matrices()
    ids = tokens.long()[0]
    norm = LayerNorm(2, eps=0.0)
    x = E[ids] + P
    torch.testing.assert_close(x, start)
    torch.testing.assert_close(norm(x).detach(), normed)
    q = torch.zeros(3, 2)
    mixed, _ = scaled_dot_product_attention(q, q, 3 * norm(x).detach(), causal_mask(3))
    torch.testing.assert_close(mixed, update)
    x = x + mixed
    torch.testing.assert_close(x, after)
    hidden = torch.relu(norm(x).detach() @ torch.tensor([[1.0], [-1.0]])).square()
    assert hidden.flatten().tolist() == [4, 4, 0]
    x = x + hidden @ torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(x, last)
    torch.testing.assert_close(norm(x).detach(), normed_again)
    torch.testing.assert_close(turned, E.T)
    torch.testing.assert_close(norm(x).detach() @ E.T, logits)
    losses = F.cross_entropy(logits[:2], ids[1:], reduction="none")
    total = torch.logsumexp(logits[0], 0).item()
    assert f"log-sum-exp of 2, -2, 4 is {total:.2f}" in words(PAGE)
    first, second = losses.tolist()
    sentence = f"{total:.2f} - 4 = {first:.2f} and {total:.2f} + 2 = {second:.2f}, their mean"
    assert f"{sentence} {losses.mean().item():.2f}" in words(PAGE)


def test_the_same_example_is_a_tiny_transformer() -> None:
    config = ModelConfig(3, max_seq_len=3, d_model=2, n_layers=1, n_heads=1, d_ff=1, bias=False)
    _, E, P, *_ = matrices()
    model = TinyTransformerLM(ModelConfig(**{**vars(config), "activation": "relu2"}))
    values = {
        "token_embedding.weight": E,
        "position_embedding.weight": P,
        "blocks.0.attention.q_proj.weight": torch.zeros(2, 2),
        "blocks.0.attention.k_proj.weight": torch.zeros(2, 2),
        "blocks.0.attention.v_proj.weight": 3 * torch.eye(2),
        "blocks.0.attention.out_proj.weight": torch.eye(2),
        "blocks.0.feed_forward.up_proj.weight": torch.tensor([[1.0, -1.0]]),
        "blocks.0.feed_forward.down_proj.weight": torch.tensor([[0.0], [1.0]]),
    }
    model.load_state_dict({**model.state_dict(), **values})
    logits = model(torch.tensor([[0, 2, 1]]))[0]
    torch.testing.assert_close(logits.detach(), matrices()[-1], atol=1e-3, rtol=1e-3)


def test_the_first_losses() -> None:
    assert f"{math.log(65):.2f} for 65 characters" in words(PAGE)
    assert first_loss(TinyTransformerLM(ModelConfig())) > math.log(65)


def test_an_untrained_tied_model_predicts_that_everything_repeats() -> None:
    model = TinyTransformerLM(ModelConfig())
    tokens = torch.randint(65, (4, 64))
    assert (model(tokens).argmax(-1) == tokens).float().mean() > 0.95


def test_the_losses_of_the_first_steps() -> None:
    found = MEASURED["first steps"]
    means = {name: [sum(run[-20:]) / 20 for run in runs.values()] for name, runs in found.items()}
    zeros, small, default = (
        ", ".join(f"{x:.2f}" for x in runs[:-1]) + f" and {runs[-1]:.2f}" for runs in means.values()
    )
    assert f"{zeros} with zeros; {small} with 0.02 everywhere; {default} from PyTorch" in words(
        PAGE
    )
    assert all(one < min(two, three) for one, two, three in zip(*means.values(), strict=True))
    down = [
        next(i for i, x in enumerate(run) if x < 4) for run in found["PyTorch's defaults"].values()
    ]
    assert f"which took {min(down)} to {max(down)} steps to come down to 4" in words(PAGE)


def test_the_first_steps_start_where_they_started_when_they_were_drawn(draw: ModuleType) -> None:
    for name in MEASURED["first steps"]:
        again = draw.first_losses(name, 0, n_steps=2)
        before = MEASURED["first steps"][name]["0"][:2]
        assert all(abs(x - y) < 0.02 * y for x, y in zip(again, before, strict=True))


def test_the_shares_of_tied_weights() -> None:
    shares = {
        name: config.vocab_size * config.d_model / count_parameters(config)
        for name, config in {"GPT-2": GPT_2, "Llama": LLAMA_3_8B}.items()
    }
    assert f"{shares['GPT-2']:.0%} of GPT-2 small" in words(PAGE)
    assert f"In a model of 8 billion it would be {shares['Llama']:.0%}" in words(PAGE)


def test_the_table_of_the_parameters() -> None:
    config = ModelConfig()
    kinds = parameters_by_kind(config)
    d, V, n = config.d_model, config.vocab_size, config.n_layers
    assert kinds["token embedding"] == V * d and kinds["positions"] == 64 * d
    assert kinds["attention"] == n * 4 * (d * d + d)
    assert kinds["feed-forward"] == n * (8 * d * d + 5 * d)
    assert kinds["norms"] == 9 * 2 * d
    for kind, count in kinds.items():
        if count:
            row = "position embedding" if kind == "positions" else kind
            assert re.search(rf"^\| {row} \|.*\| {count:,} \|$", PAGE, re.MULTILINE), row
    assert f"| all | | | {count_parameters(config):,} |" in PAGE
    block = (kinds["attention"] + kinds["feed-forward"]) / n + 4 * d
    assert abs(12 * d * d / block - 1) < 0.01


def test_where_six_operations_per_parameter_fail() -> None:
    d, T = 128, 6 * 128
    assert 2 * T * d == 12 * d * d  # equal at T = 6 d
    start = training_flops(LLAMA_3_8B, 1) / count_parameters(LLAMA_3_8B)
    assert f"starts at {start:.1f}" in words(PAGE)
    wide = ModelConfig(50257, d_model=64, n_layers=2, tie_weights=False)
    assert training_flops(wide, 64) / count_parameters(wide) / 64 < 4


def test_the_table_of_the_memory() -> None:
    N, B, T = count_parameters(GPT_2), 8, 1024
    rows = {
        "weights": 4 * N,
        "gradients": 4 * N,
        "Adam's averages": 8 * N,
        "activations of 12 blocks": 4 * B * activation_values(GPT_2, T),
        "logits, (8, 1024, 50257)": 4 * B * T * GPT_2.vocab_size,
    }
    for name, size in rows.items():
        assert f"| {name} | {size / 1e9:.2f} |" in PAGE
    assert sum(list(rows.values())[:3]) == training_state_bytes(GPT_2)
    assert f"{cache_bytes(GPT_2, 1, T) / 1e6:.0f} MB for one full context" in words(PAGE)
    assert math.isclose(activation_values(GPT_2, T) / 12 / T, 16 * 768, rel_tol=0.01)


def test_the_example_of_linear_attention() -> None:
    q, k, v = ([2.0, 1.0, 3.0], [1.0, 3.0, 4.0], [8.0, 4.0, 6.0])
    # phi(x) = x + 1 for positive x; phi(0) = 1
    one, two, three = (torch.tensor(x)[:, None] for x in (q, k, v))
    output, _ = linear_attention(one - 1, two - 1, three, causal_mask(3))
    assert output.flatten().tolist() == [8, 5, 5.5]
    products = torch.tensor(k) * torch.tensor(v)
    assert products.cumsum(0).tolist() == [8, 20, 44]
    assert torch.tensor(k).cumsum(0).tolist() == [1, 4, 8]
    sentence = "the sums of φ(k) v are 8, 20, 44, those of φ(k) 1, 4, 8"
    assert sentence in words(PAGE)
    assert "16 / 2 = 8, 20 / 4 = 5 and 132 / 24 = 5.5" in words(PAGE)


def test_the_letters_of_the_exercise_are_those_of_the_picture(draw: ModuleType) -> None:
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    for letter, name in draw.LETTERS.items():
        assert f'"{name}": "{letter}"' in text
    weights = draw.patterns()
    assert weights["cross-attention"].shape == (7, 10)
    assert (weights["decoder"][0] > 0).sum() == 1
    assert (weights["decoder with a leak"][0] > 0).sum() == 2
    assert (weights["prefix LM"][0] > 0).sum() == 3
    assert (weights["encoder with padding"][:, 5:] == 0).all()


# --- architecture.md ---


def test_the_table_of_the_parameters_is_that_of_the_module() -> None:
    model = TinyTransformerLM(ModelConfig())
    rows = []
    for name, parameter in model.named_parameters():
        if re.match(r"blocks\.[1-9]", name):
            continue
        shape = " × ".join(map(str, parameter.shape))
        kind = "zeros" if not parameter.any() else "ones" if (parameter == 1).all() else "random"
        rows.append(f"| `{name}` | {shape} | {parameter.numel():,} | {kind} |")
    found = [line for line in ARCHITECTURE.splitlines() if line.startswith("| `") and "×" in line]
    found = [
        line for line in ARCHITECTURE.splitlines() if re.match(r"\| `[\w.]+\.(weight|bias)`", line)
    ]
    assert sorted(found) == sorted(rows)
    block = sum(p.numel() for p in model.blocks[0].parameters())
    total = sum(p.numel() for p in model.parameters())
    sentence = f"A block has {block:,} parameters, four have {4 * block:,}, and the model {total:,}"
    assert sentence in words(ARCHITECTURE)


def test_the_picture_shows_every_layer_with_parameters(draw: ModuleType) -> None:
    model = TinyTransformerLM(ModelConfig())
    shown = {name: count for name, _, count in draw.layers_of(ModelConfig())}
    assert sum(shown.values()) == sum(
        p.numel() for name, p in model.named_parameters() if not re.match(r"blocks\.[1-9]", name)
    )
    for name, count in shown.items():
        assert count == sum(p.numel() for p in model.get_submodule(name).parameters())


@pytest.mark.parametrize(
    ("changes", "absent", "present"),
    [
        ({"position": "rope"}, "position_embedding.weight", ""),
        ({"position": "alibi"}, "position_embedding.weight", ""),
        ({"position": "sinusoidal"}, "position_embedding.weight", ""),
        ({"norm": "rmsnorm"}, "final_norm.bias", ""),
        ({"norm_placement": "post"}, "final_norm.weight", ""),
        ({"activation": "swiglu"}, "", "blocks.0.feed_forward.gate_proj.weight"),
        ({"bias": False}, "blocks.0.attention.q_proj.bias", ""),
        ({"tie_weights": False}, "", "unembedding.weight"),
    ],
)
def test_what_the_configuration_changes(changes: dict, absent: str, present: str) -> None:
    names = TinyTransformerLM(ModelConfig(**changes)).state_dict().keys()
    assert absent not in names
    assert not present or present in names


# --- architectures.md ---


def test_the_table_of_the_gaps_is_what_was_measured() -> None:
    for name, row in {"encoder": "encoder", "causal": "causal model"}.items():
        halves = [
            ", ".join(f"{result[half]:.0%}" for result in MEASURED["gaps"][name]) for half in (0, 1)
        ]
        assert f"| {row} | {halves[0]} | {halves[1]} |" in FAMILIES
    other = 0.15 * 0.9
    most = 1 - other + other / 16
    sentence = f"{1 - other:.1%} + {other:.1%} / 16 = {most:.1%}"
    assert sentence in words(FAMILIES)
    assert "In 13.5% of the cases" in words(FAMILIES) and math.isclose(other, 0.135)


def first_below(losses: list[float]) -> str:
    """The step at which a mean of ten losses falls below 0.1."""
    return next((str(10 * i) for i, loss in enumerate(losses) if loss < 0.1), "never")


def test_the_table_of_the_jumps_is_what_was_measured(draw: ModuleType) -> None:
    rows = re.findall(r"^\| ((?:encoder-|decoder only|prefix LM).*) \|$", FAMILIES, re.MULTILINE)
    rows = [row.split(" | ") for row in rows if row.count("|") == 4]
    assert len(rows) == len(MEASURED["jumps"])
    for row, (name, runs) in zip(rows, MEASURED["jumps"].items(), strict=True):
        model = draw.JUMP_MODELS[name](0)
        assert row[1] == f"{sum(p.numel() for p in model.parameters()):,}"
        assert row[2] == f"{draw.operations_of(model) / 1e6:.1f}"
        assert row[3] == ", ".join(f"{run['accuracy']:.3f}" for run in runs)
        steps = [first_below(run["losses"]) for run in runs]
        assert row[4] == ("never" if set(steps) == {"never"} else ", ".join(steps))


def test_what_the_page_says_about_the_jumps() -> None:
    steps = {
        name: [first_below(run["losses"]) for run in runs]
        for name, runs in MEASURED["jumps"].items()
    }
    ours = sum(map(int, steps["encoder-decoder, 1 + 1 layers"])) / 3
    prefix = sum(map(int, steps["prefix LM, equal parameters"])) / 3
    assert f"needs {prefix / ours:.1f} times as many steps" in words(FAMILIES)
    decoder = [int(x) if x != "never" else 601 for x in steps["decoder only, equal parameters"]]
    assert min(decoder) / ours > 3
    closed = MEASURED["closed"]["cross-attention zero"]
    third, first, second = (first_below(run["losses"]) for run in closed)
    assert third == "never"
    sentence = f"needed {first} and {second} steps in place of {ours:.0f}; the third got"
    assert f"{sentence} {closed[0]['accuracy']:.0%} of the answers right" in words(FAMILIES)


def test_what_the_page_says_about_sorting() -> None:
    shares = [share for runs in MEASURED["sorting"].values() for share in runs]
    low, high = f"{100 * min(shares):.1f}", f"{100 * max(shares):.1f}%"
    assert f"all four models get {low} to {high} of the answers right" in words(FAMILIES)


def test_the_models_of_the_table_are_equal_in_what_they_say(draw: ModuleType) -> None:
    models = [build(0) for build in draw.JUMP_MODELS.values()]
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    work = [draw.operations_of(model) for model in models]
    assert abs(work[1] / work[0] - 1) < 0.01
    assert abs(counts[2] / counts[0] - 1) < 0.01 and counts[3] == counts[2]
    assert encoder.CONFIG.max_seq_len == encoder.LENGTH == 16 and encoder_decoder.LENGTH == 12


def test_the_example_of_hidden_tokens() -> None:
    from corruption import mask_tokens

    chosen = torch.tensor([[False, True, True, False, False, True]])
    draws = torch.tensor([[0.31, 0.42, 0.88, 0.07, 0.95, 0.93]])
    found = mask_tokens(torch.arange(6)[None], chosen, draws, torch.full((1, 6), 7), 9)
    assert found.tolist() == [[0, 9, 7, 3, 4, 5]]
    assert "| corrupted | the | `[MASK]` | blue | on | the | mat |" in FAMILIES


# --- README.md, pictures ---


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = """
        is_prompt = torch.arange(T, device=device) < n_prefix
        return causal_mask(T, device) | is_prompt[:, None]
    """
    shown = shown_to_learner("5.4", body)
    assert shown in (LESSON / "README.md").read_text(encoding="utf-8")

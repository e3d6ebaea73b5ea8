"""review_questions.md: five to eight questions per lesson, every number of an answer computed."""

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from attention import causal_mask, scaled_dot_product_attention, softmax
from checkpointing import save_checkpoint
from clipping import clip_gradients_
from data_loader import DataLoader
from decoding_loop import window_start
from feedforward import FeedForward
from grouped_query_attention import GroupedQueryAttention
from layer_norm import LayerNorm, RMSNorm
from loss_functions import bits_per_char, cross_entropy, perplexity
from model.config import PRESETS
from multi_head import MultiHeadAttention
from optimizers import AdamW, Muon
from positional_embeddings import alibi_slopes, apply_rotary, rotary_angles, sinusoidal_encoding
from schedules import learning_rate_at
from temperature import apply_temperature
from time_budget import TIMED_STEPS
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools.checks.layout import LESSONS
from top_k import top_k_filter
from top_p import min_p_filter, top_p_filter
from utils.config import ModelConfig

FOLDER = Path(__file__).resolve().parents[1]
ROOT = FOLDER.parent
TEXT = (FOLDER / "review_questions.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.split())


def size(module: torch.nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def says(*sentences: str) -> None:
    """The page has each of these, whatever its line breaks."""
    for sentence in sentences:
        assert sentence in PAGE, sentence


def questions(text: str) -> list[str]:
    """The questions of a page, without markup."""
    found = re.findall(r"<summary>(.*?)</summary>", text, re.DOTALL)
    return [re.sub(r"[`]|</?code>", "", " ".join(question.split())) for question in found]


def test_every_lesson_has_five_to_eight_questions_with_folded_answers() -> None:
    parts = re.split(r"^## Lesson (\d\d): .*$", TEXT, flags=re.MULTILINE)
    assert parts[1::2] == [lesson[:2] for lesson in LESSONS]
    for number, part in zip(parts[1::2], parts[2::2], strict=True):
        asked = questions(part)
        assert 5 <= len(asked) <= 8, number
        assert len(asked) == part.count("<details>") == part.count("</details>")
        assert all("?" in question for question in asked)


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_question_is_that_of_a_readme(lesson: str) -> None:
    readme = (ROOT / lesson / "README.md").read_text(encoding="utf-8")
    assert not set(questions(readme)) & set(questions(TEXT))


def test_lesson_00() -> None:
    assert (torch.ones(3, 1, 5) + torch.ones(4, 5)).shape == (3, 4, 5)
    x = torch.randn(5)
    differences = x[:, None] - x
    assert differences.shape == (5, 5) and differences[1, 3] == x[1] - x[3]
    assert not differences.diagonal().any()
    says(f"log 2 = {math.log(2):.3f} nats, or exactly {math.log2(2):.0f} bit")
    says(f"65 x 65 = {65 * 65:,} counts")
    weight = torch.ones(1, requires_grad=True)
    for factor in (2.0, 3.0):
        (factor * weight).sum().backward()
    assert weight.grad is not None and weight.grad.item() == 5.0


def test_lesson_01() -> None:
    scores = torch.tensor([2.0, 1.0, 0.1])
    weights, sharper = softmax(scores), softmax(2 * scores)
    torch.testing.assert_close(softmax(scores + 100), weights)
    torch.testing.assert_close(sharper[0] / sharper[1], (weights[0] / weights[1]) ** 2)
    five, many = causal_mask(5), causal_mask(64)
    assert five.sum() == 15 and five.numel() == 25
    says(f"{int(many.sum()):,} of {many.numel():,}: {100 * many.float().mean():.1f}%")
    assert causal_mask(7)[-2:].sum(-1).tolist() == [6, 7]
    values = torch.randn(1, 5, 6)
    output, _ = scaled_dot_product_attention(torch.zeros(1, 1, 4), torch.randn(1, 5, 4), values)
    torch.testing.assert_close(output[0, 0], values.mean(1)[0])
    assert torch.broadcast_shapes((3, 1, 1, 5), (3, 4, 5, 5)) == (3, 4, 5, 5)
    mib = 2**20
    says(
        f"= {2048 * 2048 * 4 // mib} MiB for the weights",
        f"= {3 * 2048 * 64 * 4 / mib:g} MiB for q",
    )


def test_lesson_02() -> None:
    assert size(MultiHeadAttention(512, 8)) == size(MultiHeadAttention(512, 16)) == 1_050_624
    says("= 1,050,624: four", f"{size(GroupedQueryAttention(512, 8, 2)):,}. The query")
    assert GroupedQueryAttention(512, 8, 2).k_proj.out_features == 128
    assert math.sqrt(512 // 8) == 8
    says(f"the square root of 512, about {math.sqrt(512):.1f}")


def test_lesson_03() -> None:
    x = torch.tensor([1.0, 3.0])
    torch.testing.assert_close(LayerNorm(2)(x), torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)
    first, second = RMSNorm(2)(x).tolist()
    says(f"so ({first:.3f}, {second:.3f})")
    fours = torch.full((4,), 4.0)
    assert LayerNorm(4)(fours).tolist() == [0.0] * 4
    torch.testing.assert_close(RMSNorm(4)(fours), torch.ones(4), atol=1e-5, rtol=0)
    x = torch.randn(3, 8)
    for norm, ignores_shift in ((LayerNorm(8), True), (RMSNorm(8), False)):
        assert torch.allclose(norm(10 * x), norm(x), atol=1e-3)
        assert torch.allclose(norm(x + 10), norm(x), atol=1e-3) == ignores_shift
    wide, attention = size(FeedForward(128, 512)), size(MultiHeadAttention(128, 4))
    says(f"{wide:,} against {attention:,}", f"so {100 * wide / (wide + attention):.1f}%")


def test_lesson_04() -> None:
    says(f"65 x 128 = {65 * 128:,} per token")
    assert sinusoidal_encoding(3, 4)[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    q = torch.randn(1, 1, 1, 8)
    rotated = apply_rotary(q, *rotary_angles(torch.tensor([5]), 8))
    torch.testing.assert_close(rotated.norm(), q.norm())
    assert torch.equal(apply_rotary(q, *rotary_angles(torch.tensor([0]), 8)), q)
    slopes = alibi_slopes(4).tolist()
    assert slopes == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
    says("{}, {:.4f}, {:.4f} and {:.4f}".format(*slopes))
    says(f"loses {100 * slopes[3]:.2f} of its score; with the first, {100 * slopes[0]:.0f}")


def test_lesson_05() -> None:
    tokens = torch.randint(65, (3, 6))
    x, y = tokens[:, :-1], tokens[:, 1:]
    assert TinyTransformerLM(ModelConfig(65))(x).shape == (3, 5, 65) and y.numel() == 15
    small, large = (size(TinyTransformerLM(ModelConfig(65, d_model=d))) for d in (128, 256))
    says(f"From {small:,} to {large:,}: {large / small:.2f} times")
    rope = size(TinyTransformerLM(ModelConfig(65, position="rope")))
    says(f"64 x 128 = {small - rope:,}: the whole table")
    tied = TinyTransformerLM(ModelConfig(65))(x)
    assert torch.equal(tied.argmax(-1), x)  # every character is repeated
    untied = TinyTransformerLM(ModelConfig(65, tie_weights=False))(x)
    assert not untied.any()


def test_lesson_06() -> None:
    loader = DataLoader(torch.arange(11, dtype=torch.uint8).numpy(), 3, 4, seed=0)
    assert len(loader._windows) == 11 - 5 + 1 == 7
    says(f"= {bits_per_char(2.0):.3f} bits per character", f"exp(2) = {perplexity(2.0):.2f}")
    logits = torch.zeros(1, 4, requires_grad=True)
    cross_entropy(logits, torch.tensor([2])).backward()
    assert logits.grad is not None
    says(", ".join(f"{value:.2f}" for value in logits.grad[0].tolist()))
    for gradient in (0.001, 1000.0):
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.tensor([gradient])
        AdamW([weight], lr=0.01, weight_decay=0.0).step()
        assert math.isclose(weight.item(), -0.01, rel_tol=1e-4)
    pair = torch.nn.Parameter(torch.zeros(2))
    pair.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients_([pair], 1.0) == 5.0
    torch.testing.assert_close(pair.grad, torch.tensor([0.6, 0.8]))
    options = {"max_steps": 1000, "decay_steps": 500}
    cosine, wsd = (learning_rate_at(499, name, **options) for name in ("cosine", "wsd"))
    assert math.isclose(cosine, 0.5, abs_tol=0.01) and wsd == 1.0


def test_lesson_07() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert top_p_filter(logits, 0.9).isfinite().sum() == 3
    assert min_p_filter(logits, 0.2).isfinite().sum() == 3
    p = softmax(apply_temperature(torch.tensor([0.8, 0.2]).log(), 0.5)).tolist()
    says(f"{p[0]:.3f} and {p[1]:.3f}. Dividing")
    tied = top_k_filter(torch.tensor([3.0, 2.0, 1.0, 1.0]), 3)
    assert tied.isfinite().tolist() == [True, True, True, False]
    starts = [window_start(length, 64) for length in (64, 65, 96, 97)]
    says("At {}, {}, {} and {}. It jumps".format(*starts))


def test_lesson_08(tmp_path: Path) -> None:
    config = PRESETS["laptop"].model
    model = TinyTransformerLM(config)
    says(f"a checkpoint of {size(model):,} parameters", f"{4 * size(model):,} bytes of weights")
    letters = "".join(map(chr, range(32, 32 + config.vocab_size)))
    save_checkpoint(tmp_path / "x.safetensors", model, CharTokenizer(letters))
    header = (tmp_path / "x.safetensors").stat().st_size - 4 * size(model)
    assert 1_000 < header < 10_000  # "a few kilobytes"
    for optimizer, averages in ((AdamW, 2), (Muon, 1)):
        weight = torch.nn.Parameter(torch.ones(3, 5))
        weight.grad = torch.ones(3, 5)
        rule = optimizer([weight])
        rule.step()
        kept = [each for each in rule.state[weight].values() if each.numel() == 15]
        assert len(kept) == averages
    says(f"1 / (1 - 0.4) = {1 / (1 - 0.4):.2f} times")


def test_lesson_09() -> None:
    says(
        f"1.589 / log 2 = {bits_per_char(1.589):.3f} bits",
        f"exp(1.589) = {perplexity(1.589):.2f}",
    )
    assert TIMED_STEPS.stop == 30 and "first 30 steps" in PAGE
    assert f"Should it not be {math.log(65):.2f}?" in PAGE


def test_losses_of_a_model_agree_with_pytorch() -> None:
    """The losses above come from functions of the course; this is the check on those."""
    logits, targets = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(cross_entropy(logits, targets), expected)

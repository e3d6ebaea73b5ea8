"""Linear attention against the sum written out, in a model, and its refusals."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from attention import causal_mask, padding_mask
from linear_attention import feature_map, linear_attention, main
from parts import Parts
from prefix_lm import prefix_mask
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError
from utils.kv_cache import KVCache
from utils.shape_checker import ShapeError

B, H, T, d_k, d_v = 3, 2, 5, 4, 6
SMALL = ModelConfig(11, max_seq_len=8, d_model=24, n_layers=2, n_heads=4, d_ff=20)


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    weights = feature_map(q) @ feature_map(k).mT
    weights = weights if mask is None else weights * mask
    total = weights.sum(-1, keepdim=True)
    return weights @ v / total.where(total > 0, 1.0)


def draw(T_k: int = T) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = ((T, d_k), (T_k, d_k), (T_k, d_v))
    return random(q), random(k), random(v)


def random(size: tuple[int, int]) -> Tensor:
    return 2 * torch.randn(B, H, *size, dtype=torch.float64)


@pytest.mark.parametrize(
    "mask",
    [
        None,
        causal_mask(T),
        prefix_mask(T, 3),
        padding_mask(torch.tensor([2, 5, 0]), T),
        torch.ones(T, T, dtype=torch.bool).tril(-1),
        torch.ones(1, T, dtype=torch.bool),
        torch.tensor([True, False, True, True, False])[:, None],
    ],
    ids=["none", "causal", "prefix", "padding", "nothing for the first", "one row", "one column"],
)
def test_it_equals_the_sum_written_out(mask):
    q, k, v = draw()
    output, weights = linear_attention(q, k, v, mask)
    assert weights is None
    torch.testing.assert_close(output, written_out(q, k, v, mask))


def test_cross_attention_has_other_lengths():
    q, k, v = draw(T_k=7)
    torch.testing.assert_close(linear_attention(q, k, v)[0], written_out(q, k, v))


@pytest.mark.parametrize("position", ["rope", "learned"])
def test_a_model_gives_the_same_with_and_without_a_cache(position):
    config = replace(SMALL, position=position, n_kv_heads=2)
    model = TinyTransformerLM(config, Parts(attention=linear_attention)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.randint(11, (B, 6))
    cache = KVCache(config, B, torch.float64)
    pieces = [model(tokens[:, a:b], cache) for a, b in ((0, 3), (3, 4), (4, 6))]
    torch.testing.assert_close(torch.cat(pieces, 1), model(tokens))


def test_gradients_are_those_of_the_sum():
    q, k, v = (x.requires_grad_() for x in draw())
    ours = linear_attention(q, k, v, causal_mask(T))[0].sin().sum()
    theirs = written_out(q, k, v, causal_mask(T)).sin().sum()
    for found, truth in zip(
        *(torch.autograd.grad(loss, (q, k, v)) for loss in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(found, truth)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (causal_mask(T).T, "sees the first n keys"),
        (torch.eye(T, dtype=torch.bool), "sees the first n keys"),
        (torch.zeros(T, T), "must be boolean"),
    ],
)
def test_other_masks_are_refused(mask, message):
    with pytest.raises(UsageError, match=message):
        linear_attention(*draw(), mask=mask)


def test_a_mask_of_the_wrong_shape_is_refused():
    with pytest.raises(ShapeError):
        linear_attention(*draw(), mask=causal_mask(T + 1))


def test_the_program_compares_with_the_sum(call_program):
    outcome = call_program(main)
    assert outcome.code == 0
    assert "largest difference" in outcome.out

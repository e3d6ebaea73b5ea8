"""Looking into a model must show what the model computes, and leave it as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor

from model_analysis import attention_weights, head_removed, logit_lens
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError
from utils.recipes import MODERN

MODELS = {
    "classic": {},
    "modern": MODERN,
    "grouped": {**MODERN, "n_kv_heads": 2},
    "alibi": {"position": "alibi"},
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> TinyTransformerLM:
    """Three layers of four heads; also the weights that begin at 0 are random."""
    fields: dict[str, Any] = {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 16}
    model = TinyTransformerLM(ModelConfig(11, **{**fields, **MODELS[request.param]})).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(11, (3, 7))


def test_the_last_depth_of_the_lens_is_the_model_s_own_prediction(
    model: TinyTransformerLM, tokens: Tensor
) -> None:
    lens = logit_lens(model, tokens)
    assert lens.shape == (4, 3, 7, 11)
    torch.testing.assert_close(lens[-1], model(tokens))


def test_a_depth_of_the_lens_is_what_a_model_that_ends_there_predicts(
    model: TinyTransformerLM, tokens: Tensor
) -> None:
    lens = logit_lens(model, tokens)
    model.blocks = model.blocks[:2]
    torch.testing.assert_close(lens[2], model(tokens))


def test_attention_weights_sum_to_one_over_the_past(
    model: TinyTransformerLM, tokens: Tensor
) -> None:
    before = model(tokens)
    found = attention_weights(model, tokens)
    assert [weights.shape for weights in found] == [(3, 4, 7, 7)] * 3
    for weights in found:
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 7))
        assert torch.equal(weights, weights.tril())
    assert torch.equal(model(tokens), before)


@pytest.mark.parametrize("parts", [Parts.reference, Parts.fused])
def test_a_removed_head_is_one_whose_output_weights_are_zero(
    model: TinyTransformerLM, tokens: Tensor, parts: Any
) -> None:
    same = TinyTransformerLM(model.config, parts()).eval()
    same.load_state_dict(model.state_dict())
    before = same(tokens)
    with head_removed(same, 1, 2):
        found = same(tokens), same(tokens)  # the second pass removes the same head
    assert torch.equal(same(tokens), before)
    weight = model.get_parameter("blocks.1.attention.out_proj.weight")
    with torch.no_grad():
        weight[:, 16:24] = 0  # head 2 of d_head 8
    expected = model(tokens)
    assert (expected - before).abs().max() > 0.01
    for logits in found:
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("layer", "head"), [(3, 0), (0, 4), (-1, 0)])
def test_a_head_that_is_not_there_is_refused(
    model: TinyTransformerLM, layer: int, head: int
) -> None:
    said = f"no layer {layer}, head {head}: 3 layers with 4 heads"
    with pytest.raises(UsageError, match=said), head_removed(model, layer, head):
        pass

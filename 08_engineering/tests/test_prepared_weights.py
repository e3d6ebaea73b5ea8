"""prepared_weights.py: prepared once per model, and again after any change of its weights."""

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

import prepared_weights as module
from fast_decoder import FastDecoder, fast_decode_step
from parts import Parts
from prepared_weights import prepared_weights
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.kv_cache import KVCache

CONFIG = ModelConfig(vocab_size=11, max_seq_len=12, d_model=16, n_layers=2, n_heads=2)
MODERN: dict[str, Any] = {
    **{"norm": "rmsnorm", "activation": "relu2", "position": "rope"},
    **{"qk_norm": True, "bias": False, "tie_weights": False},
}


def random_model(seed: int = 0, **changes: Any) -> TinyTransformerLM:
    """A model whose weights are far from their initial values."""
    config = ModelConfig(**{**vars(CONFIG), **changes})
    model = TinyTransformerLM(config, Parts.fused())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def assert_decodes_as_the_model(model: TinyTransformerLM) -> None:
    """A new fast decoder gives the logits of the model as it is now."""
    cache = KVCache(model.config, 1, model.output_weight.dtype)
    decoder = fast_decode_step(model, cache)
    assert isinstance(decoder, FastDecoder)
    token = torch.tensor([3])
    with torch.no_grad():
        expected = model(token[:, None])[:, -1]
    torch.testing.assert_close(decoder(token), expected, rtol=1e-4, atol=1e-4)


def test_an_unchanged_model_is_prepared_once() -> None:
    model = random_model()
    first = prepared_weights(model)
    assert prepared_weights(model) is first
    with torch.inference_mode():
        assert prepared_weights(model) is first
    assert prepared_weights(copy.deepcopy(model)) is not first


@torch.no_grad()
def in_place(model: TinyTransformerLM) -> None:
    model.blocks[1].get_parameter("attention.v_proj.weight").neg_()


def through_data(model: TinyTransformerLM) -> None:
    model.blocks[0].get_parameter("feed_forward.up_proj.weight").data.mul_(1.01)


def new_data(model: TinyTransformerLM) -> None:
    weight = model.blocks[0].get_parameter("attention.out_proj.weight")
    weight.data = -weight.data


def load(model: TinyTransformerLM) -> None:
    model.load_state_dict(random_model(1, **MODERN).state_dict())


def an_optimizer_step(model: TinyTransformerLM) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.tensor([[1, 2, 3]])).square().sum().backward()
    optimizer.step()


def another_eps(model: TinyTransformerLM) -> None:
    model.blocks[0].get_submodule("attention_norm").eps = 0.5  # pyright: ignore


def another_dtype(model: TinyTransformerLM) -> None:
    model.double()


def another_layer(model: TinyTransformerLM) -> None:
    linear = torch.nn.Linear(16, 16, bias=False)
    model.blocks[1].get_submodule("attention").out_proj = linear.eval()  # pyright: ignore


CHANGES = (in_place, through_data, new_data, load, an_optimizer_step)
MORE = (another_eps, another_dtype, another_layer)


@pytest.mark.parametrize("change", [*CHANGES, *MORE], ids=lambda change: change.__name__)
def test_a_changed_model_is_prepared_anew(change: Callable[[TinyTransformerLM], None]) -> None:
    model = random_model(**MODERN)
    assert_decodes_as_the_model(model)
    first = prepared_weights(model)
    change(model)
    assert prepared_weights(model) is not first
    assert_decodes_as_the_model(model)


def test_inference_tensors_which_count_no_changes_are_never_kept() -> None:
    with torch.inference_mode():
        model = random_model(**MODERN)
        first = prepared_weights(model)
        assert prepared_weights(model) is not first
        assert_decodes_as_the_model(model)
    assert model not in module._kept


def test_what_was_prepared_goes_with_its_model() -> None:
    model = random_model()
    prepared = weakref.ref(prepared_weights(model))
    assert prepared() is not None
    del model
    gc.collect()
    assert prepared() is None

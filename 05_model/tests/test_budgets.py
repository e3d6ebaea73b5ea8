"""Parameters, operations and memory on paper, against the real modules."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import budgets
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.kv_cache import KVCache

SMALL = ModelConfig(11, max_seq_len=8, d_model=24, n_layers=2, n_heads=4, d_ff=20)
MODERN = replace(
    *(SMALL,),
    norm="rmsnorm",
    activation="swiglu",
    position="rope",
    n_kv_heads=2,
    bias=False,
    tie_weights=False,
)
CONFIGS = {
    "classic": SMALL,
    "modern": MODERN,
    "post-norm": replace(SMALL, norm_placement="post", position="sinusoidal"),
    "gated with biases": replace(SMALL, activation="swiglu", n_kv_heads=1, tie_weights=False),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_parameters_of_each_kind_are_those_of_the_module(config):
    model = TinyTransformerLM(config)
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    kinds = budgets.parameters_by_kind(config)

    def total(part: str) -> int:
        return sum(count for name, count in counts.items() if part in name)

    assert kinds["norms"] == total("norm")
    assert kinds["attention"] == total(".attention.")
    assert kinds["feed-forward"] == total(".feed_forward.")
    assert kinds["token embedding"] == total("token_embedding")
    assert kinds["positions"] == total("position_embedding")
    assert kinds["unembedding"] == total("unembedding")
    assert budgets.count_parameters(config) == sum(counts.values())


@pytest.mark.parametrize("T", [1, 5, 8])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_operations_are_those_that_pytorch_counts(config, T):
    model = TinyTransformerLM(config)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, T, dtype=torch.long))
    assert counter.get_total_flops() == budgets.forward_flops(config, T)


def test_the_backward_pass_costs_twice_the_forward_pass():
    model, tokens = TinyTransformerLM(SMALL), torch.zeros(1, 8, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    assert counter.get_total_flops() == budgets.training_flops(SMALL, 8)


def kept_values(config: ModelConfig, B: int, T: int) -> int:
    """Values that autograd keeps while the fused blocks run forward."""
    model = TinyTransformerLM(config, Parts.fused())
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // 4
        saved.append(tensor)  # so that its memory isn't used again
        return tensor

    saved: list[Tensor] = []
    x = torch.randn(B, T, config.d_model, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        for block in model.blocks:
            x = block(x, model.causal[:T, :T], model.parts.attention)
    return sum(kept.values())


@pytest.mark.parametrize(("d_model", "n_heads", "T"), [(32, 2, 16), (64, 4, 32)])
def test_the_activations_are_those_that_autograd_keeps(d_model, n_heads, T):
    config = ModelConfig(11, max_seq_len=T, d_model=d_model, n_layers=2, n_heads=n_heads)
    # What does not grow with the batch, weights and masks, cancels in the difference.
    per_sequence = (kept_values(config, 5, T) - kept_values(config, 2, T)) // 3
    assert per_sequence == budgets.activation_values(config, T)


def test_adam_holds_two_more_values_per_parameter():
    model = TinyTransformerLM(SMALL)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 8, dtype=torch.long)).sum().backward()
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values()]
    averages = sum(value.numel() for value in held if value.dim() > 0)
    gradients = sum(p.grad.numel() for p in model.parameters() if p.grad is not None)
    weights = sum(p.numel() for p in model.parameters())
    assert 4 * (averages + gradients + weights) == budgets.training_state_bytes(SMALL)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_cache_is_as_large_as_it_says(config):
    cache = KVCache(config, batch_size=3)
    size = cache.keys.nbytes + cache.values.nbytes
    assert budgets.cache_bytes(config, 3, config.max_seq_len) == size


def test_real_models_have_the_parameters_that_their_authors_give():
    assert budgets.count_parameters(budgets.GPT_2) == 124_439_808
    assert budgets.count_parameters(budgets.LLAMA_3_8B) == 8_030_261_248


def test_the_program_prints_three_budgets(call_program):
    outcome = call_program(budgets.main)
    assert outcome.code == 0
    assert "124,439,808" in outcome.out

"""The whole model against PyTorch's layers; causality, the cache and the initial weights."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import scaled_dot_product_attention
from initialization import initialize_
from parts import Parts
from positional_embeddings import sinusoidal_encoding
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError
from utils.kv_cache import KVCache
from utils.shape_checker import ShapeError

B, T, V = 3, 5, 11
SMALL = ModelConfig(vocab_size=V, max_seq_len=8, d_model=24, n_layers=2, n_heads=4, d_ff=20)
MODERN = {
    "norm": "rmsnorm",
    "activation": "swiglu",
    "position": "rope",
    "n_kv_heads": 2,
    "bias": False,
    "tie_weights": False,
}
POSITIONS = ("learned", "sinusoidal", "rope", "alibi")
NORMS = ("layernorm", "rmsnorm")
ACTIVATIONS = ("gelu", "relu2", "swiglu")


def fresh_model(parts: Parts | None = None, seed: int = 0, **changes: Any) -> TinyTransformerLM:
    return TinyTransformerLM(replace(SMALL, **changes), parts, seed)


def random_model(parts: Parts | None = None, **changes: Any) -> TinyTransformerLM:
    """A small float64 model whose weights, biases and norms are far from their initial values."""
    model = fresh_model(parts, **changes).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return model.eval()


def random_tokens(n_rows: int = B, length: int = T) -> Tensor:
    return torch.randint(V, (n_rows, length))


# --- the same computation with PyTorch's layers ---


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_classic_model_is_a_stack_of_pytorchs_layers(bias, placement, position):
    model = random_model(bias=bias, norm_placement=placement, position=position)
    weights, tokens = model.state_dict(), random_tokens()
    x = weights["token_embedding.weight"][tokens]
    if position == "learned":
        x = x + weights["position_embedding.weight"][:T]
    else:  # Vaswani et al. 2017, section 3.4: tokens are scaled by sqrt(d_model)
        x = x * math.sqrt(model.config.d_model) + sinusoidal_encoding(T, model.config.d_model)
    hidden = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
    for layer in range(model.config.n_layers):
        x = torch_layer(weights, layer, model.config)(x, src_mask=hidden)
    if placement == "pre":
        norm = weights["final_norm.weight"], weights.get("final_norm.bias")
        x = F.layer_norm(x, (model.config.d_model,), *norm)
    expected = x @ weights["token_embedding.weight"].T
    torch.testing.assert_close(model(tokens), expected, rtol=1e-10, atol=1e-10)


def torch_layer(
    weights: dict[str, Tensor], layer: int, config: ModelConfig
) -> nn.TransformerEncoderLayer:
    """PyTorch's encoder layer with the weights of one of our blocks."""
    kinds = ("weight", "bias") if config.bias else ("weight",)
    names = {
        "attention.out_proj": "self_attn.out_proj",
        "feed_forward.up_proj": "linear1",
        "feed_forward.down_proj": "linear2",
        "attention_norm": "norm1",
        "feed_forward_norm": "norm2",
    }
    block = f"blocks.{layer}"
    state = {
        f"{theirs}.{kind}": weights[f"{block}.{ours}.{kind}"]
        for (ours, theirs), kind in product(names.items(), kinds)
    }
    for kind in kinds:
        projections = [weights[f"{block}.attention.{x}_proj.{kind}"] for x in "qkv"]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(projections)
    twin = nn.TransformerEncoderLayer(
        config.d_model,
        config.n_heads,
        config.ff_width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=config.norm_placement == "pre",
        bias=config.bias,
        dtype=torch.float64,
    )
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize("qk_norm", [False, True])
def test_the_modern_model_is_llama_written_with_pytorchs_functions(qk_norm):
    model = random_model(**MODERN, qk_norm=qk_norm)
    weights, tokens = model.state_dict(), random_tokens()
    x = F.embedding(tokens, weights["token_embedding.weight"])
    for layer in range(model.config.n_layers):
        block = {
            name.removeprefix(f"blocks.{layer}."): value
            for name, value in weights.items()
            if name.startswith(f"blocks.{layer}.")
        }
        x = llama_block(block, x, model.config.n_heads, qk_norm)
    x = F.rms_norm(x, x.shape[-1:], weights["final_norm.weight"], 1e-5)
    expected = x @ weights["unembedding.weight"].T
    # The tolerance is that of the model's cosines and sines, which are float32.
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)


def llama_block(block: dict[str, Tensor], x: Tensor, n_heads: int, qk_norm: bool) -> Tensor:
    """Touvron et al. 2023, section 2.2, with grouped queries."""
    d_head = x.size(-1) // n_heads
    y = F.rms_norm(x, x.shape[-1:], block["attention_norm.weight"], 1e-5)
    q, k, v = (
        (y @ block[f"attention.{name}_proj.weight"].T).unflatten(-1, (-1, d_head)).transpose(1, 2)
        for name in "qkv"
    )
    if qk_norm:
        q, k = F.rms_norm(q, (d_head,), eps=1e-5), F.rms_norm(k, (d_head,), eps=1e-5)
    y = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True, enable_gqa=True)
    x = x + y.transpose(1, 2).flatten(2) @ block["attention.out_proj.weight"].T
    y = F.rms_norm(x, x.shape[-1:], block["feed_forward_norm.weight"], 1e-5)
    gate = F.silu(y @ block["feed_forward.gate_proj.weight"].T)
    up = y @ block["feed_forward.up_proj.weight"].T
    return x + (gate * up) @ block["feed_forward.down_proj.weight"].T


def rotate(x: Tensor) -> Tensor:
    """Rotary positions as complex numbers: feature i with feature i + d_head / 2."""
    half = x.size(-1) // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(x.size(-2), dtype=torch.float64)[:, None] * frequencies
    rotated = torch.complex(x[..., :half], x[..., half:]) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.cat((rotated.real, rotated.imag), dim=-1)


@pytest.mark.parametrize("n_heads", [3, 4])
def test_alibi_is_a_penalty_on_the_scores(n_heads):
    """Each layer's mask is minus slope times distance, and -inf for later keys."""
    masks = []

    def attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        masks.append(mask)
        return scaled_dot_product_attention(q, k, v, mask)

    parts = replace(Parts.reference(), attention=attention)
    random_model(parts, position="alibi", n_heads=n_heads)(random_tokens())
    assert len(masks) == 2
    i, j = torch.arange(T)[:, None], torch.arange(T)
    slopes = {3: [2**-4, 2**-8, 2**-2], 4: [2**-2, 2**-4, 2**-6, 2**-8]}[n_heads]
    for head, slope in enumerate(slopes):
        expected = (slope * (j - i)).double().masked_fill(j > i, -math.inf)
        for mask in masks:
            torch.testing.assert_close(mask[0, head], expected)


# --- properties of every configuration ---


@pytest.mark.parametrize("n_kv_heads", [None, 2, 1])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_token_affects_its_own_and_later_positions_only(
    position, norm, placement, activation, n_kv_heads
):
    model = random_model(
        position=position,
        norm=norm,
        norm_placement=placement,
        activation=activation,
        n_kv_heads=n_kv_heads,
    )
    t, tokens = 2, random_tokens()
    changed = tokens.clone()
    changed[:, t] = (tokens[:, t] + 1) % V
    with torch.no_grad():
        difference = (model(changed) - model(tokens)).abs().amax(-1)  # (B, T)
    assert difference[:, :t].max() < 1e-12
    assert difference[:, t:].min() > 1e-6


@pytest.mark.parametrize("position", POSITIONS)
def test_every_position_scheme_distinguishes_the_order_of_earlier_tokens(position):
    """One layer of attention without positions is invariant to the order of the keys."""
    model, tokens = random_model(position=position, n_layers=1), torch.tensor([[1, 2, 3, 4, 5]])
    swapped = torch.tensor([[2, 1, 3, 4, 5]])
    difference = (model(tokens) - model(swapped))[0, -1].abs().max()
    assert difference > 1e-4


@pytest.mark.parametrize("changes", [{}, MODERN, {"position": "alibi", "norm_placement": "post"}])
def test_rows_of_a_batch_are_independent(changes):
    model, tokens = random_model(**changes), random_tokens()
    alone = torch.cat([model(row[None]) for row in tokens])
    torch.testing.assert_close(model(tokens), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("changes", [{}, MODERN, {"position": "alibi", "norm_placement": "post"}])
def test_every_parameter_gets_a_gradient(changes):
    """Except the keys' bias, which adds the same value to every score of a row."""
    model, tokens = random_model(**changes), random_tokens()
    F.cross_entropy(model(tokens).transpose(1, 2), tokens.roll(-1, 1)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or name.endswith("k_proj.bias"), name


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("length", [1, 8])
def test_one_token_and_a_full_context_both_fit(length, position):
    logits = random_model(position=position)(random_tokens(length=length))
    assert logits.shape == (B, length, V)
    assert logits.dtype == torch.float64
    assert logits.isfinite().all()


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(UsageError, match="9 tokens do not fit in the context of 8"):
        random_model()(random_tokens(length=9))


def test_tokens_without_a_batch_axis_are_refused():
    with pytest.raises(ShapeError, match=r"expected \(B, T\)"):
        random_model()(random_tokens()[0])


def test_dropout_is_off_in_evaluation_mode():
    model, tokens = random_model(dropout=0.5), random_tokens()
    assert torch.equal(model(tokens), random_model()(tokens))
    assert not torch.equal(model.train()(tokens), random_model()(tokens))


@pytest.mark.parametrize("tie_weights", [True, False])
def test_tied_weights_are_one_parameter(tie_weights):
    model = random_model(tie_weights=tie_weights)
    assert (model.output_weight is model.token_embedding.weight) == tie_weights
    assert ("unembedding.weight" in model.state_dict()) != tie_weights


def test_a_checkpoint_holds_parameters_only():
    for position in POSITIONS:
        model = random_model(position=position)
        assert model.state_dict().keys() == dict(model.named_parameters()).keys()


# --- the cache ---


@pytest.mark.parametrize("n_kv_heads", [None, 2])
@pytest.mark.parametrize("position", POSITIONS)
def test_decoding_in_pieces_gives_the_logits_of_one_pass(position, n_kv_heads):
    model, tokens = random_model(position=position, n_kv_heads=n_kv_heads), random_tokens(length=8)
    cache = KVCache(model.config, B, torch.float64)
    pieces = [model(tokens[:, t : t + n], cache) for t, n in ((0, 3), (3, 1), (4, 2), (6, 1))]
    expected = model(tokens)[:, :7]
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_kv_heads", [None, 2])
@pytest.mark.parametrize("position", POSITIONS)
def test_prompts_of_unequal_length_continue_as_each_does_alone(position, n_kv_heads):
    model = random_model(position=position, n_kv_heads=n_kv_heads)
    lengths, prompts, more = [4, 1, 3], random_tokens(length=4), random_tokens(length=3)
    cache = KVCache(model.config, B, torch.float64)
    model(prompts, cache)
    cache.truncate(lengths)
    together = torch.cat([model(more[:, :2], cache), model(more[:, 2:], cache)], dim=1)
    for row, length in enumerate(lengths):
        alone = model(torch.cat([prompts[row, :length], more[row]])[None])[0, length:]
        torch.testing.assert_close(together[row], alone, rtol=1e-12, atol=1e-12)


def test_tokens_beyond_a_full_cache_are_refused():
    model = random_model()
    cache = KVCache(model.config, B, torch.float64)
    model(random_tokens(length=7), cache)
    with pytest.raises(ValueError, match="2 more do not fit"):
        model(random_tokens(length=2), cache)


# --- initial weights ---


@pytest.mark.parametrize("changes", [{}, MODERN, {"norm_placement": "post", "tie_weights": False}])
def test_the_initializer_sets_every_parameter(changes):
    fresh, model = fresh_model(seed=3, **changes), fresh_model(seed=4, **changes)
    for parameter in model.parameters():
        nn.init.constant_(parameter, math.nan)
    initialize_(model, seed=3)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, fresh.get_parameter(name)), name


def test_another_seed_draws_other_weights():
    one, other = fresh_model(seed=0), fresh_model(seed=1)
    for name in ("token_embedding.weight", "blocks.1.attention.q_proj.weight"):
        assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_the_global_generator_does_not_matter():
    torch.manual_seed(5)
    one = fresh_model()
    torch.manual_seed(6)
    other = fresh_model()
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_matrices_start_small_norms_at_one_and_residual_projections_at_zero():
    model = fresh_model(vocab_size=65, max_seq_len=64, d_model=128, d_ff=512, tie_weights=False)
    zero_init = ("out_proj.weight", "down_proj.weight", "unembedding.weight", "bias")
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.endswith(zero_init):
            assert not values.any(), name
        elif "norm" in name:
            assert (values == 1).all(), name
        else:
            assert values.std().item() == pytest.approx(0.02, rel=0.05), name
            assert values.mean().item() == pytest.approx(0, abs=0.001), name


@pytest.mark.parametrize("changes", [{}, MODERN, {"norm_placement": "post"}])
def test_the_first_loss_of_an_untied_model_is_log_v(changes):
    logits = fresh_model(**changes | {"tie_weights": False})(random_tokens())
    loss = F.cross_entropy(logits.transpose(1, 2), random_tokens())
    assert loss.item() == pytest.approx(math.log(V), rel=1e-6)


def test_a_fresh_pre_norm_block_is_the_identity():
    model = fresh_model()
    x = torch.randn(B, T, model.config.d_model)
    for block in model.blocks:
        assert torch.equal(block(x), x)

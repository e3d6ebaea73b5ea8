"""Prefix masks, encoders, corruption, encoder-decoders, first weights: what each one promises."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import corruption
import encoder
import encoder_decoder
import initialization
import pattern_lab
import prefix_lm
from attention import causal_mask
from encoder import Encoder
from encoder_decoder import CrossAttention, DecoderBlock, EncoderDecoder, shift_right
from feedforward import FeedForward
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from parts import Parts
from prefix_lm import PrefixLM, prefix_mask
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError
from utils.kv_cache import KVCache

B, T, V = 3, 6, 11
SMALL = ModelConfig(V, max_seq_len=8, d_model=24, n_layers=2, n_heads=4, d_ff=20)


def shaken(model: Any) -> Any:
    """The model in float64, its weights far from where training starts."""
    for parameter in model.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def noticed(model: Callable[[Tensor], Tensor], tokens: Tensor, changed: int) -> list[int]:
    """The positions whose logits change with one token."""
    other = tokens.clone()
    other[:, changed] = (other[:, changed] + 1) % V
    difference = (model(tokens) - model(other)).abs().amax((0, 2))
    return [t for t, size in enumerate(difference.tolist()) if size > 1e-9]


# --- prefix language model ---


@pytest.mark.parametrize("n_prefix", range(T + 1))
def test_the_prefix_mask_is_the_definition(n_prefix):
    rows = [[j <= i or j < n_prefix for j in range(T)] for i in range(T)]
    assert torch.equal(prefix_mask(T, n_prefix), torch.tensor(rows))


def test_without_a_prompt_it_is_the_causal_mask():
    assert torch.equal(prefix_mask(T, 0), causal_mask(T))
    assert prefix_mask(T, T).all()


@pytest.mark.parametrize("position", ["learned", "rope", "sinusoidal"])
def test_only_the_prompt_is_read_in_both_directions(position):
    model = shaken(PrefixLM(replace(SMALL, position=position), n_prefix=3))
    tokens = torch.randint(V, (B, T))
    assert noticed(model, tokens, 2) == [0, 1, 2, 3, 4, 5]
    assert noticed(model, tokens, 4) == [4, 5]


def test_a_model_without_a_prompt_is_the_causal_model():
    config, tokens = SMALL, torch.randint(V, (B, T))
    torch.testing.assert_close(PrefixLM(config, 0)(tokens), TinyTransformerLM(config)(tokens))


@pytest.mark.parametrize("build", [lambda config: PrefixLM(config, 2), Encoder])
def test_alibi_and_caches_are_refused(build):
    with pytest.raises(UsageError, match="position may be learned, sinusoidal or rope"):
        build(replace(SMALL, position="alibi"))
    with pytest.raises(UsageError, match="takes no cache"):
        build(SMALL)(torch.zeros(1, 2, dtype=torch.long), KVCache(SMALL, 1))


# --- encoder ---


def test_every_position_of_an_encoder_sees_every_other():
    model = shaken(Encoder(SMALL))
    tokens = torch.randint(V, (B, T))
    assert noticed(model, tokens, 5) == noticed(model, tokens, 0) == list(range(T))


def test_the_encoder_is_a_stack_of_pytorchs_encoder_layers():
    model = shaken(Encoder(SMALL))
    tokens = torch.randint(V, (B, T))
    x = model.token_embedding(tokens) + model.position_embedding.weight[:T]
    for block in model.blocks:
        x = block(x)
    expected = F.linear(model.final_norm(x), model.token_embedding.weight)
    torch.testing.assert_close(model(tokens), expected)


def test_tokens_are_hidden_replaced_or_kept():
    tokens = torch.arange(6)[None]
    chosen = torch.tensor([[True, True, True, True, False, False]])
    draws = torch.tensor([[0.0, 0.7999, 0.8, 0.9, 0.1, 0.85]], dtype=torch.float64)
    replacements = torch.full_like(tokens, 50)
    found = corruption.mask_tokens(tokens, chosen, draws, replacements, 99)
    assert found.tolist() == [[99, 99, 50, 3, 4, 5]]
    assert tokens.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_batches_of_the_encoder_hide_15_percent():
    generator = torch.Generator().manual_seed(0)
    corrupted, tokens, chosen = encoder.draw_batch(2000, generator)
    assert torch.equal(tokens, tokens.flip(1))
    assert math.isclose(chosen.float().mean().item(), 0.15, abs_tol=0.01)
    assert math.isclose((corrupted == encoder.MASK).float().mean().item(), 0.12, abs_tol=0.01)
    assert torch.equal(corrupted[~chosen], tokens[~chosen])


def test_a_few_steps_of_training_lower_the_loss_of_an_encoder():
    config = replace(encoder.CONFIG, d_model=16, n_layers=1, n_heads=2)
    losses = encoder.train(Encoder(config, Parts.fused()), n_steps=15)
    assert losses[-1] < losses[0]
    first, second = encoder.accuracy_by_half(Encoder(config), n_rows=50)
    assert 0 <= first <= 1 and 0 <= second <= 1


# --- span corruption ---


def test_spans_become_sentinels_and_move_to_the_target():
    source, target = corruption.corrupt_spans(torch.arange(10), [(1, 2), (7, 2)], 20)
    assert source.tolist() == [0, 20, 3, 4, 5, 6, 21, 9]
    assert target.tolist() == [20, 1, 2, 21, 7, 8, 22]


def test_gaps_may_be_at_the_ends_or_missing():
    source, target = corruption.corrupt_spans(torch.arange(4), [(0, 1), (2, 2)], 20)
    assert (source.tolist(), target.tolist()) == ([20, 1, 21], [20, 0, 21, 2, 3, 22])
    source, target = corruption.corrupt_spans(torch.arange(4, dtype=torch.int32), [], 20)
    assert (source.tolist(), target.tolist()) == ([0, 1, 2, 3], [20])
    assert source.dtype == target.dtype == torch.int32


# --- encoder-decoder ---


def test_the_decoder_block_is_pytorchs():
    ours = DecoderBlock(
        MultiHeadAttention(12, 3),
        CrossAttention(12, 3),
        FeedForward(12, 20),
        *(LayerNorm(12) for _ in range(3)),
    )
    shaken(ours)
    theirs = nn.TransformerDecoderLayer(
        *(12, 3, 20),
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    weights = ours.state_dict()
    state = {}
    for kind in ("weight", "bias"):
        for name, other in (("attention", "self_attn"), ("cross_attention", "multihead_attn")):
            rows = [weights[f"{name}.{one}_proj.{kind}"] for one in "qkv"]
            state[f"{other}.in_proj_{kind}"] = torch.cat(rows)
            state[f"{other}.out_proj.{kind}"] = weights[f"{name}.out_proj.{kind}"]
        state[f"linear1.{kind}"] = weights[f"feed_forward.up_proj.{kind}"]
        state[f"linear2.{kind}"] = weights[f"feed_forward.down_proj.{kind}"]
        for number, name in enumerate(("attention", "cross_attention", "feed_forward"), start=1):
            state[f"norm{number}.{kind}"] = weights[f"{name}_norm.{kind}"]
    theirs.load_state_dict(state)
    x = torch.randn(B, T, 12, dtype=torch.float64)
    context = torch.randn(B, 4, 12, dtype=torch.float64)
    expected = theirs(x, context, tgt_mask=~causal_mask(T))
    torch.testing.assert_close(ours(x, context, causal_mask(T)), expected)


@pytest.mark.parametrize("parts", [Parts.reference(), Parts.fused()], ids=["reference", "fused"])
def test_the_decoder_sees_all_of_the_source_and_the_past_of_the_target(parts):
    model = shaken(EncoderDecoder(SMALL, parts))
    source, inputs = torch.randint(V, (B, 5)), torch.randint(V, (B, T))
    assert model(source, inputs).shape == (B, T, V)

    def with_target(tokens: Tensor) -> Tensor:
        return model(source, tokens)

    def with_source(tokens: Tensor) -> Tensor:
        return model(tokens, inputs)

    assert noticed(with_target, inputs, 2) == [2, 3, 4, 5]
    assert noticed(with_source, source, 4) == list(range(T))


def test_both_engines_give_the_same_logits():
    reference, fused = EncoderDecoder(SMALL), EncoderDecoder(SMALL, Parts.fused())
    source, inputs = torch.randint(V, (B, 5)), torch.randint(V, (B, T))
    torch.testing.assert_close(reference(source, inputs), fused(source, inputs))


def test_gradients_reach_the_encoder_from_the_first_step():
    model = EncoderDecoder(SMALL)
    source, inputs = torch.randint(V, (B, 5)), torch.randint(V, (B, T))
    loss = F.cross_entropy(model(source, inputs).flatten(0, 1), inputs.flatten())
    loss.backward()
    gradient = model.encoder[0].attention.out_proj.weight.grad  # pyright: ignore
    assert gradient is not None and gradient.abs().max() > 0  # pyright: ignore


def test_the_first_weights_depend_on_the_seed_only():
    torch.manual_seed(1)
    one = EncoderDecoder(SMALL, seed=3).state_dict()
    torch.manual_seed(2)
    other = EncoderDecoder(SMALL, Parts.fused(), seed=3).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_target_is_shifted_behind_the_start_token():
    target = torch.tensor([[5, 6, 7], [1, 2, 3]])
    assert shift_right(target, 9).tolist() == [[9, 5, 6], [9, 1, 2]]


@pytest.mark.parametrize(
    "model",
    [
        EncoderDecoder(encoder_decoder.CONFIG, Parts.fused()),
        TinyTransformerLM(encoder_decoder.CONFIG, Parts.fused()),
    ],
    ids=["encoder-decoder", "decoder only"],
)
def test_a_few_steps_of_training_lower_the_loss(model):
    losses = encoder_decoder.train(model, n_steps=15)
    assert losses[-1] < losses[0]
    assert 0 <= encoder_decoder.accuracy(model, n_rows=20) <= 1


# --- toy tasks ---


def test_jumps_lead_where_they_say():
    source, target = pattern_lab.jumps(4, 7, torch.Generator().manual_seed(0))
    for row, ends in zip(source.tolist(), target.tolist(), strict=True):
        assert ends == [row[row[cell]] for cell in range(7)]


def test_sorted_letters_are_in_order():
    source, target = pattern_lab.sorting(4, 7, torch.Generator().manual_seed(0))
    assert target.tolist() == [sorted(row) for row in source.tolist()]


def test_the_loss_of_the_next_token_is_moved_by_one():
    logits, tokens = torch.randn(B, T, V), torch.randint(V, (B, T))
    losses = [
        F.cross_entropy(logits[b, t], tokens[b, t + 1]) for b in range(B) for t in range(T - 1)
    ]
    found = pattern_lab.next_token_loss(logits, tokens)
    torch.testing.assert_close(found, torch.stack(losses).mean())


# --- the first weights ---


@pytest.mark.parametrize("tied", [True, False])
def test_initial_weights_are_those_of_the_model(tied):
    model = TinyTransformerLM(replace(SMALL, tie_weights=tied), seed=5)
    values = initialization.initial_weights(initialization.shapes_of(model), seed=5)
    assert values.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert torch.equal(values[name], parameter)


def test_a_models_random_weights_are_drawn_in_alphabetical_order_from_one_generator():
    model = TinyTransformerLM(replace(SMALL, tie_weights=False), seed=5)
    generator = torch.Generator().manual_seed(5)
    drawn = ("k_proj.weight", "q_proj.weight", "v_proj.weight", "up_proj.weight")
    names = [name for name, _ in model.named_parameters() if name.endswith(drawn)]
    names += ["position_embedding.weight", "token_embedding.weight"]
    for name in sorted(names):
        parameter = model.get_parameter(name)
        assert torch.equal(parameter, 0.02 * torch.randn(parameter.shape, generator=generator))


def test_the_first_loss_of_an_untied_model_is_exactly_log_v():
    model = TinyTransformerLM(replace(SMALL, tie_weights=False))
    assert math.isclose(initialization.first_loss(model), math.log(V), abs_tol=1e-6)


def test_pytorchs_default_is_far_from_it():
    model = initialization.pytorch_default_(TinyTransformerLM(SMALL))
    assert initialization.first_loss(model) > 3 * math.log(V)


@pytest.mark.parametrize("module", [prefix_lm, corruption, pattern_lab, initialization])
def test_the_programs_run(call_program, module):
    assert call_program(module.main).code == 0

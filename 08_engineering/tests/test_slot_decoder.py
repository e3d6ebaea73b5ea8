"""slot_decoder.py: the model's logits for rows at different positions, whatever the others are."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from parts import Parts
from plain_slots import slot_model
from slot_decoder import BLOCK, GROUP, SlotDecoder, rounded_up
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.kv_cache import KVCache

V, T = 32, 64
SMALL = ModelConfig(vocab_size=V, max_seq_len=T, d_model=32, n_layers=2, n_heads=2)
MODERN: dict[str, Any] = {
    **{"norm": "rmsnorm", "activation": "relu2", "position": "rope"},
    **{"qk_norm": True, "bias": False, "tie_weights": False},
}
SUPPORTED: dict[str, dict[str, Any]] = {
    "classic": {},
    "modern": MODERN,
    "rope without qk-norm": {**MODERN, "qk_norm": False},
    "qk-norm without rope": {**MODERN, "position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "one head": {**MODERN, "n_heads": 1},
    "a context that is no multiple of the block": {**MODERN, "max_seq_len": T - 3},
}
OTHERS: dict[str, dict[str, Any]] = {
    "grouped queries": {**MODERN, "n_kv_heads": 1},
    "alibi": {"position": "alibi"},
    "post-norm": {"norm_placement": "post"},
    "swiglu": {**MODERN, "activation": "swiglu"},
}


def random_model(changes: dict[str, Any]) -> TinyTransformerLM:
    """A model whose weights are far from their initial values."""
    model = TinyTransformerLM(replace(SMALL, **changes), Parts.fused())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@torch.no_grad()
def filled_cache(model: TinyTransformerLM, sequences: list[list[int]], n_rows: int) -> KVCache:
    """A cache in which the model itself has written each sequence but its last token."""
    cache = KVCache(model.config, n_rows)
    for row, sequence in enumerate(sequences):
        if len(sequence) > 1:
            one = KVCache(model.config, 1)
            model(torch.tensor([sequence[:-1]]), one)
            cache.replace_rows([row], one)
    return cache


def random_sequences(*lengths: int) -> list[list[int]]:
    """Sequences of these lengths."""
    return [torch.randint(V, (length,)).tolist() for length in lengths]


def newest(sequences: list[list[int]], n_rows: int) -> Tensor:
    """The last token of each sequence, and zeros for the rows without one."""
    return torch.tensor([s[-1] for s in sequences] + [0] * (n_rows - len(sequences)))


@pytest.mark.parametrize("changes", (SUPPORTED | OTHERS).values(), ids=SUPPORTED | OTHERS)
def test_rows_of_any_length_get_the_logits_of_a_fresh_pass(changes: dict[str, Any]) -> None:
    model = random_model(changes)
    sequences = random_sequences(1, 7, 33, 59, 2)
    cache = filled_cache(model, sequences, 8)
    slots = slot_model(model, model.config, cache)
    assert isinstance(slots, SlotDecoder) == (changes in SUPPORTED.values())
    for _ in range(2):  # the second step reads what the first has written
        with torch.no_grad():
            actual = slots.decode(newest(sequences, 8))[:5]
            expected = [model(torch.tensor([sequence]))[0, -1] for sequence in sequences]
        torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-4, atol=1e-4)
        assert cache.lengths[:5] == [len(sequence) for sequence in sequences]
        cache.truncate([*cache.lengths[:5], 0, 0, 0])
        for row, sequence in enumerate(sequences):
            sequence.append((3 * row) % V)


@pytest.mark.parametrize("changes", SUPPORTED.values(), ids=SUPPORTED)
def test_a_row_has_the_same_bits_alone_and_in_company(changes: dict[str, Any]) -> None:
    model = random_model(changes)
    sequences = random_sequences(3, 40, 17, 60, 1, 26, 9)
    crowd = filled_cache(model, sequences, 2 * GROUP)
    together = SlotDecoder(model, crowd).decode(newest(sequences, 2 * GROUP))
    for row, sequence in enumerate(sequences):
        alone = filled_cache(model, [sequence], GROUP)
        by_itself = SlotDecoder(model, alone).decode(newest([sequence], GROUP))[0]
        assert torch.equal(by_itself, together[row])


@pytest.mark.parametrize("changes", (SUPPORTED | OTHERS).values(), ids=SUPPORTED | OTHERS)
def test_prefill_writes_the_keys_and_values_of_a_fresh_pass(changes: dict[str, Any]) -> None:
    model = random_model(changes)
    windows = dict(zip((4, 0, 5, 2), random_sequences(1, 33, 59, 16), strict=True))
    cache = KVCache(model.config, 6)
    cache.lengths = [7] * 6
    slots = slot_model(model, model.config, cache)
    slots.prefill({**windows, 3: []})
    assert cache.lengths == [33, 7, 16, 0, 1, 59]
    for row, window in windows.items():
        fresh = KVCache(model.config, 1)
        with torch.no_grad():
            model(torch.tensor([window]), fresh)
        for ours, theirs in ((cache.keys, fresh.keys), (cache.values, fresh.values)):
            actual, expected = (kv[..., : len(window), :] for kv in (ours[:, row], theirs[:, 0]))
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert not cache.keys[:, 1].any()  # other rows are as they were


def test_a_step_may_use_the_first_rows_only() -> None:
    model = random_model(MODERN)
    sequences = random_sequences(3, 9)
    cache = filled_cache(model, sequences, 2 * GROUP)
    before = list(cache.lengths)
    logits = SlotDecoder(model, cache).decode(newest(sequences, GROUP))
    assert logits.shape == (GROUP, V)
    assert cache.lengths == [*(n + 1 for n in before[:GROUP]), *before[GROUP:]]


def test_a_full_row_is_refused_before_anything_is_written() -> None:
    model = random_model(MODERN)
    cache = KVCache(model.config, GROUP)
    cache.lengths = [T, 0, 0, 0]
    with pytest.raises(ValueError, match="64 positions"):
        SlotDecoder(model, cache).decode(torch.zeros(GROUP, dtype=torch.long))
    assert not cache.keys.any()


def test_rounding_up_gives_the_next_multiple() -> None:
    assert [rounded_up(n, BLOCK) for n in (0, 1, BLOCK, BLOCK + 1)] == [0, BLOCK, BLOCK, 2 * BLOCK]


def test_first_rows_of_a_cache_share_its_memory_and_not_its_lengths() -> None:
    cache = KVCache(SMALL, 3)
    rows = cache.first_rows(2)
    rows.keys += 1
    rows.advance(4)
    assert cache.keys[:, :2].all() and not cache.keys[:, 2].any()
    assert (cache.lengths, rows.lengths) == ([0, 0, 0], [4, 4])

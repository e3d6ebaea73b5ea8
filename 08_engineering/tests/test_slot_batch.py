"""slot_batch.py: each sequence gets the tokens that it would get alone, as others come and go."""

from typing import Any

import pytest
import torch
from test_slot_decoder import (  # pyright: ignore[reportMissingImports]
    MODERN,
    OTHERS,
    random_model,
    random_sequences,
)

from decoding_loop import generate_tokens
from greedy import greedy
from slot_batch import SlotBatch
from tiny_transformer_lm import TinyTransformerLM

SHORT: dict[str, Any] = {**MODERN, "max_seq_len": 24}


def alone(model: TinyTransformerLM, prompt: list[int], n_tokens: int) -> list[int]:
    """The greedy continuation by lesson 07's loop."""
    steps = generate_tokens(model, model.config, [prompt], n_tokens, greedy)
    return [token for (token,) in steps]


def run(batch: SlotBatch, arrivals: dict[int, tuple[list[int], int]]) -> dict[int, list[int]]:
    """Let sequences (prompt, tokens to generate) join at their step; returns what each got."""
    waiting, running = dict(arrivals), dict[int, int]()
    texts: dict[int, list[int]] = {}
    clock = 0
    while waiting or running:
        while waiting and batch.n_free() and min(waiting) <= clock:
            name = min(waiting)
            running[batch.join(waiting.pop(name)[0])] = name
            texts[name] = []
        clock += 1
        if not running:
            continue
        tokens = greedy(batch.logits()).tolist()
        for slot, token in zip(batch.occupied(), tokens, strict=True):
            name = running[slot]
            batch.append(slot, token)
            texts[name].append(token)
            if len(texts[name]) == arrivals[name][1]:
                batch.leave(slot)
                del running[slot]
    return texts


@pytest.mark.parametrize("changes", [SHORT, {**SHORT, **OTHERS["grouped queries"]}])
@pytest.mark.parametrize("n_slots", [1, 3, 8])
def test_sequences_that_come_and_go_get_their_own_tokens(
    changes: dict[str, Any], n_slots: int
) -> None:
    model = random_model({**changes, "max_seq_len": 24})
    lengths = (1, 5, 23, 24, 25, 60, 2)
    prompts = random_sequences(*lengths)
    arrivals = {3 * i: (prompt, 8 + 7 * i) for i, prompt in enumerate(prompts)}  # past the context
    texts = run(SlotBatch(model, model.config, n_slots), arrivals)
    for name, (prompt, n_tokens) in arrivals.items():
        assert texts[name] == alone(model, prompt, n_tokens)


def test_a_sequence_has_the_same_bits_alone_and_in_company() -> None:
    model = random_model(SHORT)
    prompts = random_sequences(3, 24, 11, 1, 40)
    together = SlotBatch(model, model.config, 8)
    by_itself = [SlotBatch(model, model.config, 4) for _ in prompts]
    for prompt, batch in zip(prompts, by_itself, strict=True):
        together.join(prompt)
        batch.join(prompt)
    for step in range(40):  # windows move at different steps
        crowd = together.logits()
        for row, batch in enumerate(by_itself):
            assert torch.equal(batch.logits()[0], crowd[row]), f"row {row}, step {step}"
            token = int(crowd[row].argmax())
            batch.append(0, token)
            together.append(row, token)


def test_a_slot_is_the_lowest_free_one_and_a_step_is_no_wider_than_needed() -> None:
    model = random_model(MODERN)
    batch = SlotBatch(model, model.config, 12)
    widths: list[int] = []
    step = batch.decode_step
    batch.decode_step = lambda tokens: (widths.append(len(tokens)), step(tokens))[1]
    assert [batch.join([1]) for _ in range(6)] == list(range(6))
    batch.logits()
    for slot in (1, 3, 4, 5):
        batch.leave(slot)
    batch.logits()
    assert batch.join([2]) == 1
    assert widths == [8, 4]
    assert (batch.occupied(), batch.n_free()) == ([0, 1, 2], 9)


def test_prefill_computes_each_prompt_once_and_a_moved_window_again() -> None:
    model = random_model(SHORT)  # a context of 24
    batch = SlotBatch(model, model.config, 4)
    batch.join(list(range(20)))
    counts = []
    for _ in range(6):
        batch.logits()
        counts.append(batch.n_prefilled)
        batch.append(0, 1)
    # 19 positions; the 25th token moves the window by 12, and 12 of its 13 are computed again
    assert counts == [19, 19, 19, 19, 19, 31]


def test_an_empty_prompt_and_a_full_batch_are_refused() -> None:
    model = random_model(MODERN)
    batch = SlotBatch(model, model.config, 1)
    with pytest.raises(ValueError, match="at least one token"):
        batch.join([])
    batch.join([1])
    with pytest.raises(ValueError, match="not in list"):
        batch.join([1])
    with pytest.raises(ValueError, match="slot 0 is free"):
        batch.leave(0)
        batch.append(0, 1)

"""Beam search for a batch of prompts, with a cache of keys and values.

    repeat:   logits  = decoder.logits()            one row per beam
              beams   = next_beams(beams, logits)   beam_search.py, for each prompt
              decoder.reorder(parents)              a beam continues the cache of its parent

A beam that is kept may extend any of the beams before it, so the rows of the cache change places
with their sequences. All prompts are decoded together: K rows for each. Rows that hold no live beam
repeat another one, and what they compute is not used.

Dimensions: B prompts, K beams for each, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import nn

from beam_search import (
    HasEnded,
    Hypothesis,
    check_n_beams,
    live_beams,
    never_ends,
    next_beams,
)
from decoding_loop import BatchDecoder, MakeDecodeStep, forward_step
from utils.config import ModelConfig
from utils.errors import run_program


@torch.inference_mode()
def beam_search_batch(
    model: nn.Module,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    n_beams: int,
    max_tokens: int,
    has_ended: HasEnded = never_ends,
    length_penalty: float = 1.0,
    use_cache: bool = True,
    make_decode_step: MakeDecodeStep = forward_step,
) -> list[list[Hypothesis]]:
    """`beam_search` for each prompt: at most n_beams hypotheses each, best first.

    Prompts may differ in length. Raises ValueError for an empty one, UsageError for n_beams < 1.
    """
    check_n_beams(n_beams)
    if not all(prompts):
        raise ValueError("every prompt needs at least one token to continue")
    rows = [list(prompt) for prompt in prompts for _ in range(n_beams)]  # B * K
    decoder = BatchDecoder(model, config, rows, use_cache, make_decode_step)
    beams = [[Hypothesis((), 0.0)] for _ in prompts]
    for _ in range(max_tokens):
        # A prompt whose beams have all ended waits for the others: it stays in the batch.
        if not any(live_beams(of_prompt) for of_prompt in beams):
            break
        logits = decoder.logits().view(len(prompts), n_beams, -1)  # (B, K, V)
        parents, tokens = [], []
        for b, of_prompt in enumerate(beams):
            live = logits[b, : len(live_beams(of_prompt))]  # the live beams come first
            beams[b], chosen = next_beams(of_prompt, live, n_beams, has_ended, length_penalty)
            n_unused = n_beams - len(chosen)
            # Rows are numbered over the batch: beam k of prompt b has row b K + k. Unused rows
            # repeat beam 0, so that each has a token to compute.
            parents += [b * n_beams + parent for parent in chosen + [0] * n_unused]
            tokens += [beam.tokens[-1] for beam in live_beams(beams[b])] + [0] * n_unused
        decoder.reorder(parents)  # before the new tokens: they continue their parents' rows
        for sequence, token in zip(decoder.sequences, tokens, strict=True):
            sequence.append(token)
    return beams


def main() -> None:
    """Search with a small untrained model, with the cache and without it."""
    from tiny_transformer_lm import TinyTransformerLM

    config = ModelConfig(vocab_size=10, max_seq_len=16, d_model=32, n_layers=2)
    model = TinyTransformerLM(config).eval()
    for parameter in model.parameters():  # initial weights would make all tokens equally likely
        parameter.data += 0.2 * torch.randn(parameter.shape)
    for use_cache in (True, False):
        (beams,) = beam_search_batch(model, config, [[1, 2, 3]], 3, 20, use_cache=use_cache)
        tokens = " ".join(map(str, beams[0].tokens))  # the best hypothesis comes first
        print(f"use_cache={use_cache!s:<5} log p = {beams[0].log_prob:.4f}  {tokens}")


if __name__ == "__main__":
    run_program(main)

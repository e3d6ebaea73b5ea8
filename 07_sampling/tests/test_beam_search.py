"""beam_search.py and beam_decoder.py: exhaustive search, greedy decoding, and each other."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from beam_decoder import beam_search_batch
from beam_search import (
    Hypothesis,
    NextLogits,
    beam_search,
    best_extensions,
    ends_with,
    length_normalized,
    never_ends,
)
from decoding_loop import generate_tokens
from greedy import greedy
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import CourseError, UsageError

V = 3
PENALTIES = pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0, -0.5])


def random_model(seed: int, vocab_size: int = V, spread: float = 1.5) -> NextLogits:
    """Logits that depend on the whole sequence and look random, as those of a model do."""

    def next_logits(sequences: list[list[int]]) -> Tensor:
        rows = []
        for tokens in sequences:
            mixed = np.random.SeedSequence([seed, len(tokens), *tokens])
            rows.append(np.random.default_rng(mixed).normal(size=vocab_size) * spread)
        return torch.from_numpy(np.stack(rows))

    return next_logits


def log_softmax(row: np.ndarray) -> np.ndarray:
    return row - row.max() - math.log(np.exp(row - row.max()).sum())


def log_prob_of(model: NextLogits, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """The logarithm of the probability of these tokens after the prompt, one by one."""
    total = 0.0
    for t, token in enumerate(tokens):
        total += log_softmax(model([[*prompt, *tokens[:t]]])[0].double().numpy())[token]
    return total


def all_complete(
    max_tokens: int, end: int | None, vocab_size: int = V
) -> list[tuple[tuple[int, ...], bool]]:
    """Every text: up to its first end token, or as long as allowed; and whether it has ended."""
    found = {}
    for tokens in itertools.product(range(vocab_size), repeat=max_tokens):
        if end in tokens:
            found[tokens[: tokens.index(end) + 1]] = True
        else:
            found[tokens] = False
    return list(found.items())


# --- the whole search ---------------------------------------------------------------------------


@PENALTIES
@pytest.mark.parametrize("end", [None, 0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_that_is_wide_enough_is_exhaustive_search(seed, end, length_penalty):
    model, prompt, max_tokens = random_model(seed), [1], 4
    has_ended = never_ends if end is None else ends_with([end])
    found = beam_search(model, prompt, V**max_tokens, max_tokens, has_ended, length_penalty)
    expected = [
        (log_prob_of(model, prompt, tokens) / len(tokens) ** length_penalty, tokens, ended)
        for tokens, ended in all_complete(max_tokens, end)
    ]
    expected.sort(reverse=True)
    assert [(beam.tokens, beam.ended) for beam in found] == [
        (tokens, ended) for _, tokens, ended in expected
    ]
    assert [beam.score(length_penalty) for beam in found] == pytest.approx(
        [score for score, _, _ in expected]
    )


@pytest.mark.parametrize("end", [None, 0, 2])
@pytest.mark.parametrize("seed", range(8))
def test_one_beam_is_greedy_decoding(seed, end):
    model, sequence = random_model(seed), [1]
    for _ in range(9):
        sequence.append(int(model([sequence])[0].argmax()))
        if sequence[-1] == end:
            break
    has_ended = never_ends if end is None else ends_with([end])
    (beam,) = beam_search(model, [1], 1, 9, has_ended)
    assert list(beam.tokens) == sequence[1:]
    assert beam.ended == (sequence[-1] == end)


def test_two_beams_find_what_greedy_decoding_cannot():
    first, second = [0.5, 0.4, 0.1], {0: [0.4, 0.3, 0.3], 1: [0.1, 0.9, 0.0], 2: [0.2, 0.2, 0.6]}

    def model(sequences: list[list[int]]) -> Tensor:
        rows = [second[tokens[0]] if tokens else first for tokens in sequences]
        return torch.tensor(rows).log()

    (one,) = beam_search(model, [], 1, 2)
    best, other = beam_search(model, [], 2, 2)
    assert (one.tokens, best.tokens, other.tokens) == ((0, 0), (1, 1), (0, 0))
    assert [math.exp(beam.log_prob) for beam in (one, best)] == pytest.approx([0.2, 0.36])


@PENALTIES
@pytest.mark.parametrize("n_beams", [1, 2, 3, 5])
def test_each_hypothesis_carries_the_probability_of_its_tokens(n_beams, length_penalty):
    model = random_model(7)
    beams = beam_search(model, [2, 1], n_beams, 6, ends_with([1]), length_penalty)
    assert len(beams) == n_beams
    assert len({beam.tokens for beam in beams}) == n_beams
    for beam in beams:
        assert beam.log_prob == pytest.approx(log_prob_of(model, [2, 1], beam.tokens))
        assert beam.ended == (beam.tokens[-1] == 1)
        assert 1 not in beam.tokens[:-1]
    scores = [beam.score(length_penalty) for beam in beams]
    assert scores == sorted(scores, reverse=True)


def test_the_search_ends_when_all_hypotheses_have():
    calls = []
    model = random_model(3)

    def counting(sequences: list[list[int]]) -> Tensor:
        calls.append(len(sequences))
        logits = model(sequences)
        logits[:, 2] += 100 * (len(sequences[0]) >= 3)  # certain from the third token on
        return logits

    beams = beam_search(counting, [0], 4, 1000, ends_with([2]))
    assert all(beam.ended for beam in beams)
    assert len(calls) < 20


def test_only_beams_that_have_not_ended_are_computed():
    calls = []

    def model(sequences: list[list[int]]) -> Tensor:
        calls.append(sequences)
        return torch.tensor([[0.6, 0.4]]).log().repeat(len(sequences), 1)

    beam_search(model, [], 3, 3, ends_with([0]), length_penalty=0.0)
    assert calls == [[[]], [[1]], [[1, 1]]]


def test_a_larger_length_penalty_prefers_longer_texts():
    def model(sequences: list[list[int]]) -> Tensor:
        return torch.tensor([[0.3, 0.7]]).log().repeat(len(sequences), 1)  # 0 ends the text

    lengths = []
    for length_penalty in (0.0, 1.0, 2.0):
        best, *_ = beam_search(model, [], 64, 5, ends_with([0]), length_penalty)
        lengths.append((len(best.tokens), best.ended))
    # 0.3 against 0.7^5 = 0.17; then the means per token, log 0.3 against log 0.7
    assert lengths == [(1, True), (5, False), (5, False)]


def test_tokens_of_probability_zero_are_never_taken():
    def model(sequences: list[list[int]]) -> Tensor:
        return torch.tensor([[0.0, -math.inf, -math.inf]]).repeat(len(sequences), 1)

    assert beam_search(model, [1], 5, 3) == [Hypothesis((0, 0, 0), 0.0)]


def test_of_equal_scores_the_lowest_ids_come_first():
    beams = beam_search(lambda rows: torch.zeros(len(rows), 3), [0], 4, 2)
    assert [beam.tokens for beam in beams] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_without_tokens_to_add_there_is_one_empty_hypothesis():
    assert beam_search(random_model(0), [1], 3, 0) == [Hypothesis((), 0.0)]


@pytest.mark.parametrize("n_beams", [0, -2])
def test_fewer_than_one_beam_is_refused(n_beams):
    with pytest.raises(UsageError, match=f"{n_beams} beams would keep nothing"):
        beam_search(random_model(0), [1], n_beams, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_logits_are_summed_in_float64(dtype):
    model = random_model(5)
    beams = beam_search(lambda rows: model(rows).to(dtype), [1], 3, 12)
    for beam in beams:
        exact = log_prob_of(lambda rows: model(rows).to(dtype), [1], beam.tokens)
        assert beam.log_prob == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_without_a_finite_best_are_refused(value):
    with pytest.raises(CourseError, match="at least one finite value"):
        beam_search(lambda rows: torch.full((len(rows), 3), value), [1], 3, 3)


# --- one step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 7, 20])
def test_the_best_extensions_are_the_largest_sums(n):
    log_probs = -torch.rand(4, dtype=torch.float64) * 5
    nexts = torch.randn(4, 5, dtype=torch.float64).log_softmax(dim=-1)
    sums, parents, tokens = best_extensions(log_probs, nexts, n)
    table = log_probs.numpy()[:, None] + nexts.numpy()
    ranked = sorted(
        ((-table[k, v], k, v) for k in range(4) for v in range(5)),
    )[:n]
    assert parents.tolist() == [k for _, k, _ in ranked]
    assert tokens.tolist() == [v for _, _, v in ranked]
    assert sums.tolist() == pytest.approx([-minus for minus, _, _ in ranked])


def test_fewer_extensions_come_back_if_there_are_not_n():
    sums, parents, tokens = best_extensions(torch.zeros(1), torch.zeros(1, 3), 8)
    assert (parents.tolist(), tokens.tolist(), len(sums)) == ([0, 0, 0], [0, 1, 2], 3)


def test_equal_extensions_are_taken_by_the_lowest_parent_and_then_the_lowest_token():
    _, parents, tokens = best_extensions(torch.zeros(40), torch.zeros(40, 50), 70)
    assert parents.tolist() == [0] * 50 + [1] * 20
    assert tokens.tolist() == [*range(50), *range(20)]


@pytest.mark.parametrize(
    ("length_penalty", "expected"), [(0.0, -6.0), (1.0, -1.5), (0.5, -3.0), (-1.0, -24.0)]
)
def test_the_score_divides_by_a_power_of_the_length(length_penalty, expected):
    assert length_normalized(-6.0, 4, length_penalty) == pytest.approx(expected)
    assert Hypothesis((1, 2, 3, 4), -6.0).score(length_penalty) == pytest.approx(expected)


def test_an_empty_text_has_the_score_zero():
    assert length_normalized(0.0, 0, 1.0) == length_normalized(0.0, 0, -1.0) == 0.0


# --- with a model, batches and a cache -----------------------------------------------------------

CONTEXT = 8


def noisy_model(
    dtype: torch.dtype = torch.float64, parts: Parts | None = None, **options: object
) -> TinyTransformerLM:
    """A model of two layers whose weights are far from their initial values."""
    config = ModelConfig(7, CONTEXT, d_model=8, n_layers=2, n_heads=4, **options)  # pyright: ignore
    model = TinyTransformerLM(config, parts)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(model.named_parameters()):
        spread = 0.5 if parameter.dim() > 1 else 0.1
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model.to(dtype).eval()


def windowed(model: TinyTransformerLM) -> NextLogits:
    """The model without a cache, one sequence after the other, while it fits in the context."""

    @torch.inference_mode()
    def next_logits(sequences: list[list[int]]) -> Tensor:
        assert max(map(len, sequences)) <= CONTEXT
        return torch.stack([model(torch.tensor([tokens]))[0, -1] for tokens in sequences])

    return next_logits


def plain(beams: list[Hypothesis]) -> list[tuple[tuple[int, ...], float, bool]]:
    """The fields, with probabilities rounded far above the noise of float64."""
    return [(beam.tokens, round(beam.log_prob, 9), beam.ended) for beam in beams]


LAYOUTS = {
    "learned": {"tie_weights": False},
    "alibi": {"position": "alibi", "tie_weights": False},
    "grouped-query rope": {"position": "rope", "n_kv_heads": 2, "tie_weights": False},
}
PROMPTS = [[1], [2, 3, 1], [6, 6], [5, 0, 4, 2]]


@pytest.mark.parametrize("has_ended", [never_ends, ends_with([0, 3])], ids=["never", "ends"])
@pytest.mark.parametrize("n_beams", [1, 2, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_with_a_cache_find_what_the_plain_algorithm_finds(layout, n_beams, has_ended):
    model = noisy_model(**LAYOUTS[layout])
    expected = [beam_search(windowed(model), p, n_beams, 4, has_ended) for p in PROMPTS]
    for use_cache in (True, False):
        found = beam_search_batch(
            model, model.config, PROMPTS, n_beams, 4, has_ended, use_cache=use_cache
        )
        assert [plain(beams) for beams in found] == [plain(beams) for beams in expected]


@pytest.mark.parametrize("length_penalty", [0.0, 2.0])
def test_the_length_penalty_reaches_the_batch(length_penalty):
    model, end = noisy_model(tie_weights=False), ends_with([0, 3])
    expected = [beam_search(windowed(model), p, 4, 4, end, length_penalty) for p in PROMPTS]
    found = beam_search_batch(model, model.config, PROMPTS, 4, 4, end, length_penalty)
    assert [plain(beams) for beams in found] == [plain(beams) for beams in expected]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_beyond_the_context_the_cache_changes_nothing_either(layout):
    model = noisy_model(**LAYOUTS[layout])
    cached, whole = (
        beam_search_batch(model, model.config, PROMPTS, 3, 30, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert [plain(beams) for beams in cached] == [plain(beams) for beams in whole]
    assert len({beam.tokens for beams in cached for beam in beams}) == 3 * len(PROMPTS)


def test_one_beam_of_a_batch_is_the_greedy_loop():
    model = noisy_model(tie_weights=False)
    steps = generate_tokens(model, model.config, PROMPTS, 30, greedy)
    expected = [list(column) for column in zip(*steps, strict=True)]
    found = beam_search_batch(model, model.config, PROMPTS, 1, 30)
    assert [list(beam.tokens) for (beam,) in found] == expected


def test_wider_beams_find_texts_that_are_more_probable_here():
    model = noisy_model(tie_weights=False)
    scores = []
    for n_beams in (1, 4, 16):
        found = beam_search_batch(model, model.config, PROMPTS, n_beams, 8)
        scores.append(sum(beams[0].log_prob for beams in found))
    assert scores[0] < scores[1] <= scores[2]


def test_prompts_are_not_modified_and_the_grad_mode_is_left_alone():
    model, prompts = noisy_model(), [[1, 2], [3]]
    beam_search_batch(model, model.config, prompts, 2, 3)
    assert prompts == [[1, 2], [3]]
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_no_prompts_give_no_beams_and_an_empty_prompt_is_refused():
    model = noisy_model()
    assert beam_search_batch(model, model.config, [], 2, 3) == []
    with pytest.raises(ValueError, match="at least one token"):
        beam_search_batch(model, model.config, [[1], []], 2, 3)
    with pytest.raises(UsageError, match="0 beams"):
        beam_search_batch(model, model.config, [[1]], 0, 3)

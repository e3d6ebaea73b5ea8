"""distribution.py: the whole chain of settings, against NumPy one token at a time.

Where the library transformers is installed (`python tools/install.py --extra interop`), the filters
are compared with its logits processors as well; where the two differ on purpose, a test says how.
"""

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distribution import distribution_after, has_penalties, next_distribution, process_logits
from penalties import TokenCounts, apply_repetition_penalty, token_counts
from temperature import apply_temperature
from top_k import top_k_filter
from top_p import min_p_filter, top_p_filter
from utils.config import SampleConfig

V = 12
HALF = [torch.bfloat16, torch.float16]
PROMPTS = [[1, 1, 4, 0], [7], [5, 5, 5, 11, 2, 9]]
NEW = [[4, 3, 4], [7, 7, 8], [0, 11, 6]]

SETTINGS: dict[str, dict[str, Any]] = {
    "temperature 1": {},
    "temperature 0.3": {"temperature": 0.3},
    "temperature 2.5": {"temperature": 2.5},
    "top-k": {"top_k": 4},
    "top-k of one": {"top_k": 1},
    "top-k of all": {"top_k": 50},
    "top-p": {"top_p": 0.7},
    "top-p of almost nothing": {"top_p": 1e-9},
    "min-p": {"min_p": 0.2},
    "min-p 1": {"min_p": 1.0},
    "all filters": {"temperature": 1.7, "top_k": 9, "top_p": 0.9, "min_p": 0.05},
    "repetition": {"repetition_penalty": 1.8},
    "repetition below 1": {"repetition_penalty": 0.6},
    "presence": {"presence_penalty": 1.1},
    "frequency": {"frequency_penalty": 0.7},
    "a reward": {"presence_penalty": -0.5, "frequency_penalty": -0.3},
    "everything": {
        **{"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.2},
        **{"temperature": 0.8, "top_k": 8, "top_p": 0.95, "min_p": 0.02},
    },
}
ALL_SETTINGS = pytest.mark.parametrize(
    "settings", [{"temperature": 1.0, **changes} for changes in SETTINGS.values()], ids=SETTINGS
)


def some_counts(vocab_size: int = V) -> TokenCounts:
    return TokenCounts(token_counts(PROMPTS, vocab_size), token_counts(NEW, vocab_size))


def rows_of(kind: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Logits (3, V): random, with ties, with excluded tokens, or with a single token left."""
    generator = torch.Generator().manual_seed(2)  # without ties, in half precision too
    logits = 2 * torch.randn(3, V, generator=generator).double()
    if kind == "ties":
        logits = logits.round()
    if kind == "excluded":
        logits[:, ::3] = -math.inf
    if kind == "one-hot":
        logits[:] = -math.inf
        logits[[0, 1, 2], [4, 0, 11]] = torch.tensor([1.0, -3.0, 0.0]).double()
    return logits.to(dtype)


def by_hand(
    logits: list[float], prompt: list[int], new: list[int], config: SampleConfig
) -> list[float]:
    """The distribution of one row, from the definitions, in float64."""
    values = list(logits)
    for v in range(len(values)):
        if v in prompt + new:
            r = config.repetition_penalty
            values[v] = values[v] / r if values[v] > 0 else values[v] * r
        values[v] -= config.presence_penalty * (v in new)
        values[v] -= config.frequency_penalty * new.count(v)
    values = [value / config.temperature for value in values]
    # Ids from the best to the worst; of equal ones, the lowest first.
    kept = sorted(range(len(values)), key=lambda v: (-values[v], v))[: config.top_k]

    def weights() -> dict[int, float]:
        return {v: math.exp(values[v] - values[kept[0]]) for v in kept}

    if config.top_p is not None and config.top_p < 1:
        total, mass, nucleus = sum(weights().values()), 0.0, []
        for v, weight in weights().items():
            if mass / total < config.top_p:
                nucleus.append(v)
            mass += weight
        kept = nucleus
    if config.min_p is not None:
        kept = [v for v, weight in weights().items() if weight >= config.min_p]
    total = sum(weights().values())
    return [weights().get(v, 0.0) / total for v in range(len(values))]


# --- against the definitions --------------------------------------------------------------------


@ALL_SETTINGS
@pytest.mark.parametrize("kind", ["random", "ties", "excluded", "one-hot"])
def test_the_distribution_is_the_one_of_the_definitions(kind, settings):
    logits, config = rows_of(kind), SampleConfig(**settings)
    found = next_distribution(logits, config, some_counts())
    expected = [
        by_hand(row, prompt, new, config)
        for row, prompt, new in zip(logits.tolist(), PROMPTS, NEW, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@ALL_SETTINGS
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_gives_the_distribution_of_the_same_logits_in_float32(dtype, settings):
    logits, config = rows_of("random", dtype), SampleConfig(**settings)
    found = next_distribution(logits, config, some_counts())
    assert found.dtype == torch.float32
    assert torch.equal(found, next_distribution(logits.float(), config, some_counts()))


@ALL_SETTINGS
def test_probabilities_sum_to_one_and_what_is_excluded_has_none(settings):
    logits, config = rows_of("excluded"), SampleConfig(**settings)
    found = next_distribution(logits, config, some_counts())
    np.testing.assert_allclose(found.sum(dim=-1).numpy(), 1, rtol=1e-12)
    processed = process_logits(logits, config, some_counts())
    assert torch.equal(found > 0, processed > -math.inf)
    assert (found[:, ::3] == 0).all()


@pytest.mark.parametrize("kind", ["random", "ties", "excluded", "one-hot"])
def test_at_temperature_zero_the_distribution_is_one_hot(kind):
    logits = rows_of(kind)
    found = next_distribution(logits, SampleConfig(temperature=0, top_k=5, top_p=0.3))
    assert torch.equal(found, torch.eye(V, dtype=torch.float64)[logits.argmax(dim=-1)])


def test_penalties_come_before_the_temperature_and_change_the_greedy_token():
    logits = torch.tensor([[2.0, 1.9, 0.0]])
    counts = TokenCounts(token_counts([[0]], 3), token_counts([[]], 3))
    config = SampleConfig(temperature=0, repetition_penalty=1.2)
    assert next_distribution(logits, config, counts).tolist() == [[0.0, 1.0, 0.0]]


def test_the_repetition_penalty_counts_the_prompt_and_the_others_do_not():
    logits = torch.zeros(1, 3)
    counts = TokenCounts(token_counts([[0]], 3), token_counts([[1]], 3))
    presence = SampleConfig(temperature=1.0, presence_penalty=1.0)
    frequency = SampleConfig(temperature=1.0, frequency_penalty=1.0)
    for config in (presence, frequency):
        processed = process_logits(logits, config, counts)
        assert processed.tolist() == [[0.0, -1.0, 0.0]]
    repetition = SampleConfig(temperature=1.0, repetition_penalty=2.0)
    assert process_logits(logits + 1, repetition, counts).tolist() == [[0.5, 0.5, 1.0]]


def test_without_settings_any_leading_axes_pass_through():
    logits = torch.randn(2, 3, V)
    config = SampleConfig(temperature=1.0, top_k=3, top_p=0.8)
    alone = torch.stack([next_distribution(row, config) for row in logits.view(6, V)])
    assert torch.equal(next_distribution(logits, config), alone.view(2, 3, V))


def test_penalties_without_counts_are_an_error_and_not_ignored():
    assert not has_penalties(SampleConfig())
    configs = (
        SampleConfig(repetition_penalty=0.5),
        SampleConfig(presence_penalty=0.5),
        SampleConfig(frequency_penalty=0.5),
    )
    for config in configs:
        assert has_penalties(config)
        with pytest.raises(ValueError, match="need the counts"):
            process_logits(torch.zeros(1, 3), config)


@ALL_SETTINGS
def test_inputs_are_not_modified(settings):
    logits, counts = rows_of("random"), some_counts()
    next_distribution(logits, SampleConfig(**settings), counts)
    assert torch.equal(logits, rows_of("random"))
    assert torch.equal(counts.prompt, some_counts().prompt)
    assert torch.equal(counts.new, some_counts().new)


@ALL_SETTINGS
def test_several_positions_of_one_text_have_the_distribution_of_each(settings):
    logits, config = rows_of("random").float(), SampleConfig(**settings)
    befores = [[3], [3, 4], [3, 4, 4]]
    found = distribution_after(PROMPTS[0], config)(logits, befores)
    for i, before in enumerate(befores):
        counts = TokenCounts(token_counts([PROMPTS[0]], V), token_counts([before], V))
        assert torch.equal(found[i], next_distribution(logits[i : i + 1], config, counts)[0])


# --- against the library transformers ------------------------------------------------------------


def library_filter(name: str, *arguments: Any, sequences: list[list[int]] | None = None) -> Any:
    """One of its logits processors, as a function of the logits."""
    processors = importlib.import_module("transformers.generation.logits_process")
    process = getattr(processors, name)(*arguments)
    rows = torch.tensor(sequences or [[0]] * 3)
    return lambda logits: process(rows, logits.clone())


KINDS = pytest.mark.parametrize("kind", ["random", "ties", "excluded", "one-hot"])
NO_TIES = pytest.mark.parametrize("kind", ["random", "excluded", "one-hot"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])


@pytest.mark.transformers
@KINDS
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_is_the_library_s(kind, temperature):
    theirs = library_filter("TemperatureLogitsWarper", temperature)
    for dtype in (torch.float64, torch.float32):
        logits = rows_of(kind, dtype)
        assert torch.equal(apply_temperature(logits, temperature), theirs(logits))


@pytest.mark.transformers
@NO_TIES
@DTYPES
@pytest.mark.parametrize("k", [1, 3, V, V + 5])
def test_top_k_is_the_library_s(kind, dtype, k):
    logits = rows_of(kind, dtype)
    assert torch.equal(top_k_filter(logits, k), library_filter("TopKLogitsWarper", k)(logits))


@pytest.mark.transformers
@NO_TIES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("p", [1e-6, 0.2, 0.5, 0.9, 0.999])
def test_top_p_is_the_library_s(kind, dtype, p):
    logits = rows_of(kind, dtype)
    assert torch.equal(top_p_filter(logits, p), library_filter("TopPLogitsWarper", p)(logits))


@pytest.mark.transformers
@KINDS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("min_p", [0.0, 0.01, 0.2, 0.9])
def test_min_p_is_the_library_s(kind, dtype, min_p):
    logits = rows_of(kind, dtype)
    theirs = library_filter("MinPLogitsWarper", min_p)
    assert torch.equal(min_p_filter(logits, min_p), theirs(logits))


@pytest.mark.transformers
@KINDS
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.7])
def test_the_repetition_penalty_is_the_library_s(kind, penalty):
    sequences = [[1, 1, 4, 0], [7, 7, 7, 2], [5, 11, 2, 9]]
    theirs = library_filter("RepetitionPenaltyLogitsProcessor", penalty, sequences=sequences)
    counts = token_counts(sequences, V)
    for dtype in (torch.float64, torch.float32):
        logits = rows_of(kind, dtype)
        assert torch.equal(apply_repetition_penalty(logits, counts, penalty), theirs(logits))


@pytest.mark.transformers
@NO_TIES
def test_the_whole_chain_is_the_library_s(kind):
    sequences = [[1, 1, 4, 0], [7, 7, 7, 2], [5, 11, 2, 9]]
    counts = TokenCounts.of_prompts(sequences, V)
    config = SampleConfig(temperature=0.7, top_k=8, top_p=0.95, min_p=0.03, repetition_penalty=1.2)
    theirs = rows_of(kind)
    for name, setting in (
        ("RepetitionPenaltyLogitsProcessor", config.repetition_penalty),
        ("TemperatureLogitsWarper", config.temperature),
        ("TopKLogitsWarper", config.top_k),
        ("TopPLogitsWarper", config.top_p),
        ("MinPLogitsWarper", config.min_p),
    ):
        theirs = library_filter(name, setting, sequences=sequences)(theirs)
    found = next_distribution(rows_of(kind), config, counts)
    torch.testing.assert_close(found, theirs.softmax(dim=-1), rtol=0, atol=1e-15)


# Where ours differs on purpose


@pytest.mark.transformers
def test_of_equal_logits_top_k_keeps_exactly_k_and_the_library_keeps_all_that_tie():
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]] * 3)
    theirs = library_filter("TopKLogitsWarper", 2)(logits)
    assert theirs.isfinite().sum(dim=-1).tolist() == [4] * 3
    assert top_k_filter(logits, 2).isfinite().sum(dim=-1).tolist() == [2] * 3


@pytest.mark.transformers
def test_of_equal_logits_top_p_keeps_the_lowest_ids_and_the_library_as_many_of_any():
    logits = torch.zeros(3, 8)
    ours, theirs = top_p_filter(logits, 0.55), library_filter("TopPLogitsWarper", 0.55)(logits)
    assert ours[0].isfinite().tolist() == [True] * 5 + [False] * 3
    assert theirs.isfinite().sum(dim=-1).tolist() == [5] * 3


@pytest.mark.transformers
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_probabilities_are_summed_in_float32_unlike_the_library_s(dtype):
    logits = 2 * torch.randn(3, 20_000, generator=torch.Generator().manual_seed(0)).to(dtype)

    def nucleus_sizes(kept: Tensor) -> list[int]:
        return kept.isfinite().sum(dim=-1).tolist()

    exact = nucleus_sizes(library_filter("TopPLogitsWarper", 0.5)(logits.double()))
    assert nucleus_sizes(top_p_filter(logits, 0.5)) == exact
    assert nucleus_sizes(library_filter("TopPLogitsWarper", 0.5)(logits)) != exact


@pytest.mark.transformers
def test_top_p_1_keeps_even_what_underflows_and_the_library_does_not():
    logits = torch.tensor([[0.0, -200.0, -90.0]] * 3)  # exp(-200) is 0 in float32
    assert top_p_filter(logits, 1.0).isfinite().all()
    assert not library_filter("TopPLogitsWarper", 1.0)(logits).isfinite().all()


@pytest.mark.transformers
def test_temperature_0_is_greedy_and_the_library_refuses_it():
    assert apply_temperature(torch.tensor([0.0, 1.0]), 0).tolist() == [-math.inf, 1.0]
    with pytest.raises(ValueError, match="strictly positive"):
        library_filter("TemperatureLogitsWarper", 0.0)


@pytest.mark.transformers
@pytest.mark.parametrize("dtype", HALF)
def test_penalties_of_half_precision_logits_are_not_rounded_back(dtype):
    logits = rows_of("random", dtype)
    sequences = [list(range(V))] * 3
    theirs = library_filter("RepetitionPenaltyLogitsProcessor", 1.1, sequences=sequences)(logits)
    ours = apply_repetition_penalty(logits, token_counts(sequences, V), 1.1)
    assert ours.dtype == torch.float32 and theirs.dtype == dtype
    assert not torch.equal(ours, theirs.float())
    torch.testing.assert_close(ours.to(dtype), theirs)

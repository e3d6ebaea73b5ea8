"""The decoding loop and the generator against a loop that is simple enough to be obviously right.

The simple loop continues one sequence at a time, has no cache, and finds its window by growing the
sequence token by token. Weights are drawn with a large standard deviation, so that attention
matters and sequences vary (initial weights would make all logits equal). In float64 the tokens must
be the same; in float32 the logits agree to 1e-4.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from beam_search import beam_search, never_ends
from bpe_tokenizer import BPETokenizer, train_bpe
from decoding_loop import BatchDecoder, generate_tokens, window_start
from generator import TextGenerator, choose_with, match_vocabulary
from greedy import greedy
from parts import Parts
from penalties import TokenCounts, token_counts
from special_tokens import EOS
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig, SampleConfig
from utils.errors import UsageError
from utils.kv_cache import KVCache

V = 11
MODELS: dict[str, dict[str, Any]] = {
    "learned": {"position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "rope": {"position": "rope"},
    "alibi": {"position": "alibi"},
    "grouped-query": {"n_kv_heads": 2},
    "multi-query alibi": {"n_kv_heads": 1, "position": "alibi"},
    "qk-norm": {"qk_norm": True},
    "post-norm": {"norm_placement": "post"},
    "tied": {"tie_weights": True},
    "modern": {
        "position": "rope",
        "qk_norm": True,
        "n_kv_heads": 2,
        "norm": "rmsnorm",
        "activation": "swiglu",
        "bias": False,
    },
}
ALL_MODELS = pytest.mark.parametrize("name", MODELS)


def noisy_model(
    name: str,
    context: int,
    dtype: torch.dtype = torch.float64,
    parts: Parts | None = None,
    vocab_size: int = V,
) -> TinyTransformerLM:
    """A model of two layers whose weights are far from their initial values."""
    options = {"tie_weights": False, **MODELS[name]}
    config = ModelConfig(vocab_size, context, d_model=8, n_layers=2, n_heads=4, **options)
    model = TinyTransformerLM(config, parts)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(model.named_parameters()):
        spread = 0.5 if parameter.dim() > 1 else 0.1  # large biases would dominate
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model.to(dtype).eval()


def random_prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed + 100 * length)
    return torch.randint(V, (length,), generator=generator).tolist()


def uneven_prompts(context: int) -> list[list[int]]:
    """Prompts shorter than the context, as long, longer, and longer by one; two of equal length."""
    lengths = [1, context - 1, context, context, context + 1, 2 * context + 3]
    return [random_prompt(length, seed) for seed, length in enumerate(lengths) if length > 0]


def simple_window(length: int, context: int) -> int:
    """Grow a sequence to this length; whenever it no longer fits, drop half a context."""
    start = 0
    for grown in range(length + 1):
        if grown - start > context:
            start += (context + 1) // 2
    return start


@torch.inference_mode()
def simple_loop(
    model: nn.Module, context: int, prompt: Sequence[int], max_tokens: int
) -> list[int]:
    """Continue one sequence greedily, recomputing everything for every token."""
    sequence = list(prompt)
    for _ in range(max_tokens):
        window = sequence[simple_window(len(sequence), context) :]
        sequence.append(int(model(torch.tensor([window]))[0, -1].argmax()))
    return sequence[len(prompt) :]


def continuations(
    model: TinyTransformerLM,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    choose: Callable[[Tensor], Tensor] = greedy,
    use_cache: bool = True,
) -> list[list[int]]:
    """The tokens that generate_tokens adds to each prompt."""
    steps = generate_tokens(model, model.config, prompts, max_tokens, choose, use_cache)
    return [list(column) for column in zip(*steps, strict=True)]


# --- windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", range(1, 14))
def test_the_window_is_that_of_a_sequence_that_grows_token_by_token(context):
    for length in range(6 * context):
        assert window_start(length, context) == simple_window(length, context)


@pytest.mark.parametrize("context", [*range(1, 14), 64, 255, 256])
def test_a_window_is_never_longer_than_the_context_nor_shorter_than_half(context):
    for length in range(1, 6 * context):
        start = window_start(length, context)
        if length <= context:
            assert start == 0
        else:
            assert context / 2 < length - start <= context


@pytest.mark.parametrize("context", [1, 2, 3, 8, 9, 64])
def test_the_window_stays_or_jumps_by_half_a_context(context):
    starts = [window_start(length, context) for length in range(6 * context)]
    assert {b - a for a, b in pairwise(starts)} == {0, (context + 1) // 2}


# --- the same tokens with and without a cache, in a batch and alone ------------------------------


@ALL_MODELS
def test_these_models_depend_on_early_tokens_so_that_a_wrong_window_is_noticed(name):
    model, prompts = noisy_model(name, context=6), uneven_prompts(6)
    first, other = torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.tensor([[6, 1, 2, 3, 4, 5]])
    assert (model(first) - model(other))[0, -1].abs().max() > 0.1
    assert max(len(set(simple_loop(model, 6, prompt, 20))) for prompt in prompts) > 2


def logits_along(
    model: TinyTransformerLM, prompts: Sequence[Sequence[int]], tokens: Tensor, use_cache: bool
) -> Tensor:
    """All logits (steps, B, V) while the prompts grow by these tokens (steps, B)."""
    seen: list[Tensor] = []

    def choose(logits: Tensor) -> Tensor:
        seen.append(logits)
        return tokens[len(seen) - 1]

    continuations(model, prompts, len(tokens), choose, use_cache)
    return torch.stack(seen)


@torch.inference_mode()
def recomputed_logits(
    model: TinyTransformerLM, prompts: Sequence[Sequence[int]], tokens: Tensor
) -> Tensor:
    """The same, with every window computed from scratch."""
    context, rows = model.config.max_seq_len, []
    for prompt, new in zip(prompts, tokens.T.tolist(), strict=True):
        grown = [[*prompt, *new[:step]] for step in range(len(new))]
        windows = [sequence[simple_window(len(sequence), context) :] for sequence in grown]
        rows.append(torch.stack([model(torch.tensor([window]))[0, -1] for window in windows]))
    return torch.stack(rows, dim=1)


@ALL_MODELS
def test_the_logits_are_those_of_every_window_computed_from_scratch(name):
    model, prompts = noisy_model(name, context=6), uneven_prompts(6)
    tokens = torch.randint(V, (14, len(prompts)))
    expected = recomputed_logits(model, prompts, tokens)
    for use_cache in (True, False):
        logits = logits_along(model, prompts, tokens, use_cache)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-11)


@ALL_MODELS
@pytest.mark.parametrize("parts", [Parts.reference(), Parts.fused()], ids=["reference", "fused"])
def test_in_float32_the_logits_agree_with_and_without_the_cache_to_1e_4(name, parts):
    model, prompts = noisy_model(name, 6, torch.float32, parts), uneven_prompts(6)
    tokens = torch.randint(V, (14, len(prompts)))
    cached, whole = (logits_along(model, prompts, tokens, use_cache) for use_cache in (True, False))
    torch.testing.assert_close(cached, whole, rtol=0, atol=1e-4)
    exact = logits_along(noisy_model(name, 6), prompts, tokens, use_cache=False)
    torch.testing.assert_close(cached.double(), exact, rtol=0, atol=1e-4)


@ALL_MODELS
def test_each_row_of_a_batch_continues_as_in_the_simple_loop(name):
    model, prompts = noisy_model(name, context=6), uneven_prompts(6)
    alone = [simple_loop(model, 6, prompt, 14) for prompt in prompts]
    assert continuations(model, prompts, 14) == alone
    assert continuations(model, prompts, 14, use_cache=False) == alone


@pytest.mark.parametrize("context", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("name", ["learned", "modern"])
def test_small_and_odd_contexts_jump_at_the_same_tokens(name, context):
    model, prompts, n = noisy_model(name, context), uneven_prompts(context), 2 * context + 5
    alone = [simple_loop(model, context, prompt, n) for prompt in prompts]
    assert continuations(model, prompts, n) == alone
    assert continuations(model, prompts, n, use_cache=False) == alone


@ALL_MODELS
def test_with_one_seed_the_draws_are_the_same_with_and_without_the_cache(name):
    model, prompts = noisy_model(name, context=5), uneven_prompts(5)
    sampling = SampleConfig(temperature=1.2, top_k=9, top_p=0.95, seed=3)
    cached = continuations(model, prompts, 18, choose_with(sampling))
    assert cached == continuations(model, prompts, 18, choose_with(sampling), use_cache=False)
    assert len({tuple(row) for row in cached}) == len(prompts)


# --- the computation it takes -------------------------------------------------------------------


class Counting(nn.Module):
    """A model that records the shape (rows, T) of every call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[tuple[int, ...]] = []

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        self.calls.append(tuple(tokens.shape))
        return self.model(tokens, cache)


def expected_calls(lengths: list[int], context: int, max_tokens: int) -> list[tuple[int, int]]:
    """One position per step and row; a refill, one token short, of the rows whose window moved."""
    calls, starts = [], [-1] * len(lengths)
    for step in range(max_tokens):
        ends = [length + step for length in lengths]
        before, starts = starts, [simple_window(end, context) for end in ends]
        moved = [row for row, start in enumerate(starts) if start != before[row]]
        windows = [ends[row] - starts[row] for row in moved]
        if len(moved) == len(lengths):
            calls.append((len(moved), max(windows)))
            continue
        if moved:
            calls.append((len(moved), max(windows) - 1))
        calls.append((len(lengths), 1))
    return calls


@pytest.mark.parametrize("lengths", [[3, 6], [6, 6], [1, 2, 9], [8], [20, 4, 4, 13]])
@pytest.mark.parametrize("context", [3, 6])
def test_only_the_rows_whose_window_moved_are_recomputed(lengths, context):
    model = noisy_model("rope", context, torch.float32)
    counting = Counting(model)
    prompts = [random_prompt(length) for length in lengths]
    list(generate_tokens(counting, model.config, prompts, 25, greedy))
    assert counting.calls == expected_calls(lengths, context, 25)


def test_a_long_sequence_costs_a_few_positions_per_token_and_not_a_context():
    context, n = 32, 200
    counting = Counting(noisy_model("rope", context, torch.float32))
    config = counting.model.config
    assert isinstance(config, ModelConfig)
    list(generate_tokens(counting, config, [random_prompt(5)], n, greedy))
    with_cache = sum(rows * T for rows, T in counting.calls)
    counting.calls.clear()
    list(generate_tokens(counting, config, [random_prompt(5)], n, greedy, use_cache=False))
    without = sum(rows * T for rows, T in counting.calls)
    assert with_cache < 2.1 * n < 10 * n < without


def test_a_token_is_computed_only_when_it_is_requested():
    model = noisy_model("learned", 8, torch.float32)
    counting = Counting(model)
    steps = generate_tokens(counting, model.config, [[1, 2]], 5, greedy)
    assert counting.calls == []
    next(steps)
    assert counting.calls == [(1, 2)]


def test_generation_is_without_gradients_and_leaves_the_caller_s_grad_mode_alone():
    model = noisy_model("learned", 8, torch.float32)
    seen = []

    def choose(logits: Tensor) -> Tensor:
        seen.append(logits.requires_grad)
        return greedy(logits)

    for _ in generate_tokens(model, model.config, [[1, 2]], 3, choose):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert seen == [False] * 3


# --- prompts ------------------------------------------------------------------------------------


def test_prompts_are_not_modified():
    prompts = [[1, 2], [3]]
    continuations(noisy_model("learned", 4), prompts, 3)
    assert prompts == [[1, 2], [3]]


@pytest.mark.parametrize("prompts", [[[]], [[1], []]])
def test_a_prompt_without_tokens_is_refused(prompts):
    with pytest.raises(ValueError, match="at least one token"):
        continuations(noisy_model("learned", 4), prompts, 3)


def test_no_prompts_or_no_tokens_give_nothing():
    model = noisy_model("learned", 4)
    assert continuations(model, [], 3) == []
    assert continuations(model, [[1]], 0) == []


def test_a_decoder_continues_sequences_that_its_caller_extends():
    model, sequences = noisy_model("rope", 4), [[1, 2, 3]]
    decoder = BatchDecoder(model, model.config, sequences)
    for token in (5, 6, 7, 8):
        logits = decoder.logits()
        window = sequences[0][simple_window(len(sequences[0]), 4) :]
        torch.testing.assert_close(logits, model(torch.tensor([window]))[:, -1])
        sequences[0].append(token)


# --- choosing a token ---------------------------------------------------------------------------


def filtered_numpy(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """The probabilities under `config`, token by token: temperature, top-k, top-p, then min-p."""
    weights = np.exp(logits / config.temperature)
    order = list(np.argsort(-logits))[: config.top_k]
    shares = weights[order] / weights[order].sum()
    before = np.cumsum(shares) - shares
    order = [v for v, mass in zip(order, before, strict=True) if mass < (config.top_p or 1.0)]
    order = [v for v in order if weights[v] >= (config.min_p or 0.0) * weights.max()]
    kept = np.zeros_like(weights)
    kept[order] = weights[order]
    return kept / kept.sum()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.3},
        {"temperature": 3.0},
        {"temperature": 1.0, "top_k": 3},
        {"temperature": 2.0, "top_p": 0.7},
        {"temperature": 0.5, "top_p": 0.7},
        {"temperature": 2.0, "min_p": 0.3},
        {"temperature": 1.5, "top_k": 5, "top_p": 0.8, "min_p": 0.25},
    ],
)
def test_tokens_are_drawn_as_often_as_numpy_computes(options):
    config = SampleConfig(**options)
    logits = torch.tensor([2.0, -1.0, 1.5, 0.0, 0.5, 1.0, -3.0])
    draws = choose_with(config)(logits.expand(20_000, -1))
    frequencies = torch.bincount(draws, minlength=7).numpy() / 20_000
    expected = filtered_numpy(logits.numpy().astype(np.float64), config)
    np.testing.assert_allclose(frequencies, expected, atol=0.015)
    assert ((frequencies > 0) <= (expected > 0)).all()  # a filtered token is never drawn


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-9}])
def test_temperature_zero_and_the_narrowest_filters_are_greedy(options):
    logits = torch.randn(50, V)
    for seed in range(3):
        choose = choose_with(SampleConfig(seed=seed, **options))
        assert torch.equal(choose(logits), logits.argmax(dim=-1))


def test_a_seed_decides_the_draws_whatever_the_global_generator_did():
    logits = torch.randn(50, V)
    first = choose_with(SampleConfig(seed=5))(logits)
    torch.rand(7)
    assert torch.equal(choose_with(SampleConfig(seed=5))(logits), first)
    assert not torch.equal(choose_with(SampleConfig(seed=6))(logits), first)
    choose = choose_with(SampleConfig(seed=5))
    assert torch.equal(choose(logits), first)
    assert not torch.equal(choose(logits), first)  # the generator advances


# --- penalties ----------------------------------------------------------------------------------

PENALTIES: list[dict[str, Any]] = [
    {"repetition_penalty": 1.5},
    {"presence_penalty": 0.8},
    {"frequency_penalty": 0.4},
    {"repetition_penalty": 1.2, "presence_penalty": -0.3, "frequency_penalty": 0.2},
]


@torch.inference_mode()
def simple_loop_with_penalties(
    model: nn.Module, context: int, prompt: Sequence[int], max_tokens: int, penalties: Any
) -> list[int]:
    """`simple_loop` whose logits are changed token by token; everything is counted each time."""
    sequence, n_prompt = list(prompt), len(prompt)
    for _ in range(max_tokens):
        window = sequence[simple_window(len(sequence), context) :]
        logits = model(torch.tensor([window]))[0, -1].tolist()
        for v, logit in enumerate(logits):
            r = penalties.get("repetition_penalty", 1.0)
            if v in sequence:
                logits[v] = logit / r if logit > 0 else logit * r
            n_new = sequence[n_prompt:].count(v)
            logits[v] -= penalties.get("presence_penalty", 0.0) * (n_new > 0)
            logits[v] -= penalties.get("frequency_penalty", 0.0) * n_new
        sequence.append(int(np.argmax(logits)))
    return sequence[n_prompt:]


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("name", ["learned", "modern"])
def test_penalties_count_each_row_by_itself_with_and_without_the_cache(name, penalties):
    model, prompts = noisy_model(name, context=6), uneven_prompts(6)
    expected = [simple_loop_with_penalties(model, 6, p, 20, penalties) for p in prompts]
    for use_cache in (True, False):
        counts = TokenCounts.of_prompts(prompts, V)
        choose = choose_with(SampleConfig(temperature=0, **penalties), counts)
        assert continuations(model, prompts, 20, choose, use_cache) == expected
        assert torch.equal(counts.new, token_counts(expected, V))
    assert expected != [simple_loop(model, 6, prompt, 20) for prompt in prompts]


def test_a_strong_penalty_leaves_no_token_twice():
    prompts = [[1], [2, 3]]
    choose = choose_with(
        SampleConfig(temperature=1.0, presence_penalty=1e4), TokenCounts.of_prompts(prompts, V)
    )
    rows = continuations(noisy_model("learned", 6), prompts, V, choose)
    assert all(sorted(row) == list(range(V)) for row in rows)


def test_penalties_reach_the_text():
    generator = text_generator()
    prompts = ["a", "bcdefghi", ""]
    for penalties in PENALTIES:
        found = generator.generate(prompts, SampleConfig(temperature=0, max_tokens=25, **penalties))
        for prompt, text in zip(prompts, found, strict=True):
            ids = TOKENIZER.encode(prompt or "\n")
            tokens = simple_loop_with_penalties(generator.model, 8, ids, 25, penalties)
            assert text == TOKENIZER.decode(tokens)


# --- text ---------------------------------------------------------------------------------------

TOKENIZER = CharTokenizer("\nabcdefghij")


def text_generator(name: str = "modern", context: int = 8) -> TextGenerator:
    model = noisy_model(name, context)
    return TextGenerator(model, model.config, TOKENIZER)


class NextLetter(nn.Module):
    """Predicts that each character of TOKENIZER is followed by the next one, cyclically."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(V).roll(1, dims=1))
        self.calls = 0

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        self.calls += 1
        if cache is not None:
            cache.advance(tokens.size(1))
        return self.weight[tokens]


def alphabet_generator(context: int = 8) -> tuple[TextGenerator, NextLetter]:
    model = NextLetter()
    return TextGenerator(model, ModelConfig(V, context), TOKENIZER), model


def test_a_batch_of_prompts_continues_as_each_does_alone():
    generator, greedily = text_generator(), SampleConfig(temperature=0, max_tokens=25)
    prompts = ["a", "bcdefghi", "\n\n", "abcdefghijabcdefghij", ""]
    together = generator.generate(prompts, greedily)
    assert together == [generator.generate([prompt], greedily)[0] for prompt in prompts]
    model = generator.model
    for prompt, text in zip(prompts, together, strict=True):
        tokens = simple_loop(model, 8, TOKENIZER.encode(prompt or "\n"), 25)
        assert text == TOKENIZER.decode(tokens)


def test_the_pieces_of_a_stream_join_to_the_text_that_generate_returns():
    generator = text_generator()
    for stop in ((), ("a",), ("jj",), ("abc", "ja")):
        sampling = SampleConfig(prompt="abc", max_tokens=40, temperature=1.5, seed=2, stop=stop)
        assert ["".join(generator.stream(sampling))] == generator.generate(["abc"], sampling)


def test_a_seed_decides_the_text():
    generator = text_generator()
    texts = [generator.generate(["a"], SampleConfig(max_tokens=20, seed=s))[0] for s in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_the_rows_of_a_batch_are_drawn_independently():
    texts = text_generator().generate(["a"] * 4, SampleConfig(max_tokens=20, temperature=1.0))
    assert len(set(texts)) == 4


def test_dropout_is_off_during_generation():
    quiet = noisy_model("learned", 8)
    noisy = TinyTransformerLM(replace(quiet.config, dropout=0.5)).double()
    noisy.load_state_dict(quiet.state_dict())
    tokens = torch.tensor([TOKENIZER.encode("ab")])
    assert not torch.equal(noisy.train()(tokens), quiet(tokens))
    first, second = (TextGenerator(model, model.config, TOKENIZER) for model in (quiet, noisy))
    sampling = SampleConfig(max_tokens=20, seed=1)
    assert first.generate(["ab"], sampling) == second.generate(["ab"], sampling)


def test_max_tokens_is_the_number_of_new_tokens():
    for n in (0, 1, 7, 30):
        assert len(text_generator().generate(["a"], SampleConfig(max_tokens=n))[0]) == n


def test_zero_tokens_give_empty_texts_without_calling_the_model():
    generator, model = alphabet_generator()
    nothing = SampleConfig(prompt="a", max_tokens=0)
    assert generator.generate(["a", "b"], nothing) == ["", ""]
    assert "".join(generator.stream(nothing)) == ""
    assert generator.generate([], SampleConfig()) == []
    assert model.calls == 0


@pytest.mark.parametrize(
    ("characters", "default"), [("\nab", "\n"), ("ab\n", "\n"), ("xyz", "x"), (" ", " ")]
)
def test_an_empty_prompt_starts_from_a_newline_or_the_first_character(characters, default):
    model = noisy_model("learned", context=8, vocab_size=len(characters))
    generator = TextGenerator(model, model.config, CharTokenizer(characters))
    sampling = SampleConfig(max_tokens=9)  # its prompt is empty by default
    assert generator.generate([""], sampling) == generator.generate([default], sampling)
    assert ["".join(generator.stream(sampling))] == generator.generate([default], sampling)


def test_a_character_outside_the_vocabulary_is_refused_by_name():
    with pytest.raises(UsageError, match=r"unknown character '\?' .*at index 1"):
        text_generator().generate(["ab", "a?"], SampleConfig())


# --- Unicode normal forms -----------------------------------------------------------------------

NFC, NFD = "caf\u00e9", "cafe\u0301"  # the same word: one code point for the last letter, or two


def accented_generator(trained_on: str) -> TextGenerator:
    """A model of a vocabulary that holds the accent in one form only."""
    tokenizer = CharTokenizer.train(f"{trained_on}\n")
    model = noisy_model("modern", context=8, vocab_size=tokenizer.vocab_size)
    return TextGenerator(model, model.config, tokenizer)


@pytest.mark.parametrize(("trained_on", "typed"), [(NFC, NFD), (NFD, NFC)])
def test_a_prompt_is_encoded_in_the_normal_form_of_the_vocabulary(trained_on, typed):
    generator, sampling = accented_generator(trained_on), SampleConfig(max_tokens=9)
    assert generator.encode(typed) == generator.tokenizer.encode(trained_on)
    assert generator.generate([typed], sampling) == generator.generate([trained_on], sampling)


@pytest.mark.parametrize(("trained_on", "typed"), [(NFC, NFD), (NFD, NFC)])
def test_a_stop_string_is_found_in_the_normal_form_of_the_vocabulary(trained_on, typed):
    generator = accented_generator(trained_on)
    sampling = SampleConfig(prompt="c", max_tokens=60, temperature=2.0, seed=4)
    text = "".join(generator.stream(sampling))
    last, typed_last = trained_on.removeprefix("caf"), typed.removeprefix("caf")
    assert last in text  # so a stop string has something to find
    stopped = "".join(generator.stream(replace(sampling, stop=(typed_last,))))
    assert stopped == text[: text.index(last)]


def test_text_that_is_known_in_both_forms_stays_as_it_was_typed():
    tokenizer = CharTokenizer.train(NFC + NFD)
    assert match_vocabulary(NFC, tokenizer) == NFC
    assert match_vocabulary(NFD, tokenizer) == NFD


@pytest.mark.parametrize("typed", [NFC, NFD])
def test_text_that_is_known_in_neither_form_is_refused_as_it_was_typed(typed):
    assert match_vocabulary(typed, CharTokenizer("caf")) == typed
    with pytest.raises(UsageError, match=r"unknown character '[e\u00e9]"):
        accented_generator("caf").encode(typed)


# --- tokens made of bytes -----------------------------------------------------------------------


class Script(nn.Module):
    """Generates these ids one after the other, whatever the prompt; a model of one position."""

    def __init__(self, ids: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        self.ids = list(ids)
        self.weight = nn.Parameter(torch.eye(vocab_size))
        self.n_calls = 0

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        token = self.ids[self.n_calls % len(self.ids)]
        self.n_calls += 1
        if cache is not None:
            cache.advance(tokens.size(1))
        return self.weight[token].expand(*tokens.shape, -1)


def scripted(text: str | bytes, tokenizer: BPETokenizer, n_rows: int = 1) -> TextGenerator:
    """A generator whose model writes this text."""
    ids = list(text) if isinstance(text, bytes) else tokenizer.encode(text)
    script = Script(ids, tokenizer.vocab_size)
    return TextGenerator(script, ModelConfig(tokenizer.vocab_size, 64), tokenizer)


BYTES = BPETokenizer([])
WORDS = train_bpe("the café, 🙂 the café 🙂 the end. " * 9, 290, (EOS,))


@pytest.mark.parametrize("tokenizer", [BYTES, WORDS], ids=["bytes", "merged"])
def test_a_stream_never_shows_half_a_character(tokenizer):
    text = "the café 🙂é一 end"
    generator = scripted(text, tokenizer)
    n = len(tokenizer.encode(text))
    pieces = list(generator.stream(SampleConfig(max_tokens=n, temperature=0)))
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)
    assert len(pieces) == n + 1  # one per token, "" where a character is not complete, and the end


def test_a_text_that_ends_within_a_character_shows_a_replacement_at_the_end():
    generator = scripted("ab🙂".encode()[:4], BYTES)
    assert list(generator.stream(SampleConfig(max_tokens=4, temperature=0))) == [
        *("a", "b", "", ""),
        "\ufffd",
    ]


@pytest.mark.parametrize("stop", ["é", "🙂", "fé 🙂", "é,", "nd", "the end", "\ufffd"])
@pytest.mark.parametrize("tokenizer", [BYTES, WORDS], ids=["bytes", "merged"])
def test_a_stop_string_is_found_across_tokens_and_bytes(tokenizer, stop):
    text = "the café 🙂 the end."
    n = len(tokenizer.encode(text))
    sampling = SampleConfig(max_tokens=n, temperature=0, stop=stop)
    expected = text[: text.index(stop)] if stop in text else text
    assert "".join(scripted(text, tokenizer).stream(sampling)) == expected


def test_any_prompt_is_known_and_an_empty_one_is_a_newline():
    model = noisy_model("modern", context=8, vocab_size=WORDS.vocab_size)
    generator = TextGenerator(model, model.config, WORDS)
    assert generator.encode("") == WORDS.encode("\n") == [10]
    sampling = SampleConfig(max_tokens=5, temperature=0)
    prompts = ["Жук 🙂", NFD, f"{EOS}"]
    texts = generator.generate(prompts, sampling)
    for prompt, text in zip(prompts, texts, strict=True):
        assert text == WORDS.decode(simple_loop(model, 8, WORDS.encode(prompt), 5))


# --- stop strings -------------------------------------------------------------------------------


def alphabet(prompt: str, max_tokens: int, stop: Sequence[str], context: int = 8) -> str:
    """The generated text, which runs through the alphabet."""
    sampling = SampleConfig(max_tokens=max_tokens, temperature=0, stop=tuple(stop))
    return alphabet_generator(context)[0].generate([prompt], sampling)[0]


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ([], "bcdefghij\nabcdefghij\nab"),
        ([""], "bcdefghij\nabcdefghij\nab"),
        (["b"], ""),
        (["f"], "bcde"),
        (["fgh"], "bcde"),
        (["j\na"], "bcdefghi"),
        (["ab"], "bcdefghij\n"),  # the a of the prompt does not count
        (["fx"], "bcdefghij\nabcdefghij\nab"),
        (["abc"], "bcdefghij\n"),
        (["bx"], "bcdefghij\nabcdefghij\nab"),  # the last b was held back, then released
        (["hi", "fgh", "x"], "bcde"),
        (["efgh", "g"], "bcdef"),  # g is complete first
    ],
)
@pytest.mark.parametrize("context", [1, 3, 8])
def test_a_text_ends_before_the_stop_string(stop, text, context):
    assert alphabet("a", 23, stop, context) == text


def test_the_stop_string_is_recognized_with_its_last_character():
    generator, model = alphabet_generator()
    sampling = SampleConfig(prompt="a", temperature=0, stop=("fgh",))
    assert list(generator.stream(sampling)) == ["b", "c", "d", "e", "", "", ""]
    assert model.calls == 7  # b to h and no more


def test_each_row_of_a_batch_stops_by_itself_and_generation_ends_with_the_last():
    generator, model = alphabet_generator()
    sampling = SampleConfig(temperature=0, stop=("ef",))
    assert generator.generate(["a", "c", "e", "\n"], sampling) == [
        "bcd",
        "d",
        "fghij\nabcd",
        "abcd",
    ]
    assert model.calls == 12  # as many as the third row needs


def test_text_held_back_is_shown_when_the_tokens_run_out():
    for n in range(8):
        assert alphabet("a", n, stop=["bcdefghx"]) == "bcdefgh"[:n]


# --- beam search --------------------------------------------------------------------------------


def test_one_beam_writes_the_greedy_text():
    generator, prompts = text_generator(), ["a", "bcdefghi", ""]
    greedy_texts = generator.generate(prompts, SampleConfig(temperature=0, max_tokens=25))
    assert generator.generate(prompts, SampleConfig(beams=1, max_tokens=25)) == greedy_texts
    assert list(generator.stream(SampleConfig(prompt="a", beams=1, max_tokens=25))) == [
        greedy_texts[0]
    ]


def test_the_best_texts_of_each_prompt_are_those_of_beam_search():
    generator, prompts = text_generator(), ["a", "bcd"]
    sampling = SampleConfig(beams=4, num_samples=3, max_tokens=5)
    model = generator.model

    @torch.inference_mode()
    def next_logits(sequences: list[list[int]]) -> Tensor:
        return torch.stack([model(torch.tensor([tokens]))[0, -1] for tokens in sequences])

    found = generator.search(prompts, sampling)
    for prompt, texts in zip(prompts, found, strict=True):
        beams = beam_search(next_logits, TOKENIZER.encode(prompt), 4, 5, never_ends)
        assert texts == [TOKENIZER.decode(beam.tokens) for beam in beams[:3]]
    assert generator.generate(prompts, sampling) == [texts[0] for texts in found]


@pytest.mark.parametrize("stop", [("a",), ("ab", "ff", "jh"), ("f", "gh", "")])
def test_a_beam_ends_where_its_text_has_a_stop_string(stop):
    generator = text_generator()
    sampling = SampleConfig(beams=5, num_samples=5, max_tokens=12, stop=stop, length_penalty=-1.0)
    (texts,) = generator.search(["b"], sampling)
    assert len(set(texts)) == len(texts) == 5
    assert not any(end in text for text in texts for end in stop if end)
    assert any(len(text) < 12 - 2 for text in texts)


def test_beams_find_nothing_to_add_when_no_tokens_are_asked_for():
    assert text_generator().search(["a"], SampleConfig(beams=3, max_tokens=0)) == [[""]]

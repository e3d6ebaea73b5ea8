"""The generator against a loop so plain that one can see it is right.

The plain loop takes one text at a time, has no cache, and finds its window by growing the text
token by token. Weights are drawn wide, so that attention matters and texts vary: fresh ones would
make all logits equal. In float64 the tokens must be the same, in float32 the logits agree to 1e-4.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from decoding_loop import BatchDecoder, generate_tokens, window_start
from generator import TextGenerator, choose_with
from greedy import greedy
from parts import Parts
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
    """A model of two layers whose weights are anything but the first ones."""
    options = {"tie_weights": False, **MODELS[name]}
    config = ModelConfig(vocab_size, context, d_model=8, n_layers=2, n_heads=4, **options)
    model = TinyTransformerLM(config, parts)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(model.named_parameters()):
        spread = 0.5 if parameter.dim() > 1 else 0.1  # large biases would always win
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model.to(dtype).eval()


def random_prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed + 100 * length)
    return torch.randint(V, (length,), generator=generator).tolist()


def uneven_prompts(context: int) -> list[list[int]]:
    """Shorter than the context, as long, longer, and by one; two of them equally long."""
    lengths = [1, context - 1, context, context, context + 1, 2 * context + 3]
    return [random_prompt(length, seed) for seed, length in enumerate(lengths) if length > 0]


def plain_window(length: int, context: int) -> int:
    """Let a text grow to this length; where it no longer fits, forget half a context."""
    start = 0
    for grown in range(length + 1):
        if grown - start > context:
            start += (context + 1) // 2
    return start


@torch.inference_mode()
def plain_loop(model: nn.Module, context: int, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """Continue one text greedily, computing everything anew for every token."""
    text = list(prompt)
    for _ in range(max_tokens):
        window = text[plain_window(len(text), context) :]
        text.append(int(model(torch.tensor([window]))[0, -1].argmax()))
    return text[len(prompt) :]


def continuations(
    model: TinyTransformerLM,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    choose: Callable[[Tensor], Tensor] = greedy,
    use_cache: bool = True,
) -> list[list[int]]:
    """What generate_tokens makes of each prompt."""
    steps = generate_tokens(model, model.config, prompts, max_tokens, choose, use_cache)
    return [list(column) for column in zip(*steps, strict=True)]


# --- windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", range(1, 14))
def test_the_window_is_the_one_of_a_text_that_grows_token_by_token(context):
    for length in range(6 * context):
        assert window_start(length, context) == plain_window(length, context)


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


# --- the same tokens with a cache, without, in a batch and alone --------------------------------


@ALL_MODELS
def test_these_models_look_back_and_vary_what_they_say_so_that_a_wrong_window_shows(name):
    model, prompts = noisy_model(name, context=6), uneven_prompts(6)
    first, other = torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.tensor([[6, 1, 2, 3, 4, 5]])
    assert (model(first) - model(other))[0, -1].abs().max() > 0.1
    assert max(len(set(plain_loop(model, 6, prompt, 20))) for prompt in prompts) > 2


def logits_along(
    model: TinyTransformerLM, prompts: Sequence[Sequence[int]], texts: Tensor, use_cache: bool
) -> Tensor:
    """All logits (steps, B, V) while the prompts grow by these texts (steps, B)."""
    seen: list[Tensor] = []

    def choose(logits: Tensor) -> Tensor:
        seen.append(logits)
        return texts[len(seen) - 1]

    continuations(model, prompts, len(texts), choose, use_cache)
    return torch.stack(seen)


@torch.inference_mode()
def plain_logits(
    model: TinyTransformerLM, prompts: Sequence[Sequence[int]], texts: Tensor
) -> Tensor:
    """The same, with a fresh look at every window."""
    context, rows = model.config.max_seq_len, []
    for prompt, text in zip(prompts, texts.T.tolist(), strict=True):
        grown = [[*prompt, *text[:step]] for step in range(len(text))]
        windows = [tokens[plain_window(len(tokens), context) :] for tokens in grown]
        rows.append(torch.stack([model(torch.tensor([window]))[0, -1] for window in windows]))
    return torch.stack(rows, dim=1)


@ALL_MODELS
def test_the_logits_are_those_of_a_fresh_look_at_every_window(name):
    model, prompts = noisy_model(name, context=6), uneven_prompts(6)
    texts = torch.randint(V, (14, len(prompts)))
    expected = plain_logits(model, prompts, texts)
    for use_cache in (True, False):
        logits = logits_along(model, prompts, texts, use_cache)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-11)


@ALL_MODELS
@pytest.mark.parametrize("parts", [Parts.reference(), Parts.fused()], ids=["reference", "fused"])
def test_in_float32_the_logits_agree_with_and_without_the_cache_to_1e_4(name, parts):
    model, prompts = noisy_model(name, 6, torch.float32, parts), uneven_prompts(6)
    texts = torch.randint(V, (14, len(prompts)))
    cached, whole = (logits_along(model, prompts, texts, use_cache) for use_cache in (True, False))
    torch.testing.assert_close(cached, whole, rtol=0, atol=1e-4)
    exact = logits_along(noisy_model(name, 6), prompts, texts, use_cache=False)
    torch.testing.assert_close(cached.double(), exact, rtol=0, atol=1e-4)


@ALL_MODELS
def test_each_row_of_a_batch_continues_as_the_plain_loop_does_alone(name):
    model, prompts = noisy_model(name, context=6), uneven_prompts(6)
    alone = [plain_loop(model, 6, prompt, 14) for prompt in prompts]
    assert continuations(model, prompts, 14) == alone
    assert continuations(model, prompts, 14, use_cache=False) == alone


@pytest.mark.parametrize("context", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("name", ["learned", "modern"])
def test_small_and_odd_contexts_jump_in_the_same_places(name, context):
    model, prompts, n = noisy_model(name, context), uneven_prompts(context), 2 * context + 5
    alone = [plain_loop(model, context, prompt, n) for prompt in prompts]
    assert continuations(model, prompts, n) == alone
    assert continuations(model, prompts, n, use_cache=False) == alone


@ALL_MODELS
def test_with_one_seed_the_draws_are_the_same_with_and_without_the_cache(name):
    model, prompts = noisy_model(name, context=5), uneven_prompts(5)
    sampling = SampleConfig(temperature=1.2, top_k=9, top_p=0.95, seed=3)
    cached = continuations(model, prompts, 18, choose_with(sampling))
    assert cached == continuations(model, prompts, 18, choose_with(sampling), use_cache=False)
    assert len({tuple(row) for row in cached}) == len(prompts)


# --- the work it takes --------------------------------------------------------------------------


class Counting(nn.Module):
    """A model that remembers the shapes (rows, T) it was asked to compute."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[tuple[int, ...]] = []

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        self.calls.append(tuple(tokens.shape))
        return self.model(tokens, cache)


def expected_calls(lengths: list[int], context: int, max_tokens: int) -> list[tuple[int, int]]:
    """One position a step and row; a prefill, one token short, of the rows whose start moved."""
    calls, starts = [], [-1] * len(lengths)
    for step in range(max_tokens):
        ends = [length + step for length in lengths]
        before, starts = starts, [plain_window(end, context) for end in ends]
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
def test_only_the_rows_whose_window_moved_are_computed_again(lengths, context):
    model = noisy_model("rope", context, torch.float32)
    counting = Counting(model)
    prompts = [random_prompt(length) for length in lengths]
    list(generate_tokens(counting, model.config, prompts, 25, greedy))
    assert counting.calls == expected_calls(lengths, context, 25)


def test_a_long_text_costs_a_few_positions_a_token_and_not_a_context():
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


def test_a_token_is_computed_when_it_is_asked_for_and_not_before():
    model = noisy_model("learned", 8, torch.float32)
    counting = Counting(model)
    steps = generate_tokens(counting, model.config, [[1, 2]], 5, greedy)
    assert counting.calls == []
    next(steps)
    assert counting.calls == [(1, 2)]


def test_no_gradient_is_kept_and_the_caller_s_own_are_not_disturbed():
    model = noisy_model("learned", 8, torch.float32)
    seen = []

    def choose(logits: Tensor) -> Tensor:
        seen.append(logits.requires_grad)
        return greedy(logits)

    for _ in generate_tokens(model, model.config, [[1, 2]], 3, choose):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert seen == [False] * 3


# --- prompts ------------------------------------------------------------------------------------


def test_prompts_are_left_as_they_were():
    prompts = [[1, 2], [3]]
    continuations(noisy_model("learned", 4), prompts, 3)
    assert prompts == [[1, 2], [3]]


@pytest.mark.parametrize("prompts", [[[]], [[1], []]])
def test_a_prompt_without_tokens_is_refused(prompts):
    with pytest.raises(ValueError, match="at least one token"):
        continuations(noisy_model("learned", 4), prompts, 3)


def test_no_prompts_and_no_tokens_are_no_work():
    model = noisy_model("learned", 4)
    assert continuations(model, [], 3) == []
    assert continuations(model, [[1]], 0) == []


def test_next_token_continues_a_text_that_somebody_else_extends():
    model, texts = noisy_model("rope", 4), [[1, 2, 3]]
    decoder = BatchDecoder(model, model.config, texts)
    for token in (5, 6, 7, 8):
        logits = decoder.logits()
        window = texts[0][plain_window(len(texts[0]), 4) :]
        torch.testing.assert_close(logits, model(torch.tensor([window]))[:, -1])
        texts[0].append(token)


# --- the rule that chooses ----------------------------------------------------------------------


def filtered_numpy(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """The probabilities of `config`, token by token: temperature, top-k, top-p, then min-p."""
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
def test_tokens_are_drawn_as_often_as_numpy_reckons(options):
    config = SampleConfig(**options)
    logits = torch.tensor([2.0, -1.0, 1.5, 0.0, 0.5, 1.0, -3.0])
    draws = choose_with(config)(logits.expand(20_000, -1))
    frequencies = torch.bincount(draws, minlength=7).numpy() / 20_000
    expected = filtered_numpy(logits.numpy().astype(np.float64), config)
    np.testing.assert_allclose(frequencies, expected, atol=0.015)
    assert ((frequencies > 0) <= (expected > 0)).all()  # what was filtered is never drawn


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-9}])
def test_temperature_zero_and_the_narrowest_filters_are_greedy(options):
    logits = torch.randn(50, V)
    for seed in range(3):
        choose = choose_with(SampleConfig(seed=seed, **options))
        assert torch.equal(choose(logits), logits.argmax(dim=-1))


def test_a_seed_decides_the_draws_whatever_else_was_drawn():
    logits = torch.randn(50, V)
    first = choose_with(SampleConfig(seed=5))(logits)
    torch.rand(7)
    assert torch.equal(choose_with(SampleConfig(seed=5))(logits), first)
    assert not torch.equal(choose_with(SampleConfig(seed=6))(logits), first)
    choose = choose_with(SampleConfig(seed=5))
    assert torch.equal(choose(logits), first)
    assert not torch.equal(choose(logits), first)  # the second draw is another one


# --- text ---------------------------------------------------------------------------------------

TOKENIZER = CharTokenizer("\nabcdefghij")


def text_generator(name: str = "modern", context: int = 8) -> TextGenerator:
    model = noisy_model(name, context)
    return TextGenerator(model, model.config, TOKENIZER)


class NextLetter(nn.Module):
    """Says that after every character of TOKENIZER comes the next one, round and round."""

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


def test_several_prompts_continue_as_each_does_alone():
    generator, greedily = text_generator(), SampleConfig(temperature=0, max_tokens=25)
    prompts = ["a", "bcdefghi", "\n\n", "abcdefghijabcdefghij", ""]
    together = generator.generate(prompts, greedily)
    assert together == [generator.generate([prompt], greedily)[0] for prompt in prompts]
    model = generator.model
    for prompt, text in zip(prompts, together, strict=True):
        tokens = plain_loop(model, 8, TOKENIZER.encode(prompt or "\n"), 25)
        assert text == TOKENIZER.decode(tokens)


def test_a_stream_is_the_text_that_generate_returns():
    generator = text_generator()
    for stop in (None, "a", "jj", "abc"):
        sampling = SampleConfig(prompt="abc", max_tokens=40, temperature=1.5, seed=2, stop=stop)
        assert ["".join(generator.stream(sampling))] == generator.generate(["abc"], sampling)


def test_a_seed_decides_the_text():
    generator = text_generator()
    texts = [generator.generate(["a"], SampleConfig(max_tokens=20, seed=s))[0] for s in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_the_rows_of_a_batch_draw_for_themselves():
    texts = text_generator().generate(["a"] * 4, SampleConfig(max_tokens=20, temperature=1.0))
    assert len(set(texts)) == 4


def test_dropout_is_off_while_text_is_made():
    quiet = noisy_model("learned", 8)
    noisy = TinyTransformerLM(replace(quiet.config, dropout=0.5)).double()
    noisy.load_state_dict(quiet.state_dict())
    tokens = torch.tensor([TOKENIZER.encode("ab")])
    assert not torch.equal(noisy.train()(tokens), quiet(tokens))
    first, second = (TextGenerator(model, model.config, TOKENIZER) for model in (quiet, noisy))
    sampling = SampleConfig(max_tokens=20, seed=1)
    assert first.generate(["ab"], sampling) == second.generate(["ab"], sampling)


def test_as_many_tokens_come_as_were_asked_for():
    for n in (0, 1, 7, 30):
        assert len(text_generator().generate(["a"], SampleConfig(max_tokens=n))[0]) == n


def test_no_tokens_are_empty_texts_and_the_model_is_not_asked():
    generator, model = alphabet_generator()
    nothing = SampleConfig(prompt="a", max_tokens=0)
    assert generator.generate(["a", "b"], nothing) == ["", ""]
    assert "".join(generator.stream(nothing)) == ""
    assert generator.generate([], SampleConfig()) == []
    assert model.calls == 0


@pytest.mark.parametrize(
    ("characters", "opening"), [("\nab", "\n"), ("ab\n", "\n"), ("xyz", "x"), (" ", " ")]
)
def test_an_empty_prompt_starts_a_new_line_or_from_the_first_character(characters, opening):
    model = noisy_model("learned", context=8, vocab_size=len(characters))
    generator = TextGenerator(model, model.config, CharTokenizer(characters))
    sampling = SampleConfig(max_tokens=9)  # whose prompt is empty unless one gives another
    assert generator.generate([""], sampling) == generator.generate([opening], sampling)
    assert ["".join(generator.stream(sampling))] == generator.generate([opening], sampling)


def test_a_character_that_the_model_does_not_know_is_refused_by_name():
    with pytest.raises(UsageError, match=r"unknown character '\?' .*at index 1"):
        text_generator().generate(["ab", "a?"], SampleConfig())


# --- stop texts ---------------------------------------------------------------------------------


def alphabet(prompt: str, max_tokens: int, stop: str | None, context: int = 8) -> str:
    """What the generator makes of the alphabet."""
    sampling = SampleConfig(max_tokens=max_tokens, temperature=0, stop=stop)
    return alphabet_generator(context)[0].generate([prompt], sampling)[0]


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (None, "bcdefghij\nabcdefghij\nab"),
        ("", "bcdefghij\nabcdefghij\nab"),
        ("b", ""),
        ("f", "bcde"),
        ("fgh", "bcde"),
        ("j\na", "bcdefghi"),
        ("ab", "bcdefghij\n"),  # the a of the prompt does not count
        ("fx", "bcdefghij\nabcdefghij\nab"),
        ("abc", "bcdefghij\n"),
        ("bx", "bcdefghij\nabcdefghij\nab"),  # the last b was held back for nothing
    ],
)
@pytest.mark.parametrize("context", [1, 3, 8])
def test_a_text_ends_before_the_stop_text(stop, text, context):
    assert alphabet("a", 23, stop, context) == text


def test_the_stop_text_is_seen_as_soon_as_it_is_whole():
    generator, model = alphabet_generator()
    sampling = SampleConfig(prompt="a", temperature=0, stop="fgh")
    assert list(generator.stream(sampling)) == ["b", "c", "d", "e", "", "", ""]
    assert model.calls == 7  # b to h, and not one more


def test_in_a_batch_every_row_ends_for_itself_and_the_last_ends_them_all():
    generator, model = alphabet_generator()
    sampling = SampleConfig(temperature=0, stop="ef")
    assert generator.generate(["a", "c", "e", "\n"], sampling) == [
        "bcd",
        "d",
        "fghij\nabcd",
        "abcd",
    ]
    assert model.calls == 12  # as many as the third row needs


def test_what_was_held_back_is_shown_when_the_tokens_run_out():
    for n in range(8):
        assert alphabet("a", n, stop="bcdefghx") == "bcdefgh"[:n]

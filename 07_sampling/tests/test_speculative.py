"""speculative.py: the distribution is the target's, whatever the draft; and the greedy text too."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import speculative
from cached_sequence import CachedSequence, common_prefix
from decoding_loop import generate_tokens
from distribution import distribution_after
from generator import TextGenerator, choose_with
from penalties import TokenCounts
from speculative import (
    Draft,
    acceptance_probability,
    residual_distribution,
    single_tokens,
    speculative_tokens,
    verify,
)
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig, SampleConfig
from utils.errors import UsageError

V = 4


def distributions(*shape: int, seed: int = 0, zeros: bool = False) -> Tensor:
    """Random distributions over V tokens, in float64; some probabilities may be 0."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(*shape, V, generator=generator, dtype=torch.float64)
    if zeros:
        logits[..., 0].masked_fill_(torch.rand(shape, generator=generator) < 0.7, -math.inf)
    return logits.softmax(dim=-1)


def chi_squared_is_plausible(counts: Sequence[int], probabilities: Sequence[float]) -> bool:
    """Pearson's test: would these counts come from these probabilities, once in a thousand?

    Wilson and Hilferty's approximation of the critical value, within 1% for the sizes used here.
    """
    observed, expected = np.array(counts), np.array(probabilities) * sum(counts)
    assert observed[expected == 0].sum() == 0, "a token of probability zero was drawn"
    observed, expected = observed[expected > 0], expected[expected > 0]
    assert expected.min() >= 5, "too few draws for this test"
    statistic = ((observed - expected) ** 2 / expected).sum()
    df = len(expected) - 1
    critical = df * (1 - 2 / (9 * df) + 3.09 * math.sqrt(2 / (9 * df))) ** 3
    return bool(statistic < critical)


# --- the two formulas ---------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [False, True])
def test_a_draft_is_accepted_with_probability_p_over_q_and_never_above_one(zeros):
    p, q = distributions(200, seed=1, zeros=zeros), distributions(200, seed=2, zeros=zeros)
    accept = acceptance_probability(p, q)
    for (b, v), found in np.ndenumerate(accept.numpy()):
        of_q = q[b, v].item()
        assert found == pytest.approx(min(1, p[b, v].item() / of_q) if of_q > 0 else 1)


def test_the_residual_is_what_p_has_more_than_q_normalized():
    p, q = distributions(200, seed=1), distributions(200, seed=2)
    excess = np.maximum(0, p.numpy() - q.numpy())
    expected = excess / excess.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(residual_distribution(p, q).numpy(), expected, atol=1e-12)


def test_where_p_equals_q_the_residual_is_p_and_not_nan():
    p, q = distributions(3, seed=1), distributions(3, seed=2)
    q[1] = p[1]
    residual = residual_distribution(p, q)
    assert torch.equal(residual[1], p[1])
    torch.testing.assert_close(residual.sum(-1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("zeros", [False, True])
def test_accepted_and_residual_tokens_together_are_distributed_as_p(zeros):
    # The proof of the paper, as an equation: q min(1, p / q) + P(rejection) residual = p
    p, q = distributions(500, seed=3, zeros=zeros), distributions(500, seed=4, zeros=zeros)
    accepted = q * acceptance_probability(p, q)
    rejection = 1 - accepted.sum(dim=-1, keepdim=True)
    together = accepted + rejection * residual_distribution(p, q)
    torch.testing.assert_close(together, p, rtol=0, atol=1e-12)


def test_the_inputs_are_not_modified():
    p, q, drafted = distributions(3, seed=1), distributions(2, seed=2), torch.tensor([0, 1])
    before = p.clone(), q.clone(), drafted.clone()
    residual_distribution(p[:2], q)
    acceptance_probability(p[:2], q)
    verify(drafted, q, p)
    assert all(torch.equal(a, b) for a, b in zip((p, q, drafted), before, strict=True))


# --- one round ----------------------------------------------------------------------------------


def first_tokens(n_draws: int, p: Tensor, q: Tensor, seed: int) -> list[int]:
    """How often each token comes first, when one is drafted from q and checked against p."""
    generator = torch.Generator().manual_seed(seed)
    drafts = torch.multinomial(q, n_draws, replacement=True, generator=generator)
    both = torch.stack([p, p])
    tokens = [int(verify(x[None], q[None], both, generator)[0]) for x in drafts]
    return [Counter(tokens)[v] for v in range(V)]


@pytest.mark.parametrize("seed", range(4))
def test_the_first_token_of_a_round_is_distributed_as_the_target_says(seed):
    p, q = distributions(2, seed=seed, zeros=True)
    assert chi_squared_is_plausible(first_tokens(10_000, p, q, seed), p.tolist())


WRONG_RULES: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "a new draw from p": ("residual_distribution", lambda p, q: p),
    "accept with p": ("acceptance_probability", lambda p, q: p),
    "accept always": ("acceptance_probability", lambda p, q: torch.ones_like(p)),
    "accept if p >= q": ("acceptance_probability", lambda p, q: (p >= q).to(p.dtype)),
}


@pytest.mark.parametrize(("name", "rule"), WRONG_RULES.values(), ids=WRONG_RULES)
def test_the_same_number_of_draws_shows_that_other_rules_are_wrong(name, rule, monkeypatch):
    p, q = distributions(2, seed=0)
    monkeypatch.setattr(speculative, name, rule)
    assert not chi_squared_is_plausible(first_tokens(10_000, p, q, 0), p.tolist())


def test_a_draft_from_the_target_itself_is_accepted_whole():
    p = distributions(4, seed=5)
    drafted = torch.tensor([0, 3, 1])
    for _ in range(50):
        tokens = verify(drafted, p[:3], p)
        assert tokens[:3].tolist() == [0, 3, 1] and len(tokens) == 4


def test_a_token_that_the_target_excludes_is_rejected_and_what_follows_is_dropped():
    q = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    p = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert verify(torch.tensor([1, 0, 0]), q, p).tolist() == [1, 2]


def test_without_a_draft_one_token_is_drawn_from_p():
    p = torch.tensor([[0.0, 1.0, 0.0]])
    assert verify(torch.tensor([], dtype=torch.long), p[:0], p).tolist() == [1]


# --- whole texts --------------------------------------------------------------------------------


class Table:
    """A toy model: its logits depend on the last two tokens; instead of a CachedSequence."""

    def __init__(self, seed: int, spread: float = 1.5) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = spread * torch.randn(V, V, V, generator=generator)

    def logits(self, sequence: Sequence[int], n: int) -> Tensor:
        ends = [sequence[: len(sequence) - back] for back in reversed(range(n))]
        return torch.stack([self.table[tokens[-2], tokens[-1]] for tokens in ends])

    def room(self, length: int) -> int:
        return 100

    def probabilities(self, before: Sequence[int], sampling: SampleConfig) -> Tensor:
        return distribution_after([], sampling)(self.logits(before, 1), [[]])[0]


def drawn_texts(
    n_draws: int, target: Table, draft: Table, sampling: SampleConfig, n_draft: int
) -> Counter[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(1)
    found: Counter[tuple[int, ...]] = Counter()
    for _ in range(n_draws):
        rounds = speculative_tokens(
            cast(CachedSequence, target),
            cast(CachedSequence, draft),
            [0, 1],
            sampling.max_tokens,
            distribution_after([0, 1], sampling),
            n_draft,
            generator,
        )
        found[tuple(token for tokens in rounds for token in tokens)] += 1
    return found


def text_probability(target: Table, text: Sequence[int], sampling: SampleConfig) -> float:
    probability, before = 1.0, [0, 1]
    for token in text:
        probability *= target.probabilities(before, sampling)[token].item()
        before.append(token)
    return probability


@pytest.mark.parametrize(
    ("options", "n_draft"),
    [
        ({"temperature": 1.3, "max_tokens": 2}, 1),
        ({"temperature": 1.0, "max_tokens": 3, "top_k": 3}, 2),
        ({"temperature": 1.0, "max_tokens": 4, "top_k": 2}, 5),
    ],
)
def test_texts_are_distributed_as_the_target_alone_would_write_them(options, n_draft):
    target, draft, sampling = Table(1, spread=0.6), Table(2), SampleConfig(**options)
    found = drawn_texts(3000, target, draft, sampling, n_draft)
    texts = list(itertools.product(range(V), repeat=sampling.max_tokens))
    expected = [text_probability(target, text, sampling) for text in texts]
    assert sum(expected) == pytest.approx(1, abs=1e-5)
    # Rare texts are counted together, so that each class expects enough draws.
    common = [
        (found[t], e) for t, e in zip(texts, expected, strict=True) if e * 3000 >= 5 or e == 0
    ]
    rest = 3000 - sum(n for n, _ in common), 1 - sum(e for _, e in common)
    classes = [*common, rest] if rest[1] * 3000 >= 5 else common
    counts, shares = zip(*classes, strict=True)
    assert chi_squared_is_plausible(counts, [share / sum(shares) for share in shares])


CONTEXT = 6


def noisy_model(seed: int, context: int = CONTEXT, **options: Any) -> TinyTransformerLM:
    """A small model in float64 whose weights are far from their initial values."""
    layout = {"d_model": 8, "n_layers": 2, "n_heads": 4, "tie_weights": False, **options}
    model = TinyTransformerLM(ModelConfig(7, context, **layout))
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        spread = 0.5 if parameter.dim() > 1 else 0.1
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def plain_tokens(model: TinyTransformerLM, prompt: list[int], sampling: SampleConfig) -> list[int]:
    counts = TokenCounts.of_prompts([prompt], model.config.vocab_size)
    choose = choose_with(sampling, counts)
    steps = generate_tokens(model, model.config, [prompt], sampling.max_tokens, choose)
    return [token for (token,) in steps]


def speculated(
    model: TinyTransformerLM, draft: TinyTransformerLM, prompt: list[int], **options: Any
) -> list[list[int]]:
    """The rounds of greedy speculative decoding."""
    sampling = SampleConfig(**{"temperature": 0.0, "max_tokens": 40, **options})
    return list(
        speculative_tokens(
            CachedSequence(model, model.config),
            CachedSequence(draft, draft.config),
            prompt,
            sampling.max_tokens,
            distribution_after(prompt, sampling),
            n_draft=4,
        )
    )


DRAFTS = {
    "another model": {"seed": 2},
    "a smaller one": {"seed": 3, "d_model": 4, "n_layers": 1, "n_heads": 1},
    "a shorter context": {"seed": 2, "context": 3},
    "a longer context": {"seed": 2, "context": 20, "position": "alibi"},
    "the same model": {"seed": 1},
}
PROMPTS = pytest.mark.parametrize("prompt", [[1], [2, 5, 0], [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3]])


@PROMPTS
@pytest.mark.parametrize("layout", [{"position": "rope", "n_kv_heads": 2}, {}])
@pytest.mark.parametrize("draft", DRAFTS)
def test_greedy_texts_are_those_of_the_target_alone(draft, layout, prompt):
    model = noisy_model(1, **layout)
    rounds = speculated(model, noisy_model(**DRAFTS[draft]), prompt)
    plain = plain_tokens(model, prompt, SampleConfig(temperature=0, max_tokens=40))
    assert [token for tokens in rounds for token in tokens] == plain
    assert all(1 <= len(tokens) <= 5 for tokens in rounds)


@PROMPTS
def test_with_penalties_too(prompt):
    options: dict[str, Any] = {
        "repetition_penalty": 1.4,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.2,
    }
    model = noisy_model(1)
    rounds = speculated(model, noisy_model(2), prompt, **options)
    plain = plain_tokens(model, prompt, SampleConfig(temperature=0, max_tokens=40, **options))
    assert [token for tokens in rounds for token in tokens] == plain
    assert plain != plain_tokens(model, prompt, SampleConfig(temperature=0, max_tokens=40))


def test_a_perfect_draft_gives_n_plus_one_tokens_for_each_pass():
    model = noisy_model(1, context=64)
    n_passes = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal n_passes
        n_passes += 1

    model.register_forward_pre_hook(count)
    rounds = speculated(model, noisy_model(1, context=64), [1], max_tokens=40)
    assert [len(tokens) for tokens in rounds] == [5] * 8
    assert n_passes == 8


@pytest.mark.parametrize("max_tokens", [0, 1, 2, 5, 6])
def test_max_tokens_is_the_number_of_new_tokens(max_tokens):
    model = noisy_model(1)
    rounds = speculated(model, model, [1], max_tokens=max_tokens)
    assert sum(map(len, rounds)) == max_tokens


def test_an_empty_prompt_and_an_empty_draft_are_refused():
    model = CachedSequence(noisy_model(1), noisy_model(1).config)
    distribution = distribution_after([], SampleConfig())
    with pytest.raises(ValueError, match="at least one token"):
        list(speculative_tokens(model, model, [], 3, distribution))
    with pytest.raises(UsageError, match="0 drafted tokens are not a draft"):
        list(speculative_tokens(model, model, [1], 3, distribution, n_draft=0))


# --- one model along one sequence ---------------------------------------------------------------


def window(sequence: list[int], context: int) -> list[int]:
    start = 0
    while len(sequence) - start > context:
        start += (context + 1) // 2
    return sequence[start:]


@pytest.mark.parametrize("position", ["learned", "rope"])
@pytest.mark.parametrize("context", [1, 2, 5, 6, 9])
def test_after_any_change_of_the_sequence_the_logits_are_those_of_a_fresh_pass(context, position):
    model = noisy_model(1, context, position=position)
    cached = CachedSequence(model, model.config)
    generator = np.random.default_rng(0)
    sequence = [1]
    with torch.inference_mode():
        for _ in range(60):
            kept = int(generator.integers(max(0, len(sequence) - 3), len(sequence) + 1))
            new = generator.integers(7, size=generator.integers(1, 4)).tolist()
            sequence = sequence[:kept] + new
            seen = window(sequence, context)
            n = int(generator.integers(1, len(seen) + 1))
            expected = model(torch.tensor([seen]))[0, -n:]
            torch.testing.assert_close(cached.logits(sequence, n), expected, rtol=0, atol=1e-11)
            room = cached.room(len(sequence))
            assert window([*sequence, *[0] * room], context)[: len(seen)] == seen
            assert len(window([*sequence, *[0] * (room + 1)], context)) <= context


def test_only_what_changed_is_computed():
    model, n_positions = noisy_model(1, context=20), []
    model.register_forward_pre_hook(lambda _, inputs: n_positions.append(inputs[0].numel()))
    cached = CachedSequence(model, model.config)
    with torch.inference_mode():
        for sequence, n in (([1, 2, 3], 1), ([1, 2, 3, 4, 5], 2), ([1, 2, 6], 1), ([1, 2, 6], 1)):
            cached.logits(sequence, n)
    assert n_positions == [3, 2, 1, 1]


@pytest.mark.parametrize("n", [0, 4, -1])
def test_more_logits_than_tokens_are_refused(n):
    model = noisy_model(1)
    with pytest.raises(ValueError, match=f"holds 3 tokens, not {n}"):
        CachedSequence(model, model.config).logits([1, 2, 3], n)


def test_the_common_prefix_ends_at_the_first_difference():
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([1, 2], [1, 2, 3]) == common_prefix([1, 2, 3], [1, 2]) == 2
    assert common_prefix([], [1]) == common_prefix([2], [1]) == 0


# --- as text ------------------------------------------------------------------------------------

TOKENIZER = CharTokenizer("\nabcdef")


def text_generators() -> tuple[TextGenerator, TextGenerator]:
    """The same model, without and with a draft."""
    model, small = noisy_model(1, context=16), noisy_model(2, context=16).train()
    plain = TextGenerator(model, model.config, TOKENIZER)
    return plain, TextGenerator(model, model.config, TOKENIZER, draft=Draft(small, small.config))


def test_a_generator_with_a_draft_writes_the_same_greedy_text_up_to_the_stop_string():
    plain, drafting = text_generators()
    whole = SampleConfig(prompt="abc", temperature=0, max_tokens=50)
    (text,) = plain.generate(["abc"], whole)
    assert ["".join(drafting.stream(whole))] == drafting.generate(["abc"], whole) == [text]
    stopped = SampleConfig(prompt="abc", temperature=0, max_tokens=50, stop=(text[20:23],))
    assert "".join(drafting.stream(stopped)) == text[: text.index(text[20:23])]
    assert drafting.draft and not drafting.draft.model.training


def test_a_seed_decides_the_text_and_each_prompt_has_its_own():
    _, drafting = text_generators()
    sampling = SampleConfig(temperature=1.0, max_tokens=30, seed=4)
    texts = drafting.generate(["a", "a", "b"], sampling)
    assert texts == drafting.generate(["a", "a", "b"], sampling)
    assert texts[0] != texts[1]
    assert texts[2] == drafting.generate(["b"], SampleConfig(**{**vars(sampling), "seed": 6}))[0]


def test_single_tokens_are_those_of_the_rounds():
    model, small = noisy_model(1), noisy_model(2)
    sampling = SampleConfig(temperature=0, max_tokens=20)
    target = CachedSequence(model, model.config)
    found = list(single_tokens(target, Draft(small, small.config, 3), [1, 2], sampling))
    assert found == [[token] for token in plain_tokens(model, [1, 2], sampling)]

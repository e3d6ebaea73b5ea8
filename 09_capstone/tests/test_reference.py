"""reference.md: its losses against NumPy in float64, and every number that no block prints.

The blocks of the page run once; the functions that they define are tested here. What a loss should
be is written a second time in NumPy, gradients are compared with finite differences, and limits
with what is known: log 2 at equal policies, no pull beyond the clip, advantages that sum to 0.
"""

import contextlib
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import PRESETS
from model_arithmetic import MODELS, active_parameters, kv_cache_bytes, parameter_count
from tools.checks.links import slug_of
from tools.checks.pages import blocks_of

PATH = Path(__file__).resolve().parents[1] / "reference.md"
PAGE = PATH.read_text(encoding="utf-8")
BENCHMARKS = (PATH.parent / "BENCHMARKS.md").read_text(encoding="utf-8")
PROSE = " ".join(re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL).split())


@pytest.fixture(scope="module")
def page() -> SimpleNamespace:
    """What the blocks of the page define."""
    namespace: dict[str, Any] = {"__name__": "reference"}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks_of(PAGE):
            exec(compile(block.code, str(PATH), "exec"), namespace)  # the page is ours
    return SimpleNamespace(**namespace)


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(0)


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, dtype=float)))


def assert_gradient(loss: Callable[[Tensor], Tensor], at: np.ndarray) -> None:
    """Autograd's gradient is that of central differences."""
    x = tensor(at).requires_grad_()
    loss(x).backward()
    assert x.grad is not None
    numeric = np.zeros_like(at)
    for i in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[i] = 1e-6
        numeric[i] = (loss(tensor(at + step)) - loss(tensor(at - step))).item() / 2e-6
    np.testing.assert_allclose(x.grad.numpy(), numeric, rtol=1e-6, atol=1e-8)


# --- supervised fine-tuning ---


def test_token_log_probs_are_those_of_the_tokens_that_came(page: SimpleNamespace) -> None:
    tokens = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    with torch.no_grad():
        ours = page.token_log_probs(page.policy, tokens)
        logits = page.policy(tokens).double().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for row in range(2):
        for t in range(4):
            expected = math.log(probabilities[row, t, tokens[row, t + 1]])
            assert ours[row, t].item() == pytest.approx(expected, abs=1e-4)


def test_the_sft_loss_is_the_mean_over_all_answer_tokens(page: SimpleNamespace) -> None:
    log_probs = tensor([[-9.0, -1.0, -2.0, -3.0], [-9.0, -9.0, -9.0, -6.0]])
    mask = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1]]).bool()
    assert page.sft_loss(log_probs, mask).item() == 3  # 12 / 4; a mean of means is 4
    log_probs[:, 0] = -100.0  # the prompts
    assert page.sft_loss(log_probs, mask).item() == 3


# --- reward models ---


def test_the_reward_loss_is_that_of_bradley_and_terry(
    page: SimpleNamespace, numbers: np.random.Generator
) -> None:
    chosen, rejected = numbers.normal(size=(2, 7))
    expected = np.mean(np.log1p(np.exp(rejected - chosen)))
    ours = page.reward_loss(tensor(chosen), tensor(rejected)).item()
    assert ours == pytest.approx(expected, rel=1e-12)
    shifted = page.reward_loss(tensor(chosen + 5), tensor(rejected + 5)).item()
    assert shifted == pytest.approx(expected, rel=1e-12)
    assert page.reward_loss(tensor([2.0]), tensor([2.0])).item() == pytest.approx(math.log(2))
    assert_gradient(lambda x: page.reward_loss(x, tensor(rejected)), chosen)


# --- PPO ---


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.0), (1.0, 1.0), (0.9, 0.8)])
def test_gae_is_the_discounted_sum_of_all_later_errors(
    page: SimpleNamespace, numbers: np.random.Generator, gamma: float, lam: float
) -> None:
    T = 6
    rewards, values = numbers.normal(size=T), np.append(numbers.normal(size=T), 0.0)
    ours = page.gae(tensor(rewards), tensor(values), gamma, lam).numpy()
    errors = rewards + gamma * values[1:] - values[:-1]
    for t in range(T):
        expected = sum((gamma * lam) ** (u - t) * errors[u] for u in range(t, T))
        assert ours[t] == pytest.approx(expected)
    if lam == 1 and gamma == 1:  # the rewards to come, less what was expected
        np.testing.assert_allclose(ours, rewards[::-1].cumsum()[::-1] - values[:-1])


def test_the_ppo_loss_is_its_formula(page: SimpleNamespace, numbers: np.random.Generator) -> None:
    log_probs, old, A = numbers.normal(size=(3, 40))
    rho = np.exp(log_probs - old)
    expected = -np.mean(
        [min(r * a, min(max(r, 0.8), 1.2) * a) for r, a in zip(rho, A, strict=True)]
    )
    ours = page.ppo_loss(tensor(log_probs), tensor(old), tensor(A)).item()
    assert ours == pytest.approx(expected, rel=1e-12)
    assert_gradient(lambda x: page.ppo_loss(x, tensor(old), tensor(A)), log_probs)


@pytest.mark.parametrize(
    ("ratio", "advantage", "pulls"),
    [
        (1.19, 1.0, True),
        (1.21, 1.0, False),  # moved enough
        (0.5, 1.0, True),  # moved the wrong way: still pulled back
        (0.81, -1.0, True),
        (0.79, -1.0, False),
        (2.0, -1.0, True),
    ],
)
def test_ppo_stops_pulling_beyond_the_clip(
    page: SimpleNamespace, ratio: float, advantage: float, pulls: bool
) -> None:
    x = tensor([math.log(ratio)]).requires_grad_()
    page.ppo_loss(x, tensor([0.0]), tensor([advantage])).backward()
    assert x.grad is not None
    expected = -ratio * advantage if pulls else 0.0
    assert x.grad.item() == pytest.approx(expected)


def test_what_the_page_says_of_the_kl_estimators() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    d = np.log(q / p)
    kl = np.sum(p * np.log(p / q))
    k1, k2, k3 = -d, d**2 / 2, np.exp(d) - 1 - d
    assert p @ k1 == pytest.approx(kl) and p @ k3 == pytest.approx(kl)
    assert abs(p @ k2 - kl) > 1e-4
    assert (k3 >= 0).all() and (k1 < 0).any()
    # "the gradient of k3 is not that of the KL": with samples held fixed, with respect to log p
    # of outcome i it is p_i (1 - q_i / p_i); that of the KL has log(p_i / q_i) in it.
    gradient_k3 = p * (1 - q / p)
    logits = tensor(np.log(p)).requires_grad_()
    policy = logits.softmax(-1)
    (policy * (policy.log() - tensor(np.log(q)))).sum().backward()
    assert logits.grad is not None
    through_softmax = gradient_k3 - p * gradient_k3.sum()
    assert not np.allclose(through_softmax, logits.grad.numpy(), rtol=0.05)


# --- preferences ---


def test_dpo_starts_at_log_2_and_pulls_by_half_of_beta(page: SimpleNamespace) -> None:
    h = tensor([0.0]).requires_grad_()
    loss = page.dpo_loss(h, beta=0.3)
    loss.backward()
    assert h.grad is not None
    assert loss.item() == pytest.approx(math.log(2))
    assert h.grad.item() == pytest.approx(-0.15)


def test_dpo_is_bradley_terry_of_beta_times_the_log_ratios(
    page: SimpleNamespace, numbers: np.random.Generator
) -> None:
    policy_w, policy_l, ref_w, ref_l = numbers.normal(size=(4, 9))
    expected = -np.mean(np.log(sigmoid(0.1 * (policy_w - ref_w) - 0.1 * (policy_l - ref_l))))
    h = (policy_w - ref_w) - (policy_l - ref_l)
    assert page.dpo_loss(tensor(h)).item() == pytest.approx(expected, rel=1e-12)
    assert_gradient(page.dpo_loss, h)


def test_the_tiny_models_of_the_page_have_learned_their_preference(page: SimpleNamespace) -> None:
    with torch.no_grad():
        before = page.answer_log_probs(page.policy).sum(-1)
        after = page.answer_log_probs(page.dpo_policy).sum(-1)
        rewards = page.reward_model(page.tokens)[:, -1, 0]
    assert before[0] < before[1] and after[0] > after[1]
    assert rewards[0] > rewards[1]


def test_ipo_wants_h_at_its_target(page: SimpleNamespace, numbers: np.random.Generator) -> None:
    assert page.ipo_loss(tensor([5.0]), tau=0.1).item() == pytest.approx(0)
    assert page.ipo_loss(tensor([7.0]), tau=0.1).item() == pytest.approx(4)
    h = numbers.normal(size=5)
    assert page.ipo_loss(tensor(h), tau=0.5).item() == pytest.approx(np.mean((h - 1) ** 2))
    assert_gradient(page.ipo_loss, h)


def test_kto_pulls_good_answers_up_and_bad_ones_down(
    page: SimpleNamespace, numbers: np.random.Generator
) -> None:
    r, good, z = numbers.normal(size=6), numbers.random(6) < 0.5, 0.3
    expected = np.mean(
        [1 - sigmoid(0.1 * (x - z) * (1 if g else -1)) for x, g in zip(r, good, strict=True)]
    )
    assert page.kto_loss(tensor(r), torch.tensor(good), tensor(z)).item() == pytest.approx(expected)
    assert page.kto_loss(tensor([z]), torch.tensor([True]), tensor(z)).item() == 0.5
    kl, x = tensor(z).requires_grad_(), tensor([0.0, 0.0]).requires_grad_()
    page.kto_loss(x, torch.tensor([True, False]), kl).backward()
    assert kl.grad is None and x.grad is not None
    assert x.grad[0] < 0 < x.grad[1]
    assert_gradient(lambda v: page.kto_loss(v, torch.tensor(good), tensor(z)), r)


def test_orpo_adds_the_odds_ratio_to_the_likelihood(
    page: SimpleNamespace, numbers: np.random.Generator
) -> None:
    w, el = -numbers.random((2, 5)) - 0.1
    odds = [np.exp(x) / (1 - np.exp(x)) for x in (w, el)]
    expected = np.mean(-w - 0.1 * np.log(sigmoid(np.log(odds[0] / odds[1]))))
    assert page.orpo_loss(tensor(w), tensor(el)).item() == pytest.approx(expected, rel=1e-12)
    same = page.orpo_loss(tensor(w), tensor(w), lam=1.0).item()
    assert same == pytest.approx(-w.mean() + math.log(2))
    assert_gradient(lambda x: page.orpo_loss(x, tensor(el)), w)


def test_simpo_has_a_margin_and_no_reference(
    page: SimpleNamespace, numbers: np.random.Generator
) -> None:
    w, el = numbers.normal(size=(2, 5))
    expected = np.mean(np.log1p(np.exp(-(2 * (w - el) - 1))))
    assert page.simpo_loss(tensor(w), tensor(el)).item() == pytest.approx(expected, rel=1e-12)
    at_margin = page.simpo_loss(tensor([0.5]), tensor([0.0])).item()
    assert at_margin == pytest.approx(math.log(2))
    assert_gradient(lambda x: page.simpo_loss(x, tensor(el)), w)


# --- GRPO ---


def test_group_advantages_sum_to_0_and_have_unit_deviation(
    page: SimpleNamespace, numbers: np.random.Generator
) -> None:
    rewards = numbers.normal(size=(4, 8))
    A = page.group_advantages(tensor(rewards)).numpy()
    np.testing.assert_allclose(A.sum(-1), 0, atol=1e-12)
    np.testing.assert_allclose(A.std(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(page.group_advantages(tensor(3 * rewards + 7)), A, rtol=1e-5)
    assert not page.group_advantages(tensor([[2.0, 2.0, 2.0]])).any()


def test_the_grpo_loss_is_its_formula(page: SimpleNamespace, numbers: np.random.Generator) -> None:
    G, T = 4, 5
    log_probs, old, ref = numbers.normal(size=(3, G, T)) * 0.5
    A, lengths = numbers.normal(size=G), np.array([5, 1, 3, 2])
    mask = np.arange(T) < lengths[:, None]
    expected = 0.0
    for i in range(G):
        total = 0.0
        for t in range(lengths[i]):
            rho = math.exp(log_probs[i, t] - old[i, t])
            d = ref[i, t] - log_probs[i, t]
            surrogate = min(rho * A[i], min(max(rho, 0.8), 1.2) * A[i])
            total += surrogate - 0.04 * (math.exp(d) - 1 - d)
        expected -= total / lengths[i] / G

    def loss(x: Tensor) -> Tensor:
        return page.grpo_loss(x, tensor(old), tensor(ref), tensor(A), torch.tensor(mask))

    assert loss(tensor(log_probs)).item() == pytest.approx(expected, rel=1e-12)
    assert_gradient(loss, log_probs)
    padding = np.where(mask, log_probs, 3.0)
    assert loss(tensor(padding)).item() == pytest.approx(expected, rel=1e-12)


def test_on_its_own_samples_grpo_is_the_policy_gradient(page: SimpleNamespace) -> None:
    start, A = tensor([[-1.0, -2.0], [-0.5, -3.0]]), tensor([1.0, -1.0])
    x = start.clone().requires_grad_()
    loss = page.grpo_loss(x, start, start, A, torch.ones(2, 2))
    loss.backward()
    assert x.grad is not None
    assert loss.item() == pytest.approx(0)  # the advantages sum to 0, the KL is 0
    np.testing.assert_allclose(x.grad.numpy(), [[-0.25, -0.25], [0.25, 0.25]])


# --- the other functions of the page ---


def test_a_quantized_weight_is_off_by_half_a_step_at_most(page: SimpleNamespace) -> None:
    w = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    q = page.quantized(w, bits=4, group=32)
    groups, rounded = w.view(-1, 32), q.view(-1, 32)
    steps = groups.abs().amax(-1, keepdim=True) / 7
    assert ((groups - rounded).abs() <= 0.5 * steps + 1e-6).all()
    assert all(len(row.unique()) <= 15 for row in (rounded / steps).round())


def test_pass_at_k_is_the_mean_over_all_draws(page: SimpleNamespace) -> None:
    from itertools import combinations

    n, c = 7, 2
    for k in (1, 3, 6):
        draws = list(combinations(range(n), k))
        expected = sum(min(draw) < c for draw in draws) / len(draws)
        assert page.pass_at_k(n, c, k) == pytest.approx(expected)
    assert page.pass_at_k(20, 3, 5) > 1 - (1 - 3 / 20) ** 5  # "naive ..., too low"


def test_minhash_estimates_the_jaccard_similarity(page: SimpleNamespace) -> None:
    a = " ".join(str(i) for i in range(60))
    b = " ".join(str(i) for i in range(20, 80))
    sets = page.shingles(a), page.shingles(b)
    jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    signatures = page.signature(a, 1000), page.signature(b, 1000)
    equal = np.mean([x == y for x, y in zip(*signatures, strict=True)])
    assert equal == pytest.approx(jaccard, abs=4 * math.sqrt(jaccard * (1 - jaccard) / 1000))


def test_the_ratings_are_where_the_likelihood_is_flat(page: SimpleNamespace) -> None:
    log_strength = page.strength.log().double().requires_grad_()
    wins = page.wins.double()
    odds = log_strength[:, None] - log_strength
    (-(wins * torch.nn.functional.logsigmoid(odds)).sum()).backward()
    assert log_strength.grad is not None
    np.testing.assert_allclose(log_strength.grad.numpy(), 0, atol=1e-4)


def test_overlap_counts_words_of_shared_n_grams(page: SimpleNamespace) -> None:
    assert page.overlap("a b c d", "x a b c y", 3) == 0.75
    assert page.overlap("a b c d", "a b x c d", 3) == 0
    assert page.overlap("a b c", "a b c", 3) == 1


def test_bits_per_byte_counts_bytes(page: SimpleNamespace) -> None:
    assert page.bits_per_byte(3 * math.log(2), "é") == pytest.approx(1.5)


# --- numbers in tables and sentences ---


def table_below(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its head."""
    rows = re.findall(r"^\|(.*)\|$", section(heading), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows[2:]]


def section(anchor: str) -> str:
    """The text under a heading, subsections included."""
    lines = PAGE.splitlines()
    body: list[str] = []
    level, in_code = 0, False  # 0: not there yet
    for line in lines:
        in_code ^= line.startswith("```")
        heading = None if in_code else re.match(r"(#+) (.*)", line)
        if heading and level and len(heading[1]) <= level:
            break
        if heading and slug_of(heading[2]) == anchor:
            level = len(heading[1])
        if level:
            body.append(line)
    assert body, f"no heading {anchor}"
    return "\n".join(body)


def test_the_table_of_sizes_is_that_of_the_module() -> None:
    rows = [row for row in table_below("sizes") if len(row) == 10]
    shown = {re.sub(r"\[(.*)\]\(.*\)", r"\1", row[0]): row[1:] for row in rows}
    assert list(shown) == list(MODELS)
    for name, model in MODELS.items():
        experts = model.experts
        kv, d_ff, many, width = str(model.n_kv_heads), str(model.d_ff), "", ""
        if model.latent is not None:
            kv = f"latent {model.latent.kv_rank} + {model.latent.d_rope}"
        if experts is not None:
            dense = experts.n_dense_layers
            d_ff = f"{model.d_ff} in {dense} layers" if dense else ""
            shared = f" + {experts.n_shared}" if experts.n_shared else ""
            many, width = f"{experts.n_experts}, takes {experts.k}{shared}", str(experts.width)
        sizes = [model.n_layers, model.d_model, model.n_heads, kv, model.d_head, d_ff]
        assert shown[name] == [*map(str, sizes), str(model.vocab_size), many, width], name


def test_what_is_said_of_the_counts() -> None:
    def in_billions(name: str, count: Callable[..., int]) -> str:
        return f"{count(MODELS[name]) / 1e9:.2f}"

    assert f"Llama 2 7B has {in_billions('Llama 2 7B', parameter_count)} billion" in PROSE
    assert f"3.3B are {in_billions('Qwen3 30B-A3B', active_parameters)}," in PROSE
    assert f"37B are {in_billions('DeepSeek-V3', active_parameters)}," in PROSE
    more = (1416 + 25600) * 1e6 - parameter_count(MODELS["Gemma 3 27B"])
    assert f"has {more / 1e6:.0f} million more" in PROSE
    assert f"has {1152 * 5376 / 1e6:.0f} million." in PROSE
    gemma = MODELS["Gemma 3 27B"]
    assert gemma.window is not None
    local = gemma.n_layers - gemma.n_global_layers
    assert f"{gemma.window:,} tokens in {local} of {gemma.n_layers} layers" in PROSE


def test_what_is_said_of_memory() -> None:
    total = parameter_count(MODELS["Llama 3.1 70B"])
    assert "16 bytes per parameter" in PROSE and "on more than 14 of them" in PROSE
    assert 14 * 80e9 < 16 * total < 15 * 80e9
    assert 16 * total / 1 > 80e9 and 4 * total > 80e9 and 2 * total > 80e9  # "needs stage 3"
    assert "for a third more operations" in PROSE
    assert pytest.approx(4 / 3) == (2 + 4 + 2) / (2 + 4)  # forward, backward, forward again


def test_the_runs_of_llama_405b_multiply_up() -> None:
    rows = re.findall(r"^\| (\d+,\d+ \|.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        cells = [float(cell.strip(" %").replace(",", "")) for cell in row.split("|")]
        gpus, tp, cp, pp, dp, _, rate, mfu = cells
        assert tp * cp * pp * dp == gpus
        assert abs(100 * rate / 989 - mfu) < 1  # the paper rounds the rates


def test_what_is_said_of_the_budgets() -> None:
    preset = PRESETS["full"]
    tokens = preset.batch_size * preset.model.max_seq_len * preset.max_steps
    row = re.search(r"`train.py --preset full` \| 3,181,312 \| .* \| (\d+) s ", BENCHMARKS)
    assert row is not None
    assert f"3,181,312 parameters, {tokens:,} tokens, {row[1]} seconds" in PROSE
    assert 6 * 3_181_312 * tokens / int(row[1]) == pytest.approx(3.6e11, rel=0.02)
    assert pytest.approx(4e14, rel=0.02) == 0.4 * 989e12
    llama = 6 * parameter_count(MODELS["Llama 3.1 405B"]) * 15.6e12
    assert f"it took {llama:.1e}".replace("e+", "e") in PROSE
    assert llama / (16384 * 4e14 * 86400) == pytest.approx(67, abs=0.5)  # "67 days"
    characters = 0.9 * 1_115_394  # the last tenth is for validation
    assert characters / 20 == pytest.approx(50_000, rel=0.01)
    assert pytest.approx(60, rel=0.1) == 3_181_312 / 50_000
    assert "reads the text almost eight times" in PROSE
    assert tokens / characters == pytest.approx(7.96, abs=0.01)
    assert 280 / 70 == 4  # "four times cheaper to use"


def test_the_example_of_littles_law() -> None:
    found = re.search(
        r"(\d+) per second, (\d+) tokens each at (\d+) ms per token, means (\d+)", PROSE
    )
    assert found is not None
    rate, tokens, milliseconds, at_once = map(int, found.groups())
    assert rate * tokens * milliseconds / 1000 == at_once


def test_further_numbers_of_sentences() -> None:
    assert "log 2 = 0.69" in PROSE and f"{math.log(2):.2f}" == "0.69"
    assert "makes 4 bits 4.5" in PROSE and 4 + 16 / 32 == 4.5
    assert "400 points are odds of 10" in PROSE
    assert kv_cache_bytes(MODELS["Llama 3.1 8B"], 1, 1) == 2 * 32 * 8 * 128 * 2


def test_muon_leaves_singular_values_in_the_range_that_the_page_says() -> None:
    assert "between 0.68 and 1.13" in PROSE
    s = np.linspace(0.01, 1, 100_000)  # of the normalized matrix; smaller ones need more steps
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert [f"{s.min():.2f}", f"{s.max():.2f}"] == ["0.68", "1.13"]


def test_the_rules_of_multiple_choice_disagree_as_the_page_says(page: SimpleNamespace) -> None:
    sums, means = [], []
    for option in page.options:
        ids = torch.tensor([page.tokenizer.encode("\n\n" + page.question + option)])
        with torch.no_grad():
            log_probs = page.token_log_probs(page.policy, ids)[0, -len(option) :]
        sums.append(log_probs.sum().item())
        means.append(log_probs.mean().item())
    lengths = [len(option) for option in page.options]
    assert sums.index(max(sums)) == 0 and lengths[0] == min(lengths)
    assert means.index(max(means)) == lengths.index(max(lengths))


# --- finding things ---


def test_a_year_is_that_of_the_papers_number() -> None:
    rows = re.findall(
        r"^\| (\d{4}) \|.*?arxiv\.org/abs/(\d\d)", section("reading-list"), re.MULTILINE
    )
    assert len(rows) > 35
    assert [year for year, number in rows if year != f"20{number}"] == []
    named = re.findall(r"[a-z.] (20\d\d)\]\(https://arxiv\.org/abs/(\d\d)", PROSE)
    assert named and [pair for pair in named if pair[0] != f"20{pair[1]}"] == []


def test_no_paper_has_two_numbers() -> None:
    links = re.findall(r"\[([^\]]+)\]\(https://arxiv\.org/abs/([\d.]+)\)", PROSE)
    numbers: dict[str, set[str]] = {}
    for name, number in links:
        numbers.setdefault(name, set()).add(number)
    assert {name: found for name, found in numbers.items() if len(found) > 1} == {}


def test_the_contents_name_every_section() -> None:
    contents = set(re.findall(r"\]\(#([^)]+)\)", section("contents")))
    headings = re.findall(
        r"^#{2,3} (.+)$", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE
    )
    missing = {slug_of(heading) for heading in headings} - contents - {"contents", "index"}
    assert missing == set()


def test_every_term_of_the_index_stands_in_its_section() -> None:
    entries = re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", section("index"))
    assert len(entries) > 110
    terms = [term.lower() for term, _ in entries]
    assert len(set(terms)) == len(terms)
    for term, anchor in entries:
        text = section(anchor).lower()
        lost = [word for word in re.findall(r"[^\s,]+", term.lower()) if word not in text]
        assert not lost, f"{term}: {lost} not under {anchor}"

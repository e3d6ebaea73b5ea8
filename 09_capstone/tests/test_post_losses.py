"""The losses of post-training, compared with the papers' formulas in NumPy, and by gradcheck.

Each formula is written a second time here, term by term and in float64, without looking at how the
module computes it. test_post_trl.py compares with the trainers of trl, where it is installed.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck

from post_training.dpo import dpo_loss
from post_training.grpo import EPS, group_advantages, grpo_loss, kl_k3, process_advantages
from post_training.ppo import ValueHead, clipped_objective, gae, value_loss
from post_training.reward_model import bradley_terry_loss
from post_training.sft import answer_loss

Array = NDArray[np.float64]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


def log_probs(*shape: int, seed: int) -> Tensor:
    """Log-probabilities between -3 and 0."""
    generator = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(*shape, dtype=torch.float64, generator=generator)


def expect_close(found: Tensor | None, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def differentiable(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.clone().requires_grad_() for tensor in tensors)


ANSWERED = torch.tensor(  # answers of 1, 3 and 4 tokens; the last one begins at once
    [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 1]], dtype=torch.bool
)


# --- SFT ----------------------------------------------------------------------------------------


def cross_entropy_of_answers(logits: Array, tokens: Any, is_answer: Any) -> float:
    """Ouyang et al. 2022: minus the mean of log pi(y_t | prompt, y_<t)."""
    terms = []
    for b, t in zip(*np.nonzero(is_answer), strict=True):
        exponentials = np.exp(logits[b, t - 1])  # of the position before the token
        terms.append(-np.log(exponentials[tokens[b, t]] / exponentials.sum()))
    return float(np.mean(terms))


def test_answer_loss_is_the_cross_entropy_of_the_answers_tokens() -> None:
    logits, tokens = normal(3, 5, 7), torch.randint(7, (3, 5))
    expected = cross_entropy_of_answers(logits.numpy(), tokens.numpy(), ANSWERED.numpy())
    assert answer_loss(logits, tokens, ANSWERED).item() == pytest.approx(expected, rel=1e-12)


def test_answer_loss_has_the_gradient_of_its_numbers() -> None:
    tokens = torch.randint(4, (3, 5))
    (logits,) = differentiable(normal(3, 5, 4))
    assert gradcheck(lambda x: answer_loss(x, tokens, ANSWERED), (logits,))


def test_neither_the_prompt_nor_the_padding_teaches_anything() -> None:
    (logits,) = differentiable(normal(3, 5, 7))
    answer_loss(logits, torch.randint(7, (3, 5)), ANSWERED).backward()
    assert logits.grad is not None
    learned = (logits.grad != 0).any(-1)  # the position before each token of an answer
    assert torch.equal(learned[:, :-1], ANSWERED[:, 1:])
    assert not learned[:, -1].any()


# --- a reward model, and DPO --------------------------------------------------------------------


def test_bradley_terry_loss_is_that_of_the_paper() -> None:
    chosen, rejected = normal(6, seed=1, scale=3), normal(6, seed=2, scale=3)
    p = np.exp(chosen.numpy()) / (np.exp(chosen.numpy()) + np.exp(rejected.numpy()))
    expected = -np.log(p).mean()
    assert bradley_terry_loss(chosen, rejected).item() == pytest.approx(expected, rel=1e-12)
    assert gradcheck(bradley_terry_loss, differentiable(chosen, rejected))


def test_only_differences_of_rewards_count() -> None:
    chosen, rejected = normal(6, seed=1), normal(6, seed=2)
    expect_close(bradley_terry_loss(chosen + 5, rejected + 5), bradley_terry_loss(chosen, rejected))
    assert bradley_terry_loss(chosen, chosen).item() == pytest.approx(math.log(2))


def test_rewards_that_are_far_apart_overflow_nothing() -> None:
    far = torch.tensor([1e4, -1e4])
    assert bradley_terry_loss(far, -far).item() == pytest.approx(1e4)  # (0 + 2e4) / 2


def dpo_of_the_paper(
    chosen: Array, rejected: Array, ref_chosen: Array, ref_rejected: Array, beta: float
) -> float:
    """Rafailov et al. 2023, equation 7, with ratios of probabilities."""
    better = beta * np.log(np.exp(chosen) / np.exp(ref_chosen))
    worse = beta * np.log(np.exp(rejected) / np.exp(ref_rejected))
    return float(-np.log(1 / (1 + np.exp(worse - better))).mean())


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_dpo_loss_is_equation_7(beta: float) -> None:
    given = [normal(5, seed=seed, scale=3) for seed in range(4)]
    expected = dpo_of_the_paper(*(x.numpy() for x in given), beta=beta)
    assert dpo_loss(*given, beta=beta).item() == pytest.approx(expected, rel=1e-12)
    assert gradcheck(lambda *x: dpo_loss(*x, beta=beta), differentiable(*given))


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_dpo_starts_at_log_2_and_pulls_the_two_answers_apart(beta: float) -> None:
    chosen, rejected = differentiable(log_probs(4, seed=1), log_probs(4, seed=2))
    loss = dpo_loss(chosen, rejected, chosen.detach(), rejected.detach(), beta)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-12)
    loss.backward()
    pull = torch.full((4,), beta / 2 / 4, dtype=torch.float64)  # beta sigmoid(0) / pairs
    expect_close(chosen.grad, -pull)
    expect_close(rejected.grad, pull)


def test_dpo_weighs_a_pair_by_how_wrong_its_order_is() -> None:
    """Section 4: the gradient is that of h, times beta sigmoid(-beta h)."""
    beta, zero = 0.5, torch.zeros(3, dtype=torch.float64)
    h = torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64)
    (chosen,) = differentiable(h)
    dpo_loss(chosen, zero, zero, zero, beta).backward()
    expected = -beta / (1 + np.exp(beta * h.numpy())) / 3
    expect_close(chosen.grad, torch.tensor(expected))


# --- PPO ----------------------------------------------------------------------------------------


def gae_of_the_paper(rewards: Array, values: Array, gamma: float, lam: float) -> Array:
    """Schulman et al. 2015, equation 16: a sum over all later deltas, for each t anew."""
    T = len(rewards)
    after = np.append(values[1:], 0.0)
    deltas = [rewards[t] + gamma * after[t] - values[t] for t in range(T)]
    sums = [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, T)) for t in range(T)]
    return np.array(sums)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_gae_is_equation_16(gamma: float, lam: float) -> None:
    rewards, values = normal(2, 3, 6, seed=1), normal(2, 3, 6, seed=2)
    found = gae(rewards, values, gamma, lam).numpy()
    for row in np.ndindex(2, 3):
        expected = gae_of_the_paper(rewards.numpy()[row], values.numpy()[row], gamma, lam)
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-12)


def test_gae_has_the_gradient_of_its_numbers() -> None:
    rewards, values = normal(2, 4, seed=1), normal(2, 4, seed=2)
    assert gradcheck(lambda r, v: gae(r, v, 0.9, 0.8), differentiable(rewards, values))


def test_gae_with_lam_1_is_what_came_minus_what_was_expected() -> None:
    rewards, values = normal(3, 5, seed=1), normal(3, 5, seed=2)
    to_come = rewards.flip(-1).cumsum(-1).flip(-1)
    expect_close(gae(rewards, values, lam=1.0), to_come - values)


def test_gae_with_lam_0_is_the_surprise_of_one_step() -> None:
    rewards, values = normal(3, 5, seed=1), normal(3, 5, seed=2)
    following = torch.cat([values[:, 1:], torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    expect_close(gae(rewards, values, lam=0.0), rewards + following - values)


def test_gae_of_true_values_is_zero() -> None:
    rewards = normal(2, 6, seed=1)
    to_come = rewards.flip(-1).cumsum(-1).flip(-1)
    advantages = gae(rewards, to_come, lam=0.7)
    expect_close(advantages, torch.zeros_like(rewards))


RATIOS = torch.tensor([0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("advantage", [2.0, -0.5])
def test_clipped_objective_is_equation_7(advantage: float) -> None:
    """Schulman et al. 2017, in the form of its figure 1: a line that ends in a level."""
    eps = 0.2
    old = log_probs(7, seed=1)
    found = clipped_objective(old + RATIOS.log(), old, torch.tensor(advantage), eps)
    level = (1 + eps if advantage > 0 else 1 - eps) * advantage
    expected = np.minimum(RATIOS.numpy() * advantage, level)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("advantage", [2.0, -0.5])
def test_the_clip_ends_the_pull_exactly_where_the_ratio_has_moved_far_enough(
    advantage: float,
) -> None:
    old = log_probs(7, seed=1)
    (new,) = differentiable(old + RATIOS.log())
    clipped_objective(new, old, torch.tensor(advantage), 0.2).sum().backward()
    far_enough = RATIOS > 1.2 if advantage > 0 else RATIOS < 0.8
    expected = torch.where(far_enough, 0.0, RATIOS * advantage)  # d ratio / d log pi = ratio
    expect_close(new.grad, expected)


def test_clipped_objective_has_the_gradient_of_its_numbers() -> None:
    old, advantages = log_probs(2, 7, seed=1), normal(2, 1, seed=2)
    (new,) = differentiable(old + RATIOS.log())
    assert gradcheck(lambda x: clipped_objective(x, old, advantages), (new,))


def test_value_loss_is_the_larger_of_two_errors() -> None:
    values, old, returns = (normal(40, seed=seed, scale=0.5) for seed in range(3))
    v, v_old, r = values.numpy(), old.numpy(), returns.numpy()
    near = np.clip(v, v_old - 0.2, v_old + 0.2)
    expected = np.array([max(a, b) for a, b in zip((v - r) ** 2, (near - r) ** 2, strict=True)]) / 2
    np.testing.assert_allclose(value_loss(values, old, returns).numpy(), expected, rtol=1e-12)
    assert gradcheck(lambda x: value_loss(x, old, returns), differentiable(values))


@pytest.mark.parametrize(
    ("moved", "wanted", "pulled"),
    [
        (0.1, 1.0, True),  # not far yet
        (0.3, 1.0, False),  # far enough in this step
        (0.3, -1.0, True),  # far in the wrong direction: pulled back
        (-0.3, -1.0, False),
        (-0.3, 1.0, True),
    ],
)
def test_a_value_that_has_moved_far_enough_is_pulled_no_more(
    moved: float, wanted: float, pulled: bool
) -> None:
    value = torch.tensor(moved, requires_grad=True)
    value_loss(value, torch.tensor(0.0), torch.tensor(wanted)).backward()
    assert value.grad is not None
    assert value.grad.item() == pytest.approx(moved - wanted if pulled else 0.0)


def test_a_value_head_expects_nothing_before_it_has_seen_a_reward() -> None:
    head = ValueHead(8)
    features = torch.randn(2, 5, 8)
    assert torch.equal(head(features), torch.zeros(2, 5))
    head(features).sum().backward()
    assert head.linear.weight.grad is not None and head.linear.weight.grad.abs().sum() > 0


# --- GRPO ---------------------------------------------------------------------------------------


def test_group_advantages_are_those_of_section_4_1() -> None:
    rewards = normal(5, 8, scale=2)
    found = group_advantages(rewards).numpy()
    for row, group in zip(found, rewards.numpy(), strict=True):
        mean = sum(group) / 8
        deviation = math.sqrt(sum((reward - mean) ** 2 for reward in group) / 8)
        np.testing.assert_allclose(row, (group - mean) / (deviation + EPS), rtol=1e-12)
    assert gradcheck(group_advantages, differentiable(rewards))


def test_group_advantages_depend_neither_on_the_level_nor_on_the_scale() -> None:
    rewards = normal(5, 8)
    advantages = group_advantages(rewards)
    expect_close(advantages.mean(-1), torch.zeros(5, dtype=torch.float64))
    expect_close(group_advantages(rewards + 3), advantages)
    torch.testing.assert_close(group_advantages(rewards * 10), advantages, rtol=0, atol=0.001)


def test_a_group_whose_rewards_are_equal_teaches_nothing() -> None:
    for reward in (0.0, 0.1, 1 / 3, 2.0):  # in float32, whose mean of equal numbers may differ
        assert group_advantages(torch.full((1, 7), reward)).abs().max() < 0.01


JUDGED = torch.arange(6) < torch.tensor([2, 6, 3, 1])[:, None]  # (4, 6): answers end early


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_process_advantages_compare_a_token_with_its_position(discount: float) -> None:
    rewards = normal(4, 6, seed=1)
    to_come = np.zeros((4, 6))
    for i, t in zip(*np.nonzero(JUDGED.numpy()), strict=True):
        last = int(JUDGED[i].sum())
        terms = (discount ** (k - t) * rewards[i, k].item() for k in range(t, last))
        to_come[i, t] = sum(terms)
    masked = np.where(JUDGED, to_come, np.nan)
    centred = masked - np.nanmean(masked, axis=0)
    expected = np.nan_to_num(centred / (np.sqrt(np.nanmean(centred**2)) + EPS))
    expect_close(process_advantages(rewards, JUDGED, discount), torch.from_numpy(expected))


def test_process_advantages_find_the_token_that_was_wrong() -> None:
    """With discount 0 it alone is blamed; else those before it, too, the less the earlier."""
    rewards = torch.zeros(8, 5)
    rewards[3, 2] = -1.0
    judged = torch.ones(8, 5, dtype=torch.bool)
    judged[3, 3:] = False
    alone = process_advantages(rewards, judged, discount=0.0)
    assert (alone < 0).nonzero().tolist() == [[3, 2]]
    first, second, third = process_advantages(rewards, judged, discount=0.5)[3, :3].tolist()
    assert first / third == pytest.approx(0.25) and second / third == pytest.approx(0.5)
    assert alone.sum().item() == pytest.approx(0.0, abs=1e-5)


def test_process_advantages_of_answers_that_are_all_right_teach_nothing() -> None:
    assert not process_advantages(torch.zeros(4, 6), JUDGED).any()


def distributions() -> tuple[Tensor, Tensor]:
    """log pi and log pi_ref of 6 tokens, in 4 pairs."""
    pi = normal(4, 6, seed=1, scale=2).log_softmax(-1)
    return pi, normal(4, 6, seed=2, scale=2).log_softmax(-1)


def test_k3_is_never_negative_and_zero_only_where_the_probabilities_agree() -> None:
    log_ratio = torch.arange(-40, 41, dtype=torch.float64) / 10
    k3 = kl_k3(log_ratio, torch.zeros_like(log_ratio))
    assert (k3 >= 0).all()
    assert torch.equal(k3 == 0, log_ratio == 0)


def test_k3_is_unbiased() -> None:
    """Its exact expectation under pi is the KL divergence, like that of k1."""
    log_pi, log_ref = distributions()
    pi, ref = log_pi.exp().numpy(), log_ref.exp().numpy()
    divergence = (pi * np.log(pi / ref)).sum(-1)
    expectation = (log_pi.exp() * kl_k3(log_pi, log_ref)).sum(-1)
    np.testing.assert_allclose(expectation.numpy(), divergence, rtol=1e-12)


def test_k3_scatters_less_than_k1_between_distributions_that_are_close() -> None:
    log_pi = normal(4, 6, seed=1).log_softmax(-1)
    log_ref = (log_pi + normal(4, 6, seed=2, scale=0.1)).log_softmax(-1)
    pi = log_pi.exp()

    def variance(estimate: Tensor) -> Tensor:
        return (pi * estimate**2).sum(-1) - (pi * estimate).sum(-1) ** 2

    assert (variance(kl_k3(log_pi, log_ref)) < 0.1 * variance(log_pi - log_ref)).all()


def test_k3_is_the_formula_of_schulman_2020_and_has_its_gradient() -> None:
    log_pi, log_ref = log_probs(9, seed=1), log_probs(9, seed=2)
    ratio = np.exp(log_ref.numpy()) / np.exp(log_pi.numpy())
    expected = (ratio - 1) - np.log(ratio)
    np.testing.assert_allclose(kl_k3(log_pi, log_ref).numpy(), expected, rtol=1e-12)
    assert gradcheck(kl_k3, differentiable(log_pi, log_ref))


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities (3, 5) of the policy, before and of the reference; advantages (3,)."""
    old = log_probs(3, 5, seed=1)
    new = old + normal(3, 5, seed=2, scale=0.3)
    return new, old, log_probs(3, 5, seed=3), normal(3, seed=4)


def grpo_of_the_paper(
    new: Array,
    old: Array,
    ref: Array,
    advantages: Array,
    is_answer: Array,
    eps: float,
    beta: float,
) -> float:
    """Shao et al. 2024, equation 3, token by token; the mean is that over all tokens."""
    terms = []
    for i, t in zip(*np.nonzero(is_answer), strict=True):
        rho = np.exp(new[i, t]) / np.exp(old[i, t])
        clipped = min(max(rho, 1 - eps), 1 + eps)
        ratio = np.exp(ref[i, t]) / np.exp(new[i, t])
        gain = min(rho * advantages[i], clipped * advantages[i])
        terms.append(gain - beta * (ratio - np.log(ratio) - 1))
    return -float(np.mean(terms))


@pytest.mark.parametrize(("clip", "beta"), [(0.2, 0.04), (0.1, 0.0), (0.5, 1.0)])
def test_grpo_loss_is_equation_3_with_a_mean_over_all_tokens(clip: float, beta: float) -> None:
    given = (*batch(), ANSWERED)
    expected = grpo_of_the_paper(*(x.numpy() for x in given), eps=clip, beta=beta)
    assert grpo_loss(*given, clip, beta).item() == pytest.approx(expected, rel=1e-12)
    new, *rest = given
    assert gradcheck(lambda x: grpo_loss(x, *rest, clip=clip, beta=beta), differentiable(new))


def test_at_the_first_update_grpo_is_the_policy_gradient() -> None:
    """Without KL: A_i times the gradient of log pi, for every token of the answer alike."""
    new, _, ref, advantages = batch()
    (log_pi,) = differentiable(new)
    grpo_loss(log_pi, new, ref, advantages, ANSWERED, beta=0.0).backward()
    expected = -advantages[:, None] * ANSWERED / ANSWERED.sum()
    expect_close(log_pi.grad, expected)


def test_a_token_may_have_an_advantage_of_its_own() -> None:
    new, old, ref, advantages = batch()
    repeated = advantages[:, None].expand(new.shape)
    expect_close(
        grpo_loss(new, old, ref, repeated.contiguous(), ANSWERED),
        grpo_loss(new, old, ref, advantages, ANSWERED),
    )


def test_what_is_no_answer_counts_for_nothing_in_grpo() -> None:
    new, old, ref, advantages = batch()
    changed = torch.where(ANSWERED, new, new - 1)
    torch.testing.assert_close(
        grpo_loss(changed, old, ref, advantages, ANSWERED),
        grpo_loss(new, old, ref, advantages, ANSWERED),
    )

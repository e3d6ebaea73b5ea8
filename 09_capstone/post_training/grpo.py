"""GRPO: group relative policy optimization, which is PPO without a value model.

    A_i  = (R_i - mean(R)) / std(R)             over the G answers to one prompt
    R_t  = r_t + discount R_t+1                 with a reward r_t for every token: process
    A_t  = (R_t - mean_t(R)) / std(R)           supervision; mean_t is that of position t,
                                                over all answers of the batch
    k3_t = pi_ref / pi - 1 - log(pi_ref / pi)   an estimate of the KL divergence, never negative
    L    = -mean over all answer tokens of [min(rho_t A_i, clip(rho_t) A_i) - beta k3_t]

The group is the baseline: an answer is good if it is better than the others to the same prompt. The
mean runs over all tokens of the batch, so that a token counts the same in a long answer as in a
short one (`token_mean`).

Shao et al. 2024, "DeepSeekMath", sections 4.1.2 (one reward per answer) and 4.1.3 (process
supervision, there with one reward per step of reasoning and no discount); Schulman 2020,
"Approximating KL divergence"; Liu et al. 2025, "Understanding R1-Zero-like training", for the mean
over tokens.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import torch
from torch import Tensor

from post_training.ppo import clipped_objective
from post_training.rollouts import token_mean

EPS = 1e-4  # the smallest deviation that is not taken for an accident of rounding


def group_advantages(rewards: Tensor) -> Tensor:
    """Rewards (n_prompts, G) of G answers per prompt, relative to their group.

    A group whose rewards are all equal teaches nothing: its advantages are 0.
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    deviation = rewards.std(-1, correction=0, keepdim=True)
    return centred / (deviation + EPS)


def process_advantages(rewards: Tensor, is_judged: Tensor, discount: float = 0.9) -> Tensor:
    """Advantages (B, T) of single tokens, from a reward for each of them.

    A token deserves its own reward and, discounted, those that follow it in its answer. What all
    answers of the batch deserve on average at this position is the baseline. `is_judged` (B, T) is
    True where a reward counts; elsewhere the advantage is 0.
    """
    counts = is_judged.to(rewards.dtype)
    to_come = torch.zeros_like(rewards)  # R (B, T)
    following = torch.zeros_like(rewards[:, 0])  # R_t+1 (B,)
    for t in reversed(range(rewards.size(1))):
        following = (rewards[:, t] + discount * following) * counts[:, t]
        to_come[:, t] = following
    at_position = (to_come * counts).sum(0) / counts.sum(0).clamp(min=1)  # (T,)
    centred = (to_come - at_position) * counts
    deviation = (centred.square().sum() / counts.sum().clamp(min=1)).sqrt()
    return centred / (deviation + EPS)


def kl_k3(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """Estimate KL(pi || pi_ref) per token, from tokens that pi has sampled.

    Its mean over many samples is the KL divergence, like that of k1 = log(pi / pi_ref), but it
    scatters less and is never negative.
    """
    log_ratio = ref_log_probs - log_probs
    return log_ratio.exp() - 1 - log_ratio


def grpo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    ref_log_probs: Tensor,
    advantages: Tensor,
    is_answer: Tensor,
    clip: float = 0.2,
    beta: float = 0.04,
) -> Tensor:
    """The loss of a batch: log-probabilities and is_answer (B, T), advantages (B,) or (B, T)."""
    per_token = advantages.view(len(advantages), -1)  # (B, 1): one for all tokens of an answer
    objective = clipped_objective(log_probs, old_log_probs, per_token, clip)
    return -token_mean(objective - beta * kl_k3(log_probs, ref_log_probs), is_answer)


def main() -> None:
    """Five possible answers of one token, of which one is right: it becomes likely."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.zeros(5, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=1.0)
    reference = torch.full((16, 1), 0.2).log()
    is_answer = torch.ones(16, 1)
    for step in range(21):
        log_p = scores.log_softmax(-1)
        if step % 5 == 0:
            print(f"step {step:2}: right with probability {log_p[4].exp():.2f}")
        answers = torch.multinomial(log_p.detach().exp(), 16, True, generator=generator)
        taken = log_p[answers][:, None]  # (16, 1)
        advantages = group_advantages((answers == 4).float())
        loss = grpo_loss(taken, taken.detach(), reference, advantages, is_answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    run_program(main)

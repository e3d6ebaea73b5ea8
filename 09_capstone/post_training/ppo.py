"""PPO: the parent of GRPO, with a value head that says how good an answer was expected to be.

    delta_t = r_t + gamma V_{t+1} - V_t                how much better than expected
    A_t     = delta_t + gamma lambda A_{t+1}           generalized advantage estimation
    rho_t   = pi(y_t) / pi_old(y_t)
    L       = -mean min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t)

The clip ends the pull on a token whose probability has already moved far enough, so that one batch
of samples may be used for several steps.

Schulman et al. 2015, "High-dimensional continuous control using GAE"; Schulman et al. 2017.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """One number per position: the reward that is expected at the end, given the text so far."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, 1)
        nn.init.zeros_(self.linear.weight)  # expects nothing before it has seen a reward
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, T, d_model) to values (B, T)."""
        return self.linear(features).squeeze(-1)


def gae(rewards: Tensor, values: Tensor, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Advantages (..., T) of rewards (..., T) and values (..., T); after the end the value is 0.

    lam 0 trusts the values: A_t = delta_t. lam 1 trusts the rewards alone: A_t is what came minus
    what was expected.
    """
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], dim=-1)
    deltas = rewards + gamma * following - values
    advantages = torch.zeros_like(deltas)
    later = torch.zeros_like(deltas[..., 0])
    for t in reversed(range(deltas.size(-1))):
        later = deltas[..., t] + gamma * lam * later
        advantages[..., t] = later
    return advantages


def clipped_objective(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float = 0.2
) -> Tensor:
    """What is to be maximized, per token; all of shapes that broadcast, such as (B, T)."""
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    # the smaller one: a move in the wrong direction is never clipped, so it is always undone
    return torch.minimum(ratio * advantages, clipped * advantages)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float = 0.2) -> Tensor:
    """Squared error of the values, per token; a value that has moved by `clip` is pulled no more.

    returns are advantages + old values: what the values should have been.
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2


def main() -> None:
    """A right answer of four tokens: who gets the credit, and where the clip ends the pull."""
    rewards = torch.tensor([0.0, 0.0, 0.0, 1.0])  # known at the end
    values = torch.tensor([0.5, 0.6, 0.2, 0.9])  # the third token looked like a mistake
    for lam in (0.0, 0.95, 1.0):
        shown = "  ".join(f"{a:+.2f}" for a in gae(rewards, values, lam=lam))
        print(f"lambda {lam:<4}  advantages {shown}")
    print("\nratio     gradient for A = +1     for A = -1")
    for ratio in (0.5, 0.9, 1.0, 1.1, 1.5):
        gradients = []
        for advantage in (1.0, -1.0):
            log_prob = torch.tensor(ratio).log().requires_grad_()
            clipped_objective(log_prob, torch.zeros(()), torch.tensor(advantage)).backward()
            gradients.append(0.0 if log_prob.grad is None else log_prob.grad.item())
        print(f"{ratio:<8}  {gradients[0]:+18.1f}  {gradients[1]:+13.1f}")


if __name__ == "__main__":
    run_program(main)

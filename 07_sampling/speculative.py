"""Speculative decoding: a small model drafts several tokens, the large one checks them at once.

    draft       x_1 ... x_n from the small model's distributions q_1 ... q_n
    check       one forward pass of the large model gives p_1 ... p_(n+1)
    accept x_i  with probability min(1, p_i(x_i) / q_i(x_i)), up to the first rejection
    then        one more token: from max(0, p_i - q_i), normalized, after a rejection at i;
                from p_(n+1) if all n were accepted

Every token has exactly the distribution that the large model would have drawn it from. So a bad
draft costs time and never quality: up to n + 1 tokens for one pass, at least one. Leviathan et al.
2023, "Fast Inference from Transformers via Speculative Decoding"; Chen et al. 2023.

Dimensions: n drafted tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cached_sequence import CachedSequence
from distribution import distribution_after
from temperature import sample
from utils.config import ModelConfig, SampleConfig
from utils.errors import UsageError, run_program

# logits (n, V) and the new tokens before each of the n positions -> probabilities (n, V)
Distribution = Callable[[Tensor, Sequence[Sequence[int]]], Tensor]


@dataclass(frozen=True)
class Draft:
    """A small model that drafts for a large one, with the same tokens."""

    model: nn.Module
    config: ModelConfig
    n_tokens: int = 4  # drafted per round


def acceptance_probability(p: Tensor, q: Tensor) -> Tensor:
    """min(1, p / q), elementwise: how often a drafted token is kept; 1 where q = 0."""
    return torch.where(q > 0, p / q, torch.ones_like(p)).clamp(max=1)


def residual_distribution(p: Tensor, q: Tensor) -> Tensor:
    """max(0, p - q), divided by its sum: what accepted drafts leave of p. (..., V) -> (..., V).

    Where p = q nothing is left, and nothing is ever rejected; p itself is returned there.
    """
    excess = (p - q).clamp(min=0)  # (..., V)
    total = excess.sum(dim=-1, keepdim=True)  # (..., 1): the probability of a rejection
    return torch.where(total > 0, excess / total, p)


def verify(
    drafted: Tensor, q: Tensor, p: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Accept a prefix of the draft and add one token: the ids (1 to n + 1,).

    drafted (n,) was drawn from q (n, V); p (n + 1, V) is what the large model says at the same
    positions and after the last. Each id is distributed as p says, whatever q is.
    """
    n = len(drafted)
    positions = torch.arange(n)
    accept = acceptance_probability(p[positions, drafted], q[positions, drafted])  # (n,)
    rejected = torch.rand(n, dtype=p.dtype, generator=generator) >= accept  # (n,)
    n_accepted = next((i for i, is_rejected in enumerate(rejected.tolist()) if is_rejected), n)
    # After a full draft there is no q: with zeros in its place, the residual is p itself.
    q = torch.cat([q, torch.zeros_like(p[:1])])  # (n + 1, V)
    last = residual_distribution(p[n_accepted], q[n_accepted])  # (V,)
    return torch.cat([drafted[:n_accepted], sample(last.log(), generator)[None]])


@torch.inference_mode()
def speculative_tokens(
    target: CachedSequence,
    draft: CachedSequence,
    prompt: Sequence[int],
    max_tokens: int,
    distribution: Distribution,
    n_draft: int = 4,
    generator: torch.Generator | None = None,
) -> Iterator[list[int]]:
    """Continue a prompt; yields the tokens that each round settles, max_tokens in all.

    Both models use the same tokens. The same distribution is applied to the logits of both, so
    temperature and filters hold for the draft as well. Raises ValueError for an empty prompt,
    UsageError for n_draft < 1.
    """
    check_n_draft(n_draft)
    if not prompt:
        raise ValueError("a prompt needs at least one token to continue")
    text = list(prompt)
    end = len(prompt) + max_tokens
    while len(text) < end:
        # The last token of a round is not a drafted one; all checked positions share one window.
        n = min(n_draft, end - len(text) - 1, target.room(len(text)))
        drafted, rows = draft_tokens(draft, text, len(prompt), n, distribution, generator)
        logits = target.logits(text + drafted, n + 1)  # (n + 1, V)
        p = distribution(logits, prefixes(text[len(prompt) :], drafted))
        q = torch.cat([p[:0], *rows])  # (n, V), also for n = 0
        settled = verify(torch.tensor(drafted, dtype=torch.long), q, p, generator).tolist()
        text += settled
        yield settled


def draft_tokens(
    draft: CachedSequence,
    text: list[int],
    n_prompt: int,
    n: int,
    distribution: Distribution,
    generator: torch.Generator | None,
) -> tuple[list[int], list[Tensor]]:
    """Draw n tokens one by one; returns them and the distribution (1, V) each was drawn from."""
    drafted: list[int] = []
    q: list[Tensor] = []
    for _ in range(n):
        logits = draft.logits(text + drafted, 1)  # (1, V)
        q.append(distribution(logits, [text[n_prompt:] + drafted]))
        drafted += sample(q[-1].log(), generator).tolist()
    return drafted, q


def prefixes(new: list[int], drafted: list[int]) -> list[list[int]]:
    """The new tokens before each drafted one, and those before the token after the draft."""
    return [new + drafted[:i] for i in range(len(drafted) + 1)]


def single_tokens(
    target: CachedSequence, draft: Draft, prompt: Sequence[int], sampling: SampleConfig
) -> Iterator[list[int]]:
    """`speculative_tokens` with these settings, one token at a time, as from a batch of one."""
    rounds = speculative_tokens(
        target,
        CachedSequence(draft.model, draft.config, target.make_decode_step),
        prompt,
        sampling.max_tokens,
        distribution_after(prompt, sampling),
        draft.n_tokens,
        torch.Generator().manual_seed(sampling.seed),
    )
    return ([token] for tokens in rounds for token in tokens)


def check_n_draft(n_draft: int) -> None:
    """Raise UsageError unless there is at least one token to draft."""
    if n_draft < 1:
        raise UsageError(f"{n_draft} drafted tokens are not a draft; give 1 or more")


def main() -> None:
    """Draw from p by drafts from q, and count: the draft changes nothing but the time."""
    words = ["cat", "dog", "owl", "bee"]
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    q = torch.tensor([0.25, 0.25, 0.25, 0.25])
    generator = torch.Generator().manual_seed(0)
    n_draws, accepted, counts = 20_000, 0, torch.zeros(4)
    for drafted in sample(q.log().expand(n_draws, 1, 4), generator):
        tokens = verify(drafted, q[None], torch.stack([p, p]), generator)
        accepted += len(tokens) - 1
        counts[tokens[0]] += 1
    print("                 " + "".join(f"{word:>7}" for word in words))
    for name, row in (("draft q", q), ("target p", p), ("first token", counts / n_draws)):
        print(f"{name:17}" + "".join(f"{x:7.3f}" for x in row.tolist()))
    expected = torch.minimum(p, q).sum()  # sum_x q(x) min(1, p(x) / q(x))
    print(f"accepted {accepted / n_draws:.3f}, expected {expected:.3f}")


if __name__ == "__main__":
    run_program(main)

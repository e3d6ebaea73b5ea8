"""Mixture of experts: many feed-forward networks, of which each token uses a few.

    gates(x) = softmax of the k largest of W_router x, else 0       Shazeer et al. 2017, sec. 2.1
    MoE(x)   = sum over the chosen experts i of gates_i(x) expert_i(x)
    balance  = n_experts * sum_i f_i P_i                            Fedus et al. 2021, sec. 2.2

The weights grow with the number of experts, the work per token only with k. A router that is left
alone tends to favour a few experts, which then learn more and are chosen more; the balance loss is
added to the training loss, times a small factor, to keep all of them busy. f_i is the share of the
choices that fall on expert i, P_i the mean of its probability.

Dimensions: n tokens (all leading axes together), d_model features, d_ff hidden features.
"""

import math

import torch
from torch import Tensor, nn

from feedforward import FeedForward
from utils.errors import UsageError, run_program
from utils.shape_checker import check_shape


def route(logits: Tensor, k: int) -> Tensor:
    """Gates (..., n_experts) from the router's scores: k of each token's gates are above 0.

    They are the softmax of its k largest scores, so they sum to 1.
    """
    chosen = logits.topk(k, dim=-1).indices  # (..., k)
    # -inf everywhere but at the chosen scores: what is not chosen gets no share of the softmax.
    hidden = torch.full_like(logits, -math.inf).scatter(-1, chosen, 0.0)
    return torch.softmax(logits + hidden, dim=-1)


def load_balance_loss(logits: Tensor, gates: Tensor) -> Tensor:
    """n_experts sum_i f_i P_i, a tensor without axes: 1 if all experts are used equally.

    logits and gates (..., n_experts). Counting has no gradient; the probabilities have one.
    """
    n_experts = logits.size(-1)
    chosen = (gates > 0).to(logits.dtype).reshape(-1, n_experts)  # (n, n_experts)
    share = chosen.sum(0) / chosen.sum()  # f: of all choices; sums to 1
    probability = torch.softmax(logits, dim=-1).reshape(-1, n_experts).mean(0)  # P: sums to 1
    # The gradient lowers P_i in proportion to f_i: most where most is done already.
    return n_experts * (share * probability).sum()


class MixtureOfExperts(nn.Module):
    """A feed-forward network in `n_experts` parts; each token passes through k of them.

    It takes the place of FeedForward in a block. After each forward pass, `balance_loss` holds the
    loss to add to that of the model, and `load` each expert's share of the choices.
    """

    def __init__(
        self, d_model: int, d_ff: int, n_experts: int, k: int = 2, bias: bool = True
    ) -> None:
        super().__init__()
        if not 1 <= k <= n_experts:
            raise UsageError(f"k is {k}; allowed: 1 to n_experts, {n_experts}")
        self.d_model = d_model
        self.k = k
        self.router = nn.Linear(d_model, n_experts, bias=False)  # W_router: a score per expert
        experts = (FeedForward(d_model, d_ff, bias=bias) for _ in range(n_experts))
        self.experts = nn.ModuleList(experts)
        self.balance_loss = torch.zeros(())
        self.load = torch.zeros(n_experts)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        # Which token goes where: a question for each token alone, so the leading axes become one.
        tokens = x.reshape(-1, self.d_model)  # (n, d_model)
        logits = self.router(tokens)  # (n, n_experts)
        gates = route(logits, self.k)
        self.balance_loss = load_balance_loss(logits, gates)
        self.load = (gates.detach() > 0).float().mean(0) / self.k

        # Each expert gets its tokens in one batch, and adds what it makes of them.
        output = torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            mine = gates[:, i].nonzero().squeeze(-1)  # the numbers of its tokens
            if len(mine) > 0:
                weighted = gates[mine, i, None] * expert(tokens[mine])
                output = output.index_add(0, mine, weighted)
        return output.reshape(x.shape)


def main() -> None:
    """Print the gates of three tokens, and what the experts hold and cost."""
    torch.manual_seed(0)
    d_model, d_ff, n_experts, k = 64, 256, 8, 2
    layer = MixtureOfExperts(d_model, d_ff, n_experts, k, bias=False)
    x = torch.randn(1000, d_model)
    gates = route(layer.router(x), k)
    print("The gates of three tokens, one column per expert:")
    for row in gates[:3]:
        print("  " + " ".join(f"{gate:.2f}" for gate in row))
    layer(x)
    held = sum(parameter.numel() for parameter in layer.experts.parameters())
    print(f"\n{held:,} weights in {n_experts} experts; a token meets {held * k // n_experts:,}")
    print(f"shares of 1,000 random tokens: {' '.join(f'{share:.2f}' for share in layer.load)}")
    print(f"balance loss {layer.balance_loss:.3f}; 1 would be even")


if __name__ == "__main__":
    run_program(main)

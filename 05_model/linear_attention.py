"""Linear attention: without the softmax, the cost of attention grows with T, not with T squared.

    output_i = sum_j  phi(q_i) . phi(k_j) v_j  /  sum_j  phi(q_i) . phi(k_j)
             = phi(q_i) S_i  /  phi(q_i) . z_i
    S_i = sum_j phi(k_j) v_j^T      z_i = sum_j phi(k_j)      phi(x) = elu(x) + 1

The sums run over the keys that query i may see (Katharopoulos et al. 2020, section 3). The second
line is the first with other brackets: (q k^T) v = q (k^T v). S and z don't depend on the query, so
under a causal mask they are running sums. A model that generates keeps S and z, of a fixed size, in
place of a cache that grows: it is a recurrent network.

Dimensions: T_q queries, T_k keys, d_k width of queries and keys, d_v width of values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention import causal_mask, check_mask
from utils.errors import UsageError, run_program
from utils.shape_checker import check_shapes


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Attention with the feature map elu(x) + 1 in place of the softmax.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v), with equal leading axes. With a boolean
    mask, which broadcasts to (..., T_q, T_k), each query must see the first n keys, for an n of its
    own: causal and prefix masks, and those of a cache, are of this kind. A query that sees nothing
    gives zeros. No tensor of T_q x T_k values is computed. Returns (output (..., T_q, d_v), None):
    there are no weights.
    """
    check_shapes(
        q=(q, ("...", "T_q", "d_k")),
        k=(k, ("...", "T_k", "d_k")),
        v=(v, ("...", "T_k", "d_v")),
    )
    q, k = feature_map(q), feature_map(k)
    products = k[..., :, None] * v[..., None, :]  # phi(k_j) v_j^T: (..., T_k, d_k, d_v)
    if mask is None:  # every query sees every key: one sum for all
        states, norms = products.sum(-3), k.sum(-2)  # S (..., d_k, d_v), z (..., d_k)
        return q @ states / (q @ norms[..., None]), None
    seen = number_seen(mask, torch.Size((*q.shape[:-1], k.size(-2))))  # (..., T_q)
    states = running_sums(products.flatten(-2), seen).unflatten(-1, products.shape[-2:])  # S_i
    norms = running_sums(k, seen)  # z_i: (..., T_q, d_k)
    numerator = (q[..., None, :] @ states).squeeze(-2)  # phi(q_i) S_i: (..., T_q, d_v)
    denominator = (q * norms).sum(-1, keepdim=True)
    # Where nothing is seen the numerator is 0, and the denominator is made 1.
    return numerator / denominator.masked_fill(seen[..., None] == 0, 1.0), None


def feature_map(x: Tensor) -> Tensor:
    """phi(x) = elu(x) + 1: x + 1 for positive x, exp(x) for negative; never negative."""
    return F.elu(x) + 1


def number_seen(mask: Tensor, scores: torch.Size) -> Tensor:
    """How many keys each query sees, (..., T_q). Raises UsageError if they aren't the first."""
    check_mask(mask, scores)
    if mask.dtype != torch.bool:
        raise UsageError("linear attention has no scores to add to: the mask must be boolean")
    mask = mask.expand(scores)
    seen = mask.sum(-1)
    if not torch.equal(mask, torch.arange(scores[-1], device=mask.device) < seen[..., None]):
        raise UsageError("linear attention needs a mask in which each query sees the first n keys")
    return seen


def running_sums(x: Tensor, seen: Tensor) -> Tensor:
    """The sum of the first seen[..., i] rows of x (..., T_k, width), for each i."""
    sums = F.pad(x.cumsum(-2), (0, 0, 1, 0))  # row n is the sum of the first n; row 0 is zero
    rows = seen.expand(*x.shape[:-2], -1)[..., None]
    return sums.gather(-2, rows.expand(*rows.shape[:-1], x.size(-1)))


def main() -> None:
    """Compare with the sum written out, and print what grows with T."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 4, 6, 8).unbind()
    output, _ = linear_attention(q, k, v, causal_mask(6))
    scores = feature_map(q) @ feature_map(k).mT * causal_mask(6)
    expected = scores @ v / scores.sum(-1, keepdim=True)
    print(f"largest difference to the T x T sum: {(output - expected).abs().max():.0e}\n")
    print("multiply-adds per head, d_head 64, in millions:")
    for T in (256, 1024, 4096, 16384):
        softmax, linear = 2 * T * T * 64, 2 * T * 64 * 64
        print(f"  T {T:6}: softmax {softmax / 1e6:9.1f}   linear {linear / 1e6:6.1f}")


if __name__ == "__main__":
    run_program(main)

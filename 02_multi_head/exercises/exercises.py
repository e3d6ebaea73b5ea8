"""Exercises of lesson 02: several heads. Replace each `raise` with your own code.

    python 02_multi_head/exercises/exercises.py    check them all
    make watch                                     check on every save, one after the other
    make hint EX=2.1                               one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md why. Later exercises may use earlier ones. The attention inside the
heads comes from lesson 01: attention(q, k, v, mask) returns (output, weights).
"""

import torch
from torch import Tensor, nn

from attention import AttentionFunction, scaled_dot_product_attention
from utils.grader.check import check_file


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Exercise 2.1: give each head its slice of the features.

    x (B, T, n_heads * d_head). The features of head 0 come first, then those of head 1, and so on.

    Returns (B, n_heads, T, d_head). x may be a view of another tensor, not contiguous in memory.
    """
    raise NotImplementedError("Exercise 2.1: split_heads")  # TODO: your code here


def merge_heads(x: Tensor) -> Tensor:
    """Exercise 2.2: put the heads side by side again; the inverse of 2.1.

    x (B, n_heads, T, d_head), contiguous in memory or not.

    Returns (B, T, n_heads * d_head): the features of head 0 first, then those of head 1, and so on.
    """
    raise NotImplementedError("Exercise 2.2: merge_heads")  # TODO: your code here


def predict_regrouped() -> tuple[float, ...]:
    """Exercise 2.3, a prediction: what is in a head that was cut out without a transpose?

    x holds two tokens of six features: token 0 is 0, 1, 2, 3, 4, 5 and token 1 is 10, 11, 12, 13,
    14, 15. So x has shape (1, 2, 6). A hasty program makes three heads of width 2 out of it by
    x.view(1, 3, 2, 2), for (B, n_heads, T, d_head). The shape is right.

    Returns the four numbers of its head 1 (the second of three), row by row, as you expect them:
    numbers, no calls.
    """
    raise NotImplementedError("Exercise 2.3: predict_regrouped")  # TODO: return your prediction


class MultiHeadAttention(nn.Module):
    """Exercise 2.4: attention with several heads, each on its own slice of the projections.

    The layer has four linear maps from d_model to d_model, with a bias or without: q_proj, k_proj,
    v_proj and out_proj. The names matter: with them your layer can load the weights of the course's
    one, and runs in its model.
    """

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        raise NotImplementedError("Exercise 2.4: MultiHeadAttention.__init__")  # TODO

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """Project x, let every head attend, put the heads together, project once more.

        x (B, T, d_model); mask as in lesson 01, of any shape that broadcasts to (B, n_heads, T, T),
        or None. `attend` is called once, with queries, keys and values of all heads, each
        (B, n_heads, T, d_head), and with the mask; it returns a pair whose first part is the output
        of the heads. Use what you wrote in 2.1 and 2.2.

        Returns (B, T, d_model).
        """
        raise NotImplementedError("Exercise 2.4: MultiHeadAttention.forward")  # TODO


def split_qkv(qkv: Tensor, n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 2.5, a repair: queries, keys and values out of one wide projection.

    Many models make all three with one matrix. qkv (B, T, 3 * d_model) holds, for each token, all
    its queries (head 0 first), then all its keys, then all its values, as GPT-2 and
    nn.MultiheadAttention store them.

    Returns q, k and v, each (B, n_heads, T, d_head). The code below the raise uses 2.1 and has one
    mistake. Delete the raise line, find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 2.5: split_qkv")  # TODO: delete, then repair
    heads = split_heads(qkv, n_heads)  # (B, n_heads, T, 3 * d_head)
    q, k, v = heads.chunk(3, dim=-1)  # each (B, n_heads, T, d_head)
    return q, k, v


def cross_attend(
    layer: MultiHeadAttention, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Exercise 2.6: a layer with several heads whose keys and values come from another text.

    layer has n_heads, q_proj, k_proj, v_proj and out_proj, like that of 2.4; use nothing else of
    it. x (B, T_q, d_model) asks, context (B, T_k, d_model) answers; mask broadcasts to
    (B, n_heads, T_q, T_k), or is None.

    Returns (B, T_q, d_model). With context = x this is the layer itself.
    """
    raise NotImplementedError("Exercise 2.6: cross_attend")  # TODO: your code here


def head_contributions(heads: Tensor, w_o: Tensor) -> Tensor:
    """Exercise 2.7: what does each head write into the output?

    heads (B, n_heads, T, d_head) is what the heads found, contiguous in memory or not; w_o
    (d_model, n_heads * d_head) is the weight of the output projection as nn.Linear stores it:
    output = merged heads times w_o transposed. The output is a sum of one term per head.

    Returns these terms (B, n_heads, T, d_model); summed over the heads they are the output (without
    its bias).
    """
    raise NotImplementedError("Exercise 2.7: head_contributions")  # TODO: your code here


def layer_cost(d_model: int, n_heads: int, T: int, bias: bool = True) -> tuple[int, int]:
    """Exercise 2.8: what does a layer of 2.4 cost?

    Returns (parameters of the layer, multiply-adds for one sequence of T tokens). Count the four
    projections and the two products inside the heads; leave out the softmax, the division and the
    additions of the biases.
    """
    raise NotImplementedError("Exercise 2.8: layer_cost")  # TODO: your code here


def read_heads() -> dict[str, str]:
    """Exercise 2.9, reading: which head does what?

    The picture 02_multi_head/pictures/which_head.png (it is in theory.md too) shows four heads that
    read the six letters d b f a c e twice. Grey cells are exactly 0.

    Returns the letter of each map: {"previous token": ..., "same token": ..., "induction": ...,
    "first token": ...}, each "A", "B", "C" or "D".
    """
    raise NotImplementedError("Exercise 2.9: read_heads")  # TODO: return your answer


def induction_score(weights: Tensor, period: int) -> Tensor:
    """Exercise 2.10: how much of an induction head is each head?

    weights (B, n_heads, T, T) are those of a text that repeats itself every `period` tokens. From
    the second copy on, each token was seen before, `period` places earlier; an induction head looks
    at the token that came right after that earlier place.

    Returns (n_heads,): the mean of the weights that go there, over the batch and over all positions
    from `period` to the last.
    """
    raise NotImplementedError("Exercise 2.10: induction_score")  # TODO: your code here


def repeat_kv(x: Tensor, n_repeats: int) -> Tensor:
    """Exercise 2.11: copies of key-value heads, so that each query head has one.

    x (B, n_kv_heads, T, d_head). The copies of a head are neighbours: with n_repeats=2 the heads
    0, 1 become 0, 0, 1, 1. So query head h reads key-value head h // n_repeats.

    x may be a view of another tensor, not contiguous in memory.

    Returns (B, n_kv_heads * n_repeats, T, d_head). Write it without torch.repeat_interleave.
    """
    raise NotImplementedError("Exercise 2.11: repeat_kv")  # TODO: your code here


def kv_cache_bytes(
    B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, bytes_per_value: int = 2
) -> int:
    """Exercise 2.12: how much memory do the keys and values of a text take?

    During generation, each of n_layers layers keeps the keys and the values of all T tokens of each
    of B texts, for each of its n_kv_heads heads of width d_head.

    Returns the number of bytes.
    """
    raise NotImplementedError("Exercise 2.12: kv_cache_bytes")  # TODO: your code here


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Given, for 2.13: attention in which k and v may have fewer heads than q. Uses your 2.11."""
    n_repeats = q.size(1) // k.size(1)
    return scaled_dot_product_attention(q, repeat_kv(k, n_repeats), repeat_kv(v, n_repeats), mask)


class GroupedQueryAttention(nn.Module):
    """Exercise 2.13, a challenge: the layer of 2.4 with fewer heads for keys and values.

    It has q_proj and out_proj from d_model to d_model, and k_proj and v_proj from d_model to
    n_kv_heads * d_head, where d_head = d_model / n_heads; all with a bias or without.
    """

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        raise NotImplementedError("Exercise 2.13: GroupedQueryAttention.__init__")  # TODO

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        """As in 2.4, but `attend` is called, once, with q (B, n_heads, T, d_head) and with k and v
        (B, n_kv_heads, T, d_head), unrepeated: so a cache can store the few heads there are.

        Returns (B, T, d_model).
        """
        raise NotImplementedError("Exercise 2.13: GroupedQueryAttention.forward")  # TODO


def block_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """Exercise 2.14, a challenge: attention that skips the blocks in which nothing is allowed.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); mask (T_q, T_k) bool, True where
    attention is allowed. Cut queries and keys into blocks of block_size (the last may be smaller),
    and compute a block of scores only if its part of the mask allows something. A block of keys
    that no query may see is not read at all: it may even hold nan.

    Returns the output (..., T_q, d_v), equal to that of masked attention; a query that may attend
    to nothing gets zeros. Scores may be large, 10,000 for instance, or very negative.
    """
    raise NotImplementedError("Exercise 2.14: block_sparse_attention")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)

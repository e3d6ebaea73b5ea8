"""Solutions of lesson 02. Yours may look different: what counts is what it computes.

Read a solution when yours passes, and compare; the comments name other ways that people choose.
"""

import torch
from torch import Tensor, nn

from attention import AttentionFunction, scaled_dot_product_attention


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Exercise 2.1: give each head its slice of the features.

    x (B, T, n_heads * d_head). The features of head 0 come first, then those of head 1, and so on.

    Returns (B, n_heads, T, d_head). x may be a view of another tensor, not contiguous in memory.
    """
    B, T, width = x.shape
    # Only the last axis is cut: n_heads pieces of neighbouring features. view() works even if x is
    # a transposed tensor, because cutting one axis in two needs no particular order in memory.
    heads = x.view(B, T, n_heads, width // n_heads)
    # The axes are now right in number and wrong in order. torch.stack(x.chunk(n_heads, -1), dim=1)
    # gives the same heads, with a copy; here nothing is copied.
    return heads.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Exercise 2.2: put the heads side by side again; the inverse of 2.1.

    x (B, n_heads, T, d_head), contiguous in memory or not.

    Returns (B, T, n_heads * d_head): the features of head 0 first, then those of head 1, and so on.
    """
    # First the heads move back after the tokens, then the last two axes become one. The transposed
    # tensor is not contiguous: reshape copies it, where view() would refuse. flatten(2) does the
    # same as the reshape, and torch.cat(x.unbind(1), dim=-1) does the whole.
    B, n_heads, T, d_head = x.shape
    return x.transpose(1, 2).reshape(B, T, n_heads * d_head)


def predict_regrouped() -> tuple[float, ...]:
    """Exercise 2.3, a prediction: what is in a head that was cut out without a transpose?

    x holds two tokens of six features: token 0 is 0, 1, 2, 3, 4, 5 and token 1 is 10, 11, 12, 13,
    14, 15. So x has shape (1, 2, 6). A hasty program makes three heads of width 2 out of it by
    x.view(1, 3, 2, 2), for (B, n_heads, T, d_head). The shape is right.

    Returns the four numbers of its head 1 (the second of three), row by row, as you expect them:
    numbers, no calls.
    """
    # view() keeps the order in memory: 0 1 2 3 | 4 5 10 11 | 12 13 14 15. Head 1 has the end of
    # token 0 and the beginning of token 1. The real head 1 holds 2 3 of one and 12 13 of the other.
    return 4, 5, 10, 11


class MultiHeadAttention(nn.Module):
    """Exercise 2.4: attention with several heads, each on its own slice of the projections.

    The layer has four linear maps from d_model to d_model, with a bias or without: q_proj, k_proj,
    v_proj and out_proj. The names matter: with them your layer can load the weights of the course's
    one, and runs in its model.
    """

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__()
        self.n_heads = n_heads
        # As wide as for one head: head h uses slice h of the features that come out. Models built
        # for speed make q, k and v with one Linear of width 3 * d_model (exercise 2.5).
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, d_model, bias=bias)
        self.v_proj = nn.Linear(d_model, d_model, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)

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
        q = split_heads(self.q_proj(x), self.n_heads)  # (B, n_heads, T, d_head)
        k = split_heads(self.k_proj(x), self.n_heads)
        v = split_heads(self.v_proj(x), self.n_heads)
        # Attention treats all axes but the last two as a batch, so the heads need no loop.
        output, _ = attend(q, k, v, mask)
        return self.out_proj(merge_heads(output))


def split_qkv(qkv: Tensor, n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 2.5, a repair: queries, keys and values out of one wide projection.

    Many models make all three with one matrix. qkv (B, T, 3 * d_model) holds, for each token, all
    its queries (head 0 first), then all its keys, then all its values, as GPT-2 and
    nn.MultiheadAttention store them.

    Returns q, k and v, each (B, n_heads, T, d_head). The code below the raise uses 2.1 and has one
    mistake. Delete the raise line, find the mistake, repair it.
    """
    # The two steps were the wrong way round. Cutting into heads first hands head 0 the first third
    # of everything, queries of all heads, and calls parts of it q, k and v. (GPT-NeoX does store
    # them head by head; then the order was right. Who converts weights must know which it is.)
    q, k, v = qkv.chunk(3, dim=-1)
    return split_heads(q, n_heads), split_heads(k, n_heads), split_heads(v, n_heads)


def cross_attend(
    layer: MultiHeadAttention, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Exercise 2.6: a layer with several heads whose keys and values come from another text.

    layer has n_heads, q_proj, k_proj, v_proj and out_proj, like that of 2.4; use nothing else of
    it. x (B, T_q, d_model) asks, context (B, T_k, d_model) answers; mask broadcasts to
    (B, n_heads, T_q, T_k), or is None.

    Returns (B, T_q, d_model). With context = x this is the layer itself.
    """
    # The lengths may differ: split_heads never compares them, and the scores are (T_q, T_k).
    q = split_heads(layer.q_proj(x), layer.n_heads)  # (B, n_heads, T_q, d_head)
    k = split_heads(layer.k_proj(context), layer.n_heads)  # (B, n_heads, T_k, d_head)
    v = split_heads(layer.v_proj(context), layer.n_heads)
    output, _ = scaled_dot_product_attention(q, k, v, mask)
    return layer.out_proj(merge_heads(output))


def head_contributions(heads: Tensor, w_o: Tensor) -> Tensor:
    """Exercise 2.7: what does each head write into the output?

    heads (B, n_heads, T, d_head) is what the heads found, contiguous in memory or not; w_o
    (d_model, n_heads * d_head) is the weight of the output projection as nn.Linear stores it:
    output = merged heads times w_o transposed. The output is a sum of one term per head.

    Returns these terms (B, n_heads, T, d_model); summed over the heads they are the output (without
    its bias).
    """
    n_heads, d_head = heads.size(1), heads.size(3)
    # The columns of w_o are cut as the features are: head h meets columns h * d_head and following.
    slices = w_o.view(-1, n_heads, d_head)  # (d_model, n_heads, d_head)
    # A loop over the heads, heads[:, h] @ slices[:, h].T, says the same.
    return torch.einsum("bhtd,mhd->bhtm", heads, slices)


def layer_cost(d_model: int, n_heads: int, T: int, bias: bool = True) -> tuple[int, int]:
    """Exercise 2.8: what does a layer of 2.4 cost?

    Returns (parameters of the layer, multiply-adds for one sequence of T tokens). Count the four
    projections and the two products inside the heads; leave out the softmax, the division and the
    additions of the biases.
    """
    parameters = 4 * d_model * d_model + (4 * d_model if bias else 0)
    # n_heads does not appear: n_heads products of width d_model / n_heads are d_model in all.
    projections = 4 * T * d_model * d_model
    products = 2 * T * T * d_model
    return parameters, projections + products


def read_heads() -> dict[str, str]:
    """Exercise 2.9, reading: which head does what?

    The picture 02_multi_head/pictures/which_head.png (it is in theory.md too) shows four heads that
    read the six letters d b f a c e twice. Grey cells are exactly 0.

    Returns the letter of each map: {"previous token": ..., "same token": ..., "induction": ...,
    "first token": ...}, each "A", "B", "C" or "D".
    """
    # A has one bright column: everyone looks at position 0. In C the stripe lies right below the
    # diagonal. B and D have a stripe in the lower left: in D the second d looks at the first d, in
    # B at the b after it, which is what induction means.
    return {"previous token": "C", "same token": "D", "induction": "B", "first token": "A"}


def induction_score(weights: Tensor, period: int) -> Tensor:
    """Exercise 2.10: how much of an induction head is each head?

    weights (B, n_heads, T, T) are those of a text that repeats itself every `period` tokens. From
    the second copy on, each token was seen before, `period` places earlier; an induction head looks
    at the token that came right after that earlier place.

    Returns (n_heads,): the mean of the weights that go there, over the batch and over all positions
    from `period` to the last.
    """
    i = torch.arange(period, weights.size(-1))
    # Two index tensors of one shape pick pairs: (period, 1), (period + 1, 2), ... The same stripe,
    # with one entry too many at its beginning, is weights.diagonal(1 - period, -2, -1).
    there = weights[:, :, i, i - period + 1]  # (B, n_heads, T - period)
    return there.mean((0, 2))


def repeat_kv(x: Tensor, n_repeats: int) -> Tensor:
    """Exercise 2.11: copies of key-value heads, so that each query head has one.

    x (B, n_kv_heads, T, d_head). The copies of a head are neighbours: with n_repeats=2 the heads
    0, 1 become 0, 0, 1, 1. So query head h reads key-value head h // n_repeats.

    x may be a view of another tensor, not contiguous in memory.

    Returns (B, n_kv_heads * n_repeats, T, d_head). Write it without torch.repeat_interleave.
    """
    B, n_kv_heads, T, d_head = x.shape
    # A new axis after the heads keeps the copies together; before them it would give 0, 1, 0, 1,
    # as x.repeat(1, n_repeats, 1, 1) does. expand copies nothing; the reshape does.
    copies = x[:, :, None].expand(B, n_kv_heads, n_repeats, T, d_head)
    return copies.reshape(B, n_kv_heads * n_repeats, T, d_head)


def kv_cache_bytes(
    B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, bytes_per_value: int = 2
) -> int:
    """Exercise 2.12: how much memory do the keys and values of a text take?

    During generation, each of n_layers layers keeps the keys and the values of all T tokens of each
    of B texts, for each of its n_kv_heads heads of width d_head.

    Returns the number of bytes.
    """
    # 2: keys and values. The number of query heads does not matter.
    return 2 * B * T * n_layers * n_kv_heads * d_head * bytes_per_value


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
        super().__init__()
        self.n_heads = n_heads
        self.n_kv_heads = n_kv_heads
        kv_width = n_kv_heads * (d_model // n_heads)  # d_head is that of the query heads
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, kv_width, bias=bias)
        self.v_proj = nn.Linear(d_model, kv_width, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)

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
        q = split_heads(self.q_proj(x), self.n_heads)
        k = split_heads(self.k_proj(x), self.n_kv_heads)  # fewer heads, of the same width
        v = split_heads(self.v_proj(x), self.n_kv_heads)
        output, _ = attend(q, k, v, mask)
        return self.out_proj(merge_heads(output))


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
    outputs = []
    for queries, rows in zip(q.split(block_size, dim=-2), mask.split(block_size), strict=True):
        # Columns of the mask stand for keys. One True in a block, and the whole block is computed.
        blocks = torch.arange(k.size(-2)).split(block_size)
        needed = [columns for columns in blocks if rows[:, columns].any()]
        if not needed:
            outputs.append(q.new_zeros((*queries.shape[:-1], v.size(-1))))
            continue
        columns = torch.cat(needed)
        # The blocks of one row of blocks share a softmax, so they are put together first. Within
        # them the mask is still needed. Online softmax (1.14) would take them one after the other.
        keys, values = k[..., columns, :], v[..., columns, :]
        output, _ = scaled_dot_product_attention(queries, keys, values, rows[:, columns])
        outputs.append(output)
    return torch.cat(outputs, dim=-2)

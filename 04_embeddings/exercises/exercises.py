"""Exercises of lesson 04: tokens and positions. Replace each `raise` with your own code.

    python 04_embeddings/exercises/exercises.py   check them all
    make watch                                    check on every save, one after the other
    make hint EX=4.2                              one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md why. Later exercises may use earlier ones.
"""

import math

import torch
from torch import Tensor, nn

from utils.grader.check import check_file


def predict_gradient() -> tuple[float, float, float, float]:
    """Exercise 4.1, a prediction: which rows of the table get a gradient, and how large is it?

    An embedding table has four rows, for the tokens 0 to 3, and one feature. The text is the six
    tokens 3, 1, 3, 0, 3, 1. A loss sends back the gradients 1, 2, 3, 4, 5, 6 to the six vectors
    that were looked up, in this order.

    Returns the gradient of each row of the table, from row 0 to row 3, computed by hand.
    """
    raise NotImplementedError("Exercise 4.1: predict_gradient")  # TODO: return your prediction


def one_hot(tokens: Tensor, vocab_size: int) -> Tensor:
    """Exercise 4.2: each token as a row of zeros with a single 1, at the index of its number.

    tokens (...) integers in [0, vocab_size), with any number of axes.

    Returns (..., vocab_size) float32, whose product with a table (vocab_size, d_model) is the
    table's row for each token. Write it without F.one_hot.
    """
    raise NotImplementedError("Exercise 4.2: one_hot")  # TODO: your code here


class TokenEmbedding(nn.Module):
    """Also exercise 4.2: look up one row of a table for each token.

    Its only parameter is `weight` (vocab_size, d_model), which starts as normal random numbers with
    standard deviation 1. Write both methods, without nn.Embedding and F.embedding.
    """

    def __init__(self, vocab_size: int, d_model: int) -> None:
        """Make the parameter."""
        raise NotImplementedError("Exercise 4.2: TokenEmbedding.__init__")  # TODO: your code here

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) integers in [0, vocab_size) -> (B, T, d_model). Gradients reach weight."""
        raise NotImplementedError("Exercise 4.2: TokenEmbedding.forward")  # TODO: your code here


def embedding_gradient(tokens: Tensor, grad_output: Tensor, vocab_size: int) -> Tensor:
    """Also exercise 4.2: the gradient of the table, by hand.

    tokens (...) integers in [0, vocab_size), grad_output (..., d_model) the gradient of a loss with
    respect to the vectors that were looked up; both with any number of leading axes, even none.

    Returns (vocab_size, d_model), of the dtype of grad_output, without autograd.
    """
    raise NotImplementedError("Exercise 4.2: embedding_gradient")  # TODO: your code here


def scaled_lookup(tokens: Tensor, weight: Tensor) -> Tensor:
    """Exercise 4.3: the vectors of the tokens from a table that serves input and output.

    tokens (...) integers with at least one axis, weight (vocab_size, d_model). Returns each token's
    row times sqrt(d_model): (..., d_model), of the dtype of weight. Gradients reach weight.
    """
    raise NotImplementedError("Exercise 4.3: scaled_lookup")  # TODO: your code here


def tied_logits(x: Tensor, weight: Tensor) -> Tensor:
    """Also exercise 4.3: score every token of the vocabulary with the same table.

    x (..., d_model), weight (vocab_size, d_model). Returns the logits (..., vocab_size): logit v is
    the dot product of x with row v, unscaled. Gradients reach x and weight.
    """
    raise NotImplementedError("Exercise 4.3: tied_logits")  # TODO: your code here


def sinusoidal_encoding(max_seq_len: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """Exercise 4.4: the table of waves (max_seq_len, d_model), float32.

    encoding[t, 2i] = sin(t / base^(2i / d_model)), and encoding[t, 2i + 1] is the cosine of the
    same angle. An odd d_model ends with a sine.
    """
    raise NotImplementedError("Exercise 4.4: sinusoidal_encoding")  # TODO: your code here


class SinusoidalPositions(nn.Module):
    """Also exercise 4.4: the table of waves, looked up by position. The constructor is complete."""

    table: Tensor

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        # A buffer is neither trained nor, with persistent=False, saved: it can be computed again.
        self.register_buffer("table", sinusoidal_encoding(max_seq_len, d_model), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers in [0, max_seq_len) -> (..., d_model)."""
        raise NotImplementedError("Exercise 4.4: SinusoidalPositions.forward")  # TODO


class LearnedPositions(nn.Module):
    """Exercise 4.5: one learned vector per position.

    Its only parameter is `weight` (max_seq_len, d_model), which starts as normal random numbers
    with standard deviation 1. Write both methods, without nn.Embedding and F.embedding.
    """

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        """Make the parameter."""
        raise NotImplementedError("Exercise 4.5: LearnedPositions.__init__")  # TODO: your code here

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers in [0, max_seq_len), of any shape -> (..., d_model).

        Position p gets row p of weight. Gradients reach weight.
        """
        raise NotImplementedError("Exercise 4.5: LearnedPositions.forward")  # TODO: your code here


def shift_matrix(k: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """Exercise 4.6: the matrix that moves a sinusoidal encoding by k positions.

    d_model is even; k may be negative. `encoding` is the table of 4.4 with the same base.

    Returns M (d_model, d_model), float32, with M @ encoding[t] = encoding[t + k] for every t for
    which both rows are in a table, however long: one M for all t.
    """
    raise NotImplementedError("Exercise 4.6: shift_matrix")  # TODO: your code here


def alibi_slopes(n_heads: int) -> Tensor:
    """Exercise 4.7: how strongly each head punishes distance, (n_heads,) float32.

    For n heads, n a power of two, the slopes are 2^(-8/n), 2^(-16/n), ..., 2^(-8), in this order.
    For any other n, take the slopes of the next smaller power of two, and then, for the heads that
    remain, the 1st, 3rd, 5th ... slope of the next larger one.
    """
    raise NotImplementedError("Exercise 4.7: alibi_slopes")  # TODO: your code here


def alibi_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Also exercise 4.7: what ALiBi adds to the scores, minus slope times distance.

    slopes (n_heads,) float32, query_positions (B, T_q) and key_positions (T_k,) integers. The
    distance is never negative, whichever of the two comes first.

    Returns (B, n_heads, T_q, T_k) float32, a floating mask for attention.
    """
    raise NotImplementedError("Exercise 4.7: alibi_bias")  # TODO: your code here


def relative_position_bucket(
    distance: Tensor, n_buckets: int = 32, max_distance: int = 128
) -> Tensor:
    """Exercise 4.8: into which of T5's buckets does each distance fall?

    distance: integers of any shape, how far a key is before its query. Half of the buckets, n_exact
    = n_buckets // 2, hold one distance each: 0, 1, ..., n_exact - 1. A distance d from there on is
    in the bucket

        n_exact + floor(log(d / n_exact) / log(max_distance / n_exact) * (n_buckets - n_exact))

    but never above the last one, n_buckets - 1. A negative distance counts as 0. max_distance is
    larger than n_exact. Where the product is a whole number, rounding may make it a little less,
    and the bucket before is right as well.

    Returns integers (int64), of the shape of distance.
    """
    raise NotImplementedError("Exercise 4.8: relative_position_bucket")  # TODO: your code here


def rotary_angles(positions: Tensor, d_head: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Exercise 4.9, a challenge: by which angle does RoPE turn each pair of features?

    Pair i turns by position * base^(-2i / d_head), for i = 0, 1, ..., d_head / 2 - 1. positions
    (...) are integers or floats (position 2.5 is half-way between 2 and 3), of any shape; d_head is
    even.

    Returns (cosines, sines) of the angles, each (..., d_head / 2) float32.
    """
    raise NotImplementedError("Exercise 4.9: rotary_angles")  # TODO: your code here


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Also exercise 4.9: turn each pair of features (x[i], x[i + d_head / 2]) by its angle.

    x (B, n_heads, T, d_head) are queries or keys; cos and sin broadcast to (B, n_heads, T,
    d_head / 2). A pair (a, b) becomes (a cos - b sin, b cos + a sin).

    Returns the shape and dtype of x; in bfloat16 it may be off by what that rounds, about one
    percent. Gradients reach x.
    """
    raise NotImplementedError("Exercise 4.9: apply_rotary")  # TODO: your code here


def read_schemes() -> dict[str, str]:
    """Exercise 4.10, reading: which position scheme made which scores?

    The picture 04_embeddings/pictures/which_scheme.png (it is in theory.md too) shows the scores of
    one head before masks and softmax, rows for queries and columns for keys. All tokens are the
    same, so any pattern comes from the positions. Each panel has a colour scale of its own.

    Returns the letter of each scheme: {"none": ..., "learned": ..., "sinusoidal": ..., "rope": ...,
    "alibi": ..., "t5": ...}, each "A" to "F".
    """
    raise NotImplementedError("Exercise 4.10: read_schemes")  # TODO: return your answer


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Exercise 4.11, a repair: RoPE that works in float32, and fails in bfloat16.

    x (B, n_heads, T, d_head), float32 or bfloat16; positions (T,) integers, up to 10,000.

    Returns x with each pair (x[i], x[i + d_head / 2]) turned by position * base^(-2i / d_head), in
    the shape and dtype of x. In bfloat16 the result may be off by what bfloat16 rounds, about one
    percent. The code below the raise is off by far more, the more so the larger the position; in
    float32 it is right. Delete the raise line, find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 4.11: rotate")  # TODO: delete, then repair
    half = x.size(-1) // 2
    pairs = torch.arange(half, dtype=x.dtype, device=x.device)
    angles = positions[:, None] * base ** (-pairs / half)
    turns = torch.complex(angles.cos().float(), angles.sin().float())
    turned = torch.complex(*x.float().chunk(2, dim=-1)) * turns  # each pair as a complex number
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


def rotate_new_tokens(
    q: Tensor, k: Tensor, n_cached: Tensor, base: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    """Exercise 4.12, a challenge: RoPE in grouped-query attention, in the middle of a generation.

    q (B, n_heads, T, d_head) and k (B, n_kv_heads, T, d_head) belong to T new tokens per text.
    n_cached (B,) integers: how many tokens of each text are in its cache already, so that the new
    ones have the positions n_cached, n_cached + 1, ... The texts of a batch differ in that.

    Returns (q, k), both rotated as in 4.9, with their shapes and dtypes: in bfloat16 too, after
    thousands of cached tokens as well as after none.
    """
    raise NotImplementedError("Exercise 4.12: rotate_new_tokens")  # TODO: your code here


def interleaved_to_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Exercise 4.13, a challenge: bring W_q or W_k from Meta's layout to that of Hugging Face.

    weight (n_heads * d_head, d_model), or its bias (n_heads * d_head,): head h owns the rows from
    h * d_head on. In the interleaved layout, rows 2i and 2i + 1 of a head are a pair; in the layout
    of halves, as in 4.9, rows i and i + d_head / 2 are.

    Returns the same rows in the other order, in the shape of weight, so that RoPE in halves gives
    the scores that interleaved RoPE gave before.
    """
    raise NotImplementedError("Exercise 4.13: interleaved_to_halves")  # TODO: your code here


def halves_to_interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """Also exercise 4.13: the way back. Arguments and result are as in interleaved_to_halves."""
    raise NotImplementedError("Exercise 4.13: halves_to_interleaved")  # TODO: your code here


def interpolated_angles(
    positions: Tensor, d_head: int, factor: float, base: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    """Exercise 4.14, a challenge: RoPE for texts `factor` times as long as in training.

    The angles of 4.9, for positions that are squeezed so that position factor * t gets the angles
    that t had. positions (...) are integers of any shape; factor is at least 1.

    Returns (cosines, sines), each (..., d_head / 2) float32.
    """
    raise NotImplementedError("Exercise 4.14: interpolated_angles")  # TODO: your code here


def ntk_base(base: float, d_head: int, factor: float) -> float:
    """Also exercise 4.14: another way to slow RoPE down, a larger base.

    Pair i turns by base^(-2i / d_head) per position; pair 0 by 1 whatever the base, and the last
    pair, i = d_head / 2 - 1, the slowest.

    Returns the base, a float, with which the last pair turns `factor` times slower. d_head is even
    and at least 4.
    """
    raise NotImplementedError("Exercise 4.14: ntk_base")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)

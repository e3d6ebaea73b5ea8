"""Solutions of lesson 04. Yours may look different: what counts is what it computes.

Read a solution when yours passes, and compare; the comments name other ways that people choose.
"""

import math

import torch
from torch import Tensor, nn


def predict_gradient() -> tuple[float, float, float, float]:
    """Exercise 4.1, a prediction: which rows of the table get a gradient, and how large is it?

    An embedding table has four rows, for the tokens 0 to 3, and one feature. The text is the six
    tokens 3, 1, 3, 0, 3, 1. A loss sends back the gradients 1, 2, 3, 4, 5, 6 to the six vectors
    that were looked up, in this order.

    Returns the gradient of each row of the table, from row 0 to row 3, computed by hand.
    """
    # Token 3 was looked up at positions 0, 2 and 4: its row took part three times, so what is sent
    # back to the three copies adds up, 1 + 3 + 5. Token 1: 2 + 6. Token 2 took no part.
    return 4.0, 8.0, 0.0, 9.0


def one_hot(tokens: Tensor, vocab_size: int) -> Tensor:
    """Exercise 4.2: each token as a row of zeros with a single 1, at the index of its number.

    tokens (...) integers in [0, vocab_size), with any number of axes.

    Returns (..., vocab_size) float32, whose product with a table (vocab_size, d_model) is the
    table's row for each token. Write it without F.one_hot.
    """
    # Each token is compared with each number of the vocabulary. torch.eye(vocab_size)[tokens] is
    # shorter, and scatter_ writes ones into zeros; both are fine.
    return (tokens[..., None] == torch.arange(vocab_size, device=tokens.device)).float()


class TokenEmbedding(nn.Module):
    """Also exercise 4.2: look up one row of a table for each token.

    Its only parameter is `weight` (vocab_size, d_model), which starts as normal random numbers with
    standard deviation 1. Write both methods, without nn.Embedding and F.embedding.
    """

    def __init__(self, vocab_size: int, d_model: int) -> None:
        """Make the parameter."""
        super().__init__()
        self.vocab_size = vocab_size
        self.weight = nn.Parameter(torch.randn(vocab_size, d_model))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) integers in [0, vocab_size) -> (B, T, d_model). Gradients reach weight."""
        # one_hot(tokens, vocab_size) @ self.weight is the same, and vocab_size times the work. It
        # shows what autograd does on the way back: the transposed one-hot matrix adds up rows.
        return self.weight[tokens]


def embedding_gradient(tokens: Tensor, grad_output: Tensor, vocab_size: int) -> Tensor:
    """Also exercise 4.2: the gradient of the table, by hand.

    tokens (...) integers in [0, vocab_size), grad_output (..., d_model) the gradient of a loss with
    respect to the vectors that were looked up; both with any number of leading axes, even none.

    Returns (vocab_size, d_model), of the dtype of grad_output, without autograd.
    """
    d_model = grad_output.size(-1)
    grad_weight = grad_output.new_zeros(vocab_size, d_model)
    # grad_weight[tokens] += grad_output would be wrong: of the updates to one row only one is kept.
    # index_add_ adds them all up; one_hot(...).T @ grad_output does as well.
    return grad_weight.index_add_(0, tokens.flatten(), grad_output.reshape(-1, d_model))


def scaled_lookup(tokens: Tensor, weight: Tensor) -> Tensor:
    """Exercise 4.3: the vectors of the tokens from a table that serves input and output.

    tokens (...) integers with at least one axis, weight (vocab_size, d_model). Returns each token's
    row times sqrt(d_model): (..., d_model), of the dtype of weight. Gradients reach weight.
    """
    # math.sqrt gives a plain number, which leaves the dtype as it is; so does ** 0.5.
    return weight[tokens] * math.sqrt(weight.size(-1))


def tied_logits(x: Tensor, weight: Tensor) -> Tensor:
    """Also exercise 4.3: score every token of the vocabulary with the same table.

    x (..., d_model), weight (vocab_size, d_model). Returns the logits (..., vocab_size): logit v is
    the dot product of x with row v, unscaled. Gradients reach x and weight.
    """
    return x @ weight.T  # F.linear(x, weight) is the same


def sinusoidal_encoding(max_seq_len: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """Exercise 4.4: the table of waves (max_seq_len, d_model), float32.

    encoding[t, 2i] = sin(t / base^(2i / d_model)), and encoding[t, 2i + 1] is the cosine of the
    same angle. An odd d_model ends with a sine.
    """
    positions = torch.arange(max_seq_len, dtype=torch.float32)
    # 2i / d_model for i = 0, 1, ...: one frequency per pair of features.
    frequencies = base ** (-torch.arange(0, d_model, 2, dtype=torch.float32) / d_model)
    angles = positions[:, None] * frequencies  # (max_seq_len, d_model / 2, rounded up)
    # Side by side, then flattened: sin, cos, sin, cos. Writing into encoding[:, 0::2] and
    # encoding[:, 1::2] of a table of zeros is as good.
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :d_model]


class SinusoidalPositions(nn.Module):
    """Also exercise 4.4: the table of waves, looked up by position. The constructor is complete."""

    table: Tensor

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        # A buffer is neither trained nor, with persistent=False, saved: it can be computed again.
        self.register_buffer("table", sinusoidal_encoding(max_seq_len, d_model), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers in [0, max_seq_len) -> (..., d_model)."""
        return self.table[positions]


class LearnedPositions(nn.Module):
    """Exercise 4.5: one learned vector per position.

    Its only parameter is `weight` (max_seq_len, d_model), which starts as normal random numbers
    with standard deviation 1. Write both methods, without nn.Embedding and F.embedding.
    """

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        """Make the parameter."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, d_model))

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers in [0, max_seq_len), of any shape -> (..., d_model).

        Position p gets row p of weight. Gradients reach weight.
        """
        # Not self.weight[:T]: in cached generation each row of a batch is at its own position.
        return self.weight[positions]


def shift_matrix(k: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """Exercise 4.6: the matrix that moves a sinusoidal encoding by k positions.

    d_model is even; k may be negative. `encoding` is the table of 4.4 with the same base.

    Returns M (d_model, d_model), float32, with M @ encoding[t] = encoding[t + k] for every t for
    which both rows are in a table, however long: one M for all t.
    """
    # sin(a + b) = cos(b) sin(a) + sin(b) cos(a), and cos(a + b) = -sin(b) sin(a) + cos(b) cos(a):
    # a 2 x 2 block per pair, with b = k times the pair's frequency.
    angles = k * base ** (-torch.arange(0, d_model, 2) / d_model)  # (d_model / 2,)
    matrix = torch.zeros(d_model, d_model)
    sines = torch.arange(0, d_model, 2)  # where the sines are; the cosines follow them
    matrix[sines, sines] = angles.cos()
    matrix[sines, sines + 1] = angles.sin()
    matrix[sines + 1, sines] = -angles.sin()
    matrix[sines + 1, sines + 1] = angles.cos()
    return matrix  # torch.block_diag(*blocks) is another way to put it together


def alibi_slopes(n_heads: int) -> Tensor:
    """Exercise 4.7: how strongly each head punishes distance, (n_heads,) float32.

    For n heads, n a power of two, the slopes are 2^(-8/n), 2^(-16/n), ..., 2^(-8), in this order.
    For any other n, take the slopes of the next smaller power of two, and then, for the heads that
    remain, the 1st, 3rd, 5th ... slope of the next larger one.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    exponents = [8 * (head + 1) / power for head in range(power)]
    # With 2 * power heads the slopes are 2^(-4/power), 2^(-8/power), ...: every other one of them.
    exponents += [4 * (2 * head + 1) / power for head in range(n_heads - power)]
    return torch.tensor([2.0**-exponent for exponent in exponents])


def alibi_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Also exercise 4.7: what ALiBi adds to the scores, minus slope times distance.

    slopes (n_heads,) float32, query_positions (B, T_q) and key_positions (T_k,) integers. The
    distance is never negative, whichever of the two comes first.

    Returns (B, n_heads, T_q, T_k) float32, a floating mask for attention.
    """
    # Each query position meets each key position: (B, T_q, 1) - (T_k,) -> (B, T_q, T_k).
    distance = (query_positions[:, :, None] - key_positions).abs()
    return -slopes[:, None, None] * distance[:, None]  # (n_heads, 1, 1) * (B, 1, T_q, T_k)


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
    n_exact = n_buckets // 2
    distance = distance.clamp(min=0)
    # Computed for all and used for the far ones. clamp(min=1) keeps log(0) out of it.
    share = torch.log(distance.clamp(min=1) / n_exact) / math.log(max_distance / n_exact)
    far = n_exact + (share * (n_buckets - n_exact)).long()
    return torch.where(distance < n_exact, distance, far.clamp(max=n_buckets - 1))


def rotary_angles(positions: Tensor, d_head: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Exercise 4.9, a challenge: by which angle does RoPE turn each pair of features?

    Pair i turns by position * base^(-2i / d_head), for i = 0, 1, ..., d_head / 2 - 1. positions
    (...) are integers or floats (position 2.5 is half-way between 2 and 3), of any shape; d_head is
    even.

    Returns (cosines, sines) of the angles, each (..., d_head / 2) float32.
    """
    pairs = torch.arange(0, d_head, 2, dtype=torch.float32, device=positions.device)  # 2i
    angles = positions[..., None] * base ** (-pairs / d_head)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Also exercise 4.9: turn each pair of features (x[i], x[i + d_head / 2]) by its angle.

    x (B, n_heads, T, d_head) are queries or keys; cos and sin broadcast to (B, n_heads, T,
    d_head / 2). A pair (a, b) becomes (a cos - b sin, b cos + a sin).

    Returns the shape and dtype of x; in bfloat16 it may be off by what that rounds, about one
    percent. Gradients reach x.
    """
    first, second = x.chunk(2, dim=-1)  # each (B, n_heads, T, d_head / 2)
    # Another way: x * (cos, cos) + (-second, first) * (sin, sin), as Llama in Hugging Face has it.
    # Or a complex number per pair, torch.complex(first, second) * torch.polar(1, angle).
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)  # cos and sin in float32 have made float32 of a bfloat16


def read_schemes() -> dict[str, str]:
    """Exercise 4.10, reading: which position scheme made which scores?

    The picture 04_embeddings/pictures/which_scheme.png (it is in theory.md too) shows the scores of
    one head before masks and softmax, rows for queries and columns for keys. All tokens are the
    same, so any pattern comes from the positions. Each panel has a colour scale of its own.

    Returns the letter of each scheme: {"none": ..., "learned": ..., "sinusoidal": ..., "rope": ...,
    "alibi": ..., "t5": ...}, each "A" to "F".
    """
    # B is one colour: no positions. A, C and E are constant along the diagonals: they know the
    # distance only. Of these, E falls in a straight line on both sides (ALiBi), C has steps before
    # the query and is flat after it (causal T5), and A goes up and down on both sides (RoPE). D and
    # F depend on both positions: smooth waves in D (sinusoidal), noise in F (learned, untrained).
    return {
        "none": "B",
        "learned": "F",
        "sinusoidal": "D",
        "rope": "A",
        "alibi": "E",
        "t5": "C",
    }


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Exercise 4.11, a repair: RoPE that works in float32, and fails in bfloat16.

    x (B, n_heads, T, d_head), float32 or bfloat16; positions (T,) integers, up to 10,000.

    Returns x with each pair (x[i], x[i + d_head / 2]) turned by position * base^(-2i / d_head), in
    the shape and dtype of x. In bfloat16 the result may be off by what bfloat16 rounds, about one
    percent. The code below the raise is off by far more, the more so the larger the position; in
    float32 it is right. Delete the raise line, find the mistake, repair it.
    """
    # bfloat16 has 8 significant bits: above 256 it knows only even numbers, above 512 multiples of
    # 4, so neighbours got one angle; and a rounded frequency times a large position is off by many
    # turns. Angles, and what they are made of, belong in float32; cosines and sines lie between -1
    # and 1, and may be rounded.
    half = x.size(-1) // 2
    pairs = torch.arange(half, dtype=torch.float32, device=x.device)
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
    T = q.size(2)
    positions = n_cached[:, None] + torch.arange(T, device=q.device)  # (B, T)
    cos, sin = rotary_angles(positions, q.size(-1), base)  # each (B, T, d_head / 2)
    # An axis for the heads, of size 1: it broadcasts to n_heads and to n_kv_heads alike. Keys are
    # rotated before they are written to the cache, once; a rotated key never changes again.
    cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, d_head / 2)
    return apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)


def interleaved_to_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Exercise 4.13, a challenge: bring W_q or W_k from Meta's layout to that of Hugging Face.

    weight (n_heads * d_head, d_model), or its bias (n_heads * d_head,): head h owns the rows from
    h * d_head on. In the interleaved layout, rows 2i and 2i + 1 of a head are a pair; in the layout
    of halves, as in 4.9, rows i and i + d_head / 2 are.

    Returns the same rows in the other order, in the shape of weight, so that RoPE in halves gives
    the scores that interleaved RoPE gave before.
    """
    # The rows, taken apart: head, pair, first or second of the pair. The last two change places.
    # weight.T would have been the wrong axis: what is permuted is the output of the projection.
    rows = weight.reshape(n_heads, -1, 2, *weight.shape[1:])
    return rows.transpose(1, 2).reshape(weight.shape)


def halves_to_interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """Also exercise 4.13: the way back. Arguments and result are as in interleaved_to_halves."""
    rows = weight.reshape(n_heads, 2, -1, *weight.shape[1:])
    return rows.transpose(1, 2).reshape(weight.shape)


def interpolated_angles(
    positions: Tensor, d_head: int, factor: float, base: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    """Exercise 4.14, a challenge: RoPE for texts `factor` times as long as in training.

    The angles of 4.9, for positions that are squeezed so that position factor * t gets the angles
    that t had. positions (...) are integers of any shape; factor is at least 1.

    Returns (cosines, sines), each (..., d_head / 2) float32.
    """
    return rotary_angles(positions / factor, d_head, base)  # / gives floats; // would merge tokens


def ntk_base(base: float, d_head: int, factor: float) -> float:
    """Also exercise 4.14: another way to slow RoPE down, a larger base.

    Pair i turns by base^(-2i / d_head) per position; pair 0 by 1 whatever the base, and the last
    pair, i = d_head / 2 - 1, the slowest.

    Returns the base, a float, with which the last pair turns `factor` times slower. d_head is even
    and at least 4.
    """
    # The last pair's exponent is (d_head - 2) / d_head. new^-e = base^-e / factor, solved for new:
    # base times factor^(1 / e).
    return base * factor ** (d_head / (d_head - 2))

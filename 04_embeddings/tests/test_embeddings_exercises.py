"""What the exercises of lesson 04 must compute: against NumPy, PyTorch, complex numbers, by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, values have a standard deviation of 2, and there are three texts, not two, so that an
axis, a sign or a pair taken for another shows.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.grader.feedback import (
    expect,
    expect_equal,
    expect_prediction,
    expect_same_gradients,
    parameter_shapes,
)
from utils.grader.readings import expect_letters

B, T, V, d_model = 3, 5, 7, 4
TOKENS = torch.tensor([[2, 0, 2, 6, 5], [1, 1, 1, 1, 1], [6, 5, 4, 3, 2]])  # (B, T)


def small(*shape: int, dtype: torch.dtype) -> Tensor:
    """Random values between -1 and 1, so that what bfloat16 rounds stays within its tolerance."""
    return (2 * torch.rand(shape) - 1).to(dtype)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=dtype)


def turned(*shape: int) -> Tensor:
    """Random values that are not contiguous in memory."""
    *lead, rows, columns = shape
    return draw(*lead, columns, rows).mT


# --- parameters of a table ---


def expect_parameters(layer: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """The parameters have these names and shapes, and there are no others."""

    def view(found: Any) -> dict[str, tuple[int, ...]]:
        return found if isinstance(found, dict) else parameter_shapes(found)

    expect_equal(layer, shapes, what="the parameters", view=view)


def expect_normal_start(layer: Any) -> None:
    """The parameter `weight` is trained, and starts as normal numbers with standard deviation 1."""

    def view(found: Any) -> str:
        if isinstance(found, str):
            return found
        weight = dict(found.named_parameters())["weight"].detach()
        spread, mean = weight.double().std().item(), weight.double().mean().item()
        beyond_one = (weight.abs() > 1).double().mean().item()  # 0.32 of normal numbers
        if abs(spread - 1) < 0.1 and abs(mean) < 0.1 and 0.26 < beyond_one < 0.38:
            return "normal, standard deviation 1"
        return f"mean {mean:.2g}, standard deviation {spread:.2g}"

    expect_equal(layer, "normal, standard deviation 1", what="weight, at the start", view=view)


def expect_new_draws(make: Callable[[], Any]) -> None:
    """Two tables differ, unless the seed is the same."""
    tables = [make().weight.detach().clone() for _ in range(2)]
    expect(
        not torch.equal(*tables),
        "two new tables have the same values; a random start differs from table to table",
    )


# --- 4.1 ---


def test_the_predicted_gradient_of_each_row(ex):
    """what is sent back to a row"""
    truth = np.zeros(4)
    np.add.at(truth, [3, 1, 3, 0, 3, 1], [1, 2, 3, 4, 5, 6])
    expect_prediction(ex.predict_gradient(), tuple(truth), what="the four gradients")


# --- 4.2 ---

ONE_HOT = "the one-hot rows (..., vocab_size)"
VECTORS = "the vectors (B, T, d_model)"
TABLE_GRADIENT = "the gradient (vocab_size, d_model)"


def true_one_hot(tokens: Tensor, vocab_size: int) -> Tensor:
    return torch.from_numpy(np.eye(vocab_size, dtype=np.float32)[tokens.numpy()])


def test_a_one_hot_row_has_a_1_at_the_index_of_its_token(ex):
    """a single 1, at the index of the token"""
    for tokens in map(torch.tensor, ([2, 0, 2], [[1, 3], [0, 0], [2, 1]], 3, [4])):
        expect_equal(ex.one_hot(tokens, 5), true_one_hot(tokens, 5), what=ONE_HOT)


def test_the_product_with_a_one_hot_matrix_takes_rows(ex):
    n_tokens = V + 2  # of which the last two don't occur
    expect_equal(ex.one_hot(TOKENS, n_tokens), true_one_hot(TOKENS, n_tokens), what=ONE_HOT)
    square = torch.arange(V)  # as many tokens as there are in the vocabulary
    expect_equal(ex.one_hot(square.flip(0), V), true_one_hot(square.flip(0), V), what=ONE_HOT)


def test_the_table_is_a_parameter_of_normal_random_numbers(ex):
    """weight (vocab_size, d_model), which starts as normal random numbers"""
    expect_parameters(ex.TokenEmbedding(V, d_model), {"weight": (V, d_model)})
    expect_normal_start(ex.TokenEmbedding(60, 50))
    expect_new_draws(lambda: ex.TokenEmbedding(V, d_model))


def test_the_lookup_takes_a_row_for_each_token(ex):
    layer = ex.TokenEmbedding(V, d_model)
    expect_parameters(layer, {"weight": (V, d_model)})
    for tokens in (TOKENS, TOKENS[:1], TOKENS[:, :1], TOKENS[:2, :2]):
        expect_equal(layer(tokens), F.embedding(tokens, layer.weight), what=VECTORS)


def test_the_gradient_of_the_table_adds_up(ex):
    layer = ex.TokenEmbedding(V, d_model)
    expect_parameters(layer, {"weight": (V, d_model)})
    weight = layer.weight
    result, truth = layer(TOKENS), F.embedding(TOKENS, weight)
    expect_equal(result, truth, what=VECTORS)
    expect_same_gradients(result, truth, {"weight": weight})


def true_table_gradient(tokens: Tensor, grad_output: Tensor, vocab_size: int) -> Tensor:
    """Row by row, in NumPy."""
    total = np.zeros((vocab_size, grad_output.size(-1)))
    np.add.at(total, tokens.numpy(), grad_output.double().numpy())
    return torch.from_numpy(total).to(grad_output.dtype)


def test_each_use_of_a_token_adds_its_gradient(ex):
    """each use of a token adds to the gradient of its row"""
    tokens, grad = torch.tensor([1, 0, 1]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    result = ex.embedding_gradient(tokens, grad, 3)
    expect_equal(result, true_table_gradient(tokens, grad, 3), what=TABLE_GRADIENT)


def test_the_gradient_by_hand_is_that_of_autograd(ex):
    for lead in ((T,), (B, T), (B, 2, T), ()):
        tokens = torch.randint(V - 1, lead)  # the last token is never used
        grad = draw(*lead, d_model)
        result = ex.embedding_gradient(tokens, grad, V)
        expect_equal(result, true_table_gradient(tokens, grad, V), what=TABLE_GRADIENT)
    grad = draw(B, T, d_model, dtype=torch.float64)
    result = ex.embedding_gradient(TOKENS, grad, V)
    expect_equal(result, true_table_gradient(TOKENS, grad, V), what=TABLE_GRADIENT)


# --- 4.3 ---

SCALED = "the scaled vectors (..., d_model)"
LOGITS = "the logits (..., vocab_size)"


def test_a_row_is_scaled_by_the_root_of_its_width(ex):
    """a row of the table, times sqrt(d_model)"""
    small = torch.tensor([[1.0, 0.0, 2.0, -3.0], [0.5, -2.0, 0.0, 1.5]])
    expect_equal(ex.scaled_lookup(torch.tensor([1]), small), 2 * small[1:], what=SCALED)
    for tokens in (TOKENS[0], TOKENS, TOKENS[:1, :1], TOKENS[None]):
        weight = draw(V, 6)
        truth = torch.from_numpy(weight.numpy()[tokens.numpy()] * np.float32(np.sqrt(6)))
        expect_equal(ex.scaled_lookup(tokens, weight), truth, what=SCALED)


def test_the_lookup_keeps_the_dtype_of_the_table(ex):
    for dtype in (torch.float64, torch.bfloat16):
        weight = draw(V, 6).to(dtype)
        truth = (weight.double()[TOKENS] * math.sqrt(6)).to(dtype)
        expect_equal(ex.scaled_lookup(TOKENS, weight), truth, what=SCALED)


def test_each_logit_is_a_dot_product_with_a_row(ex):
    """logit v is the dot product with row v"""
    x = torch.tensor([[1.0, 2.0]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, -1.0]])
    expect_equal(ex.tied_logits(x, weight), torch.tensor([[1.0, 2.0, 1.0]]), what=LOGITS)
    for lead in ((T,), (B, T), (B, 2, T), ()):
        for n_tokens in (V, d_model):  # or a vocabulary as large as the model is wide
            x, weight = draw(*lead, d_model), draw(n_tokens, d_model)
            truth = torch.from_numpy(np.inner(x.double().numpy(), weight.double().numpy()))
            expect_equal(ex.tied_logits(x, weight), truth.float(), what=LOGITS)


def test_both_uses_of_the_table_add_to_its_gradient(ex):
    weight = draw(V, d_model).requires_grad_()
    vectors = ex.scaled_lookup(TOKENS, weight)
    true_vectors = F.embedding(TOKENS, weight) * math.sqrt(d_model)
    expect_equal(vectors, true_vectors, what=SCALED)
    expect_same_gradients(vectors, true_vectors, {"weight": weight})
    x = draw(B, T, d_model).requires_grad_()
    logits, true_logits = ex.tied_logits(x, weight), F.linear(x, weight)
    expect_equal(logits, true_logits, what=LOGITS)
    expect_same_gradients(logits, true_logits, {"x": x, "weight": weight})


# --- 4.4 ---

WAVES = "the table (max_seq_len, d_model)"
ADDED = "the vectors (..., d_model)"


def true_waves(max_seq_len: int, width: int, base: float = 10_000.0) -> Tensor:
    """Vaswani et al. 2017, section 3.5, one entry at a time."""
    table = np.zeros((max_seq_len, width))
    for t in range(max_seq_len):
        for j in range(width):
            angle = t / base ** (2 * (j // 2) / width)
            table[t, j] = np.sin(angle) if j % 2 == 0 else np.cos(angle)
    return torch.from_numpy(table).float()


def test_even_features_are_sines_and_odd_ones_cosines(ex):
    """sines in the even features, cosines in the odd ones"""
    expect_equal(ex.sinusoidal_encoding(3, 4, 50.0), true_waves(3, 4, 50.0), what=WAVES)


def test_the_table_of_waves_is_that_of_the_formula(ex):
    for length, width in ((T, 6), (40, 8), (6, 6), (3, 2), (1, 6)):
        expect_equal(ex.sinusoidal_encoding(length, width), true_waves(length, width), what=WAVES)


def test_the_base_is_the_one_given_and_10000_else(ex):
    for base in (100.0, 500_000.0):
        expect_equal(ex.sinusoidal_encoding(20, 6, base), true_waves(20, 6, base), what=WAVES)
    expect_equal(ex.sinusoidal_encoding(20, 6), true_waves(20, 6), what=WAVES)


def test_an_odd_width_ends_with_a_sine(ex):
    for width in (3, 7, 5, 1):
        expect_equal(ex.sinusoidal_encoding(T, width), true_waves(T, width), what=WAVES)


POSITIONS = [
    torch.arange(T),
    torch.tensor([2, 5, 9]),
    torch.tensor([[0, 1, 2], [7, 8, 9], [3, 4, 5], [9, 0, 0]]),
    torch.tensor([[4]]),
    torch.tensor(7),
]


def test_the_waves_are_looked_up_by_position(ex):
    layer = ex.SinusoidalPositions(10, 6)
    layer.table = true_waves(10, 6)  # here the lookup counts, whatever the table would be
    for positions in POSITIONS:
        expect_equal(layer(positions), layer.table[positions], what=ADDED)


# --- 4.5 ---


def test_the_positions_are_a_parameter_of_normal_random_numbers(ex):
    """weight (max_seq_len, d_model), which starts as normal random numbers"""
    expect_parameters(ex.LearnedPositions(10, 6), {"weight": (10, 6)})
    expect_normal_start(ex.LearnedPositions(60, 50))
    expect_new_draws(lambda: ex.LearnedPositions(10, 6))


def test_each_position_has_its_row(ex):
    layer = ex.LearnedPositions(10, 6)
    expect_parameters(layer, {"weight": (10, 6)})
    positions = torch.tensor([3, 4, 5, 6, 7])  # not from 0: these tokens follow others
    expect_equal(layer(positions), layer.weight.detach()[positions], what=ADDED)


def test_positions_of_any_shape(ex):
    layer = ex.LearnedPositions(10, 6)
    expect_parameters(layer, {"weight": (10, 6)})
    for positions in POSITIONS:
        expect_equal(layer(positions), F.embedding(positions, layer.weight), what=ADDED)


def test_only_the_positions_that_are_used_learn(ex):
    layer = ex.LearnedPositions(10, 6)
    expect_parameters(layer, {"weight": (10, 6)})
    positions = torch.tensor([[2, 3], [3, 4], [3, 9]])
    result, truth = layer(positions), F.embedding(positions, layer.weight)
    expect_equal(result, truth, what=ADDED)
    expect_same_gradients(result, truth, {"weight": layer.weight})


# --- 4.6 ---

MATRIX = "the matrix (d_model, d_model)"


def true_shift(k: int, width: int, base: float = 10_000.0) -> Tensor:
    """Found from the table itself, as the solution of M @ encoding[t] = encoding[t + k]."""
    matrix = np.zeros((width, width))
    for i in range(0, width, 2):
        speed = base ** (-i / width)
        now, then = (
            np.array([[np.sin(a * speed), np.cos(a * speed)] for a in places]).T
            for places in ((0.0, 1.0 / speed), (float(k), k + 1.0 / speed))
        )
        matrix[i : i + 2, i : i + 2] = then @ np.linalg.inv(now)
    return torch.from_numpy(matrix).float()


def test_the_matrix_moves_the_waves_by_k_positions(ex):
    """M @ encoding[t] is encoding[t + k], whatever t is"""
    for k, width, base in ((3, 4, 10_000.0), (1, 2, 10_000.0), (3, 6, 10_000.0), (5, 8, 50.0)):
        expect_equal(ex.shift_matrix(k, width, base), true_shift(k, width, base), what=MATRIX)


def test_the_shift_matrix_is_made_of_two_by_two_rotations(ex):
    """forth and back, and the identity for k = 0"""
    for k in (2, 7, -1, -4, 0, 300):
        expect_equal(ex.shift_matrix(k, 6), true_shift(k, 6), what=MATRIX)


def test_shifts_add_up(ex):
    table, moved = true_waves(20, 6), ex.shift_matrix(4, 6)
    expect_equal(moved, true_shift(4, 6), what=MATRIX)
    once = ex.shift_matrix(2, 6)
    expect_equal(once, true_shift(2, 6), what=MATRIX)
    twice = once @ once
    expect_equal(twice, true_shift(4, 6), what="the matrix for k = 2, applied twice")
    expect_equal(table[:-4] @ moved.T, table[4:], what="the table, moved by 4 positions")


# --- 4.7 ---

SLOPES = "the slopes (n_heads,)"
BIAS = "the bias (B, n_heads, T_q, T_k)"
SLOPE_EXPONENTS = {  # of the authors' code: the slope is 2 to the power of minus these
    1: [8],
    2: [4, 8],
    3: [4, 8, 2],
    4: [2, 4, 6, 8],
    5: [2, 4, 6, 8, 1],
    6: [2, 4, 6, 8, 1, 3],
    7: [2, 4, 6, 8, 1, 3, 5],
    8: [1, 2, 3, 4, 5, 6, 7, 8],
    12: [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5],
    16: [0.5 * n for n in range(1, 17)],
}


def true_slopes(n_heads: int) -> Tensor:
    return torch.tensor([2.0**-exponent for exponent in SLOPE_EXPONENTS[n_heads]])


def logarithms(slopes: Tensor) -> Tensor:
    """Small slopes count as much as large ones."""
    return torch.log2(slopes)


def test_slopes_for_powers_of_two(ex):
    """from 2^(-8/n) to 2^(-8)"""
    for n_heads in (8, 2, 16, 1, 4):
        slopes, truth = ex.alibi_slopes(n_heads), true_slopes(n_heads)
        expect_equal(slopes, truth, what=SLOPES)
        expect_equal(slopes, truth, what="the logarithms of the slopes", view=logarithms)


def test_slopes_for_other_numbers_of_heads(ex):
    """the slopes of the next smaller power of two, then every other one of the next larger"""
    for n_heads in (6, 5, 7, 12, 3):
        expect_equal(ex.alibi_slopes(n_heads), true_slopes(n_heads), what=SLOPES)


def true_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """One entry at a time."""
    shape = (len(query_positions), len(slopes), query_positions.size(1), len(key_positions))
    bias = np.zeros(shape, dtype=np.float32)
    for b, h, i, j in np.ndindex(shape):
        distance = abs(int(query_positions[b, i]) - int(key_positions[j]))
        bias[b, h, i, j] = -slopes[h].item() * distance
    return torch.from_numpy(bias)


def test_the_bias_is_minus_slope_times_distance(ex):
    """minus slope times distance, before and after the query"""
    slopes, queries = torch.tensor([0.5]), torch.tensor([[1, 2]])
    bias = ex.alibi_bias(slopes, queries, torch.arange(4))
    expect_equal(bias, true_bias(slopes, queries, torch.arange(4)), what=BIAS)
    slopes, queries = torch.tensor([0.5, 0.25]), torch.arange(4)[None]
    bias = ex.alibi_bias(slopes, queries, torch.arange(4))
    expect_equal(bias, true_bias(slopes, queries, torch.arange(4)), what=BIAS)


def test_each_text_may_have_its_own_positions(ex):
    """each text of the batch may have its own positions"""
    texts = torch.tensor([[3, 4], [0, 1], [7, 8]])
    for n_heads in (2, 3, 5):
        slopes = true_slopes(n_heads)
        for queries, keys in (
            (texts, torch.arange(9)),
            (texts, torch.tensor([5, 2, 0])),
            # As many texts and tokens as heads; then a single query, as in generation.
            (torch.randint(20, (n_heads, n_heads)), torch.arange(n_heads)),
            (torch.tensor([[11]]), torch.arange(12)),
        ):
            bias = ex.alibi_bias(slopes, queries, keys)
            expect_equal(bias, true_bias(slopes, queries, keys), what=BIAS)


# --- 4.8 ---

BUCKETS = "the buckets"


def true_bucket(distance: int, n_buckets: int, max_distance: int) -> int | None:
    """In whole numbers only; None where the logarithm is exact, and rounding decides."""
    n_exact = n_buckets // 2
    n_far = n_buckets - n_exact
    distance = max(distance, 0)
    if distance < n_exact:
        return distance
    # share * n_far >= step means (distance / n_exact) ** n_far >= (max_distance / n_exact) ** step.
    for step in range(n_far, -1, -1):
        left = distance**n_far * n_exact**step
        right = max_distance**step * n_exact**n_far
        if left == right and 0 < step < n_far:
            return None
        if left >= right:
            return min(n_exact + step, n_buckets - 1)
    raise AssertionError("a distance of n_exact or more is in the first far bucket at least")


def known_buckets(distances: Tensor, n_buckets: int, max_distance: int) -> tuple[Tensor, Tensor]:
    """Those distances whose bucket doesn't hang on rounding, and their buckets."""
    found = [(d, true_bucket(d, n_buckets, max_distance)) for d in distances.tolist()]
    kept = [(distance, bucket) for distance, bucket in found if bucket is not None]
    return torch.tensor([d for d, _ in kept]), torch.tensor([bucket for _, bucket in kept])


def test_small_distances_have_buckets_of_their_own(ex):
    """0, 1, 2, ... below n_buckets // 2 have a bucket each"""
    distance = torch.arange(6)
    truth = torch.tensor([0, 1, 2, 3, 4, 5])
    expect_equal(ex.relative_position_bucket(distance, 12, 50), truth, what=BUCKETS)
    distance = torch.arange(16)
    expect_equal(ex.relative_position_bucket(distance), distance, what=BUCKETS)


def test_large_distances_share_buckets(ex):
    """larger distances share buckets, the wider the farther"""
    distance, truth = known_buckets(torch.tensor([3, 4, 7, 9, 16, 31, 59]), 8, 60)
    expect_equal(ex.relative_position_bucket(distance, 8, 60), truth, what=BUCKETS)
    for n_buckets, max_distance in ((12, 50), (32, 128), (7, 90)):
        distance, truth = known_buckets(torch.arange(max_distance), n_buckets, max_distance)
        result = ex.relative_position_bucket(distance, n_buckets, max_distance)
        expect_equal(result, truth, what=BUCKETS)


def test_the_last_bucket_holds_all_the_rest(ex):
    distance = torch.tensor([100, 112, 113, 128, 500, 100_000])
    truth = torch.tensor([30, 30, 31, 31, 31, 31])
    expect_equal(ex.relative_position_bucket(distance), truth, what=BUCKETS)
    for n_buckets, max_distance in ((8, 60), (7, 90)):
        truth = torch.full((6,), n_buckets - 1)
        result = ex.relative_position_bucket(distance, n_buckets, max_distance)
        expect_equal(result, truth, what=BUCKETS)


def test_keys_after_their_query_count_as_distance_0(ex):
    distance = torch.tensor([-300, -20, -3, -1, 0, 1])
    truth = torch.tensor([0, 0, 0, 0, 0, 1])
    expect_equal(ex.relative_position_bucket(distance), truth, what=BUCKETS)


def test_the_buckets_are_integers_of_the_shape_of_distance(ex):
    for shape in ((), (1,), (T, 7), (B, T, 7)):
        distance = torch.randint(-20, 200, shape)  # no bound of these buckets is a whole number
        truth = [true_bucket(d, 32, 128) for d in distance.flatten().tolist()]
        result = ex.relative_position_bucket(distance)
        expect_equal(result, torch.tensor(truth).reshape(shape), what=BUCKETS)


# --- 4.9 ---

COS_SIN = ("the cosines (..., d_head / 2)", "the sines (..., d_head / 2)")
ROTATED = "the rotated x (B, n_heads, T, d_head)"
HEADS = 2


def true_angles(positions: Tensor, d_head: int, base: float = 10_000.0) -> Tensor:
    """In float64, one pair at a time: (..., d_head / 2)."""
    speeds = np.array([base ** (-2 * i / d_head) for i in range(d_head // 2)])
    return torch.from_numpy(positions.double().numpy()[..., None] * speeds)


def true_cos_sin(positions: Tensor, d_head: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    angles = true_angles(positions, d_head, base)
    return angles.cos().float(), angles.sin().float()


def true_rotation(x: Tensor, angles: Tensor) -> Tensor:
    """Complex numbers made of features i and i + d_head / 2, times e to the power of i angle."""
    values, half = x.detach().double(), x.size(-1) // 2
    numbers = torch.complex(values[..., :half], values[..., half:])
    turned_ones = numbers * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned_ones.real, turned_ones.imag), dim=-1).to(x.dtype)


def test_pair_i_turns_by_position_times_its_frequency(ex):
    """the angle is position * base^(-2i / d_head)"""
    positions = torch.tensor([0, 1, 2])
    expect_equal(ex.rotary_angles(positions, 4, 100.0), true_cos_sin(positions, 4, 100.0), COS_SIN)
    positions = torch.tensor([0, 1, 5, 17, 40])
    expect_equal(ex.rotary_angles(positions, 6), true_cos_sin(positions, 6), what=COS_SIN)


def test_the_angles_of_positions_of_any_shape(ex):
    for positions in POSITIONS:
        expect_equal(ex.rotary_angles(positions, 6), true_cos_sin(positions, 6), what=COS_SIN)
        expect_equal(ex.rotary_angles(positions, 2), true_cos_sin(positions, 2), what=COS_SIN)


def test_a_position_may_lie_between_two_others(ex):
    """a position may lie between two others"""
    for positions in (torch.tensor([0.5, 2.25]), torch.tensor([[0.0, 1.75], [3.5, 20.0]])):
        expect_equal(ex.rotary_angles(positions, 6), true_cos_sin(positions, 6), what=COS_SIN)


def test_the_base_of_the_angles_is_the_one_given(ex):
    positions = torch.arange(8)
    for base in (50.0, 500_000.0):
        truth = true_cos_sin(positions, 8, base)
        expect_equal(ex.rotary_angles(positions, 8, base), truth, what=COS_SIN)


def test_each_pair_turns_by_its_angle(ex):
    """(a, b) becomes (a cos - b sin, b cos + a sin)"""
    x = torch.tensor([[[[2.0, 1.0, -1.0, 3.0]]]])
    angles = torch.tensor([[math.pi / 2, math.pi / 6]], dtype=torch.float64)
    result = ex.apply_rotary(x, angles.cos().float(), angles.sin().float())
    expect_equal(result, true_rotation(x, angles), what=ROTATED)


def test_rotary_equals_complex_multiplication(ex):
    for batch, d_head in ((B, 4), (1, 6), (B, 6), (1, 2)):
        angles = true_angles(torch.tensor([0, 1, 5, 17, 40]), d_head)
        cos, sin = angles.cos().float(), angles.sin().float()
        for x in (draw(batch, HEADS, T, d_head), turned(batch, HEADS, T, d_head)):
            expect_equal(ex.apply_rotary(x, cos, sin), true_rotation(x, angles), what=ROTATED)
        angles = draw(batch, 1, T, d_head // 2, dtype=torch.float64)  # each text its own positions
        x = draw(batch, HEADS, T, d_head)
        result = ex.apply_rotary(x, angles.cos().float(), angles.sin().float())
        expect_equal(result, true_rotation(x, angles), what=ROTATED)


def test_rotary_keeps_the_dtype(ex):
    angles = true_angles(torch.arange(T), 6)
    for dtype in (torch.bfloat16, torch.float64):
        x = small(B, HEADS, T, 6, dtype=dtype)
        # Rounded to float32 first: what float32 loses is not the answer's mistake.
        cos, sin = angles.cos().float(), angles.sin().float()
        truth = true_rotation(x, torch.atan2(sin.double(), cos.double()))
        expect_equal(ex.apply_rotary(x, cos, sin), truth, what=ROTATED)


def test_scores_depend_on_distance_alone(ex):
    q, k = draw(1, 1, 1, 8), draw(1, 1, 1, 8)
    cos, sin = ex.rotary_angles(torch.arange(30), 8)
    expect_equal((cos, sin), true_cos_sin(torch.arange(30), 8), what=COS_SIN)

    def rotated(x: Tensor, position: int) -> Tensor:
        at = slice(position, position + 1)
        result = ex.apply_rotary(x, cos[at], sin[at])
        expect_equal(result, true_rotation(x, true_angles(torch.tensor([position]), 8)), ROTATED)
        return result

    near, far = ((rotated(q, t + 4) * rotated(k, t)).sum() for t in (0, 25))
    expect_equal(far, near, what="the score of a query 4 positions after a key, elsewhere")


def test_rotary_lets_gradients_through(ex):
    x = draw(B, HEADS, T, 6).requires_grad_()
    angles = true_angles(torch.arange(T), 6)
    cos, sin = angles.cos().float(), angles.sin().float()
    result = ex.apply_rotary(x, cos, sin)
    expect_equal(result, true_rotation(x, angles), what=ROTATED)
    both = torch.cat((cos, cos), -1), torch.cat((sin, sin), -1)  # the formula of Llama's code
    swapped = torch.cat((-x[..., 3:], x[..., :3]), dim=-1)
    expect_same_gradients(result, x * both[0] + swapped * both[1], {"x": x})


# --- 4.10 ---

LETTERS = {  # and where the panels of pictures/draw.py come from
    "none": "B",
    "learned": "F",
    "sinusoidal": "D",
    "rope": "A",
    "alibi": "E",
    "t5": "C",
}


def test_each_picture_is_given_its_scheme(ex):
    expect_letters(ex.read_schemes(), LETTERS, "the schemes")


# --- 4.11 ---


def test_far_neighbours_turn_by_different_angles(ex):
    """neighbours far into a text turn by different angles, in bfloat16 too"""
    # With a 0 in each pair nothing cancels, so rounding stays in proportion to the result.
    x = torch.tensor([8.0, 0.0], dtype=torch.bfloat16).expand(1, 1, 3, 2).clone()
    positions = torch.tensor([256, 267, 301])
    truth = true_rotation(x, true_angles(positions, 2))
    expect_equal(ex.rotate(x, positions), truth, what=ROTATED)


def test_bfloat16_at_every_position(ex):
    n = 40  # as many pairs of values turn by one angle: what bfloat16 rounds averages out
    for last in (10_000, 1000, 60):
        x = small(n, 1, T, 8, dtype=torch.bfloat16)
        positions = torch.tensor([0, 1, last // 3, last - 1, last])

        def turns(found: Tensor, x: Tensor = x) -> Tensor:
            """Cosine and sine of each pair's turn (2, T, 4), so that 0.005 is a tolerance."""
            given, result = (torch.complex(*y.double().chunk(2, dim=-1)) for y in (x, found))
            mean = (given.conj() * result).mean((0, 1)) / given.abs().square().mean((0, 1))
            return 0.002 * torch.view_as_real(mean).movedim(-1, 0)

        result, truth = ex.rotate(x, positions), true_rotation(x, true_angles(positions, 8))
        expect_equal(result, truth, what="0.002 times cos and sin of each turn", view=turns)


def test_float32_is_as_right_as_before(ex):
    x, positions = draw(B, HEADS, T, 6), torch.tensor([0, 1, 5, 17, 40])
    truth = true_rotation(x, true_angles(positions, 6))
    expect_equal(ex.rotate(x, positions), truth, what=ROTATED)
    truth = true_rotation(x, true_angles(positions, 6, 50.0))
    expect_equal(ex.rotate(x, positions, 50.0), truth, what=ROTATED)


# --- 4.12 ---

BOTH = ("the rotated q (B, n_heads, T, d_head)", "the rotated k (B, n_kv_heads, T, d_head)")


def true_new_tokens(
    q: Tensor, k: Tensor, n_cached: Tensor, base: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    """Text by text."""

    def rotated(x: Tensor) -> Tensor:
        places = [int(start) + torch.arange(x.size(2)) for start in n_cached]
        texts = zip(x, places, strict=True)
        turned_texts = [true_rotation(one, true_angles(at, x.size(-1), base)) for one, at in texts]
        return torch.stack(turned_texts)

    return rotated(q), rotated(k)


def test_new_tokens_continue_after_the_cached_ones(ex):
    """the new tokens have the positions after those in the cache"""
    q, k = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    n_cached = torch.tensor([3])
    expect_equal(ex.rotate_new_tokens(q, k, n_cached), true_new_tokens(q, k, n_cached), what=BOTH)
    q, k, n_cached = draw(1, 4, 3, 6), draw(1, 2, 3, 6), torch.tensor([7])
    expect_equal(ex.rotate_new_tokens(q, k, n_cached), true_new_tokens(q, k, n_cached), what=BOTH)


def test_each_text_continues_after_its_own_cache(ex):
    n_cached = torch.tensor([7, 0, 12])
    for n_heads, n_kv_heads, length in ((4, 2, 5), (6, 1, 1), (3, 3, 3)):
        q, k = draw(B, n_heads, length, 6), draw(B, n_kv_heads, length, 6)
        truth = true_new_tokens(q, k, n_cached)
        expect_equal(ex.rotate_new_tokens(q, k, n_cached), truth, what=BOTH)
        truth = true_new_tokens(q, k, n_cached, 50.0)
        expect_equal(ex.rotate_new_tokens(q, k, n_cached, 50.0), truth, what=BOTH)


def test_scores_are_those_of_one_pass_over_the_whole_text(ex):
    q, k = draw(B, 4, 8, 6), draw(B, 2, 8, 6)
    whole = ex.rotate_new_tokens(q, k, torch.zeros(B, dtype=torch.long))
    expect_equal(whole, true_new_tokens(q, k, torch.zeros(B)), what=BOTH)
    parts = ex.rotate_new_tokens(q[:, :, 6:], k[:, :, 6:], torch.full((B,), 6))
    expect_equal(parts, (whole[0][:, :, 6:], whole[1][:, :, 6:]), what=BOTH)


def test_new_tokens_keep_their_dtype_and_precision(ex):
    q, k = (small(B, heads, T, 6, dtype=torch.bfloat16) for heads in (4, 2))
    n_cached = torch.tensor([7, 0, 12])
    expect_equal(ex.rotate_new_tokens(q, k, n_cached), true_new_tokens(q, k, n_cached), what=BOTH)
    # With a 0 in each pair nothing cancels, so rounding stays in proportion to the result.
    q, k = (F.pad(5 + q[..., :3], (0, 3)), F.pad(5 + k[..., :3], (0, 3)))
    n_cached = torch.tensor([301, 0, 4001])
    expect_equal(ex.rotate_new_tokens(q, k, n_cached), true_new_tokens(q, k, n_cached), what=BOTH)


# --- 4.13 ---

ROWS = "the rows in their new order"


def true_order(n_heads: int, d_head: int) -> list[int]:
    """Which interleaved row is where in the layout of halves."""
    inside = [*range(0, d_head, 2), *range(1, d_head, 2)]
    return [head * d_head + row for head in range(n_heads) for row in inside]


def numbered_rows(n_rows: int, width: int) -> Tensor:
    """Row r holds 10 r, 10 r + 1, ...: what is moved can be read off."""
    return 10.0 * torch.arange(n_rows)[:, None] + torch.arange(width)


def test_even_rows_of_a_head_come_before_its_odd_rows(ex):
    """in each head the even rows, then the odd ones"""
    bias = torch.arange(12.0)
    expect_equal(ex.interleaved_to_halves(bias, 2), bias[true_order(2, 6)], what=ROWS)
    weight = numbered_rows(12, 5)
    expect_equal(ex.interleaved_to_halves(weight, 2), weight[true_order(2, 6)], what=ROWS)


def test_the_way_back(ex):
    """halves_to_interleaved is the way back"""
    bias = torch.arange(12.0)
    expect_equal(ex.halves_to_interleaved(bias[true_order(2, 6)], 2), bias, what=ROWS)
    weight = numbered_rows(12, 5)
    expect_equal(ex.halves_to_interleaved(weight[true_order(2, 6)], 2), weight, what=ROWS)


def test_heads_and_biases_of_any_size(ex):
    for n_heads, d_head in ((3, 6), (4, 8), (6, 2), (2, 12), (1, 2)):
        order = true_order(n_heads, d_head)
        square = draw(n_heads * d_head, n_heads * d_head)
        for rows in (square, draw(n_heads * d_head, 5), draw(n_heads * d_head)):
            expect_equal(ex.interleaved_to_halves(rows, n_heads), rows[order], what=ROWS)
            expect_equal(ex.halves_to_interleaved(rows[order], n_heads), rows, what=ROWS)


def interleaved_rotation(x: Tensor, angles: Tensor) -> Tensor:
    """Neighbours as complex numbers: x (..., T, d_head)."""
    numbers = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def test_permuted_weights_give_the_scores_of_the_other_layout(ex):
    """RoPE in halves gives the scores that interleaved RoPE gave before"""
    x, angles = draw(T, 10), true_angles(torch.arange(T), 6)
    weights = draw(12, 10), draw(12, 10)  # two heads of six rows
    moved = []
    for weight in weights:
        result = ex.interleaved_to_halves(weight, 2)
        expect_equal(result, weight[true_order(2, 6)], what=ROWS)
        moved.append(result)

    def scores(turn: Callable[[Tensor, Tensor], Tensor], matrices: Any) -> Tensor:
        q, k = ((x @ w.T).view(T, 2, 6).transpose(0, 1) for w in matrices)
        return (turn(q, angles).double() @ turn(k, angles).double().mT).float()

    before, after = scores(interleaved_rotation, weights), scores(true_rotation, moved)
    expect_equal(after / 100, before / 100, what="a hundredth of the scores (n_heads, T, T)")


# --- 4.14 ---

NEW_BASE = "the new base"


def true_stretched(
    positions: Tensor, d_head: int, factor: float, base: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    angles = true_angles(positions, d_head, base) / factor
    return angles.cos().float(), angles.sin().float()


def test_a_stretched_position_has_the_angles_of_training(ex):
    """position factor * t has the angles that t had"""
    positions = torch.tensor([0, 4, 8])
    truth = true_cos_sin(torch.tensor([0, 1, 2]), 4, 100.0)
    expect_equal(ex.interpolated_angles(positions, 4, 4.0, 100.0), truth, what=COS_SIN)
    truth = true_cos_sin(torch.arange(T), 6)
    expect_equal(ex.interpolated_angles(3 * torch.arange(T), 6, 3.0), truth, what=COS_SIN)
    expect_equal(ex.interpolated_angles(torch.arange(T), 6, 1.0), truth, what=COS_SIN)


def test_positions_between_those_of_training_have_angles_of_their_own(ex):
    for factor in (4.0, 2.5, 3):
        for positions in POSITIONS:
            truth = true_stretched(positions, 6, factor)
            expect_equal(ex.interpolated_angles(positions, 6, factor), truth, what=COS_SIN)


def test_the_base_of_interpolated_angles_is_the_one_given(ex):
    for base in (50.0, 500_000.0):
        truth = true_stretched(torch.arange(9), 8, 2.0, base)
        expect_equal(ex.interpolated_angles(torch.arange(9), 8, 2.0, base), truth, what=COS_SIN)
    far = torch.tensor([400])
    expect_equal(ex.interpolated_angles(far, 6, 2.0), true_stretched(far, 6, 2.0), what=COS_SIN)


def true_base(base: float, d_head: int, factor: float) -> float:
    """The logarithm of the new base is a straight line in that of the factor."""
    exponent = (d_head - 2) / d_head
    return math.exp((exponent * math.log(base) + math.log(factor)) / exponent)


def test_the_last_pair_turns_slower_by_the_factor(ex):
    """the last pair turns slower by the factor"""
    for base, d_head, factor in (
        *((10_000.0, 16, 4.0), (50.0, 8, 2.5), (10_000.0, 6, 8.0)),
        *((500.0, 64, 1.0), (500.0, 64, 16)),
    ):
        truth = true_base(base, d_head, factor)
        expect_equal(ex.ntk_base(base, d_head, factor), truth, what=NEW_BASE)


def test_a_head_of_two_pairs_has_a_last_pair_too(ex):
    for base, factor in ((100.0, 3.0), (10_000.0, 1.5)):
        expect_equal(ex.ntk_base(base, 4, factor), true_base(base, 4, factor), what=NEW_BASE)

"""What the exercises of lesson 06 must compute, against PyTorch, NumPy in float64 and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other and there are three sequences, not two, so that an axis or a count taken for another
shows.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.grader.feedback import (
    expect,
    expect_equal,
    expect_prediction,
    expect_same_gradients,
    type_name,
)
from utils.grader.readings import expect_letters

B, T, V = 3, 5, 7


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=dtype)


# --- 6.1 ---


def test_the_four_numbers_are_those_of_a_pocket_calculator(ex):
    """two losses, a perplexity, and a loss that one position makes"""
    second = -(math.log(1 / 2) + math.log(1 / 4) + math.log(1 / 8) + math.log(1 / 2)) / 4
    truth = (math.log(65), second, math.exp(second), -math.log(0.001) / 10)
    expect_prediction(ex.predict_losses(), truth, what="the four numbers", within=0.006)


# --- 6.2 ---

WINDOWS = ("x (B, seq_len)", "y (B, seq_len)")


def true_windows(tokens: Tensor, starts: Tensor, seq_len: int) -> tuple[Tensor, Tensor]:
    """Token by token, in Python."""
    text, places = tokens.tolist(), starts.tolist()
    x = [[text[start + t] for t in range(seq_len)] for start in places]
    y = [[text[start + t + 1] for t in range(seq_len)] for start in places]
    return torch.tensor(x), torch.tensor(y)


def test_the_targets_are_the_inputs_moved_by_one(ex):
    """y holds, for each token of x, the one that follows it in the text"""
    tokens, starts = torch.tensor([20, 15, 0, 2, 5, 11, 14]), torch.tensor([1, 3])
    truth = true_windows(tokens, starts, 3)
    expect_equal(ex.cut_windows(tokens, starts, 3), truth, what=WINDOWS)


def test_windows_may_start_anywhere_and_overlap(ex):
    tokens = torch.randint(100, (50,))
    starts = torch.tensor([7, 0, 44, 7, 9])
    expect_equal(ex.cut_windows(tokens, starts, T), true_windows(tokens, starts, T), what=WINDOWS)


@pytest.mark.parametrize(("starts", "seq_len"), [([4], 6), ([2, 0, 5], 1), ([3], 1)])
def test_one_window_and_windows_of_one_token(ex, starts, seq_len):
    tokens, places = torch.randint(100, (20,)), torch.tensor(starts)
    truth = true_windows(tokens, places, seq_len)
    expect_equal(ex.cut_windows(tokens, places, seq_len), truth, what=WINDOWS)


def test_the_last_window_reaches_the_last_token(ex):
    """the last target may be the last token of the text"""
    tokens, starts = torch.tensor([3, 1, 4, 1, 5, 9]), torch.tensor([1, 0])
    truth = true_windows(tokens, starts, 4)
    expect_equal(ex.cut_windows(tokens, starts, 4), truth, what=WINDOWS)


# --- 6.3 ---


@pytest.mark.parametrize("loss", [math.log(4), 0.0, 1.5, 4.174, 700.0])
def test_perplexity_is_e_to_the_power_of_the_loss(ex, loss):
    expect_equal(ex.perplexity(loss), math.exp(loss), what="the perplexity")


@pytest.mark.parametrize("loss", [710.0, 1e6, math.inf])
def test_a_diverged_loss_has_infinite_perplexity(ex, loss):
    """where e^loss is too large for a float, the perplexity is infinite"""

    def size(found: float) -> str:
        return "finite" if math.isfinite(found) else str(float(found))

    expect_equal(ex.perplexity(loss), math.inf, what="the perplexity", view=size)


@pytest.mark.parametrize(
    ("loss", "chars_per_token"),
    [(2 * math.log(2), None), (1.5, None), (0.0, 3.0), (3.2, 4.0), (2.6, 2.5), (1.5, 1.0)],
)
def test_bits_per_character_are_nats_per_token_in_another_unit(ex, loss, chars_per_token):
    """bits per character are nats per token in another unit"""
    length = 1.0 if chars_per_token is None else chars_per_token
    arguments = (loss,) if chars_per_token is None else (loss, chars_per_token)
    truth = loss * math.log2(math.e) / length
    expect_equal(ex.bits_per_char(*arguments), truth, what="bits per character")


# --- 6.4 ---

LOSS = "the mean loss"


def test_the_loss_is_minus_the_log_probability_of_the_target(ex):
    """the loss of a position is -log softmax(logits) at its target"""
    logits, targets = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([2])
    expect_equal(ex.cross_entropy(logits, targets), F.cross_entropy(logits, targets), what=LOSS)
    logits, targets = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]), torch.tensor([2, 0])
    expect_equal(ex.cross_entropy(logits, targets), F.cross_entropy(logits, targets), what=LOSS)


def true_loss(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    flat = logits.reshape(-1, logits.size(-1)), targets.reshape(-1)
    return F.cross_entropy(*flat, ignore_index=ignore_index)


@pytest.mark.parametrize("lead", [(), (1,), (T,), (B, T), (B, 1), (V, V), (2, B, T)])
def test_the_loss_is_the_mean_over_all_positions(ex, lead):
    logits, targets = draw(*lead, V), torch.randint(V, lead)
    expect_equal(ex.cross_entropy(logits, targets), true_loss(logits, targets), what=LOSS)


@pytest.mark.parametrize("shift", [1000.0, -1000.0])
def test_large_logits_do_not_overflow(ex, shift):
    logits, targets = torch.tensor([[1.0, 3.0, 0.0], [0.0, 2.0, 2.0]]) + shift, torch.tensor([0, 2])
    expect_equal(ex.cross_entropy(logits, targets), true_loss(logits, targets), what=LOSS)
    for row in ([120.0, 0.0, 0.0], [1000.0, 0.0, -1000.0]):
        logits, targets = torch.tensor([row, [2.0, 0.0, 1.0]]), torch.tensor([2, 0])
        expect_equal(ex.cross_entropy(logits, targets), true_loss(logits, targets), what=LOSS)


@pytest.mark.parametrize("ignore_index", [-100, 0, V - 1])
def test_targets_to_ignore_do_not_count(ex, ignore_index):
    """ignored positions count neither in the sum nor in the number of positions"""
    logits, targets = draw(B, T, V), torch.randint(1, V - 1, (B, T))
    targets[0, 3:] = ignore_index
    targets[2, 1] = ignore_index
    truth = true_loss(logits, targets, ignore_index)
    expect_equal(ex.cross_entropy(logits, targets, ignore_index), truth, what=LOSS)
    alone = torch.full((T,), ignore_index)
    alone[2] = 3
    truth = true_loss(logits[0], alone, ignore_index)
    expect_equal(ex.cross_entropy(logits[0], alone, ignore_index), truth, what=LOSS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_loss_has_the_dtype_of_the_logits(ex, dtype):
    logits, targets = draw(B, T, V).to(dtype), torch.randint(V, (B, T))
    truth = true_loss(logits.double(), targets).to(dtype)
    expect_equal(ex.cross_entropy(logits, targets), truth, what=LOSS)


def test_the_loss_lets_gradients_through(ex):
    logits, targets = draw(V, B, T).permute(1, 2, 0).requires_grad_(), torch.randint(V, (B, T))
    result, truth = ex.cross_entropy(logits, targets), true_loss(logits, targets)
    expect_equal(result, truth, what=LOSS)
    expect_same_gradients(result, truth, {"logits": logits})
    logits = torch.tensor([[1000.0, 0.0, -1000.0], [2.0, 0.0, 1.0]], requires_grad=True)
    result = ex.cross_entropy(logits, torch.tensor([0, 2]))
    truth = true_loss(logits, torch.tensor([0, 2]))
    expect_equal(result, truth, what=LOSS)
    expect_same_gradients(result, truth, {"logits": logits})


# --- 6.5 ---

GRADIENT = "the gradient (..., V)"


def true_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """What autograd makes of PyTorch's own cross-entropy."""
    leaf = logits.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(true_loss(leaf, targets), leaf)
    return gradient


def test_the_gradient_is_what_was_predicted_minus_what_was_true(ex):
    """what was predicted, minus what was true, over the number of positions"""
    logits, targets = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([2])
    truth = true_gradient(logits, targets)
    expect_equal(ex.cross_entropy_backward(logits, targets), truth, what=GRADIENT)
    logits, targets = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]), torch.tensor([2, 0])
    truth = true_gradient(logits, targets)
    expect_equal(ex.cross_entropy_backward(logits, targets), truth, what=GRADIENT)


@pytest.mark.parametrize("lead", [(), (T,), (B, T), (V, V), (2, B, T)])
def test_the_gradient_is_that_of_autograd(ex, lead):
    logits, targets = draw(*lead, V), torch.randint(V, lead)
    # A mean over many positions makes small entries: they are compared as if there were one.
    result = ex.cross_entropy_backward(logits, targets)
    truth = true_gradient(logits, targets)
    expect_equal(result, truth, what=GRADIENT)

    def scaled(gradient: Tensor) -> Tensor:
        return gradient * targets.numel()

    expect_equal(result, truth, what="the gradient times the number of positions", view=scaled)


def test_the_gradient_of_large_logits_is_finite(ex):
    logits = torch.tensor([[1001.0, 1003.0, 1000.0], [-1000.0, 0.0, 1000.0]])
    targets = torch.tensor([0, 1])
    truth = true_gradient(logits, targets)
    expect_equal(ex.cross_entropy_backward(logits, targets), truth, what=GRADIENT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_gradient_has_the_dtype_of_the_logits(ex, dtype):
    logits, targets = draw(T, V).to(dtype), torch.randint(V, (T,))
    truth = true_gradient(logits.double(), targets).to(dtype)
    expect_equal(ex.cross_entropy_backward(logits, targets), truth, what=GRADIENT)


# --- 6.6 ---

STEP = ("the new weight", "the new mean", "the new square")
OPTIONS: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": 0.5}


def true_steps(
    weight: Tensor, gradients: Sequence[Tensor], **options: Any
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What PyTorch's AdamW makes of a weight, step by step: (weight, mean, square)."""
    leaf = weight.clone().requires_grad_()
    optimizer = torch.optim.AdamW([leaf], foreach=False, **options)
    states = []
    for gradient in gradients:
        leaf.grad = gradient.clone()
        optimizer.step()
        state = optimizer.state[leaf]
        found = leaf.detach(), state["exp_avg"], state["exp_avg_sq"]
        states.append(tuple(value.clone() for value in found))
    return states


def expect_steps(ex: Any, weight: Tensor, gradients: Sequence[Tensor], **options: Any) -> None:
    """The learner's steps, each from the state that PyTorch left."""
    mean = square = torch.zeros_like(weight)
    for t, truth in enumerate(true_steps(weight, gradients, **options), start=1):
        result = ex.adamw_step(weight, gradients[t - 1], mean, square, t, **options)
        expect_equal(result, truth, what=STEP)
        weight, mean, square = truth


def test_the_first_step_of_the_worked_example(ex):
    """the first step, from zero means"""
    weight, gradient = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])
    expect_steps(ex, weight, [gradient], **OPTIONS)


def test_the_running_means_move_towards_the_gradient(ex):
    weight, gradient = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])
    mean, square = torch.tensor([1.0, -1.0]), torch.tensor([4.0, 1.0])
    m, v = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
    below = torch.sqrt(v / (1 - 0.9**3)) + 1e-8
    new = weight - 0.1 * 0.5 * weight - 0.1 * m / (1 - 0.8**3) / below
    result = ex.adamw_step(weight, gradient, mean, square, 3, **OPTIONS)
    expect_equal(result, (new, m, v), what=STEP)


def test_ten_steps_are_those_of_pytorch(ex):
    """ten steps in a row are those of PyTorch"""
    weight = draw(B, T, dtype=torch.float64)
    gradients = [draw(B, T, dtype=torch.float64) for _ in range(10)]
    expect_steps(ex, weight, gradients, **OPTIONS)
    expect_steps(ex, weight, gradients)  # with the defaults


@pytest.mark.parametrize(
    "changed",
    [{"lr": 0.4}, {"betas": (0.5, 0.9)}, {"betas": (0.8, 0.6)}, {"eps": 0.3}, {"weight_decay": 0}],
    ids=["lr", "beta1", "beta2", "eps", "weight_decay"],
)
def test_every_option_changes_what_it_should(ex, changed):
    weight = draw(T, dtype=torch.float64)
    gradients = [draw(T, dtype=torch.float64) for _ in range(3)]
    expect_steps(ex, weight, gradients, **(OPTIONS | changed))


@pytest.mark.parametrize("shape", [(), (1,), (B, 1, T)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_of_any_shape_and_float64(ex, shape, dtype):
    weight = draw(*shape, dtype=dtype)
    gradients = [draw(*shape, dtype=dtype) / 10 for _ in range(2)]
    expect_steps(ex, weight, gradients, **OPTIONS)


# --- 6.7 and 6.8 ---

FACTOR = "the factor"


def true_cosine(step: int, max_steps: int, warmup_steps: int, min_ratio: float) -> float:
    """From a table of all steps."""
    rise = [(i + 1) / warmup_steps for i in range(warmup_steps)] or [1.0]
    angles = np.linspace(0, np.pi, max_steps - len(rise) + 1)
    table = rise[:-1] + list(min_ratio + (1 - min_ratio) * (1 + np.cos(angles)) / 2)
    return float(table[step])


def expect_cosine(ex: Any, step: int, max_steps: int, warmup: int, ratio: float) -> None:
    options = {"max_steps": max_steps, "warmup_steps": warmup, "min_ratio": ratio}
    truth = true_cosine(step, max_steps, warmup, ratio)
    expect_equal(ex.warmup_cosine(step, **options), truth, what=FACTOR)


@pytest.mark.parametrize("step", range(6))
def test_a_schedule_of_six_steps(ex, step):
    """six steps, two of them warm-up"""
    expect_cosine(ex, step, 6, 2, 0.2)


@pytest.mark.parametrize(("step", "warmup"), [(0, 10), (4, 10), (9, 10), (0, 1), (98, 99)])
def test_the_peak_is_reached_at_the_end_of_the_warmup(ex, step, warmup):
    expect_cosine(ex, step, 100, warmup, 0.1)


@pytest.mark.parametrize(
    ("max_steps", "warmup", "ratio"), [(100, 10, 0.1), (7, 3, 0.0), (12, 0, 0.25), (50, 49, 0.5)]
)
def test_the_last_step_has_the_smallest_factor(ex, max_steps, warmup, ratio):
    expect_cosine(ex, max_steps - 1, max_steps, warmup, ratio)


@pytest.mark.parametrize("step", [10, 32, 54, 77])
@pytest.mark.parametrize("ratio", [0.0, 0.1])
def test_the_fall_is_half_a_cosine(ex, step, ratio):
    expect_cosine(ex, step, 100, 10, ratio)


@pytest.mark.parametrize("step", [0, 1, 10])
def test_without_a_warmup_the_first_step_has_the_peak(ex, step):
    expect_cosine(ex, step, 20, 0, 0.1)


def true_stable(step: int, max_steps: int, warmup: int, decay: int, ratio: float) -> float:
    """From a table of all steps."""
    rise = [(i + 1) / warmup for i in range(warmup)]
    flat = [1.0] * (max_steps - warmup - decay)
    fall = [1 - (1 - ratio) * (i + 1) / decay for i in range(decay)]
    return (rise + flat + fall)[step]


def expect_stable(ex: Any, step: int, max_steps: int, warmup: int, decay: int, r: float) -> None:
    truth = true_stable(step, max_steps, warmup, decay, r)
    result = ex.warmup_stable_decay(
        step, max_steps=max_steps, warmup_steps=warmup, decay_steps=decay, min_ratio=r
    )
    expect_equal(result, truth, what=FACTOR)


@pytest.mark.parametrize("step", range(8))
def test_a_schedule_of_eight_steps_that_stays(ex, step):
    """eight steps: two of warm-up, two at the peak, four of decay"""
    expect_stable(ex, step, 8, 2, 4, 0.2)


@pytest.mark.parametrize("step", [0, 5, 9, 10, 40, 69, 70])
def test_the_factor_stays_at_1_until_the_decay(ex, step):
    expect_stable(ex, step, 100, 10, 30, 0.1)


@pytest.mark.parametrize(
    ("max_steps", "warmup", "decay", "ratio"),
    [(100, 10, 30, 0.1), (9, 3, 6, 0.0), (12, 0, 5, 0.25), (50, 0, 1, 0.5)],
)
def test_the_decay_ends_at_the_smallest_factor(ex, max_steps, warmup, decay, ratio):
    for step in (max_steps - decay, max_steps - 1):
        expect_stable(ex, step, max_steps, warmup, decay, ratio)


@pytest.mark.parametrize("step", [0, 2, 3, 19])
def test_without_a_decay_it_never_falls(ex, step):
    expect_stable(ex, step, 20, 3, 0, 0.1)


# --- 6.9 ---

CLIPPED = ("the gradients", "their norm before the clipping")


def true_clipped(gradients: Sequence[Tensor], max_norm: float) -> tuple[tuple[Tensor, ...], float]:
    """In NumPy: all entries in one row."""
    row = np.concatenate([gradient.double().numpy().ravel() for gradient in gradients])
    norm = float(np.sqrt(np.sum(row**2)))
    factor = max_norm / norm if 0 < max_norm < norm else 1.0
    return tuple(gradient * factor for gradient in gradients), norm


@pytest.mark.parametrize("max_norm", [1.0, 2.5])
def test_all_gradients_share_one_norm(ex, max_norm):
    """all gradients together have one norm, and are multiplied by one factor"""
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    truth = true_clipped(gradients, max_norm)
    expect_equal(ex.clip_gradients(gradients, max_norm), truth, what=CLIPPED)
    gradients = [draw(B, T), draw(V), draw(2, 1, B)]
    truth = true_clipped(gradients, max_norm)
    expect_equal(ex.clip_gradients(gradients, max_norm), truth, what=CLIPPED)


@pytest.mark.parametrize("max_norm", [5.0, 6.0])
def test_small_gradients_stay_as_they_are(ex, max_norm):
    """gradients whose norm is not above max_norm stay as they are"""
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[-4.0]])]
    truth = true_clipped(gradients, max_norm)
    expect_equal(ex.clip_gradients(gradients, max_norm), truth, what=CLIPPED)


def test_no_limit_and_no_gradient(ex):
    """a max_norm of 0 means no limit, and gradients of 0 stay 0"""
    gradients = [torch.tensor([30.0, 0.0]), torch.tensor([[-40.0]])]
    expect_equal(ex.clip_gradients(gradients, 0), true_clipped(gradients, 0), what=CLIPPED)
    zeros = [torch.zeros(2), torch.zeros(1, 3)]
    expect_equal(ex.clip_gradients(zeros, 1.0), (tuple(zeros), 0.0), what=CLIPPED)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shapes_and_dtypes_stay(ex, dtype):
    gradients = [draw(dtype=dtype), draw(4, 1, 3, dtype=dtype), draw(1, dtype=dtype)]
    truth = true_clipped(gradients, 0.7)
    expect_equal(ex.clip_gradients(gradients, 0.7), truth, what=CLIPPED)
    expect_equal(ex.clip_gradients(gradients[1:2], 0.7), true_clipped(gradients[1:2], 0.7), CLIPPED)


# --- 6.10 ---

NEW_WEIGHT = "the new weight (V, d_model)"


def cut(x: Tensor, y: Tensor, sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(list(sizes)), y.split(list(sizes)), strict=True))


def true_step(weight: Tensor, x: Tensor, y: Tensor, lr: float) -> Tensor:
    leaf = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(x @ leaf.mT, y), leaf)
    return weight - lr * gradient


@pytest.mark.parametrize("sizes", [(1, 3), (4, 2, 1), (1, 1, 5, 2)])
def test_micro_batches_of_different_sizes_are_one_batch(ex, sizes):
    """the step is that of all micro-batches in one"""
    n = sum(sizes)
    weight, x, y = draw(V, 4), draw(n, 4), torch.randint(V, (n,))
    result = ex.accumulated_step(weight, cut(x, y, sizes), 2.0)
    expect_equal(result, true_step(weight, x, y, 2.0), what=NEW_WEIGHT)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3, 3)])
def test_equal_micro_batches_are_one_batch_too(ex, sizes):
    n = sum(sizes)
    weight, x, y = draw(V, 4), draw(n, 4), torch.randint(V, (n,))
    result = ex.accumulated_step(weight, cut(x, y, sizes), 3.0)
    expect_equal(result, true_step(weight, x, y, 3.0), what=NEW_WEIGHT)


def test_a_single_micro_batch_is_the_batch(ex):
    weight, x, y = draw(V, 4), draw(T, 4), torch.randint(V, (T,))
    result = ex.accumulated_step(weight, [(x, y)], 2.0)
    expect_equal(result, true_step(weight, x, y, 2.0), what=NEW_WEIGHT)


# --- 6.11 ---

BUGS = {  # and where the curves of LETTERS in pictures/draw.py come from
    "softmax before the loss": "G",
    "targets not shifted": "D",
    "gradients never zeroed": "C",
    "schedule too short": "F",
    "optimizer holds another model": "B",
    "one source after the other": "H",
    "too little text": "A",
    "validation text has its own vocabulary": "E",
}


def test_each_sick_curve_is_given_its_bug(ex):
    expect_letters(ex.read_sick_curves(), BUGS, "the curves")


# --- 6.12 ---

COUNTS = "the counts"
Words = Mapping[tuple[int, ...], int]


def by_name(counts: Any) -> dict[str, int] | str:
    """Counts by the name of the pair."""
    if not isinstance(counts, Mapping):
        return f"{type_name(counts)} in place of a dictionary: {counts}"
    return {str(tuple(map(int, pair))): int(count) for pair, count in counts.items()}


def true_counts(words: Words) -> dict[tuple[int, int], int]:
    """Written out: every pair of every occurrence."""
    pairs = [
        (word[i], word[i + 1])
        for word, count in words.items()
        for _ in range(count)
        for i in range(len(word) - 1)
    ]
    return dict(Counter(pairs))


def test_pairs_are_counted_as_often_as_their_word_occurs(ex):
    """a pair counts once for each occurrence of its word"""
    words = {(1, 2, 3): 4, (2, 3): 1}
    expect_equal(ex.count_pairs(words), true_counts(words), what=COUNTS, view=by_name)


def test_no_pair_reaches_into_the_next_word(ex):
    words = {(1, 2): 1, (3, 4): 1, (5,): 7, (2, 3): 2}
    expect_equal(ex.count_pairs(words), true_counts(words), what=COUNTS, view=by_name)
    expect_equal(ex.count_pairs({(5,): 3}), {}, what=COUNTS, view=by_name)


def test_every_position_of_a_pair_counts(ex):
    """every position of a pair counts, overlapping ones too"""
    words = {(7, 7, 7): 5, (1, 2, 1, 2): 3, (2, 1): 2}
    expect_equal(ex.count_pairs(words), true_counts(words), what=COUNTS, view=by_name)


MERGED = "the merged ids"


def as_list(ids: Any) -> Any:
    """Ids as a list; numbers of NumPy or PyTorch become plain ones."""
    if not isinstance(ids, Iterable):
        return ids
    return [each if isinstance(each, tuple) else int(each) for each in ids]


def true_merge(ids: Sequence[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """By a search in a text with one letter per token."""
    text = "".join(map(chr, ids)).replace("".join(map(chr, pair)), chr(new_id))
    return [ord(letter) for letter in text]


def expect_new(function: Callable[..., Any], ids: list[int], *others: Any) -> None:
    """The result is a list of its own, even if nothing was merged."""
    expect(
        function(ids, *others) is not ids,
        f"the list that was given is returned itself, for {ids}; make a new one, with list(...)",
    )


@pytest.mark.parametrize("ids", [[1, 2, 3], [3, 1, 2], [1, 2, 1, 2], [1, 2]])
def test_a_pair_becomes_one_token(ex, ids):
    expect_equal(ex.merge_pair(ids, (1, 2), 9), true_merge(ids, (1, 2), 9), MERGED, view=as_list)


@pytest.mark.parametrize("ids", [[7, 7, 7], [7, 7, 7, 7], [7] * 5, [1, 7, 7, 7, 2, 7, 7]])
def test_pairs_are_merged_from_left_to_right(ex, ids):
    """from left to right, and no token belongs to two pairs"""
    expect_equal(ex.merge_pair(ids, (7, 7), 9), true_merge(ids, (7, 7), 9), MERGED, view=as_list)


@pytest.mark.parametrize("ids", [[2, 1], [1], [], [1, 3, 2], [2, 1, 1, 2, 1], [1, 1, 2, 2], [9, 1]])
def test_what_is_not_the_pair_stays(ex, ids):
    expect_equal(ex.merge_pair(ids, (1, 2), 9), true_merge(ids, (1, 2), 9), MERGED, view=as_list)
    expect_equal(ex.merge_pair([17, 7], (7, 7), 9), [17, 7], MERGED, view=as_list)
    expect_new(ex.merge_pair, ids, (1, 2), 9)
    ids = tuple(torch.randint(1, 4, (40,)).tolist())
    expect_equal(
        ex.merge_pair(ids, (1, 2), 300), true_merge(ids, (1, 2), 300), MERGED, view=as_list
    )


# --- 6.13 ---

TOKENS = "the tokens of the word"
Merges = dict[tuple[int, int], int]


def true_tokens(ids: Sequence[int], new_ids: Merges) -> list[int]:
    """Merge by merge, in the order of learning; a merge can't make room for an earlier one."""
    tokens = list(ids)
    for pair, new_id in sorted(new_ids.items(), key=lambda entry: entry[1]):
        tokens = true_merge(tokens, pair, new_id)
    return tokens


def expect_tokens(ex: Any, ids: Sequence[int], new_ids: Merges) -> None:
    truth = true_tokens(ids, new_ids)
    expect_equal(ex.apply_merges(ids, new_ids), truth, what=TOKENS, view=as_list)


@pytest.mark.parametrize(
    ("ids", "new_ids"),
    [
        ([1, 2, 3], {(2, 3): 300, (1, 2): 301}),
        ([1, 2, 3], {(1, 2): 301, (2, 3): 300}),
        ([1, 2, 3], {(1, 2): 300, (2, 3): 301}),
        ([3, 2, 1], {(2, 1): 300, (3, 2): 301}),
        ([3, 1, 2, 3, 1, 2], {(1, 2): 301, (2, 3): 300}),
        ([1, 2, 3, 2, 3], {(1, 2): 300, (2, 3): 301}),
        ([1, 2, 5, 1, 2], {(1, 2): 300, (5, 1): 301}),
    ],
)
def test_the_lowest_new_id_goes_first(ex, ids, new_ids):
    """of all pairs that are there, the one with the lowest new id is merged first"""
    expect_tokens(ex, ids, new_ids)


@pytest.mark.parametrize("ids", [[1, 2, 3, 4], [1, 2, 1, 2, 3], [3, 1, 2], [1, 2, 3, 1, 2, 3, 4]])
def test_merges_build_on_merges(ex, ids):
    """a merged token can be merged again"""
    expect_tokens(ex, ids, {(1, 2): 300, (300, 3): 301, (301, 4): 302, (300, 300): 303})


@pytest.mark.parametrize("ids", [[1, 2, 9, 1, 2], [9, 8, 7], [5], [], [1, 1, 1, 1, 1]])
def test_all_occurrences_are_merged_and_unknown_pairs_stay(ex, ids):
    expect_tokens(ex, ids, {(1, 1): 300, (1, 2): 301})
    expect_tokens(ex, ids, {})
    expect_new(ex.apply_merges, ids, {})


def learn(words: Words, n_merges: int) -> Merges:
    """Merges as BPE learns them."""
    texts, new_ids = dict(words), {}
    for new_id in range(300, 300 + n_merges):
        counts = true_counts(texts)
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        new_ids[best] = new_id
        merged: dict[tuple[int, ...], int] = {}
        for word, count in texts.items():
            twin = tuple(true_merge(word, best, new_id))
            merged[twin] = merged.get(twin, 0) + count
        texts = merged
    return new_ids


@pytest.mark.parametrize("seed", range(4))
def test_random_words_are_encoded_as_they_were_learned(ex, seed):
    numbers = np.random.default_rng(seed)
    words = {tuple(numbers.integers(1, 4, 8).tolist()): int(numbers.integers(1, 9)) for _ in "abcd"}
    found = learn(words, 8)
    # The order of the dictionary says nothing.
    new_ids = dict(sorted(found.items(), key=lambda entry: (entry[0][1], -entry[1])))
    for word in words:
        expect_tokens(ex, word, new_ids)
    for _ in range(5):
        expect_tokens(ex, numbers.integers(1, 4, 12).tolist(), new_ids)


# --- 6.14 ---

ORTHOGONAL = "X"
A, B_, C = 3.4445, -4.7750, 2.0315


def polynomial(values: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        values = A * values + B_ * values**3 + C * values**5
    return values


def true_newton_schulz(update: Tensor, steps: int) -> Tensor:
    """By a singular value decomposition in float64: the polynomial of each singular value."""
    u, s, vt = np.linalg.svd(update.double().numpy(), full_matrices=False)
    s = s / np.sqrt(np.sum(s**2, axis=-1, keepdims=True))
    return torch.from_numpy(u @ (polynomial(s, steps)[..., None] * vt)).to(update.dtype)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_matrix_with_one_entry(ex, steps):
    update = torch.tensor([[2.0]])
    expect_equal(ex.newton_schulz(update, steps), true_newton_schulz(update, steps), ORTHOGONAL)


@pytest.mark.parametrize(("m", "n"), [(3, 3), (2, 5), (6, 4)])
def test_singular_values_come_close_to_1_and_directions_stay(ex, m, n):
    """after five steps, all singular values are close to 1"""
    update = torch.diag(torch.tensor([3.0, 1.0]))
    expect_equal(ex.newton_schulz(update, 5), true_newton_schulz(update, 5), what=ORTHOGONAL)
    update = draw(m, n, dtype=torch.float64)
    expect_equal(ex.newton_schulz(update, 5), true_newton_schulz(update, 5), what=ORTHOGONAL)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_each_step_is_the_polynomial(ex, steps):
    for shape in ((4, 6), (6, 4)):
        update = draw(*shape, dtype=torch.float64)
        truth = true_newton_schulz(update, steps)
        expect_equal(ex.newton_schulz(update, steps), truth, what=ORTHOGONAL)


@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_every_matrix_of_a_batch_has_its_own_norm(ex, lead):
    update = draw(*lead, 4, 5, dtype=torch.float64)
    update[..., -1, :, :] *= 10
    expect_equal(ex.newton_schulz(update, 2), true_newton_schulz(update, 2), what=ORTHOGONAL)


def test_five_steps_are_the_default(ex):
    update = draw(3, 5)
    expect_equal(ex.newton_schulz(update), true_newton_schulz(update, 5), what=ORTHOGONAL)

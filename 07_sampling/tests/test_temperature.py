"""temperature.py: sharper or flatter, never reordered; samples follow the probabilities."""

import math

import numpy as np
import pytest
import torch

from temperature import apply_temperature, at_least_float32, sample
from utils.errors import CourseError, UsageError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed)) * 2


def softmax64(logits: torch.Tensor) -> np.ndarray:
    x = logits.double().numpy()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.1, 0.8, 1.0, 3, 100.0])
def test_probabilities_are_raised_to_the_power_of_one_over_the_temperature(temperature):
    logits = random_logits(3, 9)
    power = softmax64(logits) ** (1 / temperature)
    expected = power / power.sum(axis=-1, keepdims=True)
    actual = apply_temperature(logits, temperature).softmax(-1).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_temperature_one_changes_nothing():
    logits = random_logits(3, 9)
    assert torch.equal(apply_temperature(logits, 1.0), logits)


def test_a_higher_temperature_raises_the_entropy_and_keeps_the_order():
    logits = random_logits(20, 9)
    entropies = []
    for temperature in (0.3, 0.7, 1.0, 1.5, 4.0):
        scaled = apply_temperature(logits, temperature)
        assert torch.equal(scaled.argsort(dim=-1), logits.argsort(dim=-1))
        p = scaled.softmax(-1)
        entropies.append(-(p * p.log()).sum(-1))
    assert (torch.stack(entropies).diff(dim=0) > 0).all()


@pytest.mark.parametrize("temperature", [0, 0.0, -0.0, 1e-40])
def test_temperature_zero_keeps_only_the_greedy_choice(temperature):
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, -1.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert torch.equal(apply_temperature(logits, temperature).softmax(-1), expected)


@pytest.mark.parametrize("temperature", [1e-6, 1e-20, 1e-29])
def test_a_tiny_temperature_gives_the_greedy_choice_and_no_nan(temperature):
    logits = random_logits(4, 9)
    probabilities = apply_temperature(logits, temperature).softmax(-1)
    assert torch.equal(probabilities.argmax(-1), logits.argmax(-1))
    assert torch.equal(probabilities.amax(-1), torch.ones(4))


@pytest.mark.parametrize("temperature", [-1, -1e-9, math.nan, math.inf, -math.inf])
def test_an_invalid_temperature_is_refused_by_value(temperature):
    with pytest.raises(UsageError, match=f"temperature {temperature} "):
        apply_temperature(torch.zeros(3), temperature)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_converted_to_float32_before_it_can_overflow(dtype):
    logits = random_logits(4, 9).to(dtype)
    scaled = apply_temperature(logits, 1e-5)
    assert scaled.dtype == torch.float32
    assert scaled.isfinite().all()
    assert torch.equal(sample(logits, seeded(0)), sample(logits.float(), seeded(0)))


def test_float64_stays_float64():
    assert at_least_float32(torch.zeros(2, dtype=torch.float64)).dtype == torch.float64
    assert apply_temperature(torch.zeros(2, dtype=torch.float64), 0.5).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frequencies_follow_the_softmax(seed, dtype):
    n = 50_000
    logits = torch.tensor([2.0, 0.0, 1.0, -math.inf, -1.0, 1.0], dtype=dtype)
    draws = sample(logits.expand(n, -1), seeded(seed))
    counts = np.bincount(draws.numpy(), minlength=6)
    expected = softmax64(logits)
    deviation = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(counts / n - expected) <= 4.5 * deviation).all()  # and never where p is 0


def test_two_rows_of_one_batch_are_drawn_independently():
    n = 50_000
    logits = torch.tensor([0.5, 0.0, -0.5])
    left, right = sample(logits.expand(n, 2, -1), seeded(4)).unbind(-1)
    together = np.bincount((3 * left + right).numpy(), minlength=9) / n
    p = softmax64(logits)
    expected = np.outer(p, p).reshape(-1)
    assert (np.abs(together - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / n)).all()


def test_the_same_seed_draws_the_same_and_another_seed_draws_differently():
    logits = torch.zeros(100, 50)
    assert torch.equal(sample(logits, seeded(7)), sample(logits, seeded(7)))
    assert not torch.equal(sample(logits, seeded(7)), sample(logits, seeded(8)))


def test_a_generator_advances_so_that_two_draws_differ():
    generator, logits = seeded(7), torch.zeros(100, 50)
    assert not torch.equal(sample(logits, generator), sample(logits, generator))


def test_without_a_generator_the_global_seed_decides():
    logits = torch.zeros(100, 50)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first = sample(logits)
        torch.manual_seed(5)
        assert torch.equal(sample(logits), first)


def test_a_separate_generator_leaves_the_global_one_unchanged():
    before = torch.get_rng_state()
    sample(torch.zeros(3, 4), seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (3, 1)])
def test_there_is_one_id_per_row(shape):
    draws = sample(torch.zeros(shape), seeded(0))
    assert draws.shape == shape[:-1]
    assert draws.dtype == torch.int64
    assert ((draws >= 0) & (draws < shape[-1])).all()


def test_the_only_id_with_probability_is_always_drawn():
    logits = torch.full((20_000, 30), -math.inf)
    logits[:, 17] = -3.0
    assert (sample(logits, seeded(0)) == 17).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_invalid_row_is_refused_by_its_index(bad):
    logits = torch.zeros(3, 4)
    logits[2] = bad
    with pytest.raises(CourseError, match=f"in row 2 is {bad}"):
        sample(logits, seeded(0))


def test_inputs_are_not_modified():
    logits = random_logits(3, 9)
    before = logits.clone()
    apply_temperature(logits, 0.5)
    apply_temperature(logits, 0)
    sample(logits, seeded(0))
    assert torch.equal(logits, before)


def test_logits_that_require_a_gradient_can_be_sampled():
    assert sample(torch.zeros(3, 4, requires_grad=True), seeded(0)).shape == (3,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_one_cpu_generator_draws_the_same_on_a_gpu():
    logits = random_logits(64, 50)
    on_gpu = sample(logits.cuda(), seeded(3)).cpu()
    assert torch.equal(on_gpu, sample(logits, seeded(3)))

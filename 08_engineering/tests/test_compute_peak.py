"""The FLOP of a model against PyTorch's count; properties of the measured peaks."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import compute_peak
from compute_peak import (
    forward_flops,
    matmul_peak,
    matmul_rates,
    memory_bandwidth,
    product_weights,
    training_flops_per_token,
)
from loss_functions import cross_entropy
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.kv_cache import KVCache

CPU = torch.device("cpu")
small = partial(ModelConfig, vocab_size=19, max_seq_len=12, d_model=24, n_layers=3, n_heads=4)
CONFIGS = {
    "classic, tied": small(),
    "untied": small(tie_weights=False),
    "without biases": small(bias=False),
    "grouped-query": small(n_kv_heads=2),
    "multi-query": small(n_kv_heads=1, tie_weights=False),
    "swiglu": small(activation="swiglu", d_ff=40),
    "narrow feed-forward": small(activation="relu2", d_ff=10),
    "post-norm, sinusoidal": small(norm_placement="post", position="sinusoidal"),
    "alibi": small(position="alibi"),
    "modern": small(
        norm="rmsnorm",
        activation="relu2",
        position="rope",
        qk_norm=True,
        bias=False,
        tie_weights=False,
    ),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def counted(run: Callable[[], object]) -> int:
    """The FLOP that PyTorch counts while `run` runs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def random_tokens(config: ModelConfig, B: int, T: int) -> torch.Tensor:
    return torch.randint(config.vocab_size, (B, T))


@every_config
@pytest.mark.parametrize(("B", "T"), [(1, 12), (3, 7), (2, 1)])
def test_the_flop_of_a_forward_pass_are_those_pytorch_counts(config, B, T):
    model, tokens = TinyTransformerLM(config), random_tokens(config, B, T)
    assert counted(lambda: model(tokens)) == B * forward_flops(config, T, T)


@every_config
def test_the_flop_of_a_cached_token_are_those_pytorch_counts(config):
    model, cache = TinyTransformerLM(config).eval(), KVCache(config, batch_size=2)
    with torch.inference_mode():
        model(random_tokens(config, 2, 5), cache)
        token = random_tokens(config, 2, 1)
        assert counted(lambda: model(token, cache)) == 2 * forward_flops(config, T_q=1, T_k=6)


@every_config
def test_the_flop_of_training_are_those_pytorch_counts(config):
    model, tokens = TinyTransformerLM(config), random_tokens(config, 3, config.max_seq_len)

    def both_passes() -> None:
        cross_entropy(model(tokens), tokens).backward()

    assert counted(both_passes) == tokens.numel() * training_flops_per_token(config)


@every_config
def test_training_flop_follow_the_formula_of_the_palm_paper(config):
    matrices = [p for name, p in TinyTransformerLM(config).named_parameters() if p.dim() == 2]
    tables = config.max_seq_len * config.d_model * (config.position == "learned")
    tables += config.vocab_size * config.d_model * (not config.tie_weights)
    N = sum(p.numel() for p in matrices) - tables
    L, H, Q, T = config.n_layers, config.n_heads, config.d_head, config.max_seq_len
    assert product_weights(config) == N
    assert training_flops_per_token(config) == 6 * N + 12 * L * H * Q * T


@pytest.fixture
def clock(monkeypatch) -> Callable[[Callable[[int], float]], list[int]]:
    """Fake timing: a product of size n takes seconds(n); returns the list of timed sizes."""

    def install(seconds: Callable[[int], float]) -> list[int]:
        sizes: list[int] = []

        def timed(run: Callable[[], torch.Tensor], device: torch.device) -> float:
            sizes.append(run().size(0))
            return seconds(sizes[-1])

        monkeypatch.setattr(compute_peak, "_timed", timed)
        return sizes

    return install


def test_the_rate_is_flop_divided_by_time(clock):
    clock(lambda n: 1e-3 * n)
    rates = matmul_rates(torch.float32, CPU, sizes=(4, 8), seconds=1)
    assert rates.keys() == {4, 8}
    assert all(set(rates[n]) == {2 * n**3 / (1e-3 * n)} for n in rates)


def test_the_peak_is_the_best_round_of_the_best_size(clock):
    clock(lambda n: {4: 1e-3, 8: 1e-3, 16: 1.0}[n])
    assert matmul_peak(torch.float32, CPU, sizes=(16, 4, 8), seconds=10) == 2 * 8**3 / 1e-3


def test_one_slow_round_does_not_lower_the_peak(clock):
    sizes = clock(lambda n: 5.0 if len(sizes) % 2 else 1e-3)
    assert matmul_peak(torch.float32, CPU, sizes=(8,), seconds=1) == 2 * 8**3 / 1e-3


def test_the_warm_up_round_does_not_count(clock):
    sizes = clock(lambda n: 1e-9 if len(sizes) == 1 else 1e-3)
    assert matmul_peak(torch.float32, CPU, sizes=(8,), seconds=0.01) == 2 * 8**3 / 1e-3


def test_sizes_that_would_take_too_long_are_skipped(clock):
    sizes = clock(lambda n: n**3 * 1e-4)  # 0.05 s at 8, 0.4 s at 16, 3.3 s at 32
    assert matmul_rates(torch.float32, CPU, sizes=(8, 16, 32), seconds=3).keys() == {8, 16}
    assert 32 not in sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_computed_in_the_requested_precision(monkeypatch, dtype):
    products = []

    def timed(run: Callable[[], torch.Tensor], device: torch.device) -> float:
        products.append(run())
        return 0.1

    monkeypatch.setattr(compute_peak, "_timed", timed)
    matmul_rates(dtype, CPU, sizes=(16,), seconds=0.1)
    assert {product.dtype for product in products} == {dtype}
    assert counted(lambda: matmul_rates(dtype, CPU, sizes=(16,), seconds=0.1)) % (2 * 16**3) == 0
    assert all(product.abs().sum() > 0 for product in products)


def test_a_copy_counts_each_byte_twice(monkeypatch):
    monkeypatch.setattr(compute_peak, "_timed", lambda run, device: 0.5)
    assert memory_bandwidth(CPU, n_bytes=1000, seconds=1.0) == 2 * 1000 / 0.5


def test_a_real_measurement_is_positive():
    assert matmul_peak(torch.float32, CPU, sizes=(32,), seconds=0.01) > 0
    assert memory_bandwidth(CPU, n_bytes=10_000, seconds=0.01) > 0

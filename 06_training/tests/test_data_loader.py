"""Batches against plain slices of the tokens, and files against what NumPy wrote."""

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.lib.format import open_memmap

from data_loader import DataLoader, evaluation_blocks, load_tokens
from utils.errors import CourseError, UsageError


def count_up(n: int) -> np.ndarray:
    """Tokens that are their own index: token i is i."""
    return np.arange(n, dtype=np.uint16)


def test_a_batch_is_windows_of_the_tokens_with_targets_shifted_by_one():
    x, y = DataLoader(count_up(1000), batch_size=3, seq_len=7, seed=0).batch(step=5)
    assert x.shape == y.shape == (3, 7)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(x, x[:, :1] + torch.arange(7))
    assert torch.equal(y, x + 1)


def test_a_batch_is_drawn_by_numpy_from_seed_and_step():
    x, _ = DataLoader(count_up(1000), batch_size=5, seq_len=7, seed=3).batch(step=11)
    assert x[:, 0].tolist() == np.random.default_rng([3, 11]).integers(0, 993, size=5).tolist()


def test_a_batch_does_not_depend_on_the_batches_before_it():
    tokens = count_up(1000)
    forwards = DataLoader(tokens, 3, 7, seed=1)
    expected = [forwards.batch(step)[0] for step in range(5)]
    backwards = DataLoader(tokens, 3, 7, seed=1)
    for step in reversed(range(5)):
        assert torch.equal(backwards.batch(step)[0], expected[step])


def test_different_steps_and_seeds_draw_different_windows():
    loaders = [DataLoader(count_up(50_000), 3, 7, seed) for seed in range(20)]
    starts = {
        tuple(loader.batch(step)[0][:, 0].tolist()) for loader in loaders for step in range(20)
    }
    assert len(starts) == 400


def test_all_windows_are_equally_likely():
    loader = DataLoader(count_up(14), batch_size=100, seq_len=4, seed=0)
    starts = torch.cat([loader.batch(step)[0][:, 0] for step in range(100)])
    counts = torch.bincount(starts)
    assert len(counts) == 10  # 0 to 14 - 4 - 1
    assert (counts - 1000).abs().max() < 5 * 30  # 30 is the standard deviation of a count


def test_drawing_a_batch_does_not_touch_the_global_generators():
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    DataLoader(count_up(100), 3, 7, seed=0).batch(0)
    assert (torch.rand(1).item(), np.random.rand()) == expected


def test_modifying_a_batch_does_not_change_the_tokens():
    tokens = count_up(100)
    for x, y in [DataLoader(tokens, 3, 7, seed=0).batch(0), *evaluation_blocks(tokens, 7, 3)]:
        x.zero_()
        y.zero_()
    assert np.array_equal(tokens, count_up(100))


def test_the_shortest_data_is_one_window():
    x, y = DataLoader(count_up(8), batch_size=3, seq_len=7, seed=0).batch(0)
    assert x.tolist() == [list(range(7))] * 3
    assert y.tolist() == [list(range(1, 8))] * 3


@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2", "<u4", "uint64"])
def test_every_unsigned_dtype_becomes_int64(dtype):
    tokens = np.arange(200).astype(dtype)
    x, y = DataLoader(tokens, 3, 7, seed=0).batch(0)
    assert x.dtype == torch.int64
    assert torch.equal(y, x + 1)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("n", [8, 9, 14, 15, 16, 22, 100])
def test_evaluation_covers_every_target_once_and_in_order(n, batch_size):
    batches = list(evaluation_blocks(count_up(n), seq_len=7, batch_size=batch_size))
    inputs = torch.cat([x.flatten() for x, _ in batches])
    targets = torch.cat([y.flatten() for _, y in batches])
    assert inputs.tolist() == list(range(n - 1))
    assert targets.tolist() == list(range(1, n))


def test_evaluation_batches_are_full_except_the_last_ones():
    shapes = [tuple(x.shape) for x, _ in evaluation_blocks(count_up(40), seq_len=7, batch_size=3)]
    assert shapes == [(3, 7), (2, 7), (1, 4)]


def test_data_too_short_for_one_window_is_refused_with_both_lengths():
    expected = "the validation split has 12 tokens; a context of 64 needs at least 65"
    with pytest.raises(CourseError, match=expected):
        evaluation_blocks(count_up(12), seq_len=64, batch_size=3)
    with pytest.raises(CourseError, match=r"training split has 64 tokens; .* at least 65"):
        DataLoader(count_up(64), batch_size=3, seq_len=64, seed=0)


@pytest.mark.parametrize(
    "tokens", [np.zeros(100), np.zeros(100, np.int64), np.zeros((10, 10), np.uint16)]
)
def test_an_array_that_does_not_hold_tokens_is_refused(tokens):
    with pytest.raises(CourseError, match="one-dimensional array of unsigned integers"):
        DataLoader(tokens, 3, 7, seed=0)


@pytest.mark.parametrize(("batch_size", "seq_len", "seed"), [(0, 7, 0), (3, 0, 0), (3, 7, -1)])
def test_invalid_sizes_and_seeds_are_refused(batch_size, seq_len, seed):
    with pytest.raises(UsageError, match="must be"):
        DataLoader(count_up(100), batch_size, seq_len, seed)


def test_a_huge_file_is_never_read_completely(tmp_path):
    path = tmp_path / "huge.npy"
    n = 2**29  # 1 GiB of uint16; only the end is ever written, so the file is sparse
    file = open_memmap(path, mode="w+", dtype=np.uint16, shape=(n,))
    file[-8:] = count_up(8)
    del file
    tracemalloc.start()
    try:
        tokens = load_tokens(path)
        DataLoader(tokens, batch_size=12, seq_len=64, seed=0).batch(0)
        x, y = DataLoader(tokens[-8:], batch_size=1, seq_len=7, seed=0).batch(0)
        next(evaluation_blocks(tokens, seq_len=64, batch_size=12))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (x.tolist(), y.tolist()) == ([[0, 1, 2, 3, 4, 5, 6]], [[1, 2, 3, 4, 5, 6, 7]])
    assert peak < 2**20


def test_saved_tokens_are_loaded_unchanged_and_read_only(tmp_path):
    np.save(tmp_path / "tokens.npy", count_up(100))
    tokens = load_tokens(tmp_path / "tokens.npy")
    assert np.array_equal(tokens, count_up(100))
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


def test_a_missing_token_file_is_named(tmp_path):
    with pytest.raises(CourseError, match=r"no token file at .*nowhere\.npy"):
        load_tokens(tmp_path / "nowhere.npy")


@pytest.mark.parametrize("keep", [0, 3, 20, 128, 327])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "tokens.npy"
    np.save(path, count_up(100))  # 128 bytes of header and 200 of tokens
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CourseError, match=r"tokens\.npy is not a complete \.npy file"):
        load_tokens(path)


def test_a_damaged_byte_anywhere_in_the_header_is_harmless_or_refused_in_one_line(tmp_path):
    path = tmp_path / "tokens.npy"
    np.save(path, count_up(100))
    whole = path.read_bytes()
    refused = 0
    for i in range(128):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 8]) + whole[i + 1 :])
        try:
            load_tokens(path)
        except CourseError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "array", [np.zeros(4, np.float32), np.zeros(4, np.int64), np.zeros((2, 2), np.uint16)]
)
def test_a_file_that_does_not_hold_tokens_is_refused(tmp_path, array):
    np.save(tmp_path / "other.npy", array)
    with pytest.raises(CourseError, match=f"holds {array.dtype} of shape"):
        load_tokens(tmp_path / "other.npy")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "text.npy").write_text("To be, or not to be\n" * 50, encoding="utf-8")
    with pytest.raises(CourseError, match="is not a complete"):
        load_tokens(tmp_path / "text.npy")

"""The sum of losses against one loss per position, and stopping on the way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import evaluation
from data_loader import Batch, evaluation_blocks
from evaluation import block_loss, equal_context, equal_evaluation_loss, sum_losses
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.config import ModelConfig, TrainConfig
from utils.errors import CourseError

V = 11
TOKENS = np.random.default_rng(0).integers(V, size=100).astype(np.uint16)


@pytest.fixture
def model() -> TinyTransformerLM:
    return TinyTransformerLM(ModelConfig(V, 8, d_model=16, n_layers=1, n_heads=2, dropout=0.5))


def blocks(batch_size: int) -> list[Batch]:
    return list(evaluation_blocks(TOKENS, seq_len=8, batch_size=batch_size))


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_the_sum_counts_every_position_once_whatever_the_batch_size(model, batch_size):
    expected = 0.0
    for x, y in blocks(1):
        logits = model.eval()(x)[0].detach().double()
        expected += F.cross_entropy(logits, y[0], reduction="sum").item()
    model.train()
    assert sum_losses(model, blocks(batch_size)) == pytest.approx(expected, rel=1e-6)


def test_batches_without_rows_add_nothing(model):
    empty = torch.zeros(0, 8, dtype=torch.int64)
    expected = sum_losses(model, blocks(3))
    assert sum_losses(model, [(empty, empty), *blocks(3), (empty, empty)]) == expected


def test_should_stop_is_called_before_every_batch_and_gives_nan(model):
    answers = iter([False, False, True])
    seen = []
    model.register_forward_hook(lambda module, inputs, logits: seen.append(inputs))
    assert math.isnan(sum_losses(model, blocks(2), should_stop=lambda: next(answers)))
    assert len(seen) == 2
    assert next(answers, None) is None


def test_the_program_prints_one_mean_for_both_batch_sizes(capsys):
    evaluation.main()
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.partition(":")[2] == second.partition(":")[2]


# --- equal evaluation ---


@pytest.mark.parametrize(
    ("max_seq_len", "chars_per_token", "expected"),
    [
        (256, 1.0, 256),
        (1024, 1.0, 256),
        (64, 1.0, 64),  # a shorter context: blocks of its own
        (512, 2.0, 128),  # learned tokens: as many characters
        (64, 2.0, 64),
        (512, 1000.0, 1),
    ],
)
def test_an_equal_block_holds_256_characters_or_the_whole_context(
    max_seq_len, chars_per_token, expected
):
    assert equal_context(max_seq_len, chars_per_token) == expected


@pytest.mark.parametrize("chars_per_token", [1.0, 3.2])
def test_the_equal_evaluation_is_a_plain_loop_over_blocks_in_float64(chars_per_token):
    tokens = np.random.default_rng(1).integers(V, size=900).astype(np.uint16)
    model = TinyTransformerLM(ModelConfig(V, 512, d_model=16, n_layers=1, n_heads=2)).eval()
    T, total = {1.0: 256, 3.2: 80}[chars_per_token], 0.0
    text = torch.from_numpy(tokens.astype(np.int64))
    for start in range(0, 899, T):
        x, y = text[start : start + T], text[start + 1 : start + T + 1]
        logits = model(x[None, : len(y)])[0].detach().double()
        for i in range(len(y)):  # every target weighs the same, in the short last block too
            total -= F.log_softmax(logits[i], dim=-1)[y[i]].item()
    found = equal_evaluation_loss(model, tokens, 512, chars_per_token)
    assert found == pytest.approx(total / 899 / chars_per_token, rel=1e-6)


@pytest.mark.parametrize("max_seq_len", [8, 256])
def test_where_the_contexts_are_equal_the_trainer_finds_the_same_loss(max_seq_len):
    tokens = np.random.default_rng(2).integers(V, size=700).astype(np.uint16)
    config = TrainConfig(ModelConfig(V, max_seq_len, d_model=16, n_layers=1, n_heads=2))
    model = TinyTransformerLM(config.model)
    own = Trainer(model, tokens, tokens, config).evaluate()
    assert equal_evaluation_loss(model, tokens, max_seq_len) == own


def test_a_longer_context_is_evaluated_in_shorter_blocks():
    tokens = np.random.default_rng(3).integers(V, size=1200).astype(np.uint16)
    model = TinyTransformerLM(ModelConfig(V, 1024, d_model=16, n_layers=1, n_heads=2))
    equal = equal_evaluation_loss(model, tokens, 1024)
    assert equal == block_loss(model, tokens, 256)
    assert equal != block_loss(model, tokens, 1024)


def test_tokens_without_one_full_block_are_refused(model):
    with pytest.raises(CourseError, match="needs at least 9"):
        equal_evaluation_loss(model, TOKENS[:8], 8)

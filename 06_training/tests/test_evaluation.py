"""The sum of losses against one loss per position, and stopping on the way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import evaluation
from data_loader import Batch, evaluation_blocks
from evaluation import sum_losses
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig

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

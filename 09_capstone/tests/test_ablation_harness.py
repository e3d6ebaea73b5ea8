"""ablation_harness.py: what the seeds share cancels out, and mistakes are found before a run."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ablation_harness import ablate, standard_error, train_window_model

BASE = {"context": 2, "width": 4, "lr": 0.01}


def test_what_a_seed_does_to_both_cancels_out() -> None:
    def train(config: Mapping[str, Any], seed: int) -> float:
        return 10 * math.sin(seed) + config["width"] / 8

    mean, error = ablate(train, BASE, {"wide": {"width": 12}}, seeds=range(6))["wide"]
    assert mean == pytest.approx(1.0)
    assert error == pytest.approx(0.0, abs=1e-12)


def test_the_error_is_the_spread_of_repeated_ablations() -> None:
    rng = np.random.default_rng(0)

    def train(config: Mapping[str, Any], seed: int) -> float:
        return float(rng.normal()) + config["width"]

    tables = [ablate(train, BASE, {"wide": {"width": 5}}, range(8))["wide"] for _ in range(400)]
    means, errors = np.array(tables).T
    assert means.mean() == pytest.approx(1.0, abs=0.1)
    assert means.std() == pytest.approx(np.sqrt((errors**2).mean()), rel=0.1)


def test_a_single_seed_has_no_error() -> None:
    assert math.isnan(standard_error([0.5]))


def test_an_unknown_field_is_refused_before_anything_is_trained() -> None:
    def train(config: Mapping[str, Any], seed: int) -> float:
        raise AssertionError("trained")

    with pytest.raises(ValueError, match=r"widht.*did you mean 'width'"):
        ablate(train, BASE, {"fine": {"lr": 0.1}, "wide": {"widht": 5}}, seeds=[0])


def test_a_tiny_model_gives_the_same_loss_for_the_same_seed() -> None:
    losses = [train_window_model(BASE, seed) for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] < math.log(60)  # better than a guess

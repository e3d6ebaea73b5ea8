"""The unit in which training times are compared between machines.

One unit is what the library transformers' GPT-2 (baseline.py) needs for 2,000 steps of 12 x 64
tokens with 4 layers x 128 in float32: the classic small recipe for a CPU. It is measured in the
same call as the times, before and after each model that is trained, because a machine's speed
changes while it works. A few hundred steps are measured at a time and extrapolated.
"""

from dataclasses import replace

import numpy as np
import torch

from tools.benchmarks.baseline import BaselineTrainer, is_installed
from tools.benchmarks.interleave import Measure, Settings, elapsed, in_subprocess, repeat
from utils.config import ModelConfig, TrainConfig

UNIT = TrainConfig(
    ModelConfig(max_seq_len=64, d_model=128, n_layers=4, n_heads=4), batch_size=12, max_steps=2000
)
STEPS = 200  # per measurement
QUICK_STEPS = 20


def unit_measure(settings: Settings) -> Measure | None:
    """Measures the seconds of one unit in a process of its own; None without transformers."""
    if not is_installed():
        return None
    config = replace(UNIT, model=settings.fit(UNIT.model))
    n_steps = QUICK_STEPS if settings.quick else STEPS
    return in_subprocess(unit_seconds, config, settings.data.train, n_steps)


def unit_seconds(config: TrainConfig, tokens: np.ndarray, n_steps: int) -> Measure:
    """The seconds of one unit, extrapolated from n_steps; warmed up."""
    trainer = BaselineTrainer(config, tokens, torch.float32)
    steps = repeat(trainer.train_step, n_steps)
    repeat(trainer.train_step, QUICK_STEPS)()
    return lambda: elapsed(steps) * config.max_steps / n_steps

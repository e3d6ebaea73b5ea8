"""The model sizes that tools/benchmark.py measures."""

from dataclasses import replace

from model.config import preset
from tools.benchmarks.baseline import gpt2_layout
from utils.config import ModelConfig, TrainConfig
from utils.recipes import MODERN, MODERN_TRAINING

LARGE = ModelConfig(max_seq_len=256, d_model=384, n_layers=6, n_heads=6, **MODERN)
SMALL = replace(LARGE, d_model=128, n_layers=4, n_heads=4)

TRAINING = {  # name: (configuration, steps per round)
    "laptop": (preset("laptop"), 20),
    "6x384": (TrainConfig(LARGE, batch_size=16, **MODERN_TRAINING), 1),
    "6x384 in GPT-2's layout": (TrainConfig(gpt2_layout(LARGE), batch_size=16, grad_clip=0.0), 1),
}
GENERATION = {"4x128": SMALL, "6x384": LARGE}

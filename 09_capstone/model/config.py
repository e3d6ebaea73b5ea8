"""The presets: named configurations for `train.py --preset`; a flag can change any field.

smoke      a few seconds, to check that everything works
laptop     a minute or two on two CPU cores
nano       the classic small recipe: GPT-2's layout, AdamW, cosine
full       the largest that trains in reasonable time on a laptop
baby_gpt   six layers, six heads, 384 wide: for a GPU
"""

from utils.config import ModelConfig, TrainConfig
from utils.errors import pick
from utils.recipes import MODERN, MODERN_TRAINING

# In runs of several epochs: half of the recipe's rate for Muon, and a strong weight decay to reduce
# overfitting. Dropout on top of it raised the loss of `full` on text held out of training.
LAPTOP_TRAINING = {**MODERN_TRAINING, "muon_lr": 0.01, "weight_decay": 0.3}
FULL_TRAINING = {**LAPTOP_TRAINING, "weight_decay": 0.5}  # almost eight epochs

PRESETS = {
    "smoke": TrainConfig(
        ModelConfig(max_seq_len=32, d_model=32, n_layers=2, n_heads=2, **MODERN),
        batch_size=4,
        max_steps=50,
        warmup_steps=5,
        eval_interval=25,
        sample_interval=25,
        **MODERN_TRAINING,
    ),
    "laptop": TrainConfig(
        ModelConfig(max_seq_len=128, d_model=128, n_layers=4, n_heads=4, **MODERN),
        batch_size=16,
        max_steps=1700,
        warmup_steps=10,
        eval_interval=250,
        **LAPTOP_TRAINING,
    ),
    "nano": TrainConfig(
        ModelConfig(max_seq_len=256, d_model=128, n_layers=4, n_heads=4),
        batch_size=8,
        max_steps=5000,
        lr=3e-4,
    ),
    "full": TrainConfig(
        ModelConfig(max_seq_len=256, d_model=256, n_layers=4, n_heads=4, **MODERN),
        batch_size=8,
        max_steps=3900,
        warmup_steps=50,
        **FULL_TRAINING,
    ),
    "baby_gpt": TrainConfig(
        ModelConfig(max_seq_len=256, d_model=384, n_layers=6, n_heads=6, bias=False, dropout=0.2),
        batch_size=64,
        max_steps=5000,
        lr=1e-3,
    ),
}


def preset(name: str) -> TrainConfig:
    """The preset of that name. Raises UsageError, with the closest name, if it does not exist."""
    return PRESETS[pick(name, PRESETS, "preset")]

"""The modern recipe of small models: what has been gained since GPT-2, as configuration fields.

    ModelConfig(d_model=128, n_layers=4, **MODERN)
    TrainConfig(model, max_steps=1400, warmup_steps=50, **MODERN_TRAINING)

The capstone's presets `smoke`, `laptop` and `full` follow it, and so do the small models that
lessons 06 and 07 train. Sizes, steps and warm-up are each model's own.
"""

from typing import Any

# Rotary positions, norms without biases, ReLU squared, normalized queries and keys, and an untied
# output layer.
MODERN: dict[str, Any] = {
    "norm": "rmsnorm",
    "activation": "relu2",
    "position": "rope",
    "qk_norm": True,
    "bias": False,
    "tie_weights": False,
}
# Muon for the matrices; a learning rate that stays high and then decays to zero.
MODERN_TRAINING: dict[str, Any] = {
    "optimizer": "muon",
    "lr": 4e-3,
    "muon_lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "wsd",
    "decay_fraction": 0.8,
    "min_lr_ratio": 0.0,
    "grad_clip": 0.0,
}

"""Overfitting, made visible: the same model on little text, with two remedies, and on all of it.

    python 09_capstone/overfitting_runs.py   half a minute on an idle core

Four runs of one small model: 20,000 characters of Tiny Shakespeare, which it reads 20 times over;
the same with dropout, and with weight decay; and the whole training text, of which it reads two
fifths.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from dataclasses import dataclass, field

import torch

from parts import Parts
from run_progress import StepReport
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Callback, Trainer
from utils.config import ModelConfig, TrainConfig
from utils.corpus import load_corpus, split_text
from utils.recipes import MODERN, MODERN_TRAINING

LITTLE = 20_000  # characters
N_STEPS, BATCH_SIZE, T = 400, 16, 64
N_VAL = 8_193  # characters of the validation text
RUNS = {  # characters of training text (None: all of it), dropout, weight decay
    "little text": (LITTLE, 0.0, 0.0),
    "little text, dropout": (LITTLE, 0.2, 0.0),
    "little text, weight decay": (LITTLE, 0.0, 0.3),
    "all of the text": (None, 0.0, 0.0),
}


@dataclass
class Curves(Callback):
    """The losses of a run: of every batch, and of the validation text where it was evaluated."""

    train: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    val: list[float] = field(default_factory=list)

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        self.train.append(round(report.train_loss, 3))
        if report.val_loss is not None:
            self.steps.append(report.step)
            self.val.append(round(report.val_loss, 3))


def configuration(vocab_size: int, dropout: float, weight_decay: float) -> TrainConfig:
    """Two layers of 64 features, and a learning rate that stays high until the last fifth."""
    model = ModelConfig(vocab_size, T, 64, n_layers=2, n_heads=4, dropout=dropout, **MODERN)
    training = {**MODERN_TRAINING, "decay_fraction": 0.2, "weight_decay": weight_decay}
    return TrainConfig(
        model,
        batch_size=BATCH_SIZE,
        max_steps=N_STEPS,
        warmup_steps=50,
        eval_interval=25,
        **training,
    )


def run(
    n_characters: int | None, dropout: float, weight_decay: float, max_steps: int = N_STEPS
) -> Curves:
    """Train on the first `n_characters` of the training text; returns the curves."""
    train_text, val_text = split_text(load_corpus().text)
    tokenizer = CharTokenizer.train(train_text + val_text)
    config = configuration(tokenizer.vocab_size, dropout, weight_decay)
    curves = Curves()
    trainer = Trainer(
        TinyTransformerLM(config.model, Parts.fused(), config.seed),
        tokenizer.encode_array(train_text[:n_characters]),
        tokenizer.encode_array(val_text[:N_VAL]),
        config,
        dtype=torch.bfloat16,
        callbacks=[curves],
    )
    trainer.max_steps = max_steps
    trainer.fit()
    return curves


def main() -> None:
    """Print where each run is best, and where it ends."""
    torch.set_num_threads(1)
    for name, settings in RUNS.items():
        curves = run(*settings)
        best = min(curves.val)
        step = curves.steps[curves.val.index(best)]
        end = sum(curves.train[-25:]) / 25
        print(f"{name:25} best {best:.3f} at step {step}, at the end {curves.val[-1]:.3f}", end=" ")
        print(f"(training {end:.3f})")


if __name__ == "__main__":
    run_program(main)

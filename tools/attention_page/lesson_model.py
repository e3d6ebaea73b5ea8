"""The model in the page of lesson 01: small enough to travel with it, large enough to have heads.

It is trained on the mock plays with the modern recipe, but without qk-norm: normalized queries and
keys of 16 features give scores of at most 4, too little for a head to pick out a single character.

The seed is fixed, and one thread computes everything: on one machine, the weights are the same
every time. Two minutes of one core.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from checkpointing import Checkpoint
from loss_functions import bits_per_char
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Callback, StepReport, Trainer
from utils.config import ModelConfig, TrainConfig
from utils.corpus import load_corpus, split_text
from utils.recipes import MODERN, MODERN_TRAINING

SHAPE: dict[str, Any] = {"max_seq_len": 128, "d_model": 64, "n_layers": 3, "n_heads": 4}
MODEL = ModelConfig(**SHAPE, **{**MODERN, "qk_norm": False})
TRAINING: dict[str, Any] = {
    "batch_size": 8,
    "max_steps": 2500,
    "warmup_steps": 50,
    "eval_interval": 500,
    **MODERN_TRAINING,
}
VALIDATION = 40_000  # characters


class KeepLoss(Callback):
    """Print the validation loss whenever it is measured, and remember the last one."""

    val_loss = float("nan")

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        if report.val_loss is not None:
            self.val_loss = report.val_loss
            print(f"step {report.step:>5}: validation loss {report.val_loss:.4f}", flush=True)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums over several threads depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_lesson_model(**changes: Any) -> Checkpoint:
    """Train it on the CPU; `changes` replace fields of TRAINING, or the model as `model`."""
    train_text, val_text = split_text(load_corpus("mock").text)
    tokenizer = CharTokenizer.train(train_text + val_text)
    shape = replace(changes.pop("model", MODEL), vocab_size=tokenizer.vocab_size)
    config = TrainConfig(shape, **{**TRAINING, **changes})
    model = TinyTransformerLM(shape, Parts.fused(), config.seed)
    tokens = tokenizer.encode_array(train_text), tokenizer.encode_array(val_text[:VALIDATION])
    keep = KeepLoss()
    with one_thread():
        Trainer(model, *tokens, config, callbacks=[keep]).fit()
    info = {
        "corpus": "mock",
        "step": config.max_steps,
        "val_loss": round(keep.val_loss, 4),
        "val_bits_per_char": round(bits_per_char(keep.val_loss, 1.0), 4),
    }
    weights: dict[str, torch.Tensor] = {n: w.detach() for n, w in model.state_dict().items()}
    return Checkpoint(shape, tokenizer, weights, info, "the model of lesson 01")

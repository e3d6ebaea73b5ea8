"""A small trained model, with which this lesson samples, measures and draws.

    model, tokenizer = load_small_model()
    python 07_sampling/small_model.py            print a few lines that it generates
    python 07_sampling/small_model.py --train    train it again, and replace the file

It has 3 layers, 96 features and a context of 128 characters, and was trained on the mock plays,
whose grammar is known. The file beside this one is a checkpoint of the course, with which
`sample.py --checkpoint 07_sampling/small_model.safetensors` generates as well.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from decoding_loop import generate_tokens
from parts import Parts
from temperature import sample
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Callback, StepReport, Trainer
from utils.config import ModelConfig, TrainConfig, from_dict, to_dict
from utils.corpus import load_corpus, split_text
from utils.errors import run_program
from utils.files import atomic_write_bytes
from utils.recipes import MODERN, MODERN_TRAINING

PATH = Path(__file__).resolve().with_suffix(".safetensors")
MODEL = ModelConfig(max_seq_len=128, d_model=96, n_layers=3, n_heads=4, **MODERN)
TRAINING: dict[str, Any] = {
    "batch_size": 8,
    "max_steps": 4000,
    "warmup_steps": 50,
    "eval_interval": 1000,
    **MODERN_TRAINING,
}


def load_small_model(parts: Parts | None = None) -> tuple[TinyTransformerLM, CharTokenizer]:
    """The trained model, ready to generate, and its tokenizer."""
    # The format holds tensors and strings only: reading a file never runs code from it.
    with safe_open(PATH, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = TinyTransformerLM(from_dict(json.loads(metadata["model_config"]), ModelConfig), parts)
    model.load_state_dict(weights)  # stored in half precision; copied into float32
    # eval: dropout is for training.
    return model.eval(), CharTokenizer.from_dict(json.loads(metadata["tokenizer"]))


class PrintLoss(Callback):
    """Print the validation loss whenever it is measured."""

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        if report.val_loss is not None:
            print(f"step {report.step:>5}: validation loss {report.val_loss:.4f}", flush=True)


def train_small_model(max_steps: int = TRAINING["max_steps"]) -> tuple[nn.Module, CharTokenizer]:
    """Train on the mock plays, on the CPU: ten minutes."""
    train_text, val_text = split_text(load_corpus("mock").text)
    tokenizer = CharTokenizer.train(train_text + val_text)  # a rare character may be in one only
    model_config = ModelConfig(**{**to_dict(MODEL), "vocab_size": tokenizer.vocab_size})
    config = TrainConfig(model_config, **{**TRAINING, "max_steps": max_steps})
    model = TinyTransformerLM(model_config, Parts.fused(), config.seed)
    # A third of the validation text: the loss is only printed, and nothing is chosen by it.
    tokens = tokenizer.encode_array(train_text), tokenizer.encode_array(val_text[:40_000])
    Trainer(model, *tokens, config, callbacks=[PrintLoss()]).fit()
    return model, tokenizer


def save_small_model(model: nn.Module, tokenizer: CharTokenizer, path: Path = PATH) -> None:
    """Write the weights in half precision, in the format of the course's checkpoints."""
    # Two bytes per weight: the file is committed to the repository, so it should be small.
    weights = {name: w.detach().half().contiguous() for name, w in model.state_dict().items()}
    metadata = {  # strings only, hence JSON within them
        "format": "tiny-transformer-1",
        "model_config": json.dumps(to_dict(model.config)),  # pyright: ignore
        "tokenizer": json.dumps(tokenizer.to_dict()),
        "info": json.dumps({"corpus": "mock", "step": TRAINING["max_steps"]}),
    }
    atomic_write_bytes(path, save(weights, metadata))


def main() -> None:
    """Print what the model generates; with --train, train it first."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--train", action="store_true", help="train again: ten minutes")
    if parser.parse_args().train:
        save_small_model(*train_small_model())
    model, tokenizer = load_small_model()
    prompt = tokenizer.encode("\n\n")  # an empty line: a speech or a scene begins
    generator = torch.Generator().manual_seed(0)
    steps = generate_tokens(
        model, model.config, [prompt], 300, lambda logits: sample(logits, generator)
    )
    print(tokenizer.decode([token for (token,) in steps]))  # a batch of one row


if __name__ == "__main__":
    run_program(main)

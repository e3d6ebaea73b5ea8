"""What does text look like at a loss of 2.5, 2.0, 1.7 and 1.5? One run, sampled on its way down.

    python 06_training/loss_samples.py       about ten minutes on one idle core

A callback looks at the validation loss, and whenever it has fallen below the next threshold, lets
the model write. `n_copied` tells whether a model writes or recites: it is the length of the longest
stretch of a sample that occurs in the training text, letter for letter.

Sampling is the subject of lesson 07; here is its simplest form, one character at a time.

Dimensions: B batch size, T sequence length, V vocabulary size.
"""

import difflib
import math
from dataclasses import dataclass, field

import numpy as np
import torch

from data_loader import evaluation_blocks
from evaluation import sum_losses
from parts import Parts
from run_progress import StepReport
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Callback, Trainer
from utils.config import ModelConfig, TrainConfig
from utils.corpus import load_corpus, split_text
from utils.errors import run_program
from utils.recipes import MODERN, MODERN_TRAINING

THRESHOLDS = (2.5, 2.0, 1.7)  # and the end of the run, at about 1.5
PROMPT = "\n\n"
SAMPLE_SEED = 1
N_CHARACTERS = 240


def configuration(vocab_size: int, max_steps: int = 1100) -> TrainConfig:
    """Between the capstone's presets `laptop` and `full`."""
    model = ModelConfig(
        vocab_size,
        max_seq_len=128,
        d_model=192,
        n_layers=4,
        n_heads=4,
        **MODERN,
    )
    return TrainConfig(
        model,
        batch_size=16,
        max_steps=max_steps,
        warmup_steps=50,
        eval_interval=5,  # often, so that a sample is close to its threshold
        **MODERN_TRAINING,
    )


@dataclass(frozen=True)
class Sample:
    """A text, the step and the validation loss at which it was written, and how much is copied."""

    step: int
    loss: float
    text: str
    copied: int


@torch.inference_mode()
def write_text(
    model: TinyTransformerLM, tokenizer: CharTokenizer, n: int = N_CHARACTERS, seed: int = 0
) -> str:
    """Sample n characters after PROMPT, each from the model's distribution as it is."""
    model.eval()  # the trainer calls train() again
    generator = torch.Generator().manual_seed(seed)
    tokens = tokenizer.encode(PROMPT)
    for _ in range(n):
        # The last T tokens are all that the model can see. Every one of them is computed again for
        # each character: lesson 07 keeps keys and values instead.
        context = torch.tensor([tokens[-model.config.max_seq_len :]])  # (1, T)
        probabilities = torch.softmax(model(context)[0, -1].float(), dim=-1)  # (V,)
        tokens.append(int(torch.multinomial(probabilities, 1, generator=generator)))
    return tokenizer.decode(tokens[len(PROMPT) :])  # one token per character


def n_copied(sample: str, source: str) -> int:
    """The length of the longest stretch of `sample` that occurs in `source`, letter for letter.

    The library compares any two sequences; on a million characters it takes seconds. How to search
    a large text in less time, and without it, is a subject of lesson 09.
    """
    # autojunk would ignore characters that are frequent, and in a text all of them are.
    matcher = difflib.SequenceMatcher(None, sample, source, autojunk=False)
    return matcher.find_longest_match().size


@dataclass
class SampleAtLosses(Callback):
    """Keep a sample whenever the validation loss falls below the next threshold, and at the end."""

    tokenizer: CharTokenizer
    train_text: str
    val_tokens: np.ndarray  # the whole validation split; the trainer has the beginning of it
    thresholds: tuple[float, ...] = THRESHOLDS
    samples: list[Sample] = field(default_factory=list)

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Look at the loss of the beginning first, which is quick, then at that of all of it."""
        # The next one, or after all of them -inf, which no loss is below.
        threshold = (*self.thresholds, -math.inf)[len(self.samples)]
        if trainer.step == trainer.max_steps:
            threshold = math.inf  # the last sample, whatever the loss
        if report.val_loss is None or report.val_loss >= threshold:
            return
        loss = self.loss_of(trainer)
        if loss >= threshold:  # the beginning was easier than the whole
            return
        assert isinstance(trainer.model, TinyTransformerLM)
        text = write_text(trainer.model, self.tokenizer, seed=SAMPLE_SEED)
        copied = n_copied(text, self.train_text)
        self.samples.append(Sample(report.step, loss, text, copied))
        print(f"--- step {report.step}: loss {loss:.3f}, {copied} characters copied\n{text}\n")

    def loss_of(self, trainer: Trainer) -> float:
        """The loss over the whole validation split."""
        batches = evaluation_blocks(self.val_tokens, trainer.seq_len, 64)
        # A mean over predictions, not over batches: the last one may be smaller. The first token of
        # the split has nothing before it, hence the - 1.
        return sum_losses(trainer.model, batches, trainer.dtype) / (len(self.val_tokens) - 1)


def run() -> list[Sample]:
    """Train on Tiny Shakespeare, or on the mock plays if it is missing; returns the samples."""
    corpus = load_corpus()
    print(corpus.origin)
    train_text, val_text = split_text(corpus.text)
    tokenizer = CharTokenizer.train(corpus.text)
    val_tokens = tokenizer.encode_array(val_text)
    config = configuration(tokenizer.vocab_size)
    model = TinyTransformerLM(config.model, Parts.fused(), seed=0)
    sampler = SampleAtLosses(tokenizer, train_text, val_tokens)
    trainer = Trainer(
        model,
        tokenizer.encode_array(train_text),
        val_tokens[:4097],  # 4,096 predictions, quick enough for every fifth step
        config,
        dtype=torch.bfloat16,
        callbacks=[sampler],
    )
    trainer.fit()
    return sampler.samples


def main() -> None:
    """Print each sample when it is written."""
    run()


if __name__ == "__main__":
    run_program(main)

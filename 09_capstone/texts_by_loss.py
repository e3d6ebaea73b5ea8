"""What does generated text look like at each loss? The `laptop` model at five of them.

    python 09_capstone/train.py              first: the best of the five, the trained preset
    python 09_capstone/texts_by_loss.py      then: a minute on an idle core

A short run of the preset is sampled on its way down: whenever the validation loss has fallen below
the next of LOSSES, and at the end, the model writes a batch of texts, always with the same random
numbers. The newest checkpoint and a table of character pairs (lesson 00) write as well. A reader
judges one text; `existing_words` counts over all of them: which share of the words is in the
training text?

Dimensions: V vocabulary size.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

import bigram
from checkpointing import load_checkpoint
from generator import TextGenerator
from loss_samples import SampleAtLosses
from model.config import preset
from parts import Parts
from run_places import HERE
from run_progress import StepReport
from sample import newest_checkpoint
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Trainer
from utils.config import ModelConfig, SampleConfig, TrainConfig, to_dict
from utils.corpus import load_corpus, split_text

LOSSES = (3.3, 2.2, 2.0)  # and the end of the short run, at about 1.75
SHORT = 420  # steps
N_TEXTS, N_CHARACTERS = 24, 400  # 9,600 characters at each loss
WORD = re.compile(r"[A-Za-z']+")


@dataclass(frozen=True)
class TextsAtLoss:
    """What a model wrote at one validation loss, and which share of its words exist."""

    step: int
    loss: float  # nats per character
    texts: list[str]
    shares: list[float]  # of each text
    existing: float  # of all texts together


@cache
def known_words(source: str) -> frozenset[str]:
    """All words of a text, in small letters."""
    return frozenset(WORD.findall(source.lower()))


def describe(step: int, loss: float, texts: list[str], source: str) -> TextsAtLoss:
    """Count the words of the texts that exist in `source`."""
    shares = [round(existing_words([text], source), 3) for text in texts]
    return TextsAtLoss(step, round(loss, 4), texts, shares, round(existing_words(texts, source), 4))


def existing_words(texts: Sequence[str], source: str) -> float:
    """The share of the words of `texts` that occur in `source`, capital letters aside.

    The last word of a text may be cut off, so it doesn't count.
    """
    known = known_words(source)
    words = [word for text in texts for word in WORD.findall(text.lower())[:-1]]
    return sum(word in known for word in words) / max(len(words), 1)


def write_texts(model: TinyTransformerLM, tokenizer: CharTokenizer) -> list[str]:
    """A batch of texts after an empty line, drawn from the distribution as it is."""
    sampling = SampleConfig(max_tokens=N_CHARACTERS, temperature=1.0)
    return TextGenerator(model, model.config, tokenizer).generate(["\n\n"] * N_TEXTS, sampling)


def write_pairs(train_text: str) -> list[str]:
    """The same amount of text from the table of which character follows which."""
    ids, vocabulary = bigram.encode(train_text)
    table = bigram.bigram_probabilities(ids, len(vocabulary))
    generator = torch.Generator().manual_seed(0)
    start = vocabulary.index("\n")
    rows = (bigram.generate(table, start, N_CHARACTERS, generator) for _ in range(N_TEXTS))
    return [bigram.decode(row, vocabulary) for row in rows]


@dataclass
class WriteAtLosses(SampleAtLosses):
    """Let the model write a whole batch of texts whenever lesson 06's callback takes a sample."""

    found: list[TextsAtLoss] = field(default_factory=list)

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """The sample is taken above; here its loss and step are reused."""
        super().on_step(trainer, report)
        if len(self.samples) == len(self.found):
            return
        assert isinstance(trainer.model, TinyTransformerLM)
        texts = write_texts(trainer.model, self.tokenizer)
        last = self.samples[-1]
        self.found.append(describe(last.step, last.loss, texts, self.train_text))


def configuration(vocab_size: int) -> TrainConfig:
    """The preset `laptop`, shorter, and evaluated often."""
    laptop = preset("laptop")
    model = ModelConfig(**{**to_dict(laptop.model), "vocab_size": vocab_size})
    return TrainConfig(
        **{**to_dict(laptop), "model": model, "max_steps": SHORT, "eval_interval": 5}
    )


def run() -> dict[str, TextsAtLoss]:
    """What the short run, the newest checkpoint and the table of pairs write."""
    corpus = load_corpus()
    print(corpus.origin)
    train_text, val_text = split_text(corpus.text)
    tokenizer = CharTokenizer.train(corpus.text)
    val_tokens = tokenizer.encode_array(val_text)
    writer = WriteAtLosses(tokenizer, train_text, val_tokens, LOSSES)
    train_short(tokenizer.encode_array(train_text), val_tokens, writer)
    found = {f"{entry.loss:.2f} nats": entry for entry in writer.found}
    found["trained"] = from_checkpoint(newest_checkpoint(HERE / "checkpoints"), train_text)
    loss = pair_loss(train_text, val_text)
    pairs = describe(0, loss, write_pairs(train_text), train_text)
    return found | {"a bigram table": pairs}


def train_short(train_tokens: np.ndarray, val_tokens: np.ndarray, writer: WriteAtLosses) -> None:
    """The short run; the loss is looked at often, on the beginning of the validation text."""
    config = configuration(writer.tokenizer.vocab_size)
    model = TinyTransformerLM(config.model, Parts.fused(), config.seed)
    options = {"dtype": torch.bfloat16, "callbacks": [writer]}
    Trainer(model, train_tokens, val_tokens[:4097], config, **options).fit()


def from_checkpoint(path: Path, train_text: str) -> TextsAtLoss:
    """What a trained model writes, and the loss that its file states."""
    saved = load_checkpoint(path)
    assert isinstance(saved.tokenizer, CharTokenizer)
    texts = write_texts(saved.build_model(Parts.fused()), saved.tokenizer)
    return describe(saved.info["step"], saved.info["val_loss"], texts, train_text)


def pair_loss(train_text: str, val_text: str) -> float:
    """The validation loss of the table of pairs, in nats; each pair counts once more than it came.

    Without the one that is added, a pair that is new in the validation text would cost infinity.
    """
    ids, vocabulary = bigram.encode(train_text)
    V = len(vocabulary)
    counts = torch.bincount(V * ids[:-1] + ids[1:], minlength=V * V).view(V, V) + 1
    val_ids = torch.tensor([vocabulary.index(c) for c in val_text if c in vocabulary])
    return bigram.cross_entropy(counts / counts.sum(1, keepdim=True), val_ids).item()


def main() -> None:
    """Print what is written at each loss."""
    for name, entry in run().items():
        print(f"{name}: loss {entry.loss:.3f}, {entry.existing:.0%} of the words exist")
        print(entry.texts[0], end="\n\n")


if __name__ == "__main__":
    run_program(main)

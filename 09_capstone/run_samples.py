"""The samples of a run: samples.txt for people, samples.jsonl as the run's own record.

People write notes into samples.txt, so it is never parsed. The record says which samples the run
has written: when it resumes, the later ones are removed from samples.txt, each as the exact bytes
that were added to it, and generated again. All other bytes stay.
"""

import json
from pathlib import Path
from typing import Any

from any_tokenizer import Tokenizer
from fast_decoder import fast_decode_step
from generator import TextGenerator
from logging_utils import JsonlLogger
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.config import SampleConfig, TrainConfig
from utils.files import atomic_write_bytes, atomic_write_text

SAMPLE_TOKENS = 300


class RunSamples:
    """Generates a text every `sample_interval` steps and at the end."""

    def __init__(
        self, folder: Path, config: TrainConfig, model: TinyTransformerLM, tokenizer: Tokenizer
    ) -> None:
        self.config = config
        self.model = model
        self.tokenizer = tokenizer
        self.text = folder / "samples.txt"
        self.record = folder / "samples.jsonl"
        self.newest = 0  # the step of the newest sample

    def remove_from(self, step: int) -> None:
        """Remove the samples of `step` and of later steps."""
        samples = read_record(self.record)
        kept = [sample for sample in samples if sample["step"] < step]
        text = before = self._read_text()
        for sample in samples[len(kept) :]:
            text = without_last(text, block(**sample))
        if text != before:
            atomic_write_bytes(self.text, text)
        if self.record.exists():
            atomic_write_text(self.record, "".join(f"{json.dumps(each)}\n" for each in kept))
        self.newest = max((sample["step"] for sample in kept), default=0)

    def add_if_due(self, trainer: Trainer) -> None:
        """Add this step's sample unless it exists already; none if the run is being stopped."""
        step, every = trainer.step, self.config.sample_interval
        is_due = every and step > self.newest and (step % every == 0 or step == trainer.max_steps)
        if not is_due:
            return
        sampling = SampleConfig(max_tokens=SAMPLE_TOKENS, seed=self.config.seed)
        text = sample_text(self.model, self.tokenizer, sampling, trainer)
        if not trainer.stop:
            self._add(step, text)

    def _add(self, step: int, text: str) -> None:
        """The record first: a sample that is recorded but not in samples.txt does no harm."""
        with JsonlLogger(self.record) as record:
            record.append({"step": step, "text": text})
            record.sync()
        atomic_write_bytes(self.text, self._read_text() + block(step, text))
        self.newest = step

    def _read_text(self) -> bytes:
        return self.text.read_bytes() if self.text.exists() else b""


def block(step: int, text: str) -> bytes:
    """A sample as it is written to samples.txt."""
    return f"--- step {step} ---\n{text}\n\n".encode("utf-8", "backslashreplace")


def without_last(text: bytes, part: bytes) -> bytes:
    """The text without the last occurrence of a part; unchanged if the part is not there."""
    before, found, after = text.rpartition(part)
    return before + after if found else text


def read_record(path: Path) -> list[dict[str, Any]]:
    """The samples that were recorded, in order; lines that are damaged are skipped."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    samples = [sample for line in lines if (sample := read_sample(line))]
    return sorted(samples, key=lambda sample: sample["step"])


def read_sample(line: bytes) -> dict[str, Any] | None:
    """A line of the record, or None if it is not one."""
    try:
        sample = json.loads(line)
        return {"step": int(sample["step"]), "text": str(sample["text"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def sample_text(
    model: TinyTransformerLM, tokenizer: Tokenizer, sampling: SampleConfig, trainer: Trainer
) -> str:
    """One sample from the model as it is now; cut short if the trainer is stopped."""
    was_training = model.training
    generator = TextGenerator(model, model.config, tokenizer, fast_decode_step)
    pieces = []
    for piece in generator.stream(sampling):
        pieces.append(piece)
        if trainer.stop:
            break
    model.train(was_training)
    return "".join(pieces)

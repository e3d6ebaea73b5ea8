"""study_guide.md: the numbers of the moments to look out for."""

import json
import re
from pathlib import Path

import pytest
import torch

import training_loop
from bigram import cross_entropy, encode, train
from model.config import PRESETS
from tiny_transformer_lm import TinyTransformerLM
from utils import mock_corpus

FOLDER = Path(__file__).resolve().parents[1]
ROOT = FOLDER.parent
PAGE = (FOLDER / "study_guide.md").read_text(encoding="utf-8")


def test_the_bigram_model_of_lesson_00_learns_as_the_page_says() -> None:
    ids, vocabulary = encode(mock_corpus.generate(20_000))
    logits, losses = train(ids, len(vocabulary))
    loss = cross_entropy(torch.softmax(logits, dim=-1), ids).item()
    assert f"from {losses[0]:.2f} untrained to {loss:.2f} trained, as low as counting" in PAGE


def test_the_head_of_lesson_01_learns_as_the_page_says() -> None:
    text = (ROOT / "01_attention" / "notebook.ipynb").read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", []) if "text" in out]
    printed = "".join(line for out in outputs for line in out["text"])
    losses = dict(re.findall(r"step +(\d+): loss (\d\.\d\d)", printed))
    assert f"from a loss of {losses['0']} to {losses['200']} in 200 steps" in PAGE


def test_the_tiny_model_of_lesson_06_learns_as_the_page_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    training_loop.main()
    printed = re.findall(r"(?:= |loss )(\d\.\d{3})", capsys.readouterr().out)
    row = re.search(r"([\d.]+) before training, ([\d.]+) after 50 steps, ([\d.]+) after 200", PAGE)
    assert row is not None
    for shown, computed in zip(row.groups(), (printed[0], printed[1], printed[-1]), strict=True):
        assert float(computed) == pytest.approx(float(shown), abs=0.05)  # platforms round


def test_the_laptop_preset_is_described_correctly() -> None:
    config = PRESETS["laptop"].model
    n_parameters = sum(p.numel() for p in TinyTransformerLM(config).parameters())
    sentence = f"the model has {n_parameters:,} parameters and sees {config.max_seq_len} characters"
    assert sentence in PAGE

"""small_model.py: the trained model is there, has learned something, and can be trained again."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

import small_model
from loss_functions import cross_entropy
from parts import Parts
from small_model import PATH, load_small_model, save_small_model
from utils.mock_corpus import generate


def test_the_file_is_a_checkpoint_of_the_course() -> None:
    """In the format that 08_engineering/checkpointing.py reads."""
    with safe_open(PATH, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "tiny-transformer-1"
    assert json.loads(metadata["model_config"])["d_model"] == small_model.MODEL.d_model
    assert json.loads(metadata["tokenizer"])["kind"] == "char"
    assert PATH.stat().st_size < 1_000_000


def test_the_model_is_the_one_that_the_configuration_describes() -> None:
    model, tokenizer = load_small_model()
    assert tokenizer.vocab_size == model.config.vocab_size == 57
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_it_predicts_plays_that_it_has_not_seen() -> None:
    model, tokenizer = load_small_model(Parts.fused())
    text = generate(4096, seed=7)[:4097]
    tokens = torch.tensor(tokenizer.encode(text))
    x, y = tokens[:-1].view(32, 128), tokens[1:].view(32, 128)
    with torch.inference_mode():
        loss = cross_entropy(model(x), y).item()
    assert 0.43 < loss < 0.72  # 0.434 is the entropy; equal probabilities would have 4.04


def test_a_saved_model_is_loaded_again(tmp_path: Path, monkeypatch) -> None:
    model, tokenizer = load_small_model()
    path = tmp_path / "again.safetensors"
    save_small_model(model, tokenizer, path)
    monkeypatch.setattr(small_model, "PATH", path)
    again, same = load_small_model()
    assert same == tokenizer
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_training_runs(monkeypatch) -> None:
    """Two steps on a short text: enough to see that the parts fit."""
    text = "To be, or not to be.\n" * 200
    corpus = type("Corpus", (), {"text": text})
    monkeypatch.setattr(small_model, "load_corpus", lambda name: corpus)
    model, tokenizer = small_model.train_small_model(max_steps=2)
    assert tokenizer.vocab_size == len(set(text))
    assert all(p.isfinite().all() for p in model.parameters())

"""numpy_forward.py computes PyTorch's logits in every configuration, without loading PyTorch."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import compare_engines
import numpy_forward
from numpy_checkpoint import read_checkpoint
from numpy_forward import NumpyLM
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import CourseError, UsageError

V = 11
SMALL = ModelConfig(vocab_size=V, max_seq_len=10, d_model=24, n_layers=2, n_heads=4)
MODERN = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "d_ff": 20, "bias": False}
EACH: dict[str, dict[str, Any]] = {  # every value of every field is in at least one of these
    "classic": {},
    "untied, without biases": {"tie_weights": False, "bias": False},
    "post-norm, rmsnorm": {"norm_placement": "post", "norm": "rmsnorm"},
    "sinusoidal, relu2": {"position": "sinusoidal", "activation": "relu2"},
    "sinusoidal, odd width": {"position": "sinusoidal", "d_model": 9, "n_heads": 3},
    "rope, odd number of pairs": {"position": "rope", "d_model": 24},
    "alibi": {"position": "alibi"},
    "alibi, six heads, grouped": {"position": "alibi", "n_heads": 6, "n_kv_heads": 3},
    "one key-value head": {"n_kv_heads": 1},
    "modern": {**MODERN, "n_kv_heads": 2, "qk_norm": True},
    "one layer, dropout": {"n_layers": 1, "dropout": 0.5},
}
CHARACTERS = "\n abcdefgh:"
HERE = Path(__file__).resolve().parents[1]


def random_model(config: ModelConfig) -> TinyTransformerLM:
    """A model far from its initial weights, which would hide errors."""
    model = TinyTransformerLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def arrays(model: TinyTransformerLM) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def checkpoint(path: Path, **metadata: str) -> Path:
    """A checkpoint as lesson 08 writes it."""
    fields = '{"vocab_size": 11, "max_seq_len": 10, "d_model": 24, "n_layers": 2}'
    stored = {"model_config": fields, "tokenizer": '{"kind": "char", "characters": CHARACTERS}'}
    stored["tokenizer"] = stored["tokenizer"].replace("CHARACTERS", '"\\n abcdefgh:"')
    model = random_model(SMALL)
    save_file(model.state_dict(), path, {"format": "tiny-transformer-1", **stored, **metadata})
    return path


@pytest.mark.parametrize(("B", "T"), [(3, 7), (1, 10), (2, 1)])
@pytest.mark.parametrize("name", EACH)
def test_the_logits_are_those_of_pytorch(name: str, B: int, T: int) -> None:
    config = replace(SMALL, **EACH[name])
    model = random_model(config)
    tokens = torch.randint(V, (B, T))
    expected = model(tokens).detach()
    logits = NumpyLM(config, arrays(model))(tokens.numpy())
    assert logits.dtype == np.float32
    assert expected.std() > 0.1
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-4)


def test_each_value_of_each_choice_is_tried() -> None:
    tried = [replace(SMALL, **changes) for changes in EACH.values()]
    for name in ("norm", "norm_placement", "activation", "position"):
        choices = ModelConfig.__dataclass_fields__[name].metadata["choices"]
        assert {getattr(config, name) for config in tried} == set(choices)
    for name in ("qk_norm", "bias", "tie_weights"):
        assert {getattr(config, name) for config in tried} == {True, False}


def test_large_features_overflow_nothing() -> None:
    config = replace(SMALL, **EACH["modern"])
    model = random_model(config)
    with torch.no_grad():
        model.get_parameter("blocks.0.feed_forward.gate_proj.weight").mul_(1000)
    tokens = torch.randint(V, (3, 7))
    logits = NumpyLM(config, arrays(model))(tokens.numpy())  # a warning would be an error here
    torch.testing.assert_close(
        torch.from_numpy(logits), model(tokens).detach(), rtol=1e-3, atol=1e-3
    )


def test_too_many_tokens_are_refused() -> None:
    with pytest.raises(UsageError, match="11 tokens do not fit in the context of 10"):
        NumpyLM(SMALL, arrays(random_model(SMALL)))(np.zeros((1, 11), dtype=np.int64))


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.safetensors")
    config, weights, characters = read_checkpoint(path)
    assert config == SMALL
    assert characters == CHARACTERS
    assert {name: w.shape for name, w in weights.items()} == {
        name: tuple(w.shape) for name, w in random_model(SMALL).state_dict().items()
    }


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:1000])
    (tmp_path / "text.safetensors").write_text("hello", encoding="utf-8")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    checkpoint(tmp_path / "field.safetensors", model_config='{"widht": 3}')
    checkpoint(tmp_path / "bpe.safetensors", tokenizer='{"kind": "bpe", "merges": []}')
    for name in ("missing", "cut", "text", "foreign", "field", "bpe"):
        with pytest.raises(CourseError) as raised:
            read_checkpoint(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(raised.value)
        assert f"{name}.safetensors" in str(raised.value)


def test_the_program_runs_where_pytorch_cannot_be_imported(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.safetensors")
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')", encoding="utf-8")
    command = [sys.executable, HERE / "numpy_forward.py", "--checkpoint", path, "--prompt", "bed:"]
    run = subprocess.run(
        command,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert lines[0] == "model.safetensors in NumPy: after 'bed:' come most likely"
    assert len(lines) == 6
    assert all(line.endswith("%") for line in lines[1:])


def test_compare_prints_a_small_difference_for_each_engine(
    tmp_path: Path, call_program: Any
) -> None:
    path = checkpoint(tmp_path / "model.safetensors")
    arguments = ("--checkpoint", path, "--prompt", "a bed", "--compare")
    outcome = call_program(numpy_forward.main, *arguments)
    assert outcome.code == 0
    rows = [line.rsplit(maxsplit=1) for line in outcome.out.splitlines()[-3:]]
    assert [name.strip() for name, _ in rows] == ["NumPy", *compare_engines.ENGINES]
    assert all(float(difference) < 1e-4 for _, difference in rows)


@pytest.mark.parametrize("prompt", ["", "a bed?"])
def test_a_prompt_that_cannot_be_encoded_is_refused(
    prompt: str, tmp_path: Path, call_program: Any
) -> None:
    path = checkpoint(tmp_path / "model.safetensors")
    outcome = call_program(numpy_forward.main, "--checkpoint", path, "--prompt", prompt)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1

"""The whole model on one page: the same logits as the course's model, from the same checkpoints."""

import ast
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import train
from checkpointing import load_checkpoint
from model import tiny_transformer
from model.config import PRESETS
from model.tiny_transformer import TinyTransformer, generate, load
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.corpus import Corpus
from utils.recipes import MODERN

PAGE = Path(tiny_transformer.__file__)
MODELS = {name: PRESETS[name].model for name in ("smoke", "laptop", "full")}
TINY = ModelConfig(5, max_seq_len=8, d_model=16, n_layers=2, n_heads=2, **MODERN)


def random_weights(config: ModelConfig) -> dict[str, Tensor]:
    """Weights of the course's model, none of them at its initial value, in float64."""
    generator = torch.Generator().manual_seed(1)
    shapes = {name: w.shape for name, w in TinyTransformerLM(config).state_dict().items()}
    return {
        name: ("norm" in name) + 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def both(config: ModelConfig) -> tuple[TinyTransformerLM, TinyTransformer]:
    """The course's model and the page's, with the same weights."""
    weights = random_weights(config)
    reference = TinyTransformerLM(config).double().eval()
    reference.load_state_dict(weights)
    page = TinyTransformer(
        config.vocab_size, config.d_model, config.n_layers, config.n_heads, config.dropout
    )
    page.double().load_state_dict(weights)
    return reference, page.eval()


@pytest.mark.parametrize("name", MODELS)
def test_its_parameters_have_the_names_and_shapes_of_the_course(name: str) -> None:
    reference, page = both(MODELS[name])
    assert {key: w.shape for key, w in page.state_dict().items()} == {
        key: w.shape for key, w in reference.state_dict().items()
    }


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_the_logits_are_those_of_the_course(name: str) -> None:
    reference, page = both(MODELS[name])
    T_max = MODELS[name].max_seq_len
    for B, T in ((1, 1), (3, 7), (2, T_max)):
        tokens = torch.randint(65, (B, T))
        torch.testing.assert_close(page(tokens), reference(tokens), rtol=0, atol=1e-9)


@torch.inference_mode()
def test_padding_on_the_right_changes_nothing_before_it() -> None:
    reference, page = both(MODELS["laptop"])
    tokens = torch.randint(65, (2, 64))
    padded = tokens.clone()
    padded[0, 20:] = 0
    torch.testing.assert_close(page(padded)[0, :20], reference(tokens)[0, :20], rtol=0, atol=1e-9)
    torch.testing.assert_close(page(padded), reference(padded), rtol=0, atol=1e-9)


@pytest.mark.usefixtures("training_folders")
@pytest.mark.parametrize(("name", "steps"), [("smoke", 30), ("laptop", 10)])
def test_a_trained_checkpoint_gives_the_same_logits(
    name: str, steps: int, call_program: Callable[..., Any], tmp_path: Path
) -> None:
    data = PAGE.parents[2] / "data" / "simple_sequences.txt"
    call = partial(call_program, train.main, "--preset", name, "--data", data)
    places = ("--out-dir", tmp_path / "run", "--checkpoint-dir", tmp_path)
    assert (
        call("--max-steps", steps, "--warmup-steps", 1, "--sample-interval", 0, *places).code == 0
    )
    path = tmp_path / "run" / "last.safetensors"
    config = load_checkpoint(path).model_config
    page = load(load_file(path), n_heads=config.n_heads)
    tokens = torch.randint(config.vocab_size, (4, config.max_seq_len))
    with torch.inference_mode():
        assert page(tokens).abs().max() > 0.1  # not the zeros of the first step
        for parts in (Parts.reference(), Parts.fused()):
            expected = load_checkpoint(path).build_model(parts).eval()(tokens)
            torch.testing.assert_close(page(tokens), expected, rtol=0, atol=1e-5)


def test_it_begins_at_log_v_as_the_course_does() -> None:
    model, V = TinyTransformer(65, 32, 2, 2, 0.0), 65
    tokens = torch.randint(V, (4, 9))
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert math.isclose(loss.item(), math.log(V), rel_tol=1e-6)
    for name, weight in model.named_parameters():
        expected = TinyTransformerLM(MODELS["smoke"]).get_parameter(name)
        assert math.isclose(weight.detach().std(), expected.detach().std(), rel_tol=0.1), name


@torch.inference_mode()
def test_generation_continues_each_row_from_its_last_tokens() -> None:
    _, page = both(TINY)
    prompts = torch.randint(5, (3, 6))
    found = generate(page, prompts, 10, T=4, temperature=1e-6)  # practically greedy
    assert found.shape == (3, 16) and torch.equal(found[:, :6], prompts)
    for end in range(6, 16):
        assert torch.equal(found[:, end], page(found[:, end - 4 : end])[:, -1].argmax(-1))


@torch.inference_mode()
def test_the_temperature_is_that_of_the_distribution() -> None:
    _, page = both(TINY)
    prompt = torch.tensor([[1, 2, 3]])
    torch.manual_seed(0)
    drawn = generate(page, prompt.expand(20_000, 3), 1, T=8, temperature=0.5)[:, -1]
    shares = drawn.bincount(minlength=5) / 20_000
    expected = (page(prompt)[0, -1] / 0.5).softmax(-1)
    torch.testing.assert_close(shares.double(), expected, rtol=0, atol=0.02)


def test_training_learns_a_text_that_repeats() -> None:
    torch.manual_seed(0)
    model = TinyTransformer(3, d_model=16, n_layers=1, n_heads=2, dropout=0.0)
    text = torch.arange(3).repeat(100)
    tiny_transformer.train(model, text, seconds=3.0, B=4, T=8)
    assert F.cross_entropy(model(text[None, :-1])[0], text[1:]) < 0.3  # log 3 = 1.1 at first


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A small text takes the place of Tiny Shakespeare."""
    corpus = Corpus("plays", "MAD\nmad\n" * 100, "plays of one word")
    monkeypatch.setattr("utils.corpus.load_corpus", lambda: corpus)
    return corpus


def test_the_program_trains_and_prints_a_text(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_transformer.main(seconds=1.0)
    printed = capsys.readouterr().out
    origin, _, rest = printed.partition("\n")
    progress, _, text = rest.partition("  \n")
    assert origin == corpus.origin
    assert "loss " in progress and progress.endswith("s left")
    assert len(text) == 502  # the new line it began with, 500 characters, and the end of print
    assert set(text) <= set(corpus.text)


def test_ctrl_c_ends_the_training_and_prints_a_text(
    corpus: Corpus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny_transformer, "train", interrupted)
    tiny_transformer.main()
    assert len(capsys.readouterr().out) == len(corpus.origin) + 1 + 1 + 502


def test_the_page_is_one_page_and_imports_pytorch_alone() -> None:
    source = PAGE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 150
    allowed = {"torch", *sys.stdlib_module_names}
    tree = ast.parse(source)
    main = {id(node) for each in main_parts(tree) for node in ast.walk(each)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in main:
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            assert {module.split(".")[0] for module in modules} <= allowed


def main_parts(tree: ast.Module) -> list[ast.stmt]:
    """`main` and the last `if`: they read the data, and may use the course's utils."""
    return [
        node
        for node in tree.body
        if isinstance(node, ast.If) or (isinstance(node, ast.FunctionDef) and node.name == "main")
    ]

"""Models of this course in transformers, and models of transformers here: the same function.

Every comparison is made on random weights, norms and biases included: what an initialiser leaves
at zero or one would hide the errors that these tests look for.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer, train_bpe
from checkpointing import Checkpoint, load_checkpoint, save_checkpoint
from decoding_loop import generate_tokens
from fast_decoder import FastDecoder, fast_decode_step
from generator import TextGenerator
from greedy import greedy
from interop import TOLERANCE, Comparison, check, compare, main
from interop_checkpoint import export_folder, import_folder
from interop_folder import CONFIG, WEIGHTS, read_weights
from interop_models import FORMATS, from_hugging_face, to_hugging_face
from parts import Parts
from rotary_layouts import halves_to_interleaved
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig, SampleConfig
from utils.kv_cache import KVCache
from utils.mock_corpus import generate

INSTALL = "needs the library transformers: pip install -e '.[interop]'"
transformers: Any = pytest.importorskip("transformers", reason=INSTALL)
tokenizers: Any = pytest.importorskip("tokenizers", reason=INSTALL)

PAGE = Path(__file__).resolve().parents[1] / "interop.md"

# No size is a default, and no two sizes are equal: d_model 24, d_head 6, d_ff 52, V 23.
SIZES: dict[str, Any] = {
    "vocab_size": 23,
    "max_seq_len": 37,
    "d_model": 24,
    "n_layers": 3,
    "n_heads": 4,
    "d_ff": 52,
}
MODERN: dict[str, Any] = {"norm": "rmsnorm", "position": "rope", "bias": False}
SWIGLU = {**MODERN, "activation": "swiglu"}
RELU2 = {**MODERN, "activation": "relu2"}
CASES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2, untied": {"tie_weights": False, "dropout": 0.1},
    "gpt2, no biases, relu2": {"bias": False, "activation": "relu2"},
    "llama, 4 heads share 2, untied": {**SWIGLU, "n_kv_heads": 2, "tie_weights": False},
    "llama, 4 heads share 1, biases": {**SWIGLU, "n_kv_heads": 1, "bias": True},
    "llama, relu2, biases": {**RELU2, "bias": True, "dropout": 0.2},
    "qwen3, 4 heads share 2": {**SWIGLU, "n_kv_heads": 2, "qk_norm": True},
    "qwen3, relu2, untied": {**RELU2, "qk_norm": True, "tie_weights": False},
}
TOKENIZER = CharTokenizer("abcdefghijklmnopqrst \n\0")


def case(name: str) -> ModelConfig:
    return ModelConfig(**{**SIZES, **CASES[name]})


def randomised(config: ModelConfig, seed: int = 0) -> TinyTransformerLM:
    """A model whose every parameter is random: norm weights around 1, everything else around 0."""
    model = TinyTransformerLM(config).eval()
    randomise_(model, seed)
    return model


@torch.no_grad()
def randomise_(model: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)


def as_checkpoint(model: TinyTransformerLM, tokenizer: Tokenizer = TOKENIZER) -> Checkpoint:
    return Checkpoint(model.config, tokenizer, model.state_dict())


def load(folder: Path) -> Any:
    """The model that transformers finds in a folder; it must find exactly what it expects."""
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(found.values()), found
    return model.eval()


def build(stored: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """A model of transformers in memory, from a config.json and tensors."""
    config = transformers.AutoConfig.for_model(**stored)
    model = transformers.AutoModelForCausalLM.from_config(config)
    missing, unexpected = model.load_state_dict(dict(tensors), strict=False)
    assert not unexpected
    assert set(missing) <= ({"lm_head.weight"} if config.tie_word_embeddings else set())
    return model.eval()


@dataclass(frozen=True)
class Exported:
    """One case: our model, the folder it was exported to, and what transformers loads from it."""

    name: str
    ours: TinyTransformerLM
    folder: Path
    theirs: Any


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    place, made = tmp_path_factory.mktemp("exports"), {}
    for i, name in enumerate(CASES):
        ours, folder = randomised(case(name), seed=i), place / str(i)
        model_type = export_folder(as_checkpoint(ours), folder)
        assert model_type == name.split(",")[0]
        made[name] = Exported(name, ours, folder, load(folder))
    return made


@pytest.fixture(params=CASES)
def exported(exports: dict[str, Exported], request: pytest.FixtureRequest) -> Exported:
    return exports[request.param]


# --- the same function ---


def expect_same(theirs: Any, ours: TinyTransformerLM) -> Comparison:
    found = compare(theirs, ours)
    assert found.difference <= TOLERANCE, found
    assert found.same_greedy, found
    return found


def test_transformers_computes_the_same_logits_and_greedy_tokens(exported: Exported) -> None:
    expected = FORMATS[exported.name.split(",")[0]].architecture
    assert type(exported.theirs).__name__ == expected
    expect_same(exported.theirs, exported.ours)


def test_one_token_gives_the_same_logits_too(exported: Exported) -> None:
    tokens = torch.tensor([[5]])
    with torch.inference_mode():
        torch.testing.assert_close(
            exported.theirs(tokens).logits, exported.ours(tokens), rtol=0, atol=TOLERANCE
        )


def test_the_comparison_covers_the_whole_context_and_logits_of_ordinary_size(
    exported: Exported,
) -> None:
    seen = []
    exported.ours.register_forward_hook(lambda module, args, out: seen.append(out))
    found = compare(exported.theirs, exported.ours)
    assert seen[0].shape == (3, SIZES["max_seq_len"], SIZES["vocab_size"])
    assert found.scale > 1


def test_a_round_trip_changes_no_bit_and_no_field(exported: Exported) -> None:
    back = import_folder(exported.folder)
    assert back.model_config == exported.ours.config
    assert back.tokenizer == TOKENIZER
    expect_equal_weights(back.weights, exported.ours.state_dict())


def test_what_transformers_saves_again_is_read_back_without_a_changed_bit(
    exported: Exported, tmp_path: Path
) -> None:
    exported.theirs.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
    config, weights = from_hugging_face(stored, read_weights(tmp_path))
    assert config == exported.ours.config
    expect_equal_weights(weights, exported.ours.state_dict())


def expect_equal_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_the_transformers_model_keeps_dropout_in_its_configuration(
    exports: dict[str, Exported],
) -> None:
    assert exports["gpt2, untied"].theirs.config.resid_pdrop == 0.1
    assert exports["gpt2, untied"].theirs.config.embd_pdrop == 0.0


# --- deliberately wrong conversions: the comparison above must notice each ---

Tensors = dict[str, Tensor]
Wrong = Callable[[Tensors, dict[str, Any]], None]


def transposed_conv1d(tensors: Tensors, stored: dict[str, Any]) -> None:
    """nn.Linear's (out, in) written where GPT-2 stores (in, out); square, so no shape objects."""
    for name in tensors:
        if name.endswith("attn.c_proj.weight"):
            tensors[name] = tensors[name].T.contiguous()


def interleaved_rotary(tensors: Tensors, stored: dict[str, Any]) -> None:
    """Rows of queries and keys in the order of the original Llama: neighbours are pairs."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    for name in tensors:
        for projection, field in heads.items():
            if projection in name:
                tensors[name] = halves_to_interleaved(tensors[name], stored[field])


def missing_norm_offset(tensors: Tensors, stored: dict[str, Any]) -> None:
    """Norm weights stored as Gemma does, as offsets from one, where Llama has the weight."""
    for name in tensors:
        if "norm" in name:
            tensors[name] = tensors[name] - 1


def missing_norm_bias(tensors: Tensors, stored: dict[str, Any]) -> None:
    """LayerNorm without its shift."""
    for name in tensors:
        if ".ln_" in name and name.endswith("bias"):
            tensors[name] = torch.zeros_like(tensors[name])


def untied_as_tied(tensors: Tensors, stored: dict[str, Any]) -> None:
    """The output layer is dropped, and the embedding used in its place."""
    del tensors["lm_head.weight"]
    stored["tie_word_embeddings"] = True


def kv_heads_in_turn(tensors: Tensors, stored: dict[str, Any]) -> None:
    """Query heads 0 1 2 3 read key-value heads 0 1 0 1, where Llama has 0 0 1 1."""
    n_heads, n_kv_heads = stored["num_attention_heads"], stored["num_key_value_heads"]
    order = torch.arange(n_heads).view(n_kv_heads, -1).T.flatten()  # 0 2 1 3
    for name, tensor in tensors.items():
        if "q_proj" in name:
            heads = tensor.unflatten(0, (n_heads, -1))
            tensors[name] = heads[order].flatten(0, 1)
        if "o_proj.weight" in name:
            heads = tensor.unflatten(1, (n_heads, -1))
            tensors[name] = heads[:, order].flatten(1, 2)


def change(name: str, value: Any) -> Wrong:
    def wrong(tensors: Tensors, stored: dict[str, Any]) -> None:
        stored[name] = value

    return wrong


def without_qk_norm(tensors: Tensors, stored: dict[str, Any]) -> None:
    """Qwen3's weights in a Llama, which has no norm of queries and keys."""
    stored["model_type"] = "llama"
    for name in [name for name in tensors if "q_norm" in name or "k_norm" in name]:
        del tensors[name]


GQA = "llama, 4 heads share 2, untied"
TRAPS: dict[str, tuple[str, Wrong]] = {  # as interop.md names them: a case, and a wrong conversion
    "transposed `Conv1D`": ("gpt2", transposed_conv1d),
    "interleaved rotary": (GQA, interleaved_rotary),
    "missing norm offset": (GQA, missing_norm_offset),
    "missing norm bias": ("gpt2", missing_norm_bias),
    "untied head taken as tied": (GQA, untied_as_tied),
    "key-value heads in turn": (GQA, kv_heads_in_turn),
    "no qk-norm": ("qwen3, relu2, untied", without_qk_norm),
    "`rope_theta` 500,000": (
        GQA,
        change("rope_parameters", {"rope_type": "default", "rope_theta": 5e5}),
    ),
    "`gelu_new` for `gelu`": ("gpt2", change("activation_function", "gelu_new")),
    "`rms_norm_eps` 1e-6": (GQA, change("rms_norm_eps", 1e-6)),
}


def fall_into(trap: str) -> Comparison:
    """Convert a model in the wrong way, and compare it with the right one."""
    name, wrong = TRAPS[trap]
    ours = randomised(case(name))
    stored, tensors = to_hugging_face(ours.config, ours.state_dict(), name.split(",")[0])
    wrong(tensors, stored)
    return compare(build(stored, tensors), ours)


@pytest.fixture(scope="module")
def falls() -> dict[str, Comparison]:
    return {trap: fall_into(trap) for trap in TRAPS}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_wrong_conversion_is_noticed(falls: dict[str, Comparison], trap: str) -> None:
    assert not falls[trap].agrees
    assert falls[trap].difference > 5 * TOLERANCE


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in TRAPS.values()))
def test_without_the_mistake_the_same_steps_agree(name: str) -> None:
    ours = randomised(case(name))
    stored, tensors = to_hugging_face(ours.config, ours.state_dict(), name.split(",")[0])
    expect_same(build(stored, tensors), ours)

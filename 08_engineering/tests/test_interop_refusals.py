"""What the conversion refuses, and how it says so: the field or the tensor, the value, one line.

The library transformers is not needed here, and not used.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bpe_tokenizer import BPETokenizer, train_bpe
from checkpointing import Checkpoint, load_checkpoint, save_checkpoint
from interop import main
from interop_checkpoint import export_folder, import_folder
from interop_foreign_tokenizer import from_tokenizer_json
from interop_models import fitting_format, from_hugging_face, to_hugging_face
from interop_tokenizer import byte_letters, to_tokenizer_json
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.errors import CourseError, UsageError
from utils.mock_corpus import generate

GPT2 = ModelConfig(vocab_size=11, max_seq_len=16, d_model=12, n_layers=2, n_heads=2)
LLAMA = replace(
    GPT2, norm="rmsnorm", position="rope", activation="swiglu", bias=False, n_kv_heads=1
)
QWEN3 = replace(LLAMA, qk_norm=True)
CONFIGS = {"gpt2": GPT2, "llama": LLAMA, "qwen3": QWEN3}
TOKENIZER = CharTokenizer("abcdefghij ")


def weights_of(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Random weights; nothing is zero or one by initialization."""
    generator = torch.Generator().manual_seed(0)
    shapes = TinyTransformerLM(config).state_dict()
    return {name: torch.randn(t.shape, generator=generator) for name, t in shapes.items()}


def stored_as(model_type: str, **changes: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """config.json and tensors of a small model, with fields of ours changed."""
    config = replace(CONFIGS[model_type], **changes)
    return to_hugging_face(config, weights_of(config), model_type)


# --- what a format can't express ---


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        (
            "gpt2",
            {"norm": "rmsnorm"},
            'norm "rmsnorm" can\'t be expressed as gpt2, only "layernorm"',
        ),
        ("gpt2", {"norm_placement": "post"}, 'norm_placement "post"'),
        ("gpt2", {"position": "rope"}, 'position "rope"'),
        ("gpt2", {"position": "sinusoidal"}, 'position "sinusoidal"'),
        (
            "gpt2",
            {"position": "alibi"},
            'position "alibi" can\'t be expressed as gpt2, only "learned"',
        ),
        ("gpt2", {"activation": "swiglu"}, 'activation "swiglu"'),
        ("gpt2", {"qk_norm": True}, "qk_norm true"),
        ("gpt2", {"n_kv_heads": 1}, "n_kv_heads 1 can't be expressed as gpt2, only 2"),
        ("llama", {"norm": "layernorm"}, 'norm "layernorm"'),
        ("llama", {"norm_placement": "post"}, 'norm_placement "post"'),
        ("llama", {"position": "learned"}, 'position "learned"'),
        ("llama", {"activation": "gelu"}, 'activation "gelu"'),
        ("llama", {"qk_norm": True}, "qk_norm true can't be expressed as llama, only false"),
        ("qwen3", {"qk_norm": False}, "qk_norm false can't be expressed as qwen3, only true"),
        ("qwen3", {"bias": True}, "bias true can't be expressed as qwen3, only false"),
    ],
)
def test_export_names_the_field_that_a_format_does_not_have(
    model_type: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        stored_as(model_type, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_field_of_the_configuration_is_written_or_refused() -> None:
    """A field that is added later must find a place in both directions."""
    changed: dict[str, Any] = {
        "vocab_size": 12,
        "max_seq_len": 17,
        "d_model": 16,
        "n_layers": 3,
        "n_heads": 4,
        "n_kv_heads": 1,
        "d_ff": 20,
        "norm": "rmsnorm",
        "norm_placement": "post",
        "activation": "relu2",
        "position": "sinusoidal",
        "qk_norm": True,
        "bias": False,
        "tie_weights": False,
        "dropout": 0.1,
    }
    assert changed.keys() == vars(GPT2).keys()
    for name, value in changed.items():
        config = replace(GPT2, **{name: value})
        try:
            stored, tensors = stored_as("gpt2", **{name: value})
        except UsageError as error:
            assert name in str(error)
        else:
            assert from_hugging_face(stored, tensors)[0] == config


@pytest.mark.parametrize(("model_type", "config"), CONFIGS.items())
def test_the_fitting_format_is_found(model_type: str, config: ModelConfig) -> None:
    assert fitting_format(config) == model_type


# --- a config.json that we can't express ---


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("gpt2", {"model_type": "mamba"}, "model_type 'mamba' can't be read"),
        ("gpt2", {"model_type": None}, "model_type 'None' can't be read"),
        ("gpt2", {"model_type": ["gpt2"]}, "model_type"),
        ("gpt2", {"activation_function": "gelu_new"}, 'activation_function "gelu_new"'),
        ("gpt2", {"activation_function": None}, "activation_function null"),
        ("gpt2", {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon 1e-06"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights false"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx true"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention true"),
        ("gpt2", {"n_head": 5}, "d_model 12 is not divisible by n_heads 5"),
        ("gpt2", {"n_head": 5}, "n_heads is n_head"),
        ("gpt2", {"n_embd": "12"}, "d_model is n_embd"),
        ("gpt2", {"n_embd": None}, "d_model"),
        ("gpt2", {"n_layer": 3}, "n_layers is 3, but the weights have 2 layers"),
        ("gpt2", {"n_layer": 10**9}, "n_layers is 1000000000, but the weights have 2 layers"),
        ("gpt2", {"n_embd": 2**40, "n_head": 2**40}, "transformer.wte.weight has shape (11, 12)"),
        ("gpt2", {"vocab_size": 12}, "transformer.wte.weight has shape (11, 12)"),
        ("gpt2", {"n_positions": 15}, "transformer.wpe.weight has shape (16, 12)"),
        ("gpt2", {"n_inner": 40}, "mlp.c_fc.weight has shape (12, 48)"),
        ("gpt2", {"bias": "no"}, "bias"),
        ("gpt2", {"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ("llama", {"rms_norm_eps": 1e-6}, "rms_norm_eps 1e-06 can't be expressed in this course"),
        ("llama", {"rope_theta": 500_000.0, "rope_parameters": None}, "rope_theta 500000.0"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
            "rope_theta 500000.0",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "rope_scaling",
        ),
        ("llama", {"rope_parameters": "default"}, 'rope_scaling "default"'),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope_scaling"),
        ("llama", {"hidden_act": "gelu"}, 'hidden_act "gelu"'),
        ("llama", {"attention_bias": True}, "mlp_bias false can't be expressed in this course"),
        (
            "llama",
            {"mlp_bias": True},
            "mlp_bias true can't be expressed in this course, only false",
        ),
        ("llama", {"head_dim": 8}, "head_dim 8 can't be expressed in this course, only 6"),
        ("llama", {"pretraining_tp": 2}, "pretraining_tp 2"),
        ("llama", {"num_key_value_heads": 2}, "self_attn.k_proj.weight has shape (6, 12)"),
        ("llama", {"max_position_embeddings": 131_072}, "max_seq_len 131072 is too long"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window true"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ("qwen3", {"attention_bias": True}, "attention_bias true"),
        ("qwen3", {"head_dim": 128}, "head_dim 128"),
    ],
)
def test_import_names_the_field_that_this_course_does_not_have(
    model_type: str, changes: dict[str, Any], message: str
) -> None:
    stored, tensors = stored_as(model_type)
    with pytest.raises(CourseError) as error:
        from_hugging_face({**stored, **changes}, tensors)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model_type", "field"),
    [("gpt2", "activation_function"), ("llama", "rms_norm_eps"), ("qwen3", "head_dim")],
)
def test_a_missing_field_means_the_default_of_transformers_which_may_be_refused(
    model_type: str, field: str
) -> None:
    stored, tensors = stored_as(model_type)
    del stored[field]
    with pytest.raises(CourseError, match=field):
        from_hugging_face(stored, tensors)


# --- tensors ---


def drop(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


def put(name: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("model_type", "changes", "damage", "message"),
    [
        ("gpt2", {}, drop("transformer.wte.weight"), "transformer.wte.weight is missing"),
        ("gpt2", {}, drop("transformer.h.1.ln_2.bias"), "transformer.h.1.ln_2.bias is missing"),
        (
            "gpt2",
            {},
            put("transformer.h.0.adapter.weight", torch.ones(2)),
            "transformer.h.0.adapter.weight has no place in this model",
        ),
        (
            "gpt2",
            {},
            put("transformer.h.0.attn.c_attn.weight", torch.ones(36, 12)),
            "c_attn.weight has shape (36, 12); with this config.json it is (12, 36)",
        ),
        (
            "gpt2",
            {"bias": False},
            put("transformer.h.0.ln_1.bias", torch.ones(12)),
            "transformer.h.0.ln_1.bias has values from 1 to 1, not 0",
        ),
        (
            "gpt2",
            {},
            put("lm_head.weight", torch.ones(11, 12)),
            "tie_word_embeddings is true, but lm_head.weight differs from transformer.wte.weight",
        ),
        (
            "qwen3",
            {},
            put("model.layers.1.self_attn.k_norm.weight", torch.linspace(0.9, 1.1, 6)),
            "model.layers.1.self_attn.k_norm.weight has values from 0.9 to 1.1, not 1",
        ),
        (
            "llama",
            {"activation": "relu2"},
            put("model.layers.0.mlp.gate_proj.weight", torch.ones(48, 12)),
            "model.layers.0.mlp.up_proj.weight should equal its twin",
        ),
        (
            "llama",
            {},
            put("model.layers.0.self_attn.q_proj.bias", torch.ones(12)),
            "model.layers.0.self_attn.q_proj.bias has no place in this model",
        ),
    ],
)
def test_import_names_the_tensor_that_does_not_fit(
    model_type: str,
    changes: dict[str, Any],
    damage: Callable[[dict[str, torch.Tensor]], None],
    message: str,
) -> None:
    stored, tensors = stored_as(model_type, **changes)
    damage(tensors)
    with pytest.raises(CourseError) as error:
        from_hugging_face(stored, tensors)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- files of other versions, which mean the same ---


def expect_read(
    stored: dict[str, Any], tensors: dict[str, torch.Tensor], config: ModelConfig
) -> None:
    found, weights = from_hugging_face(stored, tensors)
    assert found == config
    for name, tensor in weights_of(config).items():
        assert torch.equal(weights[name], tensor), name


def test_the_first_gpt2_files_have_no_prefix_and_store_the_mask() -> None:
    stored, tensors = stored_as("gpt2")
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    old["h.0.attn.bias"] = torch.tril(torch.ones(1, 1, 16, 16))
    old["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    expect_read(stored, old, GPT2)
    expect_read(stored, {**old, "lm_head.weight": old["wte.weight"]}, GPT2)


def test_a_tied_head_may_be_stored_twice_if_it_is_the_same() -> None:
    stored, tensors = stored_as("llama")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    expect_read(stored, tensors, LLAMA)


def test_version_4_writes_the_rotary_base_in_a_field_of_its_own() -> None:
    stored, tensors = stored_as("llama")
    del stored["rope_parameters"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    expect_read({**stored, "rope_scaling": None, "hidden_act": "swish"}, tensors, LLAMA)


def test_weights_in_bfloat16_keep_their_values(tmp_path: Path) -> None:
    export_folder(Checkpoint(GPT2, TOKENIZER, weights_of(GPT2)), tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    halves = {name: t.to(torch.bfloat16) for name, t in load_file(path).items()}
    save_file(halves, path, {"format": "pt"})
    weights = import_folder(tmp_path / "out").weights
    for name, tensor in weights_of(GPT2).items():
        assert torch.equal(weights[name], tensor.to(torch.bfloat16).float()), name
        assert weights[name].dtype == torch.float32


# --- folders ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good folder, to be damaged."""
    export_folder(Checkpoint(GPT2, TOKENIZER, weights_of(GPT2)), tmp_path / "model")
    return tmp_path / "model"


def edit_json(path: Path, **changes: Any) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**stored, **changes}), encoding="utf-8")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def to_float64(path: Path) -> None:
    save_file({name: t.double() for name, t in load_file(path).items()}, path)


def shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}", encoding="utf-8")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config.json": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config.json is no JSON": (
        lambda f: (f / "config.json").write_text("{", encoding="utf-8"),
        "config.json is not valid JSON",
    ),
    "config.json is not UTF-8": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe"),
        "config.json is not valid JSON",
    ),
    "config.json is a list": (
        lambda f: (f / "config.json").write_text("[]", encoding="utf-8"),
        "config.json holds no dictionary",
    ),
    "quantized": (
        lambda f: edit_json(f / "config.json", quantization_config={"bits": 4}),
        "quantization_config",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "sharded": (shard, "the weights are sharded (model.safetensors.index.json)"),
    "a pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "pytorch_model.bin is a pickle",
    ),
    "truncated": (
        lambda f: truncate(f / "model.safetensors"),
        "(500 bytes) is truncated or damaged",
    ),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "(0 bytes) is truncated"),
    "float64": (lambda f: to_float64(f / "model.safetensors"), "is float64; it may be float32"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "another vocabulary": (
        lambda f: (f / "tokenizer.json").write_text(
            json.dumps(to_tokenizer_json(CharTokenizer("abc"))), encoding="utf-8"
        ),
        "vocab_size is 11, and tokenizer.json has 3",
    ),
    "a field": (lambda f: edit_json(f / "config.json", n_head=5), "n_heads is n_head"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(
    folder: Path, tmp_path: Path, call_program: Callable[..., Any], damage: str
) -> None:
    change, message = DAMAGES[damage]
    change(folder)
    outcome = call_program(main, "import", folder, tmp_path / "out.safetensors")
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert outcome.err.startswith(f"error: {folder}: ")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_path_that_is_no_folder_is_refused(
    tmp_path: Path, call_program: Callable[..., Any]
) -> None:
    outcome = call_program(main, "import", tmp_path / "nowhere", tmp_path / "x.safetensors")
    assert (outcome.code, outcome.err) == (1, f"error: no folder at {tmp_path / 'nowhere'}\n")


# --- tokenizers ---

BPE = train_bpe(generate(5000), 280, ["<|eos|>"])


@pytest.mark.parametrize("tokenizer", [TOKENIZER, BPE], ids=["char", "bpe"])
def test_a_tokenizer_comes_back_with_the_same_ids(tokenizer: CharTokenizer | BPETokenizer) -> None:
    stored = json.loads(json.dumps(to_tokenizer_json(tokenizer)))
    assert from_tokenizer_json(stored) == (tokenizer, list(range(tokenizer.vocab_size)))


def test_merges_may_be_written_as_one_text_and_the_type_left_out() -> None:
    stored = to_tokenizer_json(BPE)
    stored["model"]["merges"] = [" ".join(pair) for pair in stored["model"]["merges"]]
    del stored["model"]["type"]
    assert from_tokenizer_json(stored)[0] == BPE


def test_special_tokens_may_come_first_and_stand_in_the_vocabulary_as_well() -> None:
    stored = to_tokenizer_json(BPE)
    vocab = {token: i + 1 for token, i in stored["model"]["vocab"].items()}
    stored["model"]["vocab"] = {"<|eos|>": 0, **vocab}
    stored["added_tokens"][0]["id"] = 0
    tokenizer, order = from_tokenizer_json(stored)
    assert tokenizer == BPE
    assert order == [*range(1, 280), 0]


def test_the_printable_letters_of_bytes_are_those_of_gpt2() -> None:
    letters = byte_letters()
    assert len(set(letters)) == 256
    assert letters[ord("A")] == "A"
    assert letters[ord(" ")] == "Ġ"
    assert letters[ord("\n")] == "Ċ"


@pytest.mark.parametrize(
    ("tokenizer", "where", "value", "message"),
    [
        (TOKENIZER, "normalizer", {"type": "NFC"}, "normalizer"),
        (TOKENIZER, "pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer"),
        (TOKENIZER, "decoder", None, "decoder null"),
        (TOKENIZER, "added_tokens", [{"id": 11, "content": "<s>"}], "added_tokens"),
        (TOKENIZER, "model.type", "Unigram", 'model.type "Unigram"'),
        (TOKENIZER, "model.vocab", {"a": 0, "bc": 1}, 'the word "bc" is not one character'),
        (TOKENIZER, "model.vocab", {"a": 0, "b": 2}, "the ids of its 2 tokens are not 0 to 1"),
        (TOKENIZER, "model", None, "is damaged"),
        (BPE, "normalizer", {"type": "Lowercase"}, "normalizer"),
        (BPE, "pre_tokenizer", None, "pre_tokenizer"),
        (BPE, "pre_tokenizer.add_prefix_space", True, "pre_tokenizer"),
        (BPE, "pre_tokenizer.use_regex", False, "pre_tokenizer"),
        (
            BPE,
            "post_processor",
            {"type": "TemplateProcessing", "special_tokens": {"<s>": {}}},
            "post",
        ),
        (BPE, "decoder", {"type": "Fuse"}, 'decoder "Fuse"'),
        (BPE, "model.byte_fallback", True, "byte_fallback true"),
        (BPE, "model.ignore_merges", True, "ignore_merges true"),
        (BPE, "model.end_of_word_suffix", "</w>", 'end_of_word_suffix "</w>"'),
        (BPE, "model.dropout", 0.1, "dropout 0.1"),
        (BPE, "model.merges", [["a", "bc"]], 'merge ["a", "bc"]'),
        (BPE, "model.merges", [], "is neither a byte nor made by a merge"),
        (BPE, "model.merges", [["a"]], "is damaged"),
        (BPE, "model.vocab", {"a": 0}, "is damaged"),
        (BPE, "added_tokens", [{"id": 279, "content": "<|eos|>", "lstrip": True}], "single_word"),
    ],
)
def test_a_tokenizer_that_ours_cannot_be_is_refused_by_field(
    tokenizer: CharTokenizer | BPETokenizer, where: str, value: Any, message: str
) -> None:
    stored = json.loads(json.dumps(to_tokenizer_json(tokenizer)))
    *path, name = where.split(".")
    inner = stored
    for step in path:
        inner = inner[step]
    inner[name] = value
    with pytest.raises(CourseError, match=r"^tokenizer\.json") as error:
        from_tokenizer_json(stored)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_half_of_a_character_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"lone surrogate U\+D800"):
        to_tokenizer_json(CharTokenizer("a\ud800"))


def test_two_tokens_of_the_same_text_are_refused_by_name() -> None:
    # a+a, aa+a and a+aa: the last two are both "aaa".
    tokenizer = BPETokenizer([(97, 97), (256, 97), (97, 256)])
    with pytest.raises(UsageError, match="merges: two tokens have the same text"):
        to_tokenizer_json(tokenizer)


# --- the command ---


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    model = TinyTransformerLM(LLAMA)
    model.load_state_dict(weights_of(LLAMA))
    save_checkpoint(path, model, TOKENIZER)
    return path


def test_export_and_import_give_the_same_checkpoint_without_transformers(
    checkpoint: Path,
    tmp_path: Path,
    call_program: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for library in ("transformers", "tokenizers"):
        monkeypatch.setitem(sys.modules, library, None)  # importing it is an error now
    folder, back = tmp_path / "hf", tmp_path / "back.safetensors"
    assert call_program(main, "export", checkpoint, folder).code == 0
    assert call_program(main, "import", folder, back).code == 0
    before, after = load_checkpoint(checkpoint), load_checkpoint(back)
    assert (after.model_config, after.tokenizer) == (before.model_config, before.tokenizer)
    assert after.weights.keys() == before.weights.keys()
    assert all(torch.equal(after.weights[name], before.weights[name]) for name in before.weights)
    assert after.info == {"imported": "hf"}


def test_check_says_how_to_install_the_library(
    folder: Path, call_program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = call_program(main, "check", folder)
    assert outcome.code == 1
    assert (
        outcome.err == "error: check needs transformers: python tools/install.py --extra interop\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "MODEL", "NEW", "--format", "gpt3"], 2, "unknown format 'gpt3' (did you mean"),
        (["export", "MODEL", "NEW", "--format", "gpt2"], 2, "can't be expressed as gpt2"),
        (["export", "MODEL", "FULL"], 2, "is not empty"),
        (["export", "MODEL", "MODEL"], 2, "is a file"),
        (["export", "NOTHING", "NEW"], 1, "no checkpoint at"),
        (["export", "MODEL"], 2, "FOLDER"),
        (["import", "NEW", "OUT", "--max-seq-len", "0"], 1, "no folder at"),
        (["convert"], 2, "invalid choice: 'convert'"),
        (["export", "MODEL", "NEW", "--fromat", "gpt2"], 2, "unknown argument --fromat"),
    ],
)
def test_a_wrong_command_is_one_line(
    checkpoint: Path,
    tmp_path: Path,
    call_program: Callable[..., Any],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("", encoding="utf-8")
    paths = {"MODEL": checkpoint, "NEW": tmp_path / "new", "FULL": tmp_path / "full"}
    outcome = call_program(main, *(paths.get(word, word) for word in arguments))
    assert outcome.code == code, outcome
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not (tmp_path / "new").exists()


def test_a_long_context_is_shortened_on_request(
    folder: Path, tmp_path: Path, call_program: Callable[..., Any]
) -> None:
    out = tmp_path / "short.safetensors"
    assert call_program(main, "import", folder, out, "--max-seq-len", "5").code == 0
    short = load_checkpoint(out)
    assert short.model_config == replace(GPT2, max_seq_len=5)
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    whole = import_folder(folder).build_model()
    assert torch.equal(short.build_model()(tokens), whole(tokens))
    refused = call_program(main, "import", folder, out, "--max-seq-len", "17")
    assert refused.code == 2
    assert "max_seq_len 17 must be from 1 to 16" in refused.err


def test_the_gelu_of_gpt2_is_read_on_request(
    folder: Path, tmp_path: Path, call_program: Callable[..., Any]
) -> None:
    edit_json(folder / "config.json", activation_function="gelu_new")
    out = tmp_path / "out.safetensors"
    refused = call_program(main, "import", folder, out)
    assert refused.code == 1
    assert "--exact-gelu" in refused.err
    assert call_program(main, "import", folder, out, "--exact-gelu").code == 0
    assert load_checkpoint(out).model_config == GPT2


def test_a_bare_run_shows_the_idea(call_program: Callable[..., Any]) -> None:
    outcome = call_program(main)
    assert outcome.code == 0
    assert outcome.out.count("bit for bit: True") == 3
    assert all(len(line) <= 80 for line in outcome.out.splitlines())


def test_help_names_the_commands(call_program: Callable[..., Any]) -> None:
    outcome = call_program(main, "--help")
    assert outcome.code == 0
    assert all(word in outcome.out for word in ("export", "import", "check"))

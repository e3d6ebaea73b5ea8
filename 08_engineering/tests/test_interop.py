"""Models of this course in transformers, and models of transformers here: the same function.

Every comparison is made on random weights, norms and biases included: what an initializer leaves
at zero or one would hide the errors that these tests look for.
"""

import dataclasses
import functools
import itertools
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import interop_gpt2
import interop_llama_config
from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer, train_bpe
from checkpointing import Checkpoint, load_checkpoint, save_checkpoint
from fast_decoder import FastDecoder, fast_decode_step
from generator import TextGenerator
from interop import TOLERANCE, Comparison, compare, main
from interop_checkpoint import export_folder, import_folder
from interop_folder import CONFIG, read_weights
from interop_foreign_tokenizer import from_tokenizer_json
from interop_models import FORMATS, from_hugging_face, to_hugging_face
from parts import Parts
from rotary_layouts import halves_to_interleaved
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig, SampleConfig
from utils.kv_cache import KVCache
from utils.mock_corpus import generate

INSTALL = "needs the library transformers: python tools/install.py --extra interop"
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


def randomized(config: ModelConfig, seed: int = 0) -> TinyTransformerLM:
    """A model whose every parameter is random: norm weights around 1, everything else around 0."""
    model = TinyTransformerLM(config).eval()
    randomize_(model, seed)
    return model


@torch.no_grad()
def randomize_(model: torch.nn.Module, seed: int = 0) -> None:
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
        ours, folder = randomized(case(name), seed=i), place / str(i)
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


@functools.cache
def fall_into(trap: str, fresh: bool = False) -> Comparison:
    """Convert a model in the wrong way, and compare it with the right one.

    With `fresh`, its weights are those of our initializer and not random.
    """
    name, wrong = TRAPS[trap]
    ours = TinyTransformerLM(case(name)) if fresh else randomized(case(name))
    stored, tensors = to_hugging_face(ours.config, ours.state_dict(), name.split(",")[0])
    wrong(tensors, stored)
    return compare(build(stored, tensors), ours)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_wrong_conversion_is_noticed(trap: str) -> None:
    found = fall_into(trap)
    assert not found.agrees
    assert found.difference > 5 * TOLERANCE


def test_fresh_weights_would_hide_all_mistakes_but_one() -> None:
    noticed = [trap for trap in TRAPS if fall_into(trap, fresh=True).difference > 1e-6]
    assert noticed == ["untied head taken as tied"]


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in TRAPS.values()))
def test_without_the_mistake_the_same_steps_agree(name: str) -> None:
    ours = randomized(case(name))
    stored, tensors = to_hugging_face(ours.config, ours.state_dict(), name.split(",")[0])
    expect_same(build(stored, tensors), ours)


# --- models that transformers made ---


def save_foreign(folder: Path, config: Any, seed: int) -> Any:
    """A model of transformers with random weights, saved with a tokenizer that it trained."""
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomize_(model, seed)
    model.save_pretrained(folder)
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([generate(20_000)], trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=library).save_pretrained(folder)
    return model


@dataclass(frozen=True)
class Foreign:
    """A model of transformers, its folder, what we imported, and which of its ids ours were."""

    theirs: Any
    folder: Path
    imported: Checkpoint
    order: list[int]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """A small Llama built from a configuration: grouped queries, an untied head, 290 tokens."""
    config = transformers.LlamaConfig(
        vocab_size=290,
        hidden_size=24,
        intermediate_size=52,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=37,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    return foreign(tmp_path_factory.mktemp("llama"), config)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """A small GPT-2 built from a configuration: everything else is transformers' default."""
    config = transformers.GPT2Config(
        vocab_size=290,
        n_positions=37,
        n_embd=24,
        n_layer=3,
        n_head=4,
        activation_function="gelu",
        bos_token_id=0,
        eos_token_id=1,
    )
    return foreign(tmp_path_factory.mktemp("gpt2"), config)


def foreign(folder: Path, config: Any) -> Foreign:
    theirs = save_foreign(folder, config, seed=7)
    imported = import_folder(folder)
    stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return Foreign(theirs, folder, imported, from_tokenizer_json(stored)[1])


@pytest.fixture(params=["llama", "gpt2"])
def imported(request: pytest.FixtureRequest) -> Foreign:
    return request.getfixturevalue(request.param)


def logits_here(foreign: Foreign, parts: Parts, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        return foreign.imported.build_model(parts).eval()(tokens)


def their_logits(foreign: Foreign, tokens: Tensor) -> Tensor:
    """Their logits, asked and sorted by our ids."""
    order = torch.tensor(foreign.order)
    with torch.inference_mode():
        return foreign.theirs(order[tokens]).logits[..., order]


@pytest.mark.parametrize("parts", [Parts.reference(), Parts.fused()], ids=["reference", "fused"])
def test_a_model_of_transformers_runs_here_on_both_engines(imported: Foreign, parts: Parts) -> None:
    tokens = torch.randint(290, (3, 37), generator=torch.Generator().manual_seed(1))
    expected = their_logits(imported, tokens)
    assert expected.abs().max() > 1
    torch.testing.assert_close(
        logits_here(imported, parts, tokens), expected, rtol=0, atol=TOLERANCE
    )


def test_the_fast_decoder_runs_an_imported_model_as_far_as_it_is_known_to(
    imported: Foreign,
) -> None:
    model = imported.imported.build_model(Parts.fused()).eval()
    tokens = torch.randint(290, (2, 37), generator=torch.Generator().manual_seed(2))
    expected = their_logits(imported, tokens)
    with torch.inference_mode():
        cache = KVCache(model.config, 2, torch.float32, torch.device("cpu"))
        model(tokens[:, :5], cache)
        step = fast_decode_step(model, cache)
        is_gpt2 = imported.theirs.config.model_type == "gpt2"
        assert isinstance(step, FastDecoder) == is_gpt2  # it knows no grouped queries yet
        for t in range(5, 37):
            torch.testing.assert_close(step(tokens[:, t]), expected[:, t], rtol=0, atol=TOLERANCE)


def test_an_imported_model_is_exported_and_equal_again_bit_for_bit(
    imported: Foreign, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    export_folder(imported.imported, folder)
    again = load(folder).state_dict()
    original = imported.theirs.state_dict()
    assert again.keys() == original.keys()
    order = torch.tensor(imported.order)
    for name, tensor in original.items():
        per_token = tensor.size(0) == 290  # the embedding and the head have a row per token
        assert torch.equal(again[name], tensor[order] if per_token else tensor), name


def test_an_imported_model_survives_the_checkpoint_file(llama: Foreign, tmp_path: Path) -> None:
    path = tmp_path / "llama.safetensors"
    model = llama.imported.build_model()
    save_checkpoint(path, model, llama.imported.tokenizer)
    loaded = load_checkpoint(path)
    expect_equal_weights(loaded.weights, llama.imported.weights)
    assert loaded.tokenizer == llama.imported.tokenizer
    assert loaded.model_config == ModelConfig(
        vocab_size=290,
        max_seq_len=37,
        d_model=24,
        n_layers=3,
        n_heads=4,
        n_kv_heads=2,
        d_ff=52,
        norm="rmsnorm",
        activation="swiglu",
        position="rope",
        bias=False,
        tie_weights=False,
    )


def test_the_imported_tokenizer_gives_the_same_tokens_under_our_ids(imported: Foreign) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(imported.folder)
    ours = imported.imported.tokenizer
    assert imported.order != list(range(290))  # or nothing would be tested
    for text in random_texts(generate(3000) + "<s> naïve</s>"):
        ids = ours.encode(text, allow_special=True)  # pyright: ignore[reportCallIssue]
        assert [imported.order[i] for i in ids] == theirs(text)["input_ids"]
        assert ours.decode(ids) == text


def test_the_same_greedy_text_comes_out_of_both_programs(imported: Foreign) -> None:
    theirs, tokenizer = imported.theirs, transformers.AutoTokenizer.from_pretrained(imported.folder)
    ours = imported.imported
    expect_same_text(theirs, tokenizer, ours, ["ROMEO: ", "What light", "\n\nFirst"])


# --- text: tokenizers and generation ---


def random_texts(source: str, n: int = 40) -> list[str]:
    """Random strings over the characters of a text, and random pieces of it."""
    random_source = random.Random(0)
    pieces = [source[(i := random_source.randrange(len(source))) : i + 60] for _ in range(n)]
    alphabet = sorted(set(source))
    return ["", *pieces, *("".join(random_source.choices(alphabet, k=30)) for _ in range(n))]


def expect_same_text(
    theirs: Any, tokenizer: Any, ours: Checkpoint, prompts: list[str], n: int = 20
) -> None:
    """Greedy text from prompts, by transformers alone and by this course alone."""
    generator = TextGenerator(ours.build_model(Parts.fused()), ours.model_config, ours.tokenizer)
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        length = inputs["input_ids"].size(1)
        assert length + n <= ours.model_config.max_seq_len
        settings = {"max_new_tokens": n, "do_sample": False, "pad_token_id": 0}
        if theirs.config.eos_token_id is not None:  # this course knows no end of a text
            settings["eos_token_id"] = None
        output = theirs.generate(
            inputs["input_ids"], attention_mask=inputs["attention_mask"], **settings
        )
        (text,) = generator.generate([prompt], SampleConfig(temperature=0, max_tokens=n))
        assert tokenizer.decode(output[0, length:]) == text


CHARACTERS = CharTokenizer.train("To be, or not to be? .\n\t\r\0 'é e\u0301 ß \U0001f600 <unk>  ")
BPE = train_bpe(generate(30_000), 400, ["<|bos|>", "<|eos|>", "<|chat|>"])
TEXTS = generate(3000) + "<|eos|>naïve é \r\n\t 12 it's\u00a0\u2028 \0 😀<|bos|><|"


@pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE], ids=["char", "bpe"])
def test_the_exported_tokenizer_gives_the_same_ids_and_the_same_text(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    model = randomized(ModelConfig(**{**SIZES, "vocab_size": tokenizer.vocab_size}))
    export_folder(as_checkpoint(model, tokenizer), tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    bpe = isinstance(tokenizer, BPETokenizer)
    for text in random_texts(TEXTS if bpe else CHARACTERS.characters):
        # A library's encode looks for special tokens in the text, as ours does if it is allowed to.
        ids = tokenizer.encode(text, allow_special=True) if bpe else tokenizer.encode(text)
        assert library.encode(text).ids == ids
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == library.decode(ids, skip_special_tokens=False) == text


def test_an_unknown_character_is_an_error_there_too(exports: dict[str, Exported]) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(exports["gpt2"].folder)
    with pytest.raises(Exception, match="UNK"):
        theirs("é")


@pytest.mark.parametrize("name", ["gpt2", GQA, "qwen3, relu2, untied"])
def test_an_exported_folder_generates_the_same_greedy_text(
    exports: dict[str, Exported], name: str
) -> None:
    exported = exports[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.folder)
    ours = as_checkpoint(exported.ours)
    expect_same_text(exported.theirs, tokenizer, ours, ["to be", "\n", "a fine\nhat "])


def test_a_folder_with_a_bpe_tokenizer_generates_the_same_greedy_text(tmp_path: Path) -> None:
    model = randomized(ModelConfig(**{**SIZES, **SWIGLU, "vocab_size": BPE.vocab_size}))
    ours = as_checkpoint(model, BPE)
    export_folder(ours, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    expect_same_text(load(tmp_path / "out"), tokenizer, ours, ["ROMEO: ", "naïve", " "])


def test_special_tokens_are_named_in_the_exported_configuration(tmp_path: Path) -> None:
    model = randomized(ModelConfig(**{**SIZES, "vocab_size": BPE.vocab_size}))
    export_folder(as_checkpoint(model, BPE), tmp_path / "out")
    theirs = load(tmp_path / "out").config
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (397, 398, None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|bos|>",
        "<|eos|>",
        None,
    )
    assert tokenizer.model_max_length == SIZES["max_seq_len"]


def test_without_special_tokens_no_character_ends_the_text(exported: Exported) -> None:
    settings = exported.theirs.generation_config
    assert settings.eos_token_id is settings.bos_token_id is settings.pad_token_id is None


# --- what transformers means by a field that is not there ---


@pytest.mark.parametrize("name", FORMATS)
def test_our_defaults_of_missing_fields_are_those_of_transformers(name: str) -> None:
    defaults = {
        "gpt2": interop_gpt2.DEFAULTS,
        **{
            kind: {**interop_llama_config.SHARED_DEFAULTS, **sizes}
            for kind, sizes in interop_llama_config.DEFAULTS.items()
        },
    }[name]
    theirs = transformers.AutoConfig.for_model(name)
    ours_only = {"resid_pdrop"} if name != "gpt2" else set()
    for field, value in defaults.items():
        if field in ours_only or (name == "qwen3" and field == "mlp_bias"):
            assert not hasattr(theirs, field)
        elif field == "rope_theta":
            assert theirs.rope_parameters == {"rope_type": "default", "rope_theta": value}
        elif field in ("num_key_value_heads", "head_dim") and value is None:
            computed = {"num_key_value_heads": 32, "head_dim": 4096 // 32}
            assert getattr(theirs, field) == computed[field]
        else:
            assert getattr(theirs, field) == value, field


# Fields that change no logit: how weights are drawn, what acts in training alone, what generation
# or another kind of model uses.
HARMLESS = {
    *("initializer_range", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id"),
    *("embd_pdrop", "attn_pdrop", "attention_dropout", "reorder_and_upcast_attn"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
    *("summary_first_dropout", "sliding_window", "max_window_layers"),  # see use_sliding_window
}


@pytest.mark.parametrize("name", FORMATS)
def test_no_field_of_transformers_is_ignored_that_changes_the_function(name: str) -> None:
    config_class = type(transformers.AutoConfig.for_model(name))
    fields = {f.name for f in dataclasses.fields(config_class)}
    fields -= {f.name for f in dataclasses.fields(transformers.PretrainedConfig)}
    module = interop_gpt2 if name == "gpt2" else interop_llama_config
    known = {*module.NAMES.values(), *module.THEIRS, *HARMLESS}
    if name != "gpt2":  # these are read by functions of their own
        known |= {"rope_parameters", "attention_bias", "mlp_bias", "head_dim", "layer_types"}
    assert len(fields) > 10
    assert fields <= known


# --- the command ---


def test_check_prints_how_far_the_two_programs_are_apart(
    exports: dict[str, Exported], call_program: Callable[..., Any]
) -> None:
    outcome = call_program(main, "check", exports[GQA].folder)
    assert outcome.code == 0, outcome
    assert "LlamaForCausalLM, 3 layers x 24, V = 23" in outcome.out
    assert "the same greedy tokens          True" in outcome.out


def test_check_fails_if_the_two_programs_differ(
    exports: dict[str, Exported],
    call_program: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = exports["gpt2, untied"].theirs
    monkeypatch.setattr("interop.load_theirs", lambda folder: other)
    outcome = call_program(main, "check", exports["gpt2"].folder)
    assert outcome.code == 1


# --- interop.md ---


def page_table(first: str) -> dict[str, list[str]]:
    """The rows of the table of interop.md whose first column has this title: name -> cells."""
    lines = PAGE.read_text(encoding="utf-8").split(f"| {first} |")[1].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in itertools.takewhile(bool, lines)]
    return {name: cells for name, *cells in rows}


def close(shown: str, actual: float) -> bool:
    """Whether a cell shows this value, to one unit of its last digit; "0" is below 1e-6."""
    if shown == "0":
        return abs(actual) < 1e-6
    digits, _, exponent = shown.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return abs(float(shown) - actual) <= unit


def test_the_table_of_traps_shows_what_the_wrong_conversions_do() -> None:
    table = page_table("mistake")
    assert list(table) == list(TRAPS)
    for trap, (random_weights, first, fresh, greedy_text, _) in table.items():
        found = fall_into(trap)
        assert close(random_weights, found.difference), (trap, found)
        assert close(first, found.first), (trap, found)
        assert close(fresh, fall_into(trap, fresh=True).difference), trap
        assert greedy_text == ("the same" if found.same_greedy else "different"), trap


def test_the_table_of_comparisons_shows_what_was_compared(exports: dict[str, Exported]) -> None:
    table = page_table("model")
    assert list(table) == list(CASES)
    for name, (tensors, difference) in table.items():
        ours, theirs = exports[name].ours, exports[name].theirs
        n_theirs = len(theirs.state_dict()) - exports[name].ours.config.tie_weights
        assert tensors == f"{len(ours.state_dict())} -> {n_theirs}"
        found = expect_same(theirs, ours)
        assert 2.5 < found.scale < 4  # "logits reach about 3"
        # Rounding errors depend on the processor: their size is compared, not their digits.
        assert 0.2 < float(difference) / found.difference < 5, found

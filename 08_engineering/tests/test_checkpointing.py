"""Checkpoints: what is loaded is what was saved, bit for bit, and damage gives a one-line error.

Damage is tried at many lengths and at many bytes of the header. Whatever happens, it is a
CourseError that names the file, never a traceback.
"""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import checkpointing
from bpe_tokenizer import train_bpe
from checkpointing import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from parts import Parts
from special_tokens import EOS
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig, to_dict
from utils.errors import CourseError

TOKENIZER = CharTokenizer("\n abcdefgh")
CONFIG = ModelConfig(TOKENIZER.vocab_size, max_seq_len=8, d_model=8, n_layers=1, n_heads=2)
CONFIGS = {
    "classic": CONFIG,
    "untied": replace(CONFIG, tie_weights=False),
    "post-norm": replace(CONFIG, norm_placement="post", position="sinusoidal"),
    "modern": replace(
        CONFIG,
        norm="rmsnorm",
        activation="swiglu",
        position="rope",
        n_kv_heads=1,
        qk_norm=True,
        bias=False,
        n_layers=2,
    ),
}
INFO = {"step": 7, "val_loss": 1.25, "corpus": "a \u00e9 \n {text}"}


def noisy_model(config: ModelConfig = CONFIG) -> TinyTransformerLM:
    """Weights of all magnitudes, including special values."""
    model = TinyTransformerLM(config)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
        parameter.data.view(-1)[0] = 1e-42  # subnormal
        parameter.data.view(-1)[-1] = -0.0
    return model


@pytest.fixture
def saved(tmp_path) -> Path:
    """A whole checkpoint."""
    path = tmp_path / "my model.safetensors"
    save_checkpoint(path, noisy_model(), TOKENIZER, INFO)
    return path


def refusal(path: Path) -> str:
    """The one line with which a file is refused, whether it is read or its weights are used."""
    with pytest.raises(CourseError) as raised:
        load_checkpoint(path).build_model()
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


# --- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_loaded_equals_what_was_saved_bit_for_bit(name, tmp_path):
    path, model = tmp_path / "model.safetensors", noisy_model(CONFIGS[name])
    save_checkpoint(path, model, TOKENIZER, INFO)
    checkpoint = load_checkpoint(path)
    assert checkpoint.model_config == CONFIGS[name]
    assert checkpoint.tokenizer == TOKENIZER
    assert checkpoint.info == INFO
    weights = model.state_dict()
    assert checkpoint.weights.keys() == weights.keys()
    for key, weight in checkpoint.weights.items():
        assert weight.dtype == torch.float32
        assert weight.numpy().tobytes() == weights[key].numpy().tobytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_engine_loads_what_every_engine_saved(name, tmp_path):
    path = tmp_path / "model.safetensors"
    model = noisy_model(CONFIGS[name])
    save_checkpoint(path, model, TOKENIZER)
    tokens = torch.tensor([TOKENIZER.encode("abc de\nf")])
    fused = load_checkpoint(path).build_model(Parts.fused())
    torch.testing.assert_close(fused(tokens), model(tokens), rtol=0, atol=1e-5)
    save_checkpoint(path, fused, TOKENIZER)
    assert torch.equal(load_checkpoint(path).build_model()(tokens), model(tokens))


def test_a_tied_weight_is_stored_once(tmp_path):
    sizes = []
    for name in ("classic", "untied"):
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, noisy_model(CONFIGS[name]), TOKENIZER)
        sizes.append(sum(weight.numel() for weight in load_checkpoint(path).weights.values()))
    assert sizes[1] - sizes[0] == CONFIG.vocab_size * CONFIG.d_model


ODD = (
    "\x00\n\t\r \"'\\{}\x7f\x85\xa0\u00e9\u2028\u4e2d\ufeff\uffff\ud800-\udfff\U0001f600\U0010ffff"
)


@pytest.mark.parametrize(
    "characters",
    [ODD, "a", "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))],
    ids=["odd", "one", "5000"],
)
def test_every_vocabulary_is_restored(characters, tmp_path):
    path, tokenizer = tmp_path / "model.safetensors", CharTokenizer(characters)
    model = noisy_model(replace(CONFIG, vocab_size=tokenizer.vocab_size))
    save_checkpoint(path, model, tokenizer)
    loaded = load_checkpoint(path).tokenizer
    assert loaded == tokenizer
    assert loaded.encode(characters) == list(range(len(characters)))


def test_a_learned_tokenizer_is_restored_with_its_merges_and_special_tokens(tmp_path):
    path, tokenizer = tmp_path / "model.safetensors", train_bpe("to be or not " * 9, 270, (EOS,))
    save_checkpoint(path, noisy_model(replace(CONFIG, vocab_size=tokenizer.vocab_size)), tokenizer)
    loaded = load_checkpoint(path)
    assert loaded.tokenizer == tokenizer
    assert loaded.build_model().config.vocab_size == tokenizer.vocab_size
    with safe_open(path, framework="pt") as file:
        stored = json.loads(file.metadata()["tokenizer"])
    assert stored["kind"] == "bpe"
    assert stored["special_tokens"] == [EOS]
    assert len(stored["merges"]) == tokenizer.vocab_size - 257


def test_a_loaded_model_can_be_trained_and_saved_again(saved):
    model = load_checkpoint(saved).build_model()
    model(torch.tensor([[1, 2]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        model.token_embedding.get_parameter("weight").add_(1.0)
    save_checkpoint(saved, model, TOKENIZER)  # over the file that the weights came from
    again = load_checkpoint(saved).build_model().state_dict()
    assert all(torch.equal(weight, again[key]) for key, weight in model.state_dict().items())


def test_weights_that_were_read_do_not_change_with_the_file(saved):
    weights = load_checkpoint(saved).weights
    expected = load_checkpoint(saved).build_model().state_dict()
    with saved.open("r+b") as file:  # the same file, not another of its name
        file.write(b"\x00" * saved.stat().st_size)
    assert all(torch.equal(weight, expected[key]) for key, weight in weights.items())


def test_saving_leaves_the_model_as_it_is(tmp_path):
    model = noisy_model().train()
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    save_checkpoint(tmp_path / "model.safetensors", model, TOKENIZER)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


def test_the_file_is_a_json_header_and_raw_tensor_data_without_a_pickle(saved):
    data = saved.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert metadata["format"] == FORMAT
    assert json.loads(metadata["model_config"]) == to_dict(CONFIG)
    assert json.loads(metadata["tokenizer"]) == TOKENIZER.to_dict()
    assert json.loads(metadata["info"]) == INFO
    begin, end = header["final_norm.weight"]["data_offsets"]
    numbers = torch.frombuffer(bytearray(data[8 + length :][begin:end]), dtype=torch.float32)
    assert torch.equal(numbers, load_checkpoint(saved).weights["final_norm.weight"])


# --- damage -------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_refused_with_its_size(saved):
    whole = saved.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    near = [0, 1, 7, 8, 9, 8 + header - 1, 8 + header, 8 + header + 1, len(whole) - 1]
    for length in [*near, *range(10, len(whole), 97)]:
        saved.write_bytes(whole[:length])
        assert f"({length:,} bytes) is truncated or not a checkpoint" in refusal(saved), length


def test_a_file_with_trailing_bytes_is_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"x")
    assert "truncated or not a checkpoint" in refusal(saved)


def test_a_changed_byte_of_the_header_is_refused_or_harmless_but_never_a_crash(saved):
    """A changed byte inside a text, such as the corpus name, cannot be detected."""
    whole = saved.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    refused = 0
    for place in [*range(16), *range(16, 8 + header, 7)]:
        for flip in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            saved.write_bytes(damaged)
            try:
                load_checkpoint(saved).build_model()
            except CourseError as error:
                refused += 1
                assert "\n" not in str(error) and str(saved) in str(error)
    assert refused > 0.8 * 2 * header / 7


@pytest.mark.parametrize(
    "content",
    [b"To be, or not to be", b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04" + b"x" * 500, b"{}"],
    ids=["text", "zeros", "ones", "zip", "json"],
)
def test_some_other_file_is_refused(content, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert "is truncated or not a checkpoint" in refusal(path)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "model.pt"
    torch.save({"weights": Trap()}, path)
    assert "is truncated or not a checkpoint" in refusal(path)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_or_a_folder_is_not_a_checkpoint(tmp_path):
    for path in (tmp_path / "missing.safetensors", tmp_path):
        assert refusal(path) == f"no checkpoint at {path}"


def metadata_of(**changes: str | None) -> dict[str, str]:
    """The metadata of a good checkpoint with changes; None leaves an entry out."""
    good: dict[str, str | None] = {
        "format": FORMAT,
        "model_config": json.dumps(to_dict(CONFIG)),
        "tokenizer": json.dumps(TOKENIZER.to_dict()),
        "info": "{}",
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


FOREIGN = {
    "no metadata": (None, "its metadata has no format"),
    "pytorch": ({"format": "pt"}, "its format is 'pt', not 'tiny-transformer-1'"),
    "newer": (metadata_of(format="tiny-transformer-9"), "its format is 'tiny-transformer-9'"),
    "no config": (metadata_of(model_config=None), "its metadata is damaged: 'model_config'"),
    "no tokenizer": (metadata_of(tokenizer=None), "its metadata is damaged: 'tokenizer'"),
    "no json": (metadata_of(model_config="{"), "its metadata is damaged: Expecting"),
    "a list": (metadata_of(model_config="[]"), "expected fields of ModelConfig, found []"),
    "a field": (metadata_of(model_config='{"d_modle": 8}'), "unknown field 'd_modle' (did you"),
    "a value": (metadata_of(model_config='{"d_model": "8"}'), "d_model '8' is not a whole number"),
    "no divisor": (metadata_of(model_config='{"n_heads": 3}'), "is not divisible by n_heads 3"),
    "characters": (metadata_of(tokenizer='{"kind": "char"}'), "characters must be a string"),
    "kind": (metadata_of(tokenizer='{"kind": "word"}'), "unknown tokenizer kind 'word'"),
    "twice": (metadata_of(tokenizer='{"kind": "char", "characters": "aa"}'), "2 times"),
    "info": (metadata_of(info="5"), "its metadata is damaged"),
    "nested": (metadata_of(info="[" * 100_000), "its metadata is damaged"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_safetensors_file_of_another_origin_is_refused(name, tmp_path):
    metadata, said = FOREIGN[name]
    path = tmp_path / "model.safetensors"
    save_file(noisy_model().state_dict(), path, metadata)
    assert said in refusal(path)


def test_metadata_without_info_is_accepted(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(noisy_model().state_dict(), path, metadata_of(info=None))
    assert load_checkpoint(path).info == {}


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped", "wider"])
def test_weights_that_do_not_fit_their_configuration_are_refused(change, tmp_path):
    path, weights, metadata = tmp_path / "a.safetensors", noisy_model().state_dict(), metadata_of()
    if change == "missing":
        del weights["final_norm.weight"]
    elif change == "unexpected":
        weights["blocks.9.weight"] = torch.zeros(3)
    elif change == "reshaped":
        weights["final_norm.weight"] = torch.zeros(4)
    else:
        metadata = metadata_of(model_config=json.dumps(to_dict(replace(CONFIG, d_model=16))))
    save_file(weights, path, metadata)
    assert "the weights do not fit their configuration" in refusal(path)


def test_a_model_too_large_for_any_memory_does_not_fit_either(tmp_path):
    path = tmp_path / "model.safetensors"
    huge = json.dumps(to_dict(replace(CONFIG, d_model=2**50)))
    save_file(noisy_model().state_dict(), path, metadata_of(model_config=huge))
    assert "the weights do not fit their configuration" in refusal(path)


@pytest.mark.parametrize("n_layers", [10**6, 2])
def test_layers_that_are_not_in_the_file_are_refused_before_they_are_built(
    n_layers, tmp_path, monkeypatch
):
    path = tmp_path / "model.safetensors"
    claimed = json.dumps(to_dict(replace(CONFIG, n_layers=n_layers)))
    save_file(noisy_model().state_dict(), path, metadata_of(model_config=claimed))
    monkeypatch.setattr(checkpointing, "TinyTransformerLM", pytest.fail)
    assert f"do not fit their configuration: n_layers is {n_layers}, but 1 are stored" in refusal(
        path
    )


@pytest.mark.parametrize("change", [{"d_ff": 2**30}, {"d_model": 2**20}, {"max_seq_len": 2**19}])
def test_sizes_that_are_not_in_the_file_are_refused_before_memory_is_allocated(
    change, tmp_path, monkeypatch
):
    path, devices = tmp_path / "model.safetensors", []
    claimed = json.dumps(to_dict(replace(CONFIG, **change)))
    save_file(noisy_model().state_dict(), path, metadata_of(model_config=claimed))

    def build(*arguments: Any) -> TinyTransformerLM:
        model = TinyTransformerLM(*arguments)
        devices.append({parameter.device.type for parameter in model.parameters()})
        return model

    monkeypatch.setattr(checkpointing, "TinyTransformerLM", build)
    assert "size mismatch" in refusal(path)
    assert devices == [{"meta"}]


@pytest.mark.parametrize("characters", ["\n abcdefghi", "\n abcdefg"], ids=["larger", "smaller"])
def test_a_tokenizer_of_another_size_than_the_model_is_refused(characters, tmp_path):
    path, tokenizer = tmp_path / "model.safetensors", CharTokenizer(characters)
    save_checkpoint(path, noisy_model(), tokenizer)
    expected = f"the tokenizer has {tokenizer.vocab_size} tokens, but vocab_size is 10"
    assert expected in refusal(path)


def test_a_checkpoint_made_by_hand_needs_no_file():
    checkpoint = Checkpoint(CONFIG, TOKENIZER, {})
    with pytest.raises(CourseError, match=r"^checkpoint: the weights do not fit"):
        checkpoint.build_model()


# --- writing that fails -------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(step, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, noisy_model(), TOKENIZER, {"step": 8})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    assert load_checkpoint(saved).info == INFO


def test_what_cannot_be_stored_is_rejected_before_the_file_is_touched(saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(saved, noisy_model(), TOKENIZER, {"step": torch.tensor(8)})
    assert saved.read_bytes() == before


def test_there_is_no_pickle_in_the_module():
    words = Path(checkpointing.__file__).read_text(encoding="utf-8")
    assert "torch.load" not in words and "torch.save" not in words and "import pickle" not in words

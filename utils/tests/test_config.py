"""Configuration: what is refused, with which message, and that saving and loading are inverses.

Every field is tried with values of the wrong type and outside its range. The message is one line
that names the field, the value and what is allowed.
"""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from utils.config import (
    ModelConfig,
    SampleConfig,
    TrainConfig,
    divisors,
    field_types,
    from_dict,
    load_config,
    save_config,
    to_dict,
)
from utils.errors import CourseError, UsageError

CLASSES = [ModelConfig, TrainConfig, SampleConfig]
PLAIN_FIELDS = [
    pytest.param(config_class, f, id=f"{config_class.__name__}.{f.name}")
    for config_class in CLASSES
    for f in dataclasses.fields(config_class)
    if f.name != "model"
]
NUMBERS = [
    pytest.param(config_class, f, id=f"{config_class.__name__}.{f.name}")
    for config_class in CLASSES
    for f in dataclasses.fields(config_class)
    if field_types(config_class)[f.name] in (int, float)
]
WRONG_TYPES: dict[type, list[Any]] = {
    int: [1.0, "1", True, [1]],
    float: ["0.5", False, [0.5]],
    bool: [1, 0.0, "yes", None],
    str: [1, 0.5, True, ["a"]],
    tuple: [1, None, ["a", 1], {"a": 1}],
}
ANY_SIGN = ("presence_penalty", "frequency_penalty", "length_penalty")


def refusal(config_class: Any, **values: Any) -> str:
    """The one-line message that refuses these values."""
    with pytest.raises(UsageError) as raised:
        config_class(**values)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config_class", "f"), PLAIN_FIELDS)
def test_a_value_of_the_wrong_type_is_refused_by_name_and_value(config_class, f):
    for wrong in WRONG_TYPES[field_types(config_class)[f.name]]:
        message = refusal(config_class, **{f.name: wrong})
        assert message.startswith(f"{f.name} {wrong!r} is not ")


@pytest.mark.parametrize(("config_class", "f"), PLAIN_FIELDS)
def test_none_is_allowed_only_where_it_is_the_default(config_class, f):
    if f.default is None:
        assert getattr(config_class(**{f.name: None}), f.name) is None
    else:
        assert refusal(config_class, **{f.name: None}).startswith(f"{f.name} None is not ")


BOUNDED = [number for number in NUMBERS if str(number.id).split(".")[1] not in ANY_SIGN]


@pytest.mark.parametrize(("config_class", "f"), BOUNDED)
def test_a_number_below_its_range_is_refused_with_the_limit(config_class, f):
    message = refusal(config_class, **{f.name: field_types(config_class)[f.name](-1)})
    assert re.fullmatch(
        rf"{f.name} -1(\.0)? is out of range: it must be (at least|above) .*", message
    )


@pytest.mark.parametrize(("config_class", "f"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(config_class, f, value):
    message = refusal(config_class, **{f.name: value})
    if field_types(config_class)[f.name] is float:
        assert message.startswith(f"{f.name} {value} is out of range") and "finite" in message
    else:
        assert message == f"{f.name} {value} is not a whole number"


@pytest.mark.parametrize(("config_class", "f"), NUMBERS)
@pytest.mark.parametrize("value", [2**63, -(2**63), 10**400])
def test_a_number_with_too_many_digits_is_refused_and_shortened(config_class, f, value):
    message = refusal(config_class, **{f.name: value})
    assert message.startswith(f"{f.name} {str(value)[:12]}") and "2**63" in message
    assert len(message) < 100


@pytest.mark.parametrize(
    ("config_class", "field", "inside", "outside"),
    [
        (ModelConfig, "vocab_size", [1], [0]),
        (ModelConfig, "max_seq_len", [1], [0]),
        (ModelConfig, "d_model", [4], [0]),
        (ModelConfig, "n_layers", [1], [0]),
        (ModelConfig, "n_heads", [1, 128], [0]),
        (ModelConfig, "n_kv_heads", [1, 4], [0]),
        (ModelConfig, "d_ff", [1], [0]),
        (ModelConfig, "dropout", [0.0, 0.99], [1.0]),
        (TrainConfig, "batch_size", [1], [0]),
        (TrainConfig, "accumulation", [1], [0]),
        (TrainConfig, "max_steps", [1], [0]),
        (TrainConfig, "eval_interval", [1], [0]),
        (TrainConfig, "log_interval", [1], [0]),
        (TrainConfig, "sample_interval", [0], []),
        (TrainConfig, "warmup_steps", [0], []),
        (TrainConfig, "seed", [0, 2**63 - 1], []),
        (TrainConfig, "max_minutes", [0.001], [0.0]),
        (TrainConfig, "grad_clip", [0.0, 1e9], []),
        (TrainConfig, "beta1", [0.0, 0.999], [1.0]),
        (TrainConfig, "beta2", [0.0, 0.999], [1.0]),
        (TrainConfig, "momentum", [0.0, 0.999], [1.0]),
        (TrainConfig, "decay_fraction", [0.0, 1.0], [1.01]),
        (TrainConfig, "min_lr_ratio", [0.0, 1.0], [1.01]),
        (SampleConfig, "max_tokens", [0], []),
        (SampleConfig, "temperature", [0.0, 100.0], []),
        (SampleConfig, "top_k", [1], [0]),
        (SampleConfig, "top_p", [0.001, 1.0], [0.0, 1.01]),
        (SampleConfig, "min_p", [0.0, 1.0], [1.01]),
        (SampleConfig, "repetition_penalty", [0.01, 2.0], [0.0]),
        *((SampleConfig, name, [-2.0, 0.0, 2.0], []) for name in ANY_SIGN),
        (SampleConfig, "beams", [1, 100], [0]),
        (SampleConfig, "num_samples", [1], [0]),
    ],
)
def test_the_ends_of_each_range_are_where_they_should_be(config_class, field, inside, outside):
    for value in inside:
        assert getattr(config_class(**{field: value}), field) == value
    for value in outside:
        assert f"{field} {value} is out of range" in refusal(config_class, **{field: value})


@pytest.mark.parametrize(("config_class", "f"), PLAIN_FIELDS)
def test_a_choice_is_accepted_and_a_near_miss_gets_a_suggestion(config_class, f):
    choices = f.metadata["choices"] or ()
    for choice in choices:
        assert getattr(config_class(**{f.name: choice}), f.name) == choice
        message = refusal(config_class, **{f.name: choice + "x"})
        assert f"unknown {f.name} {choice + 'x'!r} (did you mean {choice!r}?)" in message
        assert message.endswith(", ".join(choices))


def test_an_integer_is_converted_to_a_float():
    config = TrainConfig(lr=1, max_minutes=5)
    assert (config.lr, config.max_minutes) == (1.0, 5.0)
    assert type(config.lr) is float and type(config.max_minutes) is float


def test_one_text_or_a_list_of_texts_is_a_tuple():
    assert SampleConfig().stop == ()
    for given in (("a", "b"), ["a", "b"]):
        assert from_dict({"stop": given}, SampleConfig).stop == ("a", "b")
    assert from_dict({"stop": "ab"}, SampleConfig).stop == ("ab",)


def test_more_samples_than_beams_are_refused():
    assert SampleConfig(beams=3, num_samples=3).beams == 3
    assert refusal(SampleConfig, beams=3, num_samples=4) == (
        "num_samples 4 is more than the 3 texts that 3 beams can find; "
        "num_samples must be at most beams"
    )


def test_heads_that_do_not_divide_the_width_are_refused_with_those_that_do():
    assert refusal(ModelConfig, d_model=12, n_heads=5) == (
        "d_model 12 is not divisible by n_heads 5; n_heads may be one of: 1, 2, 3, 4, 6, 12"
    )
    assert refusal(ModelConfig, d_model=48, n_heads=6, n_kv_heads=4) == (
        "n_heads 6 is not divisible by n_kv_heads 4; n_kv_heads may be one of: 1, 2, 3, 6"
    )
    assert "n_kv_heads 8;" in refusal(ModelConfig, n_heads=4, n_kv_heads=8)


@pytest.mark.parametrize("number", [1, 7, 12, 64, 1000])
def test_divisors_are_those_of_long_division(number):
    assert divisors(number) == ", ".join(
        str(n) for n in range(1, number + 1) if number // n * n == number
    )


def test_an_absurd_width_is_refused_at_once_and_not_after_listing_its_divisors():
    assert refusal(ModelConfig, d_model=10**9 + 7).endswith("n_heads may be one of: 1")


def test_rope_needs_heads_of_an_even_width():
    message = refusal(ModelConfig, d_model=12, n_heads=4, position="rope")
    assert "rope" in message and "d_model / n_heads = 3 must be even" in message
    assert ModelConfig(d_model=12, n_heads=4).d_head == 3  # other schemes allow it


def test_fields_that_are_none_are_derived_from_the_rest():
    config = ModelConfig(d_model=48, n_heads=6)
    assert (config.d_head, config.kv_heads, config.ff_width) == (8, 6, 192)
    config = ModelConfig(d_model=48, n_heads=6, n_kv_heads=2, d_ff=100)
    assert (config.kv_heads, config.ff_width) == (2, 100)


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().d_model = 5  # pyright: ignore[reportAttributeAccessIssue]


def test_a_model_that_is_not_a_configuration_is_refused():
    assert refusal(TrainConfig, model=5) == "model 5 is not a ModelConfig"
    assert refusal(TrainConfig, model=None) == "model None is not a ModelConfig"


# --- dictionaries -------------------------------------------------------------------------------

UNUSUAL = [
    ModelConfig(
        7, 5, 12, 1, 6, 3, 9, "rmsnorm", "post", "swiglu", "alibi", True, False, False, 0.1
    ),
    TrainConfig(
        model=ModelConfig(d_model=8, position="rope"),
        data="a folder/\u00e9t\u00e9.txt",
        seed=2**63 - 1,
        max_minutes=1 / 3,
        lr=1e-300,
        muon_lr=0.1 + 0.2,
        grad_clip=0.0,
        compile=True,
    ),
    SampleConfig(prompt="A\n\tb", top_k=3, top_p=0.1 + 0.2, min_p=5e-324, stop=("\n\n", "x")),
]


@pytest.mark.parametrize("config", [*UNUSUAL, *(kind() for kind in CLASSES)])
def test_a_dictionary_restores_the_configuration(config):
    assert from_dict(to_dict(config), type(config)) == config


def test_fields_not_named_come_from_the_base_nested_ones_too():
    base = TrainConfig(model=ModelConfig(d_model=8, n_layers=7), lr=0.5)
    changed = from_dict({"seed": 3, "model": {"d_model": 16}}, TrainConfig, base)
    assert changed == TrainConfig(model=ModelConfig(d_model=16, n_layers=7), lr=0.5, seed=3)
    assert base == TrainConfig(model=ModelConfig(d_model=8, n_layers=7), lr=0.5)


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["yaml", "yml", "json", "txt"])
@pytest.mark.parametrize("config", [*UNUSUAL, *(kind() for kind in CLASSES)])
def test_a_file_restores_the_configuration_exactly(config, ending, tmp_path):
    save_config(config, tmp_path / f"config.{ending}")
    assert load_config(tmp_path / f"config.{ending}", type(config)) == config


TEXTS = ["1e-3", "-1E5", "0x1f", "1:30", "yes", "null", "~", "", "\n", " x ", "\x85", "\u2028"]
TEXTS += ["\ufeff", "\x00", "\ud800", "\U0001f600", "#a", "a: b", "- a", "'", '"', "\\n", "\t", "%"]
TEXTS += ["a\r\nb", "2020-01-01", "<<", "1_000", ".inf", "*a", "&a", "long " * 50]


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_a_text_that_looks_like_another_type_is_restored_as_text(ending, tmp_path):
    path = tmp_path / f"config.{ending}"
    for text in TEXTS:
        config = SampleConfig(prompt=text, stop=(text, text))
        save_config(config, path)
        assert load_config(path, SampleConfig) == config, ascii(text)


def test_the_files_are_standard_yaml_and_json(tmp_path):
    config = UNUSUAL[1]
    for path, read in ((tmp_path / "a.yaml", yaml.safe_load), (tmp_path / "a.json", json.loads)):
        save_config(config, path)
        assert read(path.read_text(encoding="utf-8")) == to_dict(config)


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "+1e-3", "1.e-3", "0.1e-2", "0.001", "10E-4"])
def test_every_notation_of_a_small_number_is_a_number(number, tmp_path):
    path = write(tmp_path / "config.yaml", f"lr: {number}")
    assert load_config(path, TrainConfig).lr == 1e-3


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "{}", "---\n", "null"])
def test_an_empty_file_means_the_defaults(text, tmp_path):
    assert load_config(write(tmp_path / "config.yaml", text), TrainConfig) == TrainConfig()


def test_a_byte_order_mark_is_skipped(tmp_path):
    for name, text in (("a.yaml", "\ufeffseed: 3"), ("a.json", '\ufeff{"seed": 3}')):
        assert load_config(write(tmp_path / name, text), TrainConfig).seed == 3


REFUSED = {  # the text of a file: the message after the file's name
    "modle: 5": r"unknown field 'modle' \(did you mean 'model'\?\)",
    "model: {d_modle: 5}": r"model: unknown field 'd_modle' \(did you mean 'd_model'\?\)",
    "model: {lr: 5}": r"model: unknown field 'lr'",
    "zzz: 5": r"unknown field 'zzz'$",
    "5: 5": r"unknown field 5",
    "model: 5": r"model: expected fields of ModelConfig, found 5",
    "model: null": r"model: expected fields of ModelConfig, found None",
    "model: [d_model]": r"model: expected fields of ModelConfig, found \['d_model'\]",
    "- seed": r"expected fields of TrainConfig, found \['seed'\]",
    "just words": r"expected fields of TrainConfig, found 'just words'",
    "model: {d_model: 10, n_heads: 3}": r"model: d_model 10 is not divisible by n_heads 3",
    "lr: '0.1'": r"lr '0\.1' is not a number",
    "lr: 2020-01-01": r"lr .*is not a number",
    "lr: .nan": r"lr nan is out of range",
    "seed: yes": r"seed True is not a whole number",
    "seed: 1e3": r"seed 1000\.0 is not a whole number",
    "seed: " + "9" * 400: r"seed 999999999999\.\.\. is out of range",
    "data: 5": r"data 5 is not a string",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_value_in_a_file_is_refused_with_the_name_of_the_file(text, tmp_path):
    path = write(tmp_path / "my run.yaml", text)
    with pytest.raises(UsageError, match=f"^{re.escape(str(path))}: {REFUSED[text]}") as raised:
        load_config(path, TrainConfig)
    assert "\n" not in str(raised.value)


NONSENSE = ["{", "a: b: c", "\tseed: 1", "!!python/object:os.system x", "x: \x00", "[" * 1000]
NONSENSE += ["seed: " + "9" * 5000, "seed: !!bool x", "seed: !!int ''", "*a", "[1]: 2", "%YAML 9.9"]
NONSENSE += ["seed: 1\n---\nseed: 2", "lr: 2020-13-45", "<<: 5"]


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: repr(text[:30]))
@pytest.mark.parametrize("name", ["config.yaml", "config.json"])
def test_a_file_that_is_not_yaml_or_json_is_refused_in_one_line(text, name, tmp_path):
    path = write(tmp_path / name, text)
    with pytest.raises(CourseError) as raised:
        load_config(path, TrainConfig)
    assert str(raised.value).startswith(f"{path} is not valid YAML or JSON: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / "config.yaml").write_bytes("data: \u00e9t\u00e9".encode("latin-1"))
    with pytest.raises(CourseError, match=r"config\.yaml is not valid YAML or JSON: .*utf-8"):
        load_config(tmp_path / "config.yaml", TrainConfig)


def test_a_missing_file_and_a_folder_are_not_configuration_files(tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(UsageError, match=re.escape(f"no configuration file at {path}")):
            load_config(path, TrainConfig)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    save_config(TrainConfig(seed=1), path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save_config(TrainConfig(seed=2), path)
    assert load_config(path, TrainConfig).seed == 1

"""The command line: one flag per field, and one line per error."""

import re
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from typing import Any

import pytest

from utils.command_line import (
    OneLineParser,
    add_config_flags,
    change_field,
    config_from_args,
)
from utils.config import ModelConfig, SampleConfig, TrainConfig, field_types, option, to_dict
from utils.errors import UsageError

BOTH = pytest.mark.parametrize("config_class", [TrainConfig, SampleConfig])


def parser_for(config_class: Any, skip: str = "") -> OneLineParser:
    parser = OneLineParser(description="A program.")
    add_config_flags(parser, config_class, skip)
    return parser


def parse(config_class: Any, *words: str, base: Any = None) -> Any:
    """The configuration that a command line gives."""
    base = config_class() if base is None else base
    return config_from_args(parser_for(config_class).parse_args(list(words)), base)


def refusal(config_class: Any, *words: str) -> str:
    """The one line with which a command line is refused."""
    with pytest.raises(UsageError) as raised:
        parse(config_class, *words)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def flat_fields(config_class: Any) -> list[tuple[Any, Any, type]]:
    """Every field, nested ones too: the class that owns it, the field, its type."""
    own = [(config_class, f, field_types(config_class)[f.name]) for f in fields(config_class)]
    nested = chain.from_iterable(flat_fields(kind) for _, _, kind in own if is_dataclass(kind))
    return [entry for entry in own if not is_dataclass(entry[2])] + list(nested)


FLAT = [
    pytest.param(config_class, *entry, id=f"{config_class.__name__}-{entry[1].name}")
    for config_class in (TrainConfig, SampleConfig)
    for entry in flat_fields(config_class)
]


def flag_of(f: Any) -> str:
    return "--" + f.name.replace("_", "-")


def another_value(f: Any, kind: type) -> Any:
    """An allowed value of the field that is not its default."""
    if choices := f.metadata["choices"]:
        return next(choice for choice in choices if choice != f.default)
    if kind is bool:
        return not f.default
    if kind is str:
        return "some text"
    if kind is tuple:
        return ("some text", "another")
    return 0.25 if kind is float else 2 * (f.default or 2)


@pytest.mark.parametrize(("config_class", "owner", "f", "kind"), FLAT)
def test_every_field_has_a_flag_that_sets_only_that_field(config_class, owner, f, kind):
    value = another_value(f, kind)
    words = [flag_of(f), str(value)]
    if kind is tuple:
        words = [word for text in value for word in (flag_of(f), text)]
    if kind is bool:
        words = [flag_of(f)] if value else [flag_of(f).replace("--", "--no-")]
    given = to_dict(parse(config_class, *words))
    expected = to_dict(config_class())
    plain = list(value) if kind is tuple else value
    (expected if owner is config_class else expected["model"])[f.name] = plain
    assert given == expected


@BOTH
def test_no_two_configurations_share_the_name_of_a_field(config_class):
    names = [f.name for _, f, _ in flat_fields(config_class)]
    assert len(names) == len(set(names))


@BOTH
def test_no_flags_change_nothing(config_class):
    assert parse(config_class) == config_class()
    base = TrainConfig(model=ModelConfig(d_model=8, bias=False), compile=True, max_minutes=3.0)
    assert parse(TrainConfig, base=base) == base


def test_a_flag_changes_one_field_of_the_base():
    base = TrainConfig(model=ModelConfig(d_model=8, n_layers=7), lr=0.5, compile=True)
    given = parse(TrainConfig, "--d-model=16", "--no-compile", base=base)
    assert given == TrainConfig(model=ModelConfig(d_model=16, n_layers=7), lr=0.5)


def test_flags_are_validated_together_not_one_by_one():
    # d_model 9 alone would not go with the 4 heads of the default
    assert parse(TrainConfig, "--d-model", "9", "--n-heads", "3").model.d_head == 3


@pytest.mark.parametrize("word", ["none", "None", "NONE"])
def test_none_is_a_value_where_a_field_may_be_none(word):
    base = TrainConfig(model=ModelConfig(n_kv_heads=2, d_ff=9), max_minutes=1.0)
    words = ["--n-kv-heads", word, "--d-ff", word, "--max-minutes", word]
    assert parse(TrainConfig, *words, base=base) == TrainConfig()
    assert parse(SampleConfig, "--top-k", word, base=SampleConfig(top_k=3)).top_k is None
    assert refusal(TrainConfig, "--seed", word) == f"seed {word!r} is not a whole number"


def test_a_text_may_be_the_word_none():
    assert parse(SampleConfig, "--stop", "none", "--prompt", "None").stop == ("none",)


def test_a_field_that_is_skipped_has_no_flag():
    parser = parser_for(SampleConfig, skip="seed device")
    assert "--seed" not in parser.format_help() and "--device" not in parser.format_help()
    assert "--prompt" in parser.format_help()


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config_class", "owner", "f", "kind"), FLAT)
def test_help_shows_every_flag_with_its_description(config_class, owner, f, kind):
    words = " ".join(parser_for(config_class).format_help().split())
    assert f.metadata["help"] in words
    assert re.search(rf"{flag_of(f)}[ ,]", words)
    if f.metadata["choices"]:
        assert "|".join(f.metadata["choices"]) in words


@BOTH
def test_help_fits_into_eighty_columns(config_class, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, parser_for(config_class).format_help().splitlines())) <= 80


@dataclass(frozen=True)
class Shares:
    share: float = option(0.5, "half is 50% of it, %s and %(prog)s stay")


def test_help_may_contain_a_percent_sign():
    assert "half is 50% of it, %s and %(prog)s stay" in parser_for(Shares).format_help()


@BOTH
def test_asking_for_help_is_not_an_error(config_class, capsys):
    with pytest.raises(SystemExit) as left:
        parse(config_class, "--help")
    assert left.value.code == 0
    assert "A program." in capsys.readouterr().out


# --- mistakes -----------------------------------------------------------------------------------

MISTAKES = [  # what is typed, and what is said
    ("--d-modle 5", "unknown argument --d-modle (did you mean '--d-model'?)"),
    ("--d_model 5", "unknown argument --d_model (did you mean '--d-model'?)"),
    ("--batchsize=5", "unknown argument --batchsize=5 (did you mean '--batch-size'?)"),
    ("--max-step 5", "unknown argument --max-step (did you mean '--max-steps'?)"),
    ("--zzzzzz", "unknown argument --zzzzzz; --help"),
    ("stray", "unknown argument stray; --help"),
    ("--lr", "argument --lr: expected one argument"),
    ("--compile=yes", "argument --compile/--no-compile: ignored explicit argument 'yes'"),
    ("--seed x", "seed 'x' is not a whole number"),
    ("--seed 1.5", "seed '1.5' is not a whole number"),
    ("--seed=", "seed '' is not a whole number"),
    ("--seed -1", "seed -1 is out of range: it must be at least 0"),
    ("--seed " + "9" * 30, "seed 999999999999... is out of range: numbers are limited to 2**63"),
    ("--lr fast", "lr 'fast' is not a number"),
    ("--lr nan", "lr nan is out of range"),
    ("--lr 1e400", "lr inf is out of range"),
    ("--max-minutes 0", "max_minutes 0.0 is out of range: it must be above 0"),
    ("--optimizer adam", "unknown optimizer 'adam' (did you mean 'adamw'?); choose one of: adamw"),
    ("--d-model 10 --n-heads 3", "d_model 10 is not divisible by n_heads 3"),
]


@pytest.mark.parametrize(("typed", "said"), MISTAKES)
def test_an_error_is_one_line_with_what_is_allowed(typed, said):
    assert refusal(TrainConfig, *typed.split()).startswith(said)


def test_an_abbreviated_flag_is_refused():
    # --d-m would be --d-model today and something else when a field is added
    assert "unknown argument --d-m" in refusal(TrainConfig, "--d-m", "8")


def test_values_that_contradict_each_other_are_refused_in_one_line():
    parser = OneLineParser()
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--compare", action="store_true")
    group.add_argument("--interactive", action="store_true")
    with pytest.raises(UsageError, match="--interactive: not allowed with argument --compare"):
        parser.parse_args(["--compare", "--interactive"])


# --- one field, as typed in a conversation ------------------------------------------------------


def test_one_field_changes_to_the_typed_value():
    config = SampleConfig(top_k=5)
    assert change_field(config, "temperature", "0.5") == SampleConfig(top_k=5, temperature=0.5)
    assert change_field(config, "top_k", "none") == SampleConfig()
    assert change_field(config, "stop", "\n") == SampleConfig(top_k=5, stop=("\n",))
    assert change_field(TrainConfig(compile=True), "compile", "False") == TrainConfig()
    assert config == SampleConfig(top_k=5)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("temperature", "hot", "temperature 'hot' is not a number"),
        ("temperature", "", "temperature '' is not a number"),
        ("top_k", "0", "top_k 0 is out of range: it must be at least 1"),
        ("temprature", "1", "unknown field 'temprature' (did you mean 'temperature'?)"),
    ],
)
def test_a_wrong_value_typed_for_a_field_is_refused(name, text, said):
    with pytest.raises(UsageError) as raised:
        change_field(SampleConfig(), name, text)
    assert str(raised.value).startswith(said)
    with pytest.raises(UsageError, match="unknown compile 'maybe'"):
        change_field(TrainConfig(), "compile", "maybe")


def test_a_field_of_several_texts_gets_one_more_and_none_removes_them():
    config = change_field(SampleConfig(stop=("a",)), "stop", "b")
    assert config.stop == ("a", "b")
    assert change_field(config, "stop", "None").stop == ()

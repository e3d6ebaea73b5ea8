"""Configuration: frozen dataclasses that check themselves, load and save.

    config = TrainConfig(model=ModelConfig(d_model=128), max_steps=500)
    save_config(config, "config.yaml");  load_config("config.yaml", TrainConfig)

Each field is described once, in `option(...)`; utils/command_line.py makes flags and help of it.
"""

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from utils.errors import CourseError, UsageError, did_you_mean, pick
from utils.files import atomic_write_text

Config = TypeVar("Config")
LARGEST = 2**63  # whole numbers stay below it, here and in PyTorch


def option(default: Any, description: str, choices: tuple[str, ...] | None = None) -> Any:
    """A field with a help text and, if it is one of a few words, what they are."""
    return field(default=default, metadata={"help": description, "choices": choices})


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer language model, from the classic (GPT-2) to the modern (Llama)."""

    vocab_size: int = option(65, "number of different tokens; set by the data when training")
    max_seq_len: int = option(64, "context: how many tokens the model sees at once")
    d_model: int = option(128, "width of the residual stream")
    n_layers: int = option(4, "number of transformer blocks")
    n_heads: int = option(4, "attention heads a layer; must divide d_model")
    n_kv_heads: int | None = option(None, "key-value heads; fewer than n_heads is grouped-query")
    d_ff: int | None = option(None, "width inside the feed-forward network; 4 * d_model if none")
    norm: str = option("layernorm", "normalisation", ("layernorm", "rmsnorm"))
    norm_placement: str = option("pre", "norm before or after each sublayer", ("pre", "post"))
    activation: str = option("gelu", "feed-forward non-linearity", ("gelu", "relu2", "swiglu"))
    position: str = option("learned", "position scheme", ("learned", "sinusoidal", "rope", "alibi"))
    qk_norm: bool = option(False, "normalise queries and keys before their product")
    bias: bool = option(True, "biases in linear layers and layer norms")
    tie_weights: bool = option(True, "use the token embedding as the output projection")
    dropout: float = option(0.0, "share of each residual update zeroed during training")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("vocab_size", "max_seq_len", "d_model", "n_layers", "n_heads"):
            check_range(self, name, at_least=1)
        for name in ("n_kv_heads", "d_ff"):
            check_range(self, name, at_least=1)
        check_range(self, "dropout", at_least=0.0, below=1.0)
        if self.d_model % self.n_heads != 0:
            raise UsageError(
                f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}; "
                f"n_heads may be one of: {divisors(self.d_model)}"
            )
        if self.n_heads % self.kv_heads != 0:
            raise UsageError(
                f"n_heads {self.n_heads} is not divisible by n_kv_heads {self.kv_heads}; "
                f"n_kv_heads may be one of: {divisors(self.n_heads)}"
            )
        if self.position == "rope" and self.d_head % 2 != 0:
            raise UsageError(
                f"position rope turns pairs: d_model / n_heads = {self.d_head} must be even"
            )

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """Key-value heads, resolved."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def ff_width(self) -> int:
        """Width inside the feed-forward network, resolved."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff


@dataclass(frozen=True)
class TrainConfig:
    """One training run: the model, the data, and how to get from the one to the other."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: str = option("shakespeare", "shakespeare, mock, a text file, or a prepared folder")
    seed: int = option(0, "decides the initial weights, the batches and the dropout")
    batch_size: int = option(12, "sequences a micro-batch")
    accumulation: int = option(1, "micro-batches whose gradients are averaged into one step")
    max_steps: int = option(2000, "optimizer steps")
    max_minutes: float | None = option(None, "fewer steps, where max_steps would take longer")
    optimizer: str = option("adamw", "muon: Muon for matrices, AdamW else", ("adamw", "muon"))
    lr: float = option(1e-3, "peak learning rate of AdamW")
    muon_lr: float = option(0.02, "peak learning rate of Muon")
    beta1: float = option(0.9, "AdamW: memory of the gradient")
    beta2: float = option(0.99, "AdamW: memory of its square")
    momentum: float = option(0.95, "Muon: memory of the gradient")
    weight_decay: float = option(0.1, "pull of the matrices towards zero")
    grad_clip: float = option(1.0, "largest norm of the gradient; 0 for no limit")
    schedule: str = option("cosine", "learning rate over time", ("cosine", "wsd", "constant"))
    warmup_steps: int = option(100, "steps of rising learning rate")
    decay_fraction: float = option(0.5, "wsd: share of the steps in which the rate falls")
    min_lr_ratio: float = option(0.1, "the last learning rate, as a share of the peak")
    eval_interval: int = option(250, "steps between evaluations on the whole validation split")
    save_interval: int = option(250, "steps between saved states, from which --resume goes on")
    sample_interval: int = option(500, "steps between samples; 0 for none")
    log_interval: int = option(10, "steps between rows of metrics")
    parts: str = option("fused", "which code computes the model", ("reference", "fused"))
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    dtype: str = option("auto", "of the matrix products", ("auto", "float32", "bfloat16"))
    compile: bool = option(False, "compile the model with torch.compile; slow to start")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("batch_size", "accumulation", "max_steps"):
            check_range(self, name, at_least=1)
        for name in ("eval_interval", "save_interval", "log_interval"):
            check_range(self, name, at_least=1)
        for name in ("seed", "warmup_steps", "sample_interval", "lr", "muon_lr", "weight_decay"):
            check_range(self, name, at_least=0)
        check_range(self, "grad_clip", at_least=0.0)
        for name in ("beta1", "beta2", "momentum"):
            check_range(self, name, at_least=0.0, below=1.0)
        for name in ("decay_fraction", "min_lr_ratio"):
            check_range(self, name, at_least=0.0, at_most=1.0)
        check_range(self, "max_minutes", above=0.0)


@dataclass(frozen=True)
class SampleConfig:
    """How text is drawn from a trained model."""

    prompt: str = option("", "text to continue; empty starts a new line")
    max_tokens: int = option(500, "new tokens a sample")
    temperature: float = option(0.8, "below 1 is safer, above 1 wilder, 0 always the likeliest")
    top_k: int | None = option(None, "choose among the k likeliest tokens")
    top_p: float | None = option(None, "choose among the likeliest tokens that hold this share")
    min_p: float | None = option(None, "drop tokens below this share of the likeliest one's chance")
    num_samples: int = option(1, "how many samples")
    stop: str | None = option(
        None, r"end a sample at this text; \n is a newline, \t a tab, \\ a backslash"
    )
    seed: int = option(0, "decides the draw")
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self, "max_tokens", at_least=0)
        check_range(self, "num_samples", at_least=1)
        check_range(self, "temperature", at_least=0.0)
        check_range(self, "top_k", at_least=1)
        check_range(self, "top_p", above=0.0, at_most=1.0)
        check_range(self, "min_p", at_least=0.0, at_most=1.0)
        check_range(self, "seed", at_least=0)


# --- validation ---------------------------------------------------------------------------------


@cache
def field_types(config_class: Any) -> dict[str, type]:
    """The type a value of each field must have; `int | None` counts as `int`."""
    hints = typing.get_type_hints(config_class)
    return {f.name: _bare_type(hints[f.name]) for f in fields(config_class)}


def _bare_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        return next(arm for arm in hint.__args__ if arm is not type(None))
    return hint


def check_fields(config: Any) -> None:
    """Each field has its type, and words are among the choices. Whole numbers serve as floats."""
    for f in fields(config):
        value, kind = getattr(config, f.name), field_types(type(config))[f.name]
        if value is None and f.default is None:
            continue
        if type(value) is int and abs(value) >= LARGEST:
            raise UsageError(f"{f.name} {value!r:.12}... is out of range: numbers end at 2**63")
        if kind is float and type(value) is int:
            object.__setattr__(config, f.name, float(value))
        elif type(value) is not kind:
            raise UsageError(f"{f.name} {value!r} is not {article(kind)}")
        if choices := f.metadata.get("choices"):
            pick(str(value), choices, f.name)


def article(kind: type) -> str:
    """The name of a type for a sentence: 'a whole number'."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(kind, f"a {kind.__name__}")


def check_range(
    config: Any,
    name: str,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> None:
    """A number lies in its range; None passes. Raises UsageError naming field, value and range."""
    value = getattr(config, name)
    if value is None:
        return
    if at_least <= value <= at_most and above < value < below:  # never so for infinity and NaN
        return
    limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    allowed = [f"{word} {x:g}" for word, x in limits.items() if math.isfinite(x)]
    allowed += [] if math.isfinite(value) else ["finite"]
    raise UsageError(f"{name} {value} is out of range: it must be {' and '.join(allowed)}")


def divisors(number: int) -> str:
    """The numbers of heads, up to a thousand, that divide `number`: "1, 2, 4" for 4."""
    return ", ".join(str(n) for n in range(1, min(number, 1000) + 1) if number % n == 0)


# --- files --------------------------------------------------------------------------------------


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain dictionaries, ready for YAML or JSON."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any], config_class: type[Config], base: Any = None) -> Config:
    """Build a configuration; fields not named come from `base`, or are the defaults.

    Raises UsageError for an unknown key, with the closest known one.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"expected fields of {config_class.__name__}, found {values!r:.60}")
    base = config_class() if base is None else base
    kinds, changes = field_types(config_class), {}
    for name, value in values.items():
        if name not in kinds:
            raise UsageError(f"unknown field {name!r}{did_you_mean(str(name), kinds)}")
        if is_dataclass(kinds[name]):
            value = _nested(name, value, kinds[name], getattr(base, name))
        changes[name] = value
    return dataclasses.replace(base, **changes)


def _nested(name: str, values: Any, config_class: Any, base: Any) -> Any:
    try:
        return from_dict(values, config_class, base)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def save_config(config: Any, path: str | Path) -> None:
    """Write YAML, or JSON if the name ends in .json."""
    path = Path(path)
    if path.suffix == ".json":
        text = json.dumps(to_dict(config), indent=2) + "\n"
    else:
        text = yaml.dump(to_dict(config), Dumper=_ConfigDumper, sort_keys=False)
    atomic_write_text(path, text)


def load_config(path: str | Path, config_class: type[Config], base: Any = None) -> Config:
    """Read YAML, or JSON if the name ends in .json; fields not named come from `base`.

    Raises CourseError, naming the file, for what is not a configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no configuration file at {path}")
    text_to_values = json.loads if path.suffix == ".json" else _load_yaml
    try:
        values = text_to_values(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise  # no permission: the system's own words are clear
    except Exception as error:  # PyYAML meets nonsense with errors of many kinds
        reason = " ".join(str(error).split())
        raise CourseError(f"{path} is not YAML or JSON: {reason}") from None
    try:
        return from_dict({} if values is None else values, config_class, base)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_ConfigLoader)


class _ConfigLoader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a text, for it has no point; who writes it means a number."""


class _ConfigDumper(yaml.SafeDumper):
    """Knows it too, and puts a text that looks like such a number in quotes."""


for _yaml in (_ConfigLoader, _ConfigDumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )

"""The configurations that tools/ablations.py compares: every row of every table.

All of them are the `laptop` preset with some fields changed; every other field is the same in all
rows, and so are the model sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from model.config import preset
from tools.benchmarks.ablation_ideas import IDEAS
from utils.config import ModelConfig, TrainConfig, to_dict

# The label of a step, filled in with the values of `laptop`, and the fields that it changes.
STEPS = (
    ("{position}", ("position",)),
    ("{norm}", ("norm", "norm_placement", "bias")),
    ("{activation}", ("activation", "d_ff")),
    ("qk-norm", ("qk_norm",)),
    ("untied", ("tie_weights",)),
    ("{optimizer}", ("optimizer", "lr", "beta1", "beta2", "momentum", "weight_decay", "grad_clip")),
    ("{schedule}", ("schedule", "decay_fraction", "min_lr_ratio")),
)
# The learning rate of AdamW in runs as short as these: the best of 1e-3, 2e-3 and 4e-3 for `laptop`
# without Muon, at 600 steps. The third table tries its neighbours.
ADAMW_LR = 2e-3
LR_FACTORS = (0.5, 2.0)


@dataclass(frozen=True)
class Variant:
    """A configuration with a name, its row in a table, and the variant it is compared with."""

    name: str
    table: str
    label: str
    compared: str  # the other variant's name; "" for none
    config: TrainConfig
    idea: str = ""  # the name of the row's idea, if it has one


def flat(config: TrainConfig) -> dict[str, Any]:
    """All fields by name, those of the model and those of the training together."""
    values = to_dict(config)
    return {**values.pop("model"), **values}


def with_fields(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration with some fields changed, whether of the model or of the training."""
    model_fields = {f.name for f in fields(ModelConfig)}
    of_model = {name: value for name, value in values.items() if name in model_fields}
    of_training = {name: value for name, value in values.items() if name not in model_fields}
    return replace(config, model=replace(config.model, **of_model), **of_training)


def classic_fields() -> dict[str, Any]:
    """The classic recipe's value of every field that some step changes.

    It is the preset `nano`, except for the learning rate, which `nano` sets for longer runs.
    """
    nano = flat(replace(preset("nano"), lr=ADAMW_LR))
    return {name: nano[name] for _, names in STEPS for name in names}


def steps() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(label, fields in the classic recipe, fields in `laptop`) of each step that differs."""
    modern = flat(preset("laptop"))
    classic = classic_fields()
    differing = []
    for label, names in STEPS:
        before = {name: classic[name] for name in names}
        after = {name: modern[name] for name in names}
        if before != after:
            differing.append((label.format(**modern), before, after))
    return differing


def variants() -> list[Variant]:
    """Every row of every table; `laptop` ends the first table and begins the second."""
    return [*ladder(), *without(), *other_rates(), *ideas()]


def ladder() -> list[Variant]:
    """From the classic recipe to `laptop`, one step at a time."""
    config = with_fields(preset("laptop"), classic_fields())
    rows = [Variant("classic", "ladder", "classic", "", config)]
    for label, _, after in steps():
        config = with_fields(config, after)
        rows.append(Variant(f"with-{label}", "ladder", f"+ {label}", rows[-1].name, config))
    last = rows.pop()
    return [*rows, replace(last, name="laptop", label=f"{last.label} = laptop")]


def without() -> list[Variant]:
    """`laptop`, and `laptop` with one step reverted at a time."""
    laptop = preset("laptop")
    changes = [(label, before) for label, before, _ in steps()]
    if laptop.warmup_steps:
        changes.append(("warm-up", {"warmup_steps": 0}))
    rows = [Variant("laptop", "without", "laptop", "", laptop)]
    for label, change in changes:
        name = f"without-{label}"
        config = with_fields(laptop, change)
        rows.append(Variant(name, "without", f"without {label}", "laptop", config))
    return rows


def other_rates() -> list[Variant]:
    """`classic`, and `laptop` with AdamW instead of Muon, at other learning rates."""
    rows = []
    for row in (*ladder(), *without()):
        if row.name == "classic" or is_without_muon(row):
            rows.append(replace(row, table="rates", compared=""))
            rows += [at_rate(row, factor) for factor in LR_FACTORS]
    return rows


def ideas() -> list[Variant]:
    """`laptop`, and each idea in its place."""
    laptop = preset("laptop")
    rows = [Variant("laptop", "ideas", "laptop", "", laptop)]
    for name, idea in IDEAS.items():
        config = with_fields(laptop, idea.fields)
        key = name.lower().replace(" ", "-")
        rows.append(Variant(key, "ideas", name, "laptop", config, name))
    return rows


def is_without_muon(row: Variant) -> bool:
    """Whether the row is `laptop` with its optimizer reverted to AdamW."""
    changed = row.config.optimizer != preset("laptop").optimizer
    return row.table == "without" and changed and row.config.optimizer == "adamw"


def at_rate(row: Variant, factor: float) -> Variant:
    """The variant at a multiple of its learning rate, compared with the variant itself."""
    config = replace(row.config, lr=factor * row.config.lr)
    name = f"{row.name}-lr-x{factor:g}"
    return Variant(name, "rates", f"{row.label}, rate x {factor:g}", row.name, config)


def tables() -> dict[str, list[dict[str, str]]]:
    """The rows of each table as the record stores them, so that the page needs no presets."""
    stored: dict[str, list[dict[str, str]]] = {}
    for row in variants():
        entry = {"name": row.name, "label": row.label, "compared": row.compared}
        stored.setdefault(row.table, []).append(entry)
    return stored

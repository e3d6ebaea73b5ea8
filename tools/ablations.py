"""What does a modern recipe buy? One change at a time, several seeds each.

    python tools/ablations.py                     # train what is missing, write the page
    python tools/ablations.py --list              # the variants, and what each one changes
    python tools/ablations.py --only laptop without-rope --seeds 5
    python tools/ablations.py --render            # write the page again, train nothing

Three tables: from the classic recipe up to the `laptop` preset, from `laptop` with one thing taken
back, and AdamW at other learning rates, since a badly set rival proves nothing. All sizes are those
of `laptop`. Results go run by run into ablations.json, so an interrupted call goes on where it was;
ablations.md is made from that file alone.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import hashlib
import json
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine import Engine, build_model, choose_engine
from experiment_tracking import environment_info
from model.config import preset
from tools.ablations_page import SECTIONS, differences, render, runs_of
from training_data import TrainingData, load_training_data
from training_loop import Callback, StepReport, Trainer
from utils.command_line import OneLineParser
from utils.config import ModelConfig, TrainConfig, to_dict
from utils.errors import CourseError, UsageError, pick
from utils.files import atomic_write_text

ROOT = Path(__file__).resolve().parents[1]
CORPORA = {"shakespeare": "Tiny Shakespeare", "mock": "the mock corpus"}
# What a step is called (with the words of `laptop`), and the fields that change in it. Only these
# ever change: whatever else `laptop` says holds for every row.
STEPS = (
    ("{position}", ("position",)),
    ("{norm}", ("norm", "norm_placement", "bias")),
    ("{activation}", ("activation", "d_ff")),
    ("qk-norm", ("qk_norm",)),
    ("untied", ("tie_weights",)),
    ("{optimizer}", ("optimizer", "lr", "beta1", "beta2", "momentum", "weight_decay", "grad_clip")),
    ("{schedule}", ("schedule", "decay_fraction", "min_lr_ratio")),
)
# AdamW's own learning rate in runs as short as these: the best of 1e-3, 2e-3 and 4e-3 for `laptop`
# without Muon, at 600 steps. The third table tries its neighbours.
ADAMW_LR = 2e-3
RATES = (0.5, 2.0)  # times that
UNTOUCHED = {"seed", "max_minutes", "compile"} | {  # by a variant; or they change no weight
    *("eval_interval", "save_interval", "sample_interval", "log_interval"),
}
MUST_HOLD = {"tables", "variants", "configs", "environments", "runs"}


# --- which models -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A configuration with a name, a row in a table, and the variant it is compared with."""

    name: str
    table: str
    label: str
    compared: str  # "" for none
    config: TrainConfig


def flat(config: TrainConfig) -> dict[str, Any]:
    """Every field by its name, the model's beside the training's."""
    values = to_dict(config)
    return {**values.pop("model"), **values}


def with_fields(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration with some fields changed, the model's or the training's."""
    of_model = {f.name for f in fields(ModelConfig)}
    model = replace(config.model, **{k: v for k, v in values.items() if k in of_model})
    return replace(config, model=model, **{k: v for k, v in values.items() if k not in of_model})


def classic_fields() -> dict[str, Any]:
    """What the classic recipe says about every field that changes in a step.

    It is `nano`, but for the learning rate: that of `nano` is meant for its many more steps.
    """
    nano = flat(replace(preset("nano"), lr=ADAMW_LR))
    return {name: nano[name] for _, names in STEPS for name in names}


def steps() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(label, fields in the classic recipe, fields in `laptop`) of each step that differs."""
    modern, classic = flat(preset("laptop")), classic_fields()
    found = []
    for label, names in STEPS:
        before, after = ({name: recipe[name] for name in names} for recipe in (classic, modern))
        if before != after:
            found.append((label.format(**modern), before, after))
    return found


def variants() -> list[Variant]:
    """Every row of every table. `laptop` ends the first table and opens the second."""
    return [*ladder(), *without(), *other_rates()]


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
    """`laptop`, and from it one thing taken back each time."""
    laptop = preset("laptop")
    changes = [(label, before) for label, before, _ in steps()]
    changes += [("warm-up", {"warmup_steps": 0})] if laptop.warmup_steps else []
    rows = [Variant("laptop", "without", "laptop", "", laptop)]
    for label, change in changes:
        name, config = f"without-{label}", with_fields(laptop, change)
        rows.append(Variant(name, "without", f"without {label}", "laptop", config))
    return rows


def other_rates() -> list[Variant]:
    """`classic`, and `laptop` with AdamW for all, at other learning rates."""
    rows, ours = [], preset("laptop").optimizer
    for row in (*ladder(), *without()):
        taken_back = row.table == "without" and row.config.optimizer == "adamw" != ours
        if row.name == "classic" or taken_back:
            rows.append(replace(row, table="rates", compared=""))
            for factor in RATES:
                name, label = f"{row.name}-lr-x{factor:g}", f"{row.label}, rate x {factor:g}"
                config = replace(row.config, lr=factor * row.config.lr)
                rows.append(Variant(name, "rates", label, row.name, config))
    return rows


# --- what is known ------------------------------------------------------------------------------


def read_record(path: Path) -> dict[str, Any]:
    """What earlier calls have measured. Raises CourseError if the file is none of ours."""
    if not path.exists():
        return {"tables": {}, "variants": {}, "configs": {}, "environments": [], "runs": []}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CourseError(f"{path} is not JSON: {error}") from None
    whole = isinstance(record, dict) and record.keys() >= MUST_HOLD
    if not whole or "laptop" not in record["variants"]:
        raise CourseError(f"{path} holds no ablations; name another folder with --out")
    return record


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write the file whole, a line for each entry, so that a difference in git can be read."""

    def block(value: Any) -> str:
        if isinstance(value, dict):
            rows = [f"{json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()]
            return "{\n" + ",\n".join(rows) + "\n}"
        return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"

    entries = [f"{json.dumps(key)}: {block(value)}" for key, value in record.items()]
    atomic_write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def describe(config: TrainConfig, data: TrainingData) -> dict[str, Any]:
    """All that decides a run's result but its seed."""
    values = {name: value for name, value in flat(config).items() if name not in UNTOUCHED}
    name = CORPORA.get(data.name, data.name)
    return {**values, "data": name, "fingerprint": data.fingerprint[:16], "n_val": len(data.val)}


def digest(description: Mapping[str, Any]) -> str:
    """A short name for a description: the same for the same."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# --- training -----------------------------------------------------------------------------------


class Watch(Callback):
    """Moves the bar, and keeps how long each step took."""

    def __init__(self, bar: "tqdm[Any]", name: str) -> None:
        self.bar, self.name = bar, name
        self.times: list[float] = []  # seconds
        self.before = 0.0

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Called after every step; evaluation is not in its seconds."""
        self.times.append(report.seconds - self.before)
        self.before = report.seconds
        self.bar.set_description_str(f"{self.name}, loss {report.train_loss:.3f}", refresh=False)
        self.bar.update()


def train_missing(path: Path, only: Sequence[str], n_steps: int, n_seeds: int) -> None:
    """Train what the file does not hold yet, and write each result down as it comes."""
    record, data = read_record(path), load_training_data(preset("laptop").data)
    environment, engine = settle(record, data)
    configs = {row.name: settled(row.config, data, engine, n_steps) for row in variants()}
    described = {name: describe(config, data) for name, config in configs.items()}
    names = {name: digest(description) for name, description in described.items()}
    tried = {run["config"] for run in record["runs"]}  # perhaps of presets that are no more
    known = {key: value for key, value in record["configs"].items() if key in tried}
    known |= {names[name]: description for name, description in described.items()}
    record |= {"tables": tables(), "variants": names, "configs": known}
    todo = missing(record, only or list(names), n_seeds)
    if todo:
        record["environments"].append(environment)
    write_record(path, record)
    with closing(progress_bar(len(todo) * n_steps)) as bar:
        for name, seed in todo:
            watch = Watch(bar, f"{name}, seed {seed}")
            result = train_one(replace(configs[name], seed=seed), data, engine, watch)
            where = {"config": names[name], "seed": seed, "where": len(record["environments"]) - 1}
            record["runs"].append({**where, **result})
            write_record(path, record)
            tqdm.write(f"{name:<24} seed {seed}   {in_words(result)}")


def missing(record: Mapping[str, Any], names: Sequence[str], n_seeds: int) -> list[tuple[str, int]]:
    """The runs to do, (variant, seed); two variants of one configuration need one run.

    Seed by seed, so that an interrupted call leaves whole tables behind.
    """
    done = {(run["config"], run["seed"]) for run in record["runs"]}
    todo = {}
    for seed in range(n_seeds):
        for name in names:
            key = (record["variants"][name], seed)
            if key not in done:
                todo.setdefault(key, (name, seed))
    return list(todo.values())


def settle(record: Mapping[str, Any], data: TrainingData) -> tuple[dict[str, Any], Engine]:
    """Where we are, and one engine for all rows: the one that was the fastest here before."""
    laptop = preset("laptop")
    auto = laptop.dtype == "auto"
    environment = environment_info(laptop.device)
    environment.pop("packages")
    for known in record["environments"]:
        if auto and all(known[key] == environment[key] for key in ("cpu", "device")):
            laptop = replace(laptop, dtype=known["dtype"])
    engine = choose_engine(with_fields(laptop, {"vocab_size": data.tokenizer.vocab_size}))
    return {**environment, "dtype": engine.dtype_name}, engine


def settled(config: TrainConfig, data: TrainingData, engine: Engine, n_steps: int) -> TrainConfig:
    """The configuration as it will be trained: so many steps, evaluated once, at the end."""
    model = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(
        config,
        model=model,
        max_steps=n_steps,
        eval_interval=n_steps,
        max_minutes=None,
        compile=False,
        device=str(engine.device),
        dtype=engine.dtype_name,
    )


def train_one(
    config: TrainConfig, data: TrainingData, engine: Engine, watch: Watch
) -> dict[str, Any]:
    """Train one model; returns what is worth writing down."""
    model = build_model(config.model, engine, config.seed)
    trainer = Trainer(model, data.train, data.val, config, engine.device, engine.dtype, [watch])
    try:
        loss, stopped = round(trainer.fit(), 6), None
        if not math.isfinite(loss):
            loss, stopped = None, f"step {trainer.step}: the validation loss is {loss}"
    except CourseError as error:  # the loss is no number any more: that is a result as well
        loss, stopped = None, str(error).split(";")[0]
        watch.bar.update(config.max_steps - trainer.step)
    step = statistics.median(watch.times) if watch.times else None
    return {
        "val_loss": loss,
        "stopped": stopped,
        "seconds": round(trainer.seconds, 3),
        "ms_per_step": step and round(1000 * step, 3),
        "tokens_per_second": step and round(trainer.tokens_per_step / step),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def progress_bar(total: int) -> "tqdm[Any]":
    """One line that moves on a terminal; elsewhere only the lines of the runs are printed."""
    layout = "{percentage:3.0f}% |{bar}| {desc}, {remaining} left"
    return tqdm(
        total=total, desc="starting", disable=None, ncols=79, leave=False, bar_format=layout
    )


def in_words(result: Mapping[str, Any]) -> str:
    """A run in a few words, for the terminal."""
    if result["stopped"]:
        return f"stopped at {result['stopped']}"[:40]
    return f"validation {result['val_loss']:.4f}   {result['ms_per_step']:6.1f} ms a step"


def tables() -> dict[str, list[dict[str, str]]]:
    """The rows of each table, for the file: the page is made without asking the presets again."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in variants():
        kept = {"name": row.name, "label": row.label, "compared": row.compared}
        found.setdefault(row.table, []).append(kept)
    return found


# --- the command line ---------------------------------------------------------------------------


def main() -> None:
    """Train what is missing and write the page; or only list, or only write."""
    args = parse_args()
    if args.list:
        print("\n".join(listing()))
        return
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file, not a folder")
    results, page = args.out / "ablations.json", args.out / "ablations.md"
    if not args.render:
        args.out.mkdir(parents=True, exist_ok=True)
        train_missing(results, args.only, args.steps, args.seeds)
    elif not results.exists():
        raise UsageError(f"no {results}: without --render the models are trained first")
    record = read_record(results)
    if not runs_of(record, *record["variants"]):
        raise UsageError(f"{results} holds no finished run: without --render one is trained")
    atomic_write_text(page, render(record))
    print(f"wrote {page}")


def parse_args() -> argparse.Namespace:
    """The command line, checked."""
    parser = OneLineParser(description="What a modern recipe buys, one change at a time.")
    parser.add_argument("--steps", type=int, default=600, metavar="N", help="of each run (600)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each row (3)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=ROOT / "09_capstone",
        help="where ablations.json and ablations.md are (09_capstone)",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="train these rows or tables"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="say what there is to train")
    other.add_argument("--render", action="store_true", help="write the page again, train nothing")
    args = parser.parse_args()
    for flag in ("steps", "seeds"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} {getattr(args, flag)} must be 1 or more")
    args.only = named(args.only) if args.only else []
    return args


def named(given: Sequence[str]) -> list[str]:
    """The variants that are meant by names of variants and of whole tables. Raises UsageError."""
    rows = variants()
    known = list(dict.fromkeys([*SECTIONS, *(row.name for row in rows)]))
    for name in given:
        pick(name, known, "variant")
    return list(dict.fromkeys(row.name for row in rows if {row.name, row.table} & {*given}))


def listing() -> list[str]:
    """Each variant with what it changes, within 80 columns."""
    rows: dict[str, Variant] = {}
    for row in variants():
        rows.setdefault(row.name, row)  # some are in two tables
    lines = []
    for row in rows.values():
        change = "GPT-2's layout, AdamW, a cosine"
        if row.compared:
            change = ", ".join(differences(flat(rows[row.compared].config), flat(row.config)))
        heading = f"{row.name:<26}"
        lines += textwrap.wrap(change, 79, initial_indent=heading, subsequent_indent=" " * 26)
    return lines


if __name__ == "__main__":
    run_program(main)

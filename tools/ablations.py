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

from experiment_tracking import environment_info
from model.config import preset
from model.tiny_transformer import Engine, build_model, choose_engine
from training_data import TrainingData, load_training_data
from training_loop import Callback, StepReport, Trainer
from utils.command_line import OneLineParser
from utils.config import ModelConfig, TrainConfig, to_dict
from utils.errors import CourseError, UsageError, pick, run_program
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


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changed from one row to another, in words: ["position learned -> rope"]."""
    return [
        f"{name} {shown(before[name])} -> {shown(after[name])}"
        for name in after
        if after[name] != before[name]
    ]


def shown(value: Any) -> str:
    """A value of a field as one would say it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


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


# --- the page -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """What the runs of one row came to."""

    losses: list[float]
    n_runs: int
    ms: float
    tokens_per_second: float
    parameters: int

    @property
    def mean(self) -> float | None:
        """The mean loss; None if any run had to stop, for the others would be a lucky choice."""
        return statistics.mean(self.losses) if len(self.losses) == self.n_runs else None


def runs_of(record: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
    """The runs of these variants; the file may hold others, of presets that have changed since."""
    wanted = {record["variants"][name] for name in names}
    return [run for run in record["runs"] if run["config"] in wanted]


def summarise(record: Mapping[str, Any], name: str) -> Summary | None:
    """The runs of a variant, or None if there are none."""
    runs = runs_of(record, name)
    timed = [run for run in runs if run["ms_per_step"]]
    if not timed:
        return None
    return Summary(
        losses=[run["val_loss"] for run in runs if run["val_loss"] is not None],
        n_runs=len(runs),
        ms=statistics.median(run["ms_per_step"] for run in timed),
        tokens_per_second=statistics.median(run["tokens_per_second"] for run in timed),
        parameters=runs[0]["parameters"],
    )


def difference(mine: Summary, other: Summary | None) -> str:
    """The difference of the means, marked where the two ranges overlap."""
    if other is None or mine.mean is None or other.mean is None:
        return ""
    overlap = min(mine.losses) <= max(other.losses) and min(other.losses) <= max(mine.losses)
    return f"{mine.mean - other.mean:+.4f}{' ~' if overlap else ''}"


def table_rows(record: Mapping[str, Any], table: str) -> list[list[str]]:
    """The cells of each row that has been trained, all but the first from measurements."""
    found = []
    for row in record["tables"].get(table, []):
        mine = summarise(record, row["name"])
        if mine is None:
            continue
        change, delta = "", ""
        if row["compared"]:
            before, after = (config_of(record, row[key]) for key in ("compared", "name"))
            change = ", ".join(differences(before, after))
            delta = difference(mine, summarise(record, row["compared"]))
        loss, spread = f"{mine.n_runs - len(mine.losses)} of {mine.n_runs} stopped", ""
        if mine.mean is not None:
            loss = f"{mine.mean:.4f}"
            if mine.n_runs > 1:
                spread = f"{min(mine.losses):.4f} to {max(mine.losses):.4f}"
        speed = [f"{mine.ms:.1f}", f"{mine.tokens_per_second:,.0f}"]
        found.append([row["label"], change, loss, spread, delta, *speed, str(mine.n_runs)])
    return found


def config_of(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of a variant, as the file knows it."""
    return record["configs"][record["variants"][name]]


COLUMNS = (
    *("variant", "what differs", "loss", "lowest to highest", "difference"),
    *("ms a step", "tokens/s", "seeds"),
)
SECTIONS = {
    "ladder": (
        "One step at a time",
        "Each row keeps what the rows above it have gained. The difference is to the row above, so "
        "below zero is better.",
    ),
    "without": (
        "Without it",
        "Each row is `laptop` with one thing taken back. The difference is to `laptop`, so above "
        "zero is what the thing is worth in the company of all the others; here it plays no part "
        "in which order they came.",
    ),
    "rates": (
        "Was AdamW treated fairly?",
        "A rival with a bad learning rate proves nothing. These are the rows of AdamW at other "
        "rates; the difference is to the same row at its own. Where it is below zero, the tables "
        "above flatter what took AdamW's place, by about as much.",
    ),
}


def render(record: Mapping[str, Any]) -> str:
    """The page, from the file alone."""
    parts = [opening(record), held_fixed(record), MEASURED]
    for table, (title, text) in SECTIONS.items():
        if rows := table_rows(record, table):
            parts += [f"## {title}", paragraph(text), markdown_table(rows)]
            parts += [whole_way(record)] if table == "ladder" else []
    return "\n\n".join(part for part in [*parts, repeating(record)] if part) + "\n"


def paragraph(text: str, indent: str = "") -> str:
    """The text in lines that a person can read in the source too."""
    return textwrap.fill(
        text,
        100,
        initial_indent="- " if indent else "",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Text to the left, numbers to the right."""
    rule = ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2)
    return "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, rule, *rows))


def opening(record: Mapping[str, Any]) -> str:
    """What the page is about."""
    n_steps = len(record["tables"]["ladder"]) - 1
    text = (
        "The classic small recipe (GPT-2's layout, AdamW, a cosine) and the `laptop` preset are "
        f"{n_steps} changes apart. Each one is measured here twice: as a step on the way up, and "
        "taken back from the top. "
        "[tools/ablations.py](../tools/ablations.py) has trained the models and written this page "
        "from [ablations.json](ablations.json); nobody has typed a number."
    )
    absent = sum(not runs_of(record, name) for name in record["variants"])
    if absent:
        text += f" {absent} of {len(record['variants'])} variants are not trained yet."
    note = "<!-- Written by tools/ablations.py from ablations.json: edits made here are lost. -->"
    return f"# What a modern recipe buys\n\n{note}\n\n{paragraph(text)}"


def held_fixed(record: Mapping[str, Any]) -> str:
    """What all rows have in common."""
    config = config_of(record, "laptop")
    tokens = config["batch_size"] * config["accumulation"] * config["max_seq_len"]
    found = [summarise(record, name) for name in record["variants"]]
    sizes = [summary.parameters for summary in found if summary] or [0]
    points = (
        f"**The text:** {config['data']}. Its last tenth, {config['n_val']:,} characters, is for "
        "validation only.",
        f"**The size:** {config['n_layers']} layers x {config['d_model']}, {config['n_heads']} "
        f"heads, context {config['max_seq_len']}. Biases, positions and an output layer of its own "
        f"are parameters too: the rows have {min(sizes):,} to {max(sizes):,}.",
        f"**The training:** {config['max_steps']:,} steps of {tokens:,} tokens, a warm-up of "
        f"{config['warmup_steps']:,} included; matrix products in {config['dtype']}. "
        "A seed decides the weights and the batches: row for row the same batches.",
        f"**The learning rates:** {shown(config_of(record, 'classic')['lr'])} where AdamW moves "
        "everything (the last table tries others), and where Muon moves the matrices "
        f"{shown(config['muon_lr'])}, with {shown(config['lr'])} for the rest. They were not "
        "searched anew for each row: a change that would like another rate is judged at this one.",
    )
    return "\n".join(["## What was held fixed\n", *(paragraph(point, "  ") for point in points)])


MEASURED = "## What was measured\n\n" + "\n".join(
    paragraph(point, "  ")
    for point in (
        "**loss:** nats a character over the whole validation split after the last step; the mean "
        "over the seeds, and the lowest and the highest of them.",
        "**difference:** of the means. A `~` says that the lowest-to-highest ranges of the two "
        "rows overlap: so few seeds cannot tell the rows apart.",
        "**ms a step, tokens/s:** the median step of a run, and of these the median over the "
        "seeds; evaluation is not in it. The rows have the same steps and not the same time, "
        "so read the two columns together.",
    )
)


def whole_way(record: Mapping[str, Any]) -> str:
    """The ladder in one sentence, if both of its ends are known."""
    ends = [summarise(record, record["tables"]["ladder"][i]["name"]) for i in (0, -1)]
    low, high = (summary.mean if summary else None for summary in ends)
    if low is None or high is None:
        return ""
    return f"From the first row to the last: {low:.4f} to {high:.4f}, which is {high - low:+.4f}."


def repeating(record: Mapping[str, Any]) -> str:
    """How to do it again, and where it was done."""
    runs = runs_of(record, *record["variants"])
    n_steps, n_seeds = config_of(record, "laptop")["max_steps"], len({r["seed"] for r in runs})
    seconds = sum(run["seconds"] for run in runs)
    places: dict[str, dict[str, None]] = {}  # machine: its commits, in order
    for run in runs:
        environment = record["environments"][run["where"]]
        places.setdefault(machine(environment), {})[commit(environment)] = None
    lines = [
        "## Do it again",
        f"```\npython tools/ablations.py --steps {n_steps} --seeds {n_seeds} --out DIR\n```",
        paragraph(
            f"The {len(runs)} runs of this page took {seconds / 60:.1f} minutes of training. "
            "A call that is interrupted goes on where it was, and `--only` trains a few rows."
        ),
        "\n".join(paragraph(f"{key}; {', '.join(places[key])}.", "  ") for key in places),
    ]
    if len(places) > 1:
        lines.append("Times of different machines do not compare.")
    return "\n\n".join(lines)


def machine(environment: Mapping[str, Any]) -> str:
    """Where a run was made, in words."""
    return (
        f"{environment['cpu']}, {environment['cores']} cores; {environment['device']}; "
        f"{environment['platform']}, Python {environment['python']}, torch {environment['torch']}"
    )


def commit(environment: Mapping[str, Any]) -> str:
    """The state of the code, in words."""
    git = environment["git"]
    if git is None:
        return "no git"
    return f"commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}"


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

"""The page that tools/ablations.py writes: three tables and what to know of them, from its record.

The record is all there is to it: neither presets nor models are asked, so that a page can be
written again when they have changed.
"""

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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

# What to expect of a change, from those who proposed it and from what it computes; by the name of
# its step.
EXPECTED = {
    "rope": "less loss: a distance looks the same everywhere in the text, where learned positions "
    "must find it again for each pair of them (Su et al. 2021). More time: queries and keys are "
    "turned in every layer.",
    "rmsnorm": "the same loss in less time: no mean to subtract, and no biases to add (Zhang and "
    "Sennrich 2019).",
    "relu2": "less loss (So et al. 2021, found by a search over programs), in less time than GELU, "
    "which needs a tanh or an erf.",
    "qk-norm": "scores that cannot grow with the weights, so that high learning rates stay safe "
    "(Henry et al. 2020; Dehghani et al. 2023). More time: two norms more in a layer.",
    "untied": "less loss: reading a character and predicting it need not share a vector. With so "
    "few characters it costs next to nothing.",
    "muon": "much less loss after as many steps (Jordan et al. 2024). More time: every matrix goes "
    "through fifteen products at each step.",
    "wsd": "the same loss or less (Hu et al. 2024): the rate stays high, and most of the gain "
    "comes while it falls. No time.",
}


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


def render(record: Mapping[str, Any]) -> str:
    """The page, from the file alone."""
    parts = [opening(record), held_fixed(record), MEASURED, promised(record)]
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
        "so read the two columns together. A warm-up costs no time: how far `without warm-up` lies "
        "from `laptop` here tells how restless the machine was.",
    )
)


PROMISED = paragraph(
    "According to those who proposed it, and to what it computes. Not all of it comes true at this "
    "size and in so few steps."
)


def promised(record: Mapping[str, Any]) -> str:
    """What is to be expected of each step; the tables then say what it gave."""
    steps = [row["label"].removeprefix("+ ").split(" =")[0] for row in record["tables"]["ladder"]]
    points = [f"**{name}:** {EXPECTED[name]}" for name in steps if name in EXPECTED]
    return "\n".join(
        [f"## What each change should give\n\n{PROMISED}\n", *(paragraph(p, "  ") for p in points)]
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

"""Renders ablations.md from ablations.json: four tables, and how to read them.

Everything comes from the record; no preset or model is consulted, so the page can be rendered again
after they have changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tools.benchmarks.ablation_ideas import IDEAS
from tools.benchmarks.ablation_summary import (
    config_of,
    difference,
    runs_of,
    shown,
    standard_error,
    summarize,
    table_rows,
)
from tools.benchmarks.markdown_text import list_item, paragraph

COLUMNS = (
    *("variant", "change", "loss", "min to max", "difference", "standard error"),
    *("ms per step", "tokens/s", "seeds"),
)
SECTIONS = {
    "ladder": (
        "One change added at a time",
        "Each row keeps the changes of the rows above it. The difference is to the row above, so "
        "a negative one is an improvement.",
    ),
    "without": (
        "One change removed at a time",
        "Each row is `laptop` with one change reverted. The difference is to `laptop`, so a "
        "positive one is what the change contributes in the presence of all others; the order of "
        "the first table plays no part here.",
    ),
    "rates": (
        "AdamW at other learning rates",
        "A baseline with a badly chosen learning rate proves nothing, so these are the rows of "
        "AdamW at other rates. The difference is to the same row at its own rate. Where it is "
        "negative, the tables above overstate the gain over AdamW by about as much.",
    ),
    "ideas": (
        "Ideas that are not used",
        "Each row is `laptop` with one idea of papers and contests that the course does not use. "
        "The difference is to `laptop`, so a negative one is an improvement. The code, a few lines "
        "each, is in [model_ideas.py](model_ideas.py), [training_ideas.py](training_ideas.py) and "
        "[muon_ideas.py](muon_ideas.py). "
        "What is better here may not be in a longer run, where overfitting begins.",
    ),
}

RECIPE = ("ladder", "without", "rates")  # the tables whose models all have the sizes of `laptop`
STANDARD_ERRORS = 3  # how many of them a difference must have, to be more than noise

# What to expect of each step of the ladder, according to its authors and to what it computes.
EXPECTED = {
    "rope": "lower loss, because attention sees relative distances directly, whereas learned "
    "positions must learn each distance anew for every pair of positions (Su et al. 2021). More "
    "time: queries and keys are rotated in every layer.",
    "rmsnorm": "the same loss in less time: no mean to subtract, and no biases to add (Zhang and "
    "Sennrich 2019).",
    "relu2": "lower loss (So et al. 2021, found by an automated search) in less time than GELU, "
    "which needs a tanh or an erf.",
    "qk-norm": "attention scores that cannot grow with the weights, so that high learning rates "
    "stay stable (Henry et al. 2020; Dehghani et al. 2023). More time: two more norms per layer.",
    "untied": "lower loss, because reading a character and predicting it need not share a vector. "
    "With so few characters, the additional parameters cost next to nothing.",
    "muon": "much lower loss after the same number of steps (Jordan et al. 2024). More time: nine "
    "matrix products per weight matrix and step.",
    "wsd": "the same loss or lower (Hu et al. 2024): the learning rate stays high for longer, and "
    "most of the improvement comes while it decays. No additional time.",
}

MEASURED = (
    "**loss:** nats per character over the whole validation split after the last step: the mean "
    "over the seeds, and their range.",
    "**difference:** of the means. A `~` marks rows whose ranges overlap: with so few seeds, they "
    "cannot be told apart.",
    "**standard error:** of the difference, from the differences seed by seed, as section 4 of "
    "[theory.md](theory.md) computes it. Of three seeds: require three of them.",
    "**ms per step, tokens/s:** the median step of a run, without evaluation, and of these the "
    "median over the seeds. The rows have the same number of steps but not the same training time, "
    "so read the loss and the time together. A warm-up costs no time, so the difference in time "
    "between the row without it and `laptop` shows how noisy the machine was.",
)


def render(record: Mapping[str, Any]) -> str:
    """The page."""
    parts = [opening(record), held_fixed(record), measured(), expected(record)]
    for table, (title, text) in SECTIONS.items():
        if rows := table_rows(record, table):
            parts += [f"## {title}", paragraph(text), markdown_table(rows)]
            parts += [whole_ladder(record)] if table == "ladder" else []
            parts += [expected_of_ideas(record)] if table == "ideas" else []
    return "\n\n".join(part for part in [*parts, repeating(record)] if part) + "\n"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Text aligned to the left, numbers to the right."""
    rule = ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2)
    return "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, rule, *rows))


def opening(record: Mapping[str, Any]) -> str:
    """What the page is about."""
    n_changes = len(record["tables"]["ladder"]) - 1
    text = (
        "The classic small recipe (GPT-2's layout, AdamW, a cosine schedule) and the `laptop` "
        f"preset are {n_changes} changes apart. Each one is measured twice: added on the way from "
        "the first to the second, and removed from the second. `laptop` is the preset as it was "
        "when the models were trained. "
        "[tools/ablations.py](../tools/ablations.py) trained the models and wrote this page from "
        "[ablations.json](ablations.json); no number was typed by hand."
    )
    absent = sum(not runs_of(record, name) for name in record["variants"])
    if absent:
        text += f" {absent} of {len(record['variants'])} variants are not trained yet."
    note = "<!-- Written by tools/ablations.py from ablations.json: edits here are lost. -->"
    return f"# What a modern recipe contributes\n\n{note}\n\n{paragraph(text)}"


def held_fixed(record: Mapping[str, Any]) -> str:
    """What all rows have in common."""
    config = config_of(record, "laptop")
    tokens = config["batch_size"] * config["accumulation"] * config["max_seq_len"]
    recipe = [row for table in RECIPE for row in record["tables"].get(table, [])]
    summaries = [summarize(record, row["name"]) for row in recipe]
    sizes = [summary.parameters for summary in summaries if summary] or [0]
    points = (
        f"**The text:** {config['data']}. Its last tenth, {config['n_val']:,} characters, is used "
        "for validation only.",
        f"**The size:** {config['n_layers']} layers x {config['d_model']}, {config['n_heads']} "
        f"heads, context {config['max_seq_len']}. Biases, positions and an untied output layer "
        f"change the number of parameters: {min(sizes):,} to {max(sizes):,}.",
        f"**The training:** {config['max_steps']:,} steps of {tokens:,} tokens, including a "
        f"warm-up of {config['warmup_steps']:,} steps; matrix products in {config['dtype']}. The "
        "seed determines the weights and the batches, so every row sees the same batches.",
        f"**The learning rates:** {shown(config_of(record, 'classic')['lr'])} where AdamW updates "
        "all parameters (the last table tries others); where Muon updates the matrices, "
        f"{shown(config['muon_lr'])} for them and {shown(config['lr'])} for the rest. They were "
        "not tuned for each row, so a change that needs another rate is measured at this one.",
    )
    return "\n".join(["## What was held fixed\n", *map(list_item, points)])


def measured() -> str:
    """What the columns mean."""
    return "\n".join(["## What was measured\n", *map(list_item, MEASURED)])


def expected(record: Mapping[str, Any]) -> str:
    """What each step should give; the tables show what it gave."""
    steps = [row["label"].removeprefix("+ ").split(" =")[0] for row in record["tables"]["ladder"]]
    points = [f"**{name}:** {EXPECTED[name]}" for name in steps if name in EXPECTED]
    text = paragraph(
        "According to its authors, and to what it computes. Not all of it holds at this size and "
        "in so few steps."
    )
    return "\n".join([f"## What to expect of each change\n\n{text}\n", *map(list_item, points)])


def expected_of_ideas(record: Mapping[str, Any]) -> str:
    """What each idea should give, and which of them gave more than noise."""
    rows = record["tables"]["ideas"]
    points = [
        list_item(f"**{row['label']}:** {IDEAS[row['label']].expected}")
        for row in rows
        if row["label"] in IDEAS and summarize(record, row["name"])
    ]
    parts = ["\n".join(["What to expect of them:\n", *points])]
    better, worse = clear_differences(record, rows)
    if better or worse:
        text = (
            f"By {STANDARD_ERRORS} standard errors or more, better than `laptop`: "
            f"{', '.join(better) or 'none'}. Worse: {', '.join(worse) or 'none'}."
        )
        parts.append(paragraph(text))
    return "\n\n".join(parts)


def clear_differences(
    record: Mapping[str, Any], rows: Sequence[Mapping[str, str]]
) -> tuple[list[str], list[str]]:
    """The labels of the rows that are better than what they are compared with, and worse."""
    better: list[str] = []
    worse: list[str] = []
    for row in rows:
        mine = summarize(record, row["name"])
        base = summarize(record, row["compared"]) if row["compared"] else None
        error = standard_error(mine, base) if mine else ""
        if mine is None or not error:
            continue
        delta = float(difference(mine, base).split()[0])
        if abs(delta) >= STANDARD_ERRORS * float(error):
            (better if delta < 0 else worse).append(row["label"])
    return better, worse


def whole_ladder(record: Mapping[str, Any]) -> str:
    """The first table in one sentence, if both of its ends are known."""
    ends = [summarize(record, record["tables"]["ladder"][i]["name"]) for i in (0, -1)]
    first, last = (summary.mean if summary else None for summary in ends)
    if first is None or last is None:
        return ""
    return (
        f"From the first row to the last, the loss changes from {first:.4f} to {last:.4f}: "
        f"{last - first:+.4f}."
    )


def repeating(record: Mapping[str, Any]) -> str:
    """How to repeat it, and where it was run."""
    runs = runs_of(record, *record["variants"])
    n_steps = config_of(record, "laptop")["max_steps"]
    n_seeds = len({run["seed"] for run in runs})
    seconds = sum(run["seconds"] for run in runs)
    places: dict[str, dict[str, None]] = {}  # machine: its commits, in order
    for run in runs:
        environment = record["environments"][run["where"]]
        places.setdefault(machine(environment), {})[commit(environment)] = None
    lines = [
        "## Run it again",
        f"```\npython tools/ablations.py --steps {n_steps} --seeds {n_seeds} --out DIR\n```",
        paragraph(
            f"The {len(runs)} runs of this page took {seconds / 60:.1f} minutes of training. "
            "After an interruption, the same command continues; `--only` trains just a few rows."
        ),
        "\n".join(list_item(f"{key}; {', '.join(places[key])}.") for key in places),
    ]
    if len(places) > 1:
        lines.append("Times measured on different machines are not comparable.")
    return "\n\n".join(lines)


def machine(environment: Mapping[str, Any]) -> str:
    """The machine and the versions of one call."""
    return (
        f"{environment['cpu']}, {environment['cores']} cores; {environment['device']}; "
        f"{environment['platform']}, Python {environment['python']}, torch {environment['torch']}"
    )


def commit(environment: Mapping[str, Any]) -> str:
    """The state of the code in one call."""
    git = environment["git"]
    if git is None:
        return "no git"
    changed = " with uncommitted changes" if git["dirty"] else ""
    return f"commit {git['commit'][:12]}{changed}"

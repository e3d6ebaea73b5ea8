"""Writes 09_capstone/BENCHMARKS.md and its picture from the committed results.

Every figure on the page comes from the files that tools/benchmarks/results.py reads.
"""

from collections.abc import Sequence
from pathlib import Path

from evaluation import EQUAL_CHARACTERS
from tools.benchmarks.generation import BASELINE_RATIO
from tools.benchmarks.markdown_text import list_item, paragraph
from tools.benchmarks.picture import write_picture
from tools.benchmarks.report import (
    Section,
    description,
    markdown_table,
    median,
    spread,
)
from tools.benchmarks.results import FOLDER, Call, Results, read_results, results_table
from tools.benchmarks.targets import slower_than_baseline, targets_text
from tools.benchmarks.unit import STEPS, UNIT
from utils.files import atomic_write_text

NOTE = "<!-- Written by tools/benchmark.py --page from benchmark*.json: edits here are lost. -->"
PICTURE = "![Speeds of training and generation, ours and the baseline's](pictures/benchmark.png)"
LOSS_PICTURE = "![Training and validation loss of the laptop preset](pictures/loss.png)"
LEGEND = (
    "`ours` is the capstone's architecture, trained with Muon unless AdamW is named. "
    "`transformers` is that library's GPT-2 of the same sizes, trained with PyTorch's fused AdamW "
    "in a process of its own. A value is the median over the rounds, and min-max is their range; "
    "ratios are computed within each round. `% of peak` is the model's FLOP/s as a share of what "
    "plain matrix products of the same precision reach."
)
COMPILED = (
    "`with --compile` is `train.py --compile`, which needs a C++ compiler; compiling takes half a "
    "minute or so, once, and is not counted."
)

EQUAL = (
    "A longer context lowers the loss, so the next column compares models *at equal evaluation*: "
    f"in non-overlapping blocks of {EQUAL_CHARACTERS} characters over the same tenth. A model "
    "whose context is shorter is evaluated in blocks of its own context, which gives the same loss "
    "again. Where it was measured, the tables below also show the loss on the first two thirds of "
    "that tenth, on which settings may be tuned, and on its last third, which tuning leaves alone."
)
UNITS = (
    f"Seconds depend on the machine. One *unit* is what transformers' GPT-2 needs for "
    f"{UNIT.max_steps:,} steps of {UNIT.batch_size} x {UNIT.model.max_seq_len} tokens with "
    f"{UNIT.model.n_layers} layers x {UNIT.model.d_model} in float32, measured before, between and "
    f"after the runs of the same command: {STEPS} steps at a time, extrapolated. A cell that says "
    "*not measured* belongs to a measurement that is older than its column."
)


def write_page(folder: Path = FOLDER) -> list[Path]:
    """Write BENCHMARKS.md and pictures/benchmark.png; return their paths."""
    results = read_results(folder)
    page = folder / "BENCHMARKS.md"
    picture = folder / "pictures" / "benchmark.png"
    shown = [*speed_sections(results.main), *results.generation.starting_with("generation ")]
    picture.parent.mkdir(exist_ok=True)
    write_picture(picture, shown, description(results.main.machine)[0])
    atomic_write_text(page, render(results))
    return [page, picture]


def render(results: Results) -> str:
    """The page."""
    parts = (
        opening(results),
        trained_models(results),
        targets_text(results),
        training_speed(results),
        training_time(results),
        generation_speed(results),
        changes(results),
        processes(results),
        repeating(),
    )
    return "\n\n".join(parts) + "\n"


def speed_sections(call: Call) -> list[Section]:
    """The sections on training speed."""
    return call.starting_with("training ")


def measured(call: Call, sections: Sequence[Section]) -> str:
    """The command, the machine and the tables."""
    machine = "\n".join(list_item(line) for line in description(call.machine))
    tables = [markdown_table(section) for section in sections]
    return "\n\n".join([f"```\n{call.command}\n```", machine, *tables])


def opening(results: Results) -> str:
    """What was measured, on what, and how noisy it was."""
    rows = [row for section in speed_sections(results.main) for row in section.rows]
    noisiest = max(max(row.values) / min(row.values) for row in rows)
    text = (
        "What [tools/benchmark.py](../tools/benchmark.py) measured on Tiny Shakespeare, on two "
        "cores of an AMD EPYC processor with bfloat16 arithmetic. It is a virtual machine whose "
        "speed varies from day to day, and within a measurement: in the noisiest row on training "
        f"speed, the fastest round is {noisiest:.1f} times the slowest. So read the ranges too, "
        "not only the medians. Close other busy programs when you train: on two cores, another "
        "busy process can make training several times slower."
    )
    return f"# Benchmarks\n\n{NOTE}\n\n{paragraph(text)}\n\n{PICTURE}"


def trained_models(results: Results) -> str:
    """The table of models, how it was measured, and the long run."""
    run = results.runs["long_run"]
    limited = results.main.row("laptop", "validation loss", "--max-minutes")
    n_seeds = len(limited.values)
    n_full = len(results.full.row("full", "validation loss", "after ").values)
    how = (
        "The loss is the mean over every position of the last tenth of the text, in "
        "non-overlapping blocks of one context. Times exclude evaluations, except in the second "
        f"row. The first two rows are medians over seeds 0 to {n_seeds - 1}, the third over seeds "
        f"0 to {n_full - 1}, with the range in parentheses. They come from the tables below, whose "
        "models are trained as `train.py` trains them. The same seed and `--dtype` give the same "
        "losses again on the same machine; `config.yaml` records the precision that was chosen."
    )
    seconds = 60 * float(limited.label.split()[1])
    limit = (
        "A time limit is converted to a number of steps early in the run, so a run exceeds it when "
        f"the machine slows down later: with `{limited.label}`, which is {seconds:.3g} s, the "
        f"longest took {limited.note.removeprefix('at most ')}."
    )
    last = (
        f"The last row is a single run with seed {run['seed']}, of the preset as it was at commit "
        f"{run['commit']}: longer, with twice the context that `full` had then, and with more "
        "dropout to reduce overfitting:"
    )
    command = f"```\npython 09_capstone/{run['command']}\n```"
    table = results_table(results)
    texts = [paragraph(text) for text in (how, EQUAL, UNITS, limit, last)]
    return "\n\n".join(["## Trained models", table, *texts, command, LOSS_PICTURE])


def training_speed(results: Results) -> str:
    """Tokens per second of training, beside the baseline."""
    sections = speed_sections(results.main)
    slower = slower_than_baseline(sections)
    parts = ["## Training speed", measured(results.main, sections), paragraph(LEGEND)]
    if any("--compile" in row.label for section in sections for row in section.rows):
        parts.append(paragraph(COMPILED))
    return "\n\n".join([*parts, paragraph(slower)] if slower else parts)


def training_time(results: Results) -> str:
    """Seconds to given losses, for both presets."""
    laptop = results.main.starting_with("laptop preset")
    full = results.full.starting_with("full preset")
    first = paragraph("The `laptop` preset, measured by the same command:")
    second = paragraph("The `full` preset, measured by a second command:")
    tables = [markdown_table(section) for section in laptop]
    parts = ["## Time to a given loss", first, *tables, second, measured(results.full, full)]
    return "\n\n".join(parts)


def generation_speed(results: Results) -> str:
    """Tokens per second of generation, beside the baseline."""
    call = results.generation
    sections = call.starting_with("generation ")
    text = (
        "Measured by another command, with more rounds. With the KV cache, matrices of 131,072 "
        "elements or more (those of `6x384`) are stored as float16."
    )
    parts = ["## Generation speed", paragraph(text), measured(call, sections)]
    return "\n\n".join([*parts, paragraph(earlier_ratios(results.main))])


def earlier_ratios(call: Call) -> str:
    """What the first call measured of the same, since it is less favourable in places."""
    rows = {
        section.title.split(",")[0].removeprefix("generation "): section[BASELINE_RATIO]
        for section in call.starting_with("generation ")
    }
    ratios = " and ".join(f"{median(row)} {spread(row)} for `{size}`" for size, row in rows.items())
    n_rounds = len(next(iter(rows.values())).values)
    return (
        f"The first command measured generation as well, in {n_rounds} rounds: there, ours was "
        f"faster than the baseline by a factor of {ratios}. Its other values are in "
        "[benchmark.json](benchmark.json)."
    )


def changes(results: Results) -> str:
    """What each optimization gives."""
    text = (
        "Measured by the first command. Each row adds one optimization to the row above and "
        "computes the same function. [Lesson 08](../08_engineering/README.md) explains what to "
        "expect."
    )
    tables = map(markdown_table, results.main.starting_with("one change"))
    return "\n\n".join(["## One change at a time", paragraph(text), *tables])


def processes(results: Results) -> str:
    """Start-up and memory."""
    starts = ("start-up", "peak resident memory")
    sections = [section for start in starts for section in results.main.starting_with(start)]
    tables = map(markdown_table, sections)
    return "\n\n".join(
        ["## Start-up and memory", paragraph("Measured by the first command."), *tables]
    )


def repeating() -> str:
    """How to measure again."""
    text = (
        "The files behind this page are [benchmark.json](benchmark.json), "
        "[benchmark_full.json](benchmark_full.json), "
        "[benchmark_generation.json](benchmark_generation.json) and, for the parameter counts and "
        "the last row of the first table, [benchmark_runs.json](benchmark_runs.json). Run a "
        "command above with `--out DIR`, copy `DIR/results.json` over its file, and write the page "
        "and its picture again:"
    )
    command = "```\npython tools/benchmark.py --page\n```"
    return "\n\n".join(["## Measure again", paragraph(text), command])

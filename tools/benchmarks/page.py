"""Writes 09_capstone/BENCHMARKS.md and its picture from the committed results.

Every figure on the page comes from the files that tools/benchmarks/results.py reads.
"""

from collections.abc import Sequence
from pathlib import Path

from evaluation import EQUAL_CHARACTERS
from tools.benchmarks.generation import BASELINE_RATIO
from tools.benchmarks.losses import LIMITED
from tools.benchmarks.markdown_text import list_item, paragraph
from tools.benchmarks.picture import write_picture
from tools.benchmarks.report import (
    Section,
    description,
    markdown_table,
    median,
    spread,
)
from tools.benchmarks.results import (
    FOLDER,
    GENERATION,
    MAIN,
    TRAINED,
    Call,
    Results,
    read_results,
    results_table,
)
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
    "that tenth and on its last third. The two are not alike. The first part is the rest of *The "
    "Taming of the Shrew*, whose beginning is in the training text; nine tenths of the last third "
    "are *The Tempest*, of which nothing is. So a model that memorizes the plays it has read can "
    "get better on the first part and worse on the last. That is why weight decay and dropout were "
    "chosen on the end of the training text, which those trials did not train on: "
    "[Choose settings](running.md#choose-settings-without-the-validation-split)."
)
UNITS = (
    f"Seconds depend on the machine. One *unit* is what transformers' GPT-2 needs for "
    f"{UNIT.max_steps:,} steps of {UNIT.batch_size} x {UNIT.model.max_seq_len} tokens with "
    f"{UNIT.model.n_layers} layers x {UNIT.model.d_model} in float32, measured before and after "
    f"each run: {STEPS} steps at a time, extrapolated. A cell that says *not measured* belongs to "
    "a measurement that is older than its column."
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
        repeating(results),
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
    machines = " or ".join(dict.fromkeys(call.machine["cpu"] for call in results.calls))
    text = (
        "What [tools/benchmark.py](../tools/benchmark.py) measured on Tiny Shakespeare, on virtual "
        f"machines with two cores and bfloat16 arithmetic ({machines}): above each group of tables "
        "are its command and its machine, so compare only figures of one group. The speed of such "
        "a machine varies from day to day, and within a measurement: in the noisiest row on "
        f"training speed, the fastest round is {noisiest:.1f} times the slowest. So read the "
        "ranges too, not only the medians. Close other busy programs when you train: on two cores, "
        "another busy process can make training several times slower."
    )
    return f"# Benchmarks\n\n{NOTE}\n\n{paragraph(text)}\n\n{PICTURE}"


def trained_models(results: Results) -> str:
    """The table of models, and how it was measured."""
    how = (
        "The loss is the mean over every position of the last tenth of the text, in "
        "non-overlapping blocks of one context. Times exclude evaluations, except in the second "
        f"row. A value is the median over the seeds, {seeds(results)}, with the range in "
        "parentheses. They come from the tables below, whose models are trained as `train.py` "
        "trains them. The same seed and `--dtype` give the same losses again on the same machine; "
        "`config.yaml` records the precision that was chosen."
    )
    limited = results.trained[LIMITED].row(LIMITED, "validation loss", "--max-minutes")
    seconds = 60 * float(limited.label.split()[1])
    limit = (
        "A time limit is converted to a number of steps early in the run, so a run exceeds it when "
        f"the machine slows down later: with `{limited.label}`, which is {seconds:.3g} s, the "
        f"longest took {limited.note.removeprefix('at most ')}."
    )
    texts = [paragraph(text) for text in (how, EQUAL, UNITS, limit)]
    return "\n\n".join(["## Trained models", results_table(results), *texts, LOSS_PICTURE])


def seeds(results: Results) -> str:
    """How many seeds each preset was trained with, in words."""
    counts = {
        name: len(call.row(name, "validation loss", "after ").values)
        for name, call in results.trained.items()
    }
    if len(set(counts.values())) == 1:
        return f"0 to {counts[LIMITED] - 1}"
    each = [f"0 to {n_seeds - 1} for `{name}`" for name, n_seeds in counts.items()]
    return f"{', '.join(each[:-1])} and {each[-1]}"


def training_speed(results: Results) -> str:
    """Tokens per second of training, beside the baseline."""
    sections = speed_sections(results.main)
    slower = slower_than_baseline(sections)
    parts = ["## Training speed", measured(results.main, sections), paragraph(LEGEND)]
    if any("--compile" in row.label for section in sections for row in section.rows):
        parts.append(paragraph(COMPILED))
    return "\n\n".join([*parts, paragraph(slower)] if slower else parts)


def training_time(results: Results) -> str:
    """Seconds to given losses, for each preset."""
    parts = ["## Time to a given loss"]
    for name, call in results.trained.items():
        parts += [f"### `{name}`", measured(call, call.starting_with(f"{name} preset"))]
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


def repeating(results: Results) -> str:
    """How to measure again, and how long the training took."""
    minutes = {
        name: sum(call.row(name, "training time", "to the last step").values) / 60
        for name, call in results.trained.items()
    }
    took = " and ".join(f"{total:.0f} for `{name}`" for name, total in minutes.items())
    files = [f"[{name}]({name})" for name in (MAIN, *TRAINED.values(), GENERATION)]
    text = (
        f"The files behind this page are {', '.join(files[:-1])} and {files[-1]}. Run a command "
        "above with `--out DIR`, copy `DIR/results.json` over its file (that of a preset holds "
        "that preset's tables alone), and write the page and its picture again. The minutes of "
        f"training, of all seeds together and without evaluations and units, were {took}."
    )
    command = "```\npython tools/benchmark.py --page\n```"
    return "\n\n".join(["## Measure again", paragraph(text), command])

"""How fast is the course here? Training, generation, start-up and memory, measured in one run.

    python tools/benchmark.py                          # some minutes; --quick: under one
    python tools/benchmark.py --only generation
    python tools/benchmark.py --train-seeds 3          # also the time to given losses: long
    python tools/benchmark.py --out FOLDER             # results.json, table.md, picture.png too

The peer is GPT-2 as the library transformers writes it (tools/benchmark_peer.py says how it is set
up). Both sides have the same sizes, vocabulary, batches and threads, and take turns; a training
step is everything from the batch to the moved weights. Ours is the capstone's: its newer layout,
its Muon with AdamW, the precision that is faster here. Rows in float32 on both sides, and in
bfloat16 on both where it is ours, stand beside it. All of it runs on the CPU.

Dimensions: none; "6x384" is 6 layers, 384 wide.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from checkpointing import save_checkpoint
from compute_peak import matmul_peak, training_flops_per_token
from generator import choose_with, generate_tokens
from model.config import MODERN, MODERN_TRAINING, preset
from model.tiny_transformer import Engine, build_model, choose_engine
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmark_peer import (
    INSTALL,
    PeerTrainer,
    build_peer,
    classic,
    is_installed,
    peer_generate,
)
from tools.benchmark_report import (
    OURS,
    PEER,
    SPEED,
    Row,
    Section,
    describe_machine,
    description,
    ratio,
    table,
    write_report,
)
from training_data import TrainingData, load_training_data
from training_loop import Callback, StepReport, Trainer
from utils.command_line import OneLineParser
from utils.config import ModelConfig, SampleConfig, TrainConfig
from utils.errors import CourseError, UsageError, pick, run_program

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
LEVELS = (1.92, 1.70, 1.60)  # validation losses that --train-seeds waits for
MINUTES = 0.25  # of the run that is given so long
LARGE = ModelConfig(max_seq_len=256, d_model=384, n_layers=6, n_heads=6, **MODERN)
SMALL = replace(LARGE, d_model=128, n_layers=4, n_heads=4)
TRAINED = {  # name: configuration, steps a round
    "laptop": (preset("laptop"), 20),
    "6x384": (TrainConfig(LARGE, batch_size=16, **MODERN_TRAINING), 2),
}
SPOKEN = {"4x128": SMALL, "6x384": LARGE}
LEGEND = (
    "ours: the capstone's layout and its Muon with AdamW. transformers: its GPT-2 of the same "
    "sizes, PyTorch's fused AdamW. A ratio is of values measured in one round; of peak: "
    "the model's arithmetic, as a share of what plain matrix products of that type reached in it."
)
# A process inherits the peak of the one that started it, and this one is large. Between it and the
# program to be measured stands a small one.
MEASURE_CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
IMPORT_TORCH = [sys.executable, "-c", "import torch; print(0, flush=True)"]

clock = time.perf_counter
Run = Callable[[], float]


def main() -> None:
    """Measure, print the table section by section, and write the files if they are asked for."""
    args = parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)  # now, not when the work is done
    data = load_training_data(args.data)
    machine = describe_machine(data.origin)
    for line in description(machine):
        print(textwrap.fill(line, 80, subsequent_indent="    "))
    sections = []
    for section in measure(args, data):
        sections.append(section)
        print(f"\n{table(section)}", flush=True)
    print(f"\n{textwrap.fill(LEGEND, 80)}")
    if args.out is not None:
        for path in write_report(args.out, machine, sections, LEGEND):
            print(f"wrote {path}")


def parse_args(words: list[str] | None = None) -> argparse.Namespace:
    """The command line. Raises UsageError, in one line."""
    parser = OneLineParser(description="Measure training, generation, start-up and memory.")
    parser.add_argument("--only", nargs="+", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, metavar="N", help="values behind a median (5)")
    parser.add_argument("--quick", action="store_true", help="two short rounds, not to be quoted")
    parser.add_argument(
        "--train-seeds", type=int, default=0, metavar="N", help="train the laptop preset N times"
    )
    parser.add_argument("--data", default="shakespeare", metavar="TEXT", help="as train.py's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the results there as well")
    args = parser.parse_args(words)
    args.rounds = (2 if args.quick else 5) if args.rounds is None else args.rounds
    if args.rounds < 1 or args.train_seeds < 0:
        raise UsageError("--rounds must be 1 or more, and --train-seeds 0 or more")
    for name in args.only or ():
        pick(name, SECTIONS, "section")
    if args.only and ("losses" in args.only) != (args.train_seeds > 0):
        raise UsageError("--only losses and --train-seeds N belong together")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file, not a folder")
    return args


def measure(args: argparse.Namespace, data: TrainingData) -> Iterator[Section]:
    """Yield the sections that were asked for, each when it is done."""
    for name, section in SECTIONS.items():
        if name in (args.only or SECTIONS) and (name != "losses" or args.train_seeds):
            yield from section(args, data)


# --- what all sections share ---


def take_turns(runs: Mapping[str, Run], rounds: int, what: str) -> dict[str, tuple[float, ...]]:
    """Run each once, then each once more, and so on; return the values of each."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    with progress(rounds * len(runs), what) as bar:
        for _ in range(rounds):
            for name, run in runs.items():
                values[name].append(run())
                bar.update()
    return {name: tuple(found) for name, found in values.items()}


def progress(total: int, what: str) -> tqdm:
    """A line that moves on a terminal while something is measured, and then goes away."""
    layout = "{desc} |{bar}| {n_fmt} of {total_fmt}, {remaining} left"
    return tqdm(total=total, desc=what, disable=None, leave=False, ncols=79, bar_format=layout)


def speed(work: Callable[[], object], amount: float) -> float:
    """How much a second, for work that does `amount`."""
    start = clock()
    work()
    return amount / (clock() - start)


def repeat(work: Callable[[], object], n: int) -> None:
    """Do it n times."""
    for _ in range(n):
        work()


def with_vocabulary(config: ModelConfig, data: TrainingData) -> ModelConfig:
    """The configuration for the text at hand."""
    return replace(config, vocab_size=data.tokenizer.vocab_size)


# --- training ---


def training(args: argparse.Namespace, data: TrainingData) -> Iterator[Section]:
    """Tokens per second of a training step, and the share of the peak that it reaches."""
    for name, (config, n_steps) in TRAINED.items():
        config = replace(config, model=with_vocabulary(config.model, data), device="cpu")
        if args.quick:  # four rows are enough to see that it works
            config, n_steps = replace(config, batch_size=min(4, config.batch_size)), 1
        engine = choose_engine(config)
        runs = training_runs(config, data, engine, n_steps)
        values = take_turns(runs, args.rounds, f"training, {name}")
        sizes = f"{config.batch_size} x {config.model.max_seq_len} tokens a step"
        yield Section(f"training {name}, {sizes}", SPEED, training_rows(values, config, engine))


def training_runs(
    config: TrainConfig, data: TrainingData, engine: Engine, n_steps: int
) -> dict[str, Run]:
    """What takes turns: the peaks, ours and the peer's, the engine's precision first."""
    exact = choose_engine(replace(config, dtype="float32"))
    engines = {engine.dtype_name: engine, exact.dtype_name: exact}
    runs: dict[str, Run] = {
        f"peak, {name}": partial(matmul_peak, one.dtype, CPU) for name, one in engines.items()
    }
    trainers: dict[str, Trainer | PeerTrainer] = {}
    for name, one in engines.items():
        model = build_model(config.model, one, config.seed)
        trainers[f"{OURS}, {name}"] = Trainer(
            model, data.train, data.val, config, CPU, one.dtype
        )
    for name, one in reversed(engines.items()) if is_installed() else ():
        trainers[f"{PEER}, {name}"] = PeerTrainer(config, data.train, one.dtype)
    tokens = n_steps * config.batch_size * config.model.max_seq_len
    for label, trainer in trainers.items():
        repeat(trainer.train_step, 2)  # warms up and does not count
        runs[label] = partial(speed, partial(repeat, trainer.train_step, n_steps), tokens)
    return runs


def training_rows(
    values: Mapping[str, tuple[float, ...]], config: TrainConfig, engine: Engine
) -> tuple[Row, ...]:
    """Speeds with their shares of the peak, ratios of ours to the peer's, and the peaks."""
    flops = {
        OURS: training_flops_per_token(config.model),
        PEER: training_flops_per_token(classic(config.model)),
    }
    rows, peaks, ratios = [], [], []
    for label, found in values.items():
        side, dtype = label.split(", ")
        if side == "peak":
            name = f"peak of matrix products, {dtype}, GFLOP/s"
            peaks.append(Row(name, tuple(value / 1e9 for value in found)))
        else:
            pairs = zip(found, values[f"peak, {dtype}"], strict=True)
            shares = tuple(value * flops[side] / peak for value, peak in pairs)
            rows.append(Row(label, found, of_peak=shares))
    pairs = [(engine.dtype_name, "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")]
    for ours, theirs in dict.fromkeys(pairs):
        above, below = values.get(f"{OURS}, {ours}"), values.get(f"{PEER}, {theirs}")
        if above and below:
            ratios.append(ratio(f"ratio: ours {ours} / {PEER} {theirs}", above, below))
    absent = [] if ratios else [Row(PEER, note=INSTALL)]
    return (*rows, *absent, *ratios, *peaks)


# --- time to given losses ---


class Watch(Callback):
    """Moves a bar and remembers after how many seconds of training which loss was measured."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar
        self.losses: list[tuple[float, float]] = []  # seconds, validation loss

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        self.bar.total = trainer.max_steps
        self.bar.update()
        if report.val_loss is not None:
            self.losses.append((report.seconds, report.val_loss))

    def seconds_to(self, level: float) -> float | None:
        """When the loss was first at or below `level`; None if never."""
        return next((seconds for seconds, loss in self.losses if loss <= level), None)


def losses(args: argparse.Namespace, data: TrainingData) -> Iterator[Section]:
    """Train the laptop preset: seconds to given losses, and what a quarter of a minute gives."""
    config = preset("laptop")
    config = replace(
        config, model=with_vocabulary(config.model, data), eval_interval=125, device="cpu"
    )
    engine = choose_engine(config)
    name = f"the laptop preset, {engine.dtype_name}"
    seeds = range(args.train_seeds)
    runs = [train_once(replace(config, seed=seed), data, engine)[0] for seed in seeds]
    yield Section(f"{name}: training", "seconds", level_rows(runs))
    (seconds, loss), total = runs[-1].losses[-1], 0.0
    watch, total = train_once(replace(config, max_minutes=MINUTES), data, engine)
    seconds, loss = watch.losses[-1]
    steps = (Row(f"final loss, {config.max_steps} steps", _last(runs, 1), 4),)
    given = f"given {MINUTES} minutes"
    short = (
        Row(f"{given}: loss", (loss,), 4),
        Row(f"{given}: seconds of training", (seconds,), 1),
        Row(f"{given}: seconds with its evaluations", (total,), 1),
    )
    yield Section(f"{name}: validation loss", "nats", steps + short)


def _last(runs: list[Watch], which: int) -> tuple[float, ...]:
    return tuple(run.losses[-1][which] for run in runs)


def level_rows(runs: list[Watch]) -> tuple[Row, ...]:
    """A row for each level, of the seeds that came there, and one for the whole run."""
    rows = []
    for level in LEVELS:
        times = [seconds for run in runs if (seconds := run.seconds_to(level)) is not None]
        some = f"{len(times)} of {len(runs)} seeds" if times else "not reached"
        note = "" if len(times) == len(runs) else some
        rows.append(Row(f"to a validation loss of {level:.2f}", tuple(times), 1, note=note))
    return (*rows, Row("in all, evaluations not counted", _last(runs, 0), 1))


def train_once(config: TrainConfig, data: TrainingData, engine: Engine) -> tuple[Watch, float]:
    """Train as train.py does, without a folder; returns what was seen, and the seconds in all."""
    model = build_model(config.model, engine, config.seed)
    with progress(config.max_steps, f"training, seed {config.seed}") as bar:
        watch = Watch(bar)
        trainer = Trainer(model, data.train, data.val, config, CPU, engine.dtype, [watch])
        start = clock()
        trainer.fit()
        return watch, clock() - start


# --- generation ---


def generation(args: argparse.Namespace, data: TrainingData) -> Iterator[Section]:
    """Tokens per second of text: with the cache and without, sixteen at once, and the peer."""
    for name, config in SPOKEN.items():
        config = with_vocabulary(config, data)
        n_tokens = 31 if args.quick else config.max_seq_len - 1  # with the prompt, a full context
        runs = generation_runs(config, n_tokens)
        values = take_turns(runs, args.rounds, f"generation, {name}")
        title = f"generation {name}, {n_tokens} new tokens, float32"
        yield Section(title, SPEED, generation_rows(values))


CACHED, UNCACHED = f"{OURS}, one text", f"{OURS}, one text, no cache"
SIXTEEN, PEER_CACHED = f"{OURS}, 16 texts at once", f"{PEER}, one text"


def generation_runs(config: ModelConfig, n_tokens: int) -> dict[str, Run]:
    """What takes turns."""
    model = TinyTransformerLM(config, Parts.fused()).eval()
    works: dict[str, tuple[Callable[[int], object], int]] = {
        CACHED: (partial(speak, model, 1, True), 1),
        UNCACHED: (partial(speak, model, 1, False), 1),
        SIXTEEN: (partial(speak, model, 16, True), 16),
    }
    if is_installed():
        works[PEER_CACHED] = (partial(peer_generate, build_peer(config), [1]), 1)
    runs: dict[str, Run] = {}
    for label, (work, n_texts) in works.items():
        work(4)  # warms up and does not count
        runs[label] = partial(speed, partial(work, n_tokens), n_texts * n_tokens)
    return runs


def speak(model: TinyTransformerLM, n_texts: int, use_cache: bool, n_tokens: int) -> None:
    """Draw n_tokens for each of n_texts; the weights are random, which costs the same."""
    prompts = [[1]] * n_texts
    choose = choose_with(SampleConfig())
    for _ in generate_tokens(model, model.config, prompts, n_tokens, choose, use_cache):
        pass


def generation_rows(values: Mapping[str, tuple[float, ...]]) -> tuple[Row, ...]:
    """Speeds, and the ratios of ours to ours without the cache and to the peer."""
    rows = [Row(label, found) for label, found in values.items()]
    rows += [ratio("ratio: with the cache / without", values[CACHED], values[UNCACHED])]
    if PEER_CACHED not in values:
        return (*rows, Row(PEER, note=INSTALL))
    return (*rows, ratio(f"ratio: ours / {PEER}", values[CACHED], values[PEER_CACHED]))


# --- start-up and memory ---


def startup(args: argparse.Namespace, data: TrainingData) -> Iterator[Section]:
    """Seconds from the start of a process to the first character it prints."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fresh.safetensors"
        model = TinyTransformerLM(with_vocabulary(preset("laptop").model, data))
        save_checkpoint(path, model, data.tokenizer)
        letter = next(filter(str.isalpha, data.tokenizer.characters), " ")
        words = ["--checkpoint", str(path), "--max-tokens", "1", "--prompt", letter]
        sample = [sys.executable, "09_capstone/sample.py", *words, "--device", "cpu"]
        runs = {
            "sample.py --max-tokens 1": partial(first_character, sample),
            "python and import torch alone": partial(first_character, IMPORT_TORCH),
        }
        values = take_turns(runs, min(3, args.rounds), "start-up")
    rows = tuple(Row(label, found, 2) for label, found in values.items())
    yield Section("start-up, process to first character", "seconds", rows)


def first_character(command: list[str]) -> float:
    """Seconds until the program prints something. Raises CourseError if it fails."""
    start = clock()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe) as child:
        assert child.stdout is not None  # it is a pipe
        first = child.stdout.read(1)
        seconds = clock() - start
        said = child.communicate()[1].decode("utf-8", errors="replace")
    if child.returncode or not first:
        raise CourseError(f"{Path(command[1]).name} failed: {said.strip().rpartition(chr(10))[2]}")
    return seconds


def memory(args: argparse.Namespace, data: TrainingData) -> Iterator[Section]:
    """The most memory that train.py holds at once, from its first step to its last picture."""
    title, label = "memory, the peak of a process", "train.py --preset laptop"
    if importlib.util.find_spec("resource") is None:
        yield Section(title, "MiB", (Row(label, note="not measured: Windows keeps no count"),))
        return
    n_steps = 20 if args.quick else 100  # more steps do not need more
    with tempfile.TemporaryDirectory() as folder:
        words = ["--preset", "laptop", "--max-steps", str(n_steps), "--data", args.data]
        words += ["--device", "cpu", "--out-dir", f"{folder}/run", "--checkpoint-dir", folder]
        train = [sys.executable, "09_capstone/train.py", *words]
        runs = {
            label: partial(peak_memory, train),
            "python and import torch alone": partial(peak_memory, IMPORT_TORCH),
        }
        values = take_turns(runs, 1, "memory")
    yield Section(title, "MiB", tuple(Row(name, found) for name, found in values.items()))


def peak_memory(command: list[str]) -> float:
    """MiB that the program held at its peak. Raises CourseError if it fails."""
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE_CHILD, *command], cwd=ROOT, capture_output=True, check=False
    )
    if answer.returncode:
        said = answer.stderr.decode("utf-8", errors="replace").strip()
        raise CourseError(f"{Path(command[1]).name} failed: {said.rpartition(chr(10))[2]}")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kibibytes
    return int(answer.stdout) * unit / 2**20


SECTIONS = {
    "training": training,
    "losses": losses,
    "generation": generation,
    "startup": startup,
    "memory": memory,
}


if __name__ == "__main__":
    run_program(main)

"""What the programs themselves cost: seconds until sample.py speaks, and the memory of train.py.

Both are run as a person runs them, as processes of their own; beside each stands what Python and
`import torch` take alone, which no program of the course can go below.
"""

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from checkpointing import save_checkpoint
from model.config import preset
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.interleave import Settings, take_turns
from tools.benchmarks.report import Row, Section
from utils.errors import CourseError

CAPSTONE = Path(__file__).resolve().parents[2] / "09_capstone"
ALONE = "python and import torch alone"
IMPORT_TORCH = [sys.executable, "-c", "import torch; print(0, flush=True)"]
# A process is born with the peak of the one that starts it, and this one is large by now: between
# it and the program to be measured stands a small one, which also does the asking.
MEASURE_CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(1 if code else 0)
"""


def startup(settings: Settings) -> Iterator[Section]:
    """Seconds from the start of a process to the first character it prints."""
    tokenizer = settings.data.tokenizer
    letter = next(filter(str.isalpha, tokenizer.characters), tokenizer.characters[-1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fresh.safetensors"
        model = TinyTransformerLM(settings.fit(preset("laptop").model))
        save_checkpoint(path, model, tokenizer)
        words = ["--checkpoint", str(path), "--prompt", letter, "--max-tokens", "1"]
        sample = [sys.executable, str(CAPSTONE / "sample.py"), *words, "--device", "cpu"]
        runs = {
            "sample.py --max-tokens 1": partial(first_character, sample),
            ALONE: partial(first_character, IMPORT_TORCH),
        }
        values = take_turns(runs, min(3, settings.rounds), "start-up")
    rows = tuple(Row(label, found, 2) for label, found in values.items())
    yield Section("start-up, from process to first character", "seconds", rows)


def memory(settings: Settings) -> Iterator[Section]:
    """The most memory that train.py holds at once, from its first step to its last picture."""
    title, label = "memory, resident, the peak of a process", "train.py --preset laptop"
    if importlib.util.find_spec("resource") is None:
        yield Section(title, "MiB", (Row(label, note="not measured: Windows keeps no count"),))
        return
    n_steps = 20 if settings.quick else 100  # more steps do not need more
    with tempfile.TemporaryDirectory() as folder:
        words = ["--preset", "laptop", "--max-steps", str(n_steps), "--data", settings.source]
        words += ["--device", "cpu", "--checkpoint-dir", folder, "--out-dir", f"{folder}/run"]
        train = [sys.executable, str(CAPSTONE / "train.py"), *words]
        runs = {
            f"{label}, {n_steps} steps": partial(peak_memory, train),
            ALONE: partial(peak_memory, IMPORT_TORCH),
        }
        values = take_turns(runs, 1, "memory")
    yield Section(title, "MiB", tuple(Row(name, found) for name, found in values.items()))


def first_character(command: list[str]) -> float:
    """Seconds until the program prints something. Raises CourseError if it fails."""
    start, pipe = time.perf_counter(), subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as child:
        assert child.stdout is not None  # it is a pipe
        first = child.stdout.read(1)
        seconds = time.perf_counter() - start
        errors = child.communicate()[1]
    if child.returncode or not first:
        raise CourseError(failure(command, errors))
    return seconds


def peak_memory(command: list[str]) -> float:
    """MiB that the program held at its peak. Raises CourseError if it fails."""
    asking = [sys.executable, "-c", MEASURE_CHILD, *command]
    answer = subprocess.run(asking, capture_output=True, check=False)
    if answer.returncode:
        raise CourseError(failure(command, answer.stderr))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kibibytes
    return int(answer.stdout) * unit / 2**20


def failure(command: list[str], errors: bytes) -> str:
    """The program and the last line it said, which is the one that matters."""
    said = errors.decode("utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    return f"{Path(command[1]).name} failed: {said[-1]}"

"""Costs of whole processes: seconds until sample.py prints, and peak memory of train.py.

Both run as a user runs them. Beside each stands `import torch` in a bare Python process, a floor
that no program of the course can go below.
"""

import importlib.util
import string
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
from tools.benchmarks.interleave import Settings, interleave
from tools.benchmarks.report import Row, Section
from utils.errors import CourseError

CAPSTONE = Path(__file__).resolve().parents[2] / "09_capstone"
FLOOR = "import torch in a bare Python process"
IMPORT_TORCH = [sys.executable, "-c", "import torch; print(0, flush=True)"]
# A process inherits the peak memory of its parent, and the benchmark is large by now. So a small
# process in between starts the program to be measured and reads its peak.
MEASURE_CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(1 if code else 0)
"""


def startup(settings: Settings) -> Iterator[Section]:
    """Seconds from the start of a process to the first character it prints."""
    tokenizer = settings.data.tokenizer
    letters = filter(tokenizer.accepts, string.ascii_letters)
    letter = next(letters, None) or tokenizer.decode(settings.data.val[:1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fresh.safetensors"
        model = TinyTransformerLM(settings.fit(preset("laptop").model))
        save_checkpoint(path, model, tokenizer)
        flags = ["--checkpoint", str(path), "--prompt", letter, "--max-tokens", "1"]
        sample = [sys.executable, str(CAPSTONE / "sample.py"), *flags, "--device", "cpu"]
        measures = {
            "sample.py --max-tokens 1": partial(first_character, sample),
            FLOOR: partial(first_character, IMPORT_TORCH),
        }
        values = interleave(measures, min(3, settings.rounds), "start-up")
    rows = tuple(Row(label, measured, 2) for label, measured in values.items())
    yield Section("start-up, from launch to the first character", "seconds", rows)


def memory(settings: Settings) -> Iterator[Section]:
    """The peak resident memory of train.py, from its first step to its last picture."""
    title = "peak resident memory of a process"
    label = "train.py --preset laptop"
    if importlib.util.find_spec("resource") is None:
        note = "not measured: Windows does not record it"
        yield Section(title, "MiB", (Row(label, note=note),))
        return
    n_steps = 20 if settings.quick else 100  # the peak does not grow with more steps
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--preset", "laptop", "--max-steps", str(n_steps), "--data", settings.source]
        flags += ["--device", "cpu", "--checkpoint-dir", folder, "--out-dir", f"{folder}/run"]
        train = [sys.executable, str(CAPSTONE / "train.py"), *flags]
        measures = {
            f"{label}, {n_steps} steps": partial(peak_memory, train),
            FLOOR: partial(peak_memory, IMPORT_TORCH),
        }
        values = interleave(measures, 1, "memory")
    rows = tuple(Row(label, measured) for label, measured in values.items())
    yield Section(title, "MiB", rows)


def first_character(command: list[str]) -> float:
    """Seconds until the program prints something. Raises CourseError if it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None  # because it is a pipe
        first = child.stdout.read(1)
        seconds = time.perf_counter() - start
        errors = child.communicate()[1]
    if child.returncode or not first:
        raise CourseError(failure(command, errors))
    return seconds


def peak_memory(command: list[str]) -> float:
    """The program's peak memory in MiB. Raises CourseError if it fails."""
    measuring = [sys.executable, "-c", MEASURE_CHILD, *command]
    answer = subprocess.run(measuring, capture_output=True, check=False)
    if answer.returncode:
        raise CourseError(failure(command, answer.stderr))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS reports bytes, others KiB
    return int(answer.stdout) * unit / 2**20


def failure(command: list[str], errors: bytes) -> str:
    """The program's name and the last line of its error output, the one that matters."""
    lines = errors.decode("utf-8", errors="replace").strip().splitlines() or ["no output"]
    return f"{Path(command[1]).name} failed: {lines[-1]}"

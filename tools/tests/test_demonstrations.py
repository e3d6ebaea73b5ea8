"""Every module of a lesson that shows its idea when it is run ends well, and prints 80 columns."""

import ast
import importlib
import re
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tools.checks.course_files import python_files

ROOT = Path(__file__).resolve().parents[2]
MODULES = {  # files that people run: in a lesson's folder, or directly in utils
    path.as_posix(): path
    for path in python_files(ROOT)
    if path.parts[0][:2].isdigit() or path.parts[0] == "utils"
    if not {"tests", "exercises", "pictures", "grader"} & set(path.parts)
}
CHECKPOINT = ["--checkpoint", str(ROOT / "07_sampling" / "small_model.safetensors")]
ARGUMENTS = {
    "05_model/numpy_forward.py": CHECKPOINT,
}
SHORT = {  # a long training: a function of the module that takes fewer steps here
    "03_transformer_blocks/stack_lab.py": ("train", {"n_steps": 3}),
    "04_embeddings/position_lab.py": ("train", {"n_steps": 3}),
    "05_model/encoder.py": ("train", {"n_steps": 3}),
    "05_model/encoder_decoder.py": ("train", {"n_steps": 3}),
    "06_training/sick_runs.py": ("run", {"n_steps": 1}),
}
COLOR = re.compile(r"\033\[[\d;]*m")  # takes no column
SLOW = "takes more than five seconds: its own tests run its parts"
# Not run here, with the reason. Programs are not demonstrations; each has tests of its own.
TRAINS = "trains for minutes what pictures/draw.py shows"
LEFT_OUT = {
    "01_attention/flash_attention.py": SLOW,
    "07_sampling/speculative.py": SLOW,
    "08_engineering/compute_peak.py": SLOW,
    "08_engineering/step_profile.py": SLOW,
    "09_capstone/ablation_harness.py": SLOW,
    "09_capstone/contamination.py": SLOW,
    "09_capstone/overfitting_runs.py": SLOW,
    "00_setup/bigram.py": "test_bigram.py runs its main",
    "06_training/loss_samples.py": f"{TRAINS}: test_sick_runs.py runs its parts",
    "06_training/scaling_runs.py": f"{TRAINS}: test_training_theory.py runs its parts",
    "09_capstone/post_training/experiments.py": f"{TRAINS}: see test_post_experiments.py",
    "09_capstone/budget_runs.py": f"{TRAINS}: test_capstone_theory.py runs its parts",
    "09_capstone/texts_by_loss.py": f"{TRAINS}, and needs a checkpoint: test_capstone_theory.py",
    "05_model/compare_engines.py": SLOW,
    "09_capstone/model/tiny_transformer.py": "trains for a minute: its own tests run main briefly",
    "09_capstone/gutenberg.py": "a program, and needs a book: test_gutenberg.py runs it",
    "09_capstone/data/prepare_data.py": "a program: test_prepare_data.py runs it",
    "09_capstone/sample.py": "a program, and needs a checkpoint: test_sample.py runs it",
    "09_capstone/serve.py": "a server, which does not end: test_serve.py runs it",
    "utils/corpus.py": "its line holds an address or a path of any length: see test_corpus.py",
    "09_capstone/post_train.py": "a program like train.py: test_post_train.py runs it",
    "09_capstone/train.py": "a program that takes over the signals: test_train.py runs it",
}


def has_demonstration(path: Path) -> bool:
    """Whether a module does something when it is run."""
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse((ROOT / path).read_bytes()).body
    )


DEMONSTRATIONS = [name for name, path in MODULES.items() if has_demonstration(path)]


def test_what_is_left_out_or_made_short_exists() -> None:
    assert {*LEFT_OUT, *ARGUMENTS, *SHORT} <= {*DEMONSTRATIONS}


@pytest.mark.parametrize("name", [name for name in DEMONSTRATIONS if name not in LEFT_OUT])
def test_a_demonstration_ends_well_and_prints(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call_program: Callable[..., Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    if name in SHORT:
        main = shortened(name, monkeypatch)
    else:
        main = partial(runpy.run_path, str(ROOT / name), run_name="__main__")
    ended = call_program(main, *ARGUMENTS.get(name, ()))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.strip()
    assert max(len(line) for line in COLOR.sub("", ended.out).splitlines()) <= 80


def shortened(name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """The main of a module whose long training is short."""
    module = importlib.import_module(Path(name).stem)
    function, few = SHORT[name]
    train = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *args, **rest: train(*args, **{**rest, **few}))
    return module.main

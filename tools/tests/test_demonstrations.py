"""Every module of a lesson that shows its idea when it is run does so: it ends well, and prints."""

import ast
import runpy
from pathlib import Path

import pytest

from tools.checks.course_files import python_files

ROOT = Path(__file__).resolve().parents[2]
MODULES = {  # files that people run: in a lesson's folder, or directly in utils
    path.as_posix(): path
    for path in python_files(ROOT)
    if path.parts[0][:2].isdigit() or path.parts[0] == "utils"
    if not {"tests", "exercises", "pictures", "grader"} & set(path.parts)
}
SMALL = {  # arguments that make a long demonstration short
    "08_engineering/step_profile.py": "--batch-size 2 --n-layers 1 --d-model 32 --max-seq-len 32",
}
# Not run here, with the reason. Programs are not demonstrations; each has tests of its own.
TRAINS = "trains for minutes what pictures/draw.py shows"
LEFT_OUT = {
    "06_training/loss_samples.py": f"{TRAINS}: test_sick_runs.py runs its parts",
    "06_training/scaling_runs.py": f"{TRAINS}: test_training_theory.py runs its parts",
    "06_training/sick_runs.py": f"{TRAINS}: test_sick_runs.py runs some of its steps",
    "09_capstone/budget_runs.py": f"{TRAINS}: test_capstone_theory.py runs its parts",
    "09_capstone/overfitting_runs.py": f"{TRAINS}: test_capstone_theory.py runs some of its steps",
    "09_capstone/texts_by_loss.py": f"{TRAINS}, and needs a checkpoint: test_capstone_theory.py",
    "09_capstone/data/prepare_data.py": "a program: test_prepare_data.py runs it",
    "09_capstone/sample.py": "a program, and needs a checkpoint: test_sample.py runs it",
    "09_capstone/serve.py": "a server, which does not end: test_serve.py runs it",
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
    assert {*LEFT_OUT, *SMALL} <= {*DEMONSTRATIONS}


@pytest.mark.parametrize("name", [name for name in DEMONSTRATIONS if name not in LEFT_OUT])
def test_a_demonstration_ends_well_and_prints(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name, *SMALL.get(name, "").split()])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    printed = capsys.readouterr()
    assert (ended.value.code, printed.err) == (0, "")
    assert printed.out.strip()
    assert max(len(line) for line in printed.out.splitlines()) <= 80

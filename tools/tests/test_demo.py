"""tools/demo.py runs the capstone's programs in turn and passes their exit codes on."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from run_places import PARTS_FILE
from tools import demo

SAVES_WHEN_INTERRUPTED = """
import sys, time
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    time.sleep(0.5)
    sys.exit(130)
"""
CALLS_IT = "import sys; from tools.demo import run; print('end', run([sys.argv[1]]), flush=True)"


def write_programs(root: Path, train: str, sample: str) -> None:
    (root / "09_capstone").mkdir()
    (root / "09_capstone" / "train.py").write_text(train, encoding="utf-8")
    (root / "09_capstone" / "sample.py").write_text(sample, encoding="utf-8")


def test_it_trains_then_samples_then_shows_what_to_try_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    echo = "import sys; print('ran', *sys.argv)"
    write_programs(tmp_path, echo, echo)
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    assert demo.main() == 0
    said = capfd.readouterr().out
    trained = said.index(
        "ran 09_capstone/train.py --preset laptop --max-minutes 1 --overwrite --out-dir"
    )
    sampled = said.index("ran 09_capstone/sample.py --checkpoint 09_capstone/runs/demo/")
    assert trained < sampled < said.index("What to try next")


def test_arguments_go_to_the_training_and_the_share_of_own_code_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_programs(
        tmp_path, "import sys; print('ran', *sys.argv)", "import sys; print('ran', *sys.argv)"
    )
    (tmp_path / demo.RUN).mkdir(parents=True)
    table = "parts   9 of 12 parts of this model are your own code\n        attention yours 1.5\n"
    (tmp_path / demo.RUN / demo.WHOSE).write_text(table, encoding="utf-8")
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--parts", "mine", "--max-steps", "5"])
    assert demo.main() == 0
    said = capfd.readouterr().out
    assert "ran 09_capstone/train.py --preset laptop --max-minutes 1 --overwrite" in said
    assert "runs/demo --parts mine --max-steps 5\n" in said
    assert "--num-samples 3\n" in said
    assert said.endswith("\n\n9 of 12 parts of this model are your own code\n")


def test_the_table_is_the_file_that_the_training_writes() -> None:
    assert PARTS_FILE == demo.WHOSE


@pytest.mark.parametrize("code", [1, 2, 130])
def test_a_failed_training_ends_the_demo_with_its_exit_code(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_programs(tmp_path, f"raise SystemExit({code})", "print('sampled')")
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    assert demo.main() == code
    assert "sampled" not in capfd.readouterr().out


@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("--hlep", 2)])
def test_help_and_unknown_flags_train_nothing(
    flag: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_program: Any
) -> None:
    write_programs(tmp_path, "print('trained')", "print('sampled')")
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(demo, "run", lambda arguments: pytest.fail(f"ran {arguments}"))
    assert call_program(demo.main, flag).code == code


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to a process group on POSIX")
def test_ctrl_c_waits_until_the_program_has_saved(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SAVES_WHEN_INTERRUPTED, encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, "-c", CALLS_IT, str(program)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    assert parent.stdout is not None
    patience = threading.Timer(20, parent.kill)
    patience.start()
    assert parent.stdout.readline() == "ready\n"
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: the parent and the program
    assert parent.stdout.readline() == "end 130\n"
    patience.cancel()
    parent.stdout.close()
    assert parent.wait() == 0

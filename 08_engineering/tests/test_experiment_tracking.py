"""experiment_tracking.py: unique ids, a record without personal data, a table of the runs."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch

import experiment_tracking
from experiment_tracking import (
    RunSummary,
    create_run_dir,
    environment_info,
    find_run,
    git_state,
    list_runs,
    new_run_id,
    run_quietly,
    shown_command,
    table,
    write_environment,
)
from logging_utils import MetricsLog
from run_folder import (
    LOCK_FILE,
    RESULT_FILE,
    RUN_FILE,
    locked,
    run_id_of,
    run_status,
    write_result,
    write_run_file,
)
from utils.config import TrainConfig, save_config
from utils.errors import CourseError, UsageError

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
PROGRAM = Path(experiment_tracking.__file__)


# --- ids ----------------------------------------------------------------------------------------


def test_an_id_is_time_then_name_then_random_digits():
    assert re.fullmatch(r"20261121-120000-laptop-[0-9a-f]{12}", new_run_id("laptop", NOON))


def test_ten_thousand_ids_of_one_second_are_all_different():
    assert len({new_run_id("laptop", NOON) for _ in range(10_000)}) == 10_000


def test_sorting_by_name_sorts_by_age():
    times = [NOON + timedelta(seconds=n * 7919) for n in range(200)]
    ids = [new_run_id(name, now) for now, name in zip(times, "zyxwvutsrq" * 20, strict=True)]
    assert ids == sorted(ids)


def test_the_same_moment_gives_the_same_time_in_every_zone():
    in_tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    assert new_run_id("a", in_tokyo)[:15] == new_run_id("a", NOON)[:15] == "20261121-120000"


def test_a_time_without_a_zone_is_taken_as_it_is():
    assert new_run_id("a", datetime(2026, 11, 21, 10, 15, 30)).startswith("20261121-101530-a-")


def test_the_default_time_of_an_id_is_now():
    before = datetime.now(UTC).replace(microsecond=0)
    said = datetime.strptime(new_run_id("a")[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    assert before <= said <= datetime.now(UTC)


def test_the_id_does_not_depend_on_the_seeded_generator():
    ids = []
    for _ in range(2):
        torch.manual_seed(0)
        ids.append(new_run_id("a", NOON))
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Laptop", "laptop"),
        ('a<b>c:"d/e\\f|g?h*', "a-b-c-d-e-f-g-h"),
        ("caf\u00e9 \u4e2d\n\x00", "caf"),
        ("../../etc", "etc"),
        ("ends.", "ends"),
        ("", "run"),
        ("???", "run"),
        ("x" * 300, "x" * 20),
    ],
)
def test_a_name_is_made_valid_for_every_file_system(name, plain):
    assert re.fullmatch(f"20261121-120000-{plain}-[0-9a-f]{{12}}", new_run_id(name, NOON))


# --- folders ------------------------------------------------------------------------------------


def test_a_run_folder_is_new_empty_and_under_the_root(tmp_path):
    folder = create_run_dir(tmp_path / "deep" / "runs", "laptop")
    assert folder.parent == tmp_path / "deep" / "runs"
    assert list(folder.iterdir()) == []


def test_an_id_that_is_taken_is_not_used_again(tmp_path, monkeypatch):
    ids = iter(["taken", "taken", "free"])
    monkeypatch.setattr(experiment_tracking, "new_run_id", lambda _: next(ids))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "result").touch()
    assert create_run_dir(tmp_path, "x") == tmp_path / "free"
    assert (tmp_path / "taken" / "result").exists()


def test_when_every_id_is_taken_there_is_an_error_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_tracking, "new_run_id", lambda _: "taken")
    (tmp_path / "taken").mkdir()
    with pytest.raises(CourseError, match="no free run id"):
        create_run_dir(tmp_path, "x")


def test_two_processes_that_draw_the_same_ids_never_share_a_folder(tmp_path):
    program = (
        "import sys, itertools, experiment_tracking as t\n"
        "numbers = itertools.count()\n"
        "t.new_run_id = lambda _: f'run-{next(numbers):02}'\n"  # the worst luck: the same ids
        "print(*(t.create_run_dir(sys.argv[1], 'x').name for _ in range(40)))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(2)]
    made = [name for process in both for name in process.communicate(timeout=60)[0].split()]
    assert len(made) == len(set(made)) == 80
    assert sorted(made) == sorted(folder.name for folder in tmp_path.iterdir())


# --- environment --------------------------------------------------------------------------------


def test_the_environment_describes_this_process():
    info = environment_info()
    assert info["python"] == ".".join(map(str, sys.version_info[:3]))
    assert info["torch"] == torch.__version__ == info["packages"]["torch"]
    assert info["torch_threads"] == torch.get_num_threads()
    assert info["cores"] == os.cpu_count()
    assert info["cpu"] and info["device"]
    assert len(info["command"]) == len(sys.argv)


def test_the_environment_file_holds_the_same_as_json(tmp_path):
    path = write_environment(tmp_path)
    assert path == tmp_path / "environment.json"
    assert json.loads(path.read_text(encoding="utf-8")) == environment_info()


def test_the_environment_holds_nothing_personal(monkeypatch):
    monkeypatch.setenv("COURSE_TEST_SECRET", "hunter2-from-the-environment")
    monkeypatch.setenv("HOME", "/home/ann-onymous")
    monkeypatch.setenv("USERPROFILE", "/home/ann-onymous")
    monkeypatch.setattr(sys, "argv", ["/home/ann-onymous/c/train.py", "--api-key", "hunter2"])
    text = json.dumps(environment_info())
    assert "hunter2" not in text
    assert "ann-onymous" not in text
    assert str(Path(__file__).parent) not in text


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("--max-steps", "--max-steps"),
        ("--max-tokens=500", "--max-tokens=500"),
        ("09_capstone/train.py", "09_capstone/train.py"),
        ("/home/ann/data/x.txt", ".../x.txt"),
        ("--data=/home/ann/x.txt", "--data=.../x.txt"),
        ("~ann/x.txt", ".../x.txt"),
        ("C:\\Users\\ann\\x.txt", ".../x.txt"),
        ("\\\\server\\ann\\x.txt", ".../x.txt"),
        ("--data=c:/Users/ann/x.txt", "--data=.../x.txt"),
        ("--api-key=abc", "--api-key=***"),
        ("--HF_TOKEN=abc=def", "--HF_TOKEN=***"),
        ("To be/not to be", "To be/not to be"),
    ],
)
def test_a_command_line_is_shown_without_folders_and_secrets(word, shown):
    assert shown_command([word]) == [shown]


def test_the_word_after_a_secret_flag_is_hidden_and_the_next_one_is_not():
    words = ["serve.py", "--password", "abc", "--port", "80"]
    assert shown_command(words) == ["serve.py", "--password", "***", "--port", "80"]


def test_the_home_folder_itself_is_shown_as_a_tilde():
    assert shown_command(["--out-dir", str(Path.home())]) == ["--out-dir", "~"]


def test_a_user_without_a_home_folder_can_train_too(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert shown_command(["--data", "a.txt"]) == ["--data", "a.txt"]


def test_a_command_that_is_missing_or_fails_gives_none():
    assert run_quietly("no-such-command-anywhere") is None
    assert run_quietly(sys.executable, "-c", "raise SystemExit(3)") is None
    assert run_quietly(sys.executable, "-c", "print('fine', end='')") == "fine"


needs_git = pytest.mark.skipif(run_quietly("git", "--version") is None, reason="needs git")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of one file."""
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "one")):
        subprocess.run(("git", "-C", str(tmp_path), *command), check=True, capture_output=True)
    return tmp_path


@needs_git
def test_git_tells_the_commit_and_whether_anything_differs_from_it(repository):
    head = run_quietly("git", "-C", str(repository), "rev-parse", "HEAD")
    assert head is not None
    assert git_state(repository) == {"commit": head.strip(), "dirty": False}
    (repository / "a.txt").write_text("b", encoding="utf-8")
    assert git_state(repository) == {"commit": head.strip(), "dirty": True}


@needs_git
def test_a_folder_inside_another_repository_has_no_commit(repository):
    (repository / "course").mkdir()
    assert git_state(repository / "course") is None


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() is None


# --- the table ----------------------------------------------------------------------------------


def make_run(root: Path, name: str, max_steps: int, losses: dict[int, float | None]) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    save_config(TrainConfig(max_steps=max_steps), folder / "config.yaml")
    with MetricsLog(folder) as log:
        for step, loss in losses.items():
            log.append({"step": step, "val_loss": loss})
    return folder


def test_a_run_is_summarized_from_its_files(tmp_path):
    done = make_run(tmp_path, "2-done", 20, {0: 4.2, 10: 1.5, 20: 1.75})
    stopped = make_run(tmp_path, "1-stopped", 500, {0: 4.2, 10: None})
    fresh = make_run(tmp_path, "3-fresh", 500, {})
    assert list_runs(tmp_path) == [
        RunSummary(stopped, 10, 500, 4.2),
        RunSummary(done, 20, 20, 1.5),
        RunSummary(fresh, 0, 500, None),
    ]


def test_a_run_that_was_just_resumed_is_at_the_step_that_it_continues_from(tmp_path):
    resumed = make_run(tmp_path, "1-resumed", 20, {})  # its rows after the state were dropped
    later = make_run(tmp_path, "2-later", 20, {0: 4.2, 10: 1.5})
    for folder in (resumed, later):
        for state in ("00000003-3fa29c", "00000007-81d04e", ".00000009-aaaaaa.tmp"):
            (folder / "states" / state).mkdir(parents=True)
    assert [run.steps for run in list_runs(tmp_path)] == [7, 10]
    assert "       7/20 " in table(list_runs(tmp_path))


def test_a_loss_of_zero_counts_and_a_non_finite_one_does_not(tmp_path):
    make_run(tmp_path, "a", 20, {0: float("nan"), 10: 0.0, 20: 0.5})
    make_run(tmp_path, "b", 20, {0: float("nan"), 10: float("inf")})
    assert [run.best_val_loss for run in list_runs(tmp_path)] == [0.0, None]


def test_values_of_damaged_and_missing_files_are_unknown_and_no_run_is_hidden(tmp_path):
    no_config = make_run(tmp_path, "a", 20, {20: 1.0})
    (no_config / "config.yaml").unlink()
    bad_metrics = make_run(tmp_path, "b", 20, {20: 1.0})
    (bad_metrics / "metrics.csv").write_bytes(b"\xff\n")
    bad_config = make_run(tmp_path, "c", 20, {20: 1.0})
    (bad_config / "config.yaml").write_text("max_steps: [", encoding="utf-8")
    assert list_runs(tmp_path) == [
        RunSummary(no_config, 20, None, 1.0),
        RunSummary(bad_metrics, 0, 20, None),
        RunSummary(bad_config, 20, None, 1.0),
    ]


@pytest.mark.parametrize("step", ["nan", "inf", ""])
def test_a_row_without_a_finite_step_does_not_count(tmp_path, step):
    folder = make_run(tmp_path, "a", 20, {10: 1.5})
    with (folder / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write(f"{step},,0.5,,,,\n")
    assert list_runs(tmp_path) == [RunSummary(folder, 10, 20, 1.5)]


@pytest.mark.parametrize("sign", ["config.yaml", "metrics.csv", "run.json"])
def test_one_file_is_enough_to_be_listed_and_found(tmp_path, sign):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / sign).touch()
    assert list_runs(tmp_path) == [RunSummary(tmp_path / "a", 0, None, None)]
    assert find_run(str(tmp_path / "a"), Path("elsewhere")) == tmp_path / "a"


def test_a_folder_that_is_not_a_run_is_not_listed(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    assert list_runs(tmp_path) == []
    assert list_runs(tmp_path / "nowhere") == []


def test_the_table_fits_eighty_columns_and_is_complete():
    runs = [
        RunSummary(Path(new_run_id("x" * 50, NOON)), 20000, 20000, 1.23456, "finished"),
        RunSummary(Path("y" * 200), 0, None, None, "resumable"),
    ]
    header, first, second = table(runs).split("\n")
    assert header.split() == ["run", "steps", "best", "val", "state"]
    assert first.split() == [runs[0].path.name, "20000/20000", "1.2346", "finished"]
    assert second.split()[1:] == ["0/?", "-", "resumable"]
    assert max(map(len, (header, first, second))) <= 80


# --- the state of a run -------------------------------------------------------------------------

HOLD = (
    "import sys, pathlib, run_folder\n"
    "with run_folder.locked(pathlib.Path(sys.argv[1])):\n"
    "    print('locked', flush=True)\n"
    "    sys.stdin.read()\n"
)


@contextmanager
def trainer_at_work(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder's lock until it is killed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8")
    try:
        assert process.stdout and process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_run_is_running_while_a_trainer_lives_and_resumable_once_it_is_killed(tmp_path):
    folder = make_run(tmp_path, "a", 20, {10: 1.5})
    write_run_file(folder, "a")
    with trainer_at_work(folder) as trainer:
        assert [run.state for run in list_runs(tmp_path)] == ["running"]
        trainer.kill()
        trainer.wait()
        assert [run.state for run in list_runs(tmp_path)] == ["resumable"]
    write_result(folder, {"outcome": "finished", "step": 20})
    assert [run.state for run in list_runs(tmp_path)] == ["finished"]


@pytest.mark.parametrize(
    ("signed", "result", "state"),
    [
        (b'{"id": "a"}', b'{"outcome": "finished"}', "finished"),
        (b'{"id": "a"}', b'{"outcome": "interrupted"}', "resumable"),
        (b'{"id": "a"}', b'{"outcome": "fini', "resumable"),
        (b'{"id": "a"}', b"[]", "resumable"),
        (b'{"id": "a"}', b"\xff", "resumable"),
        (b'{"id": "a"}', None, "resumable"),
        (b'{"id"', None, "old"),
        (b"7", None, "old"),
        (None, None, "old"),
    ],
)
def test_the_state_follows_from_the_files(tmp_path, signed, result, state):
    for name, content in ((RUN_FILE, signed), (RESULT_FILE, result)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert run_status(tmp_path) == state


def test_a_run_has_its_id_and_another_folder_is_refused(tmp_path):
    with pytest.raises(CourseError, match=r"has no run that can be resumed: run.json is missing"):
        run_id_of(tmp_path)
    write_run_file(tmp_path, "20261121-caf\u00e9")
    assert run_id_of(tmp_path) == "20261121-caf\u00e9"


def test_reading_the_status_creates_no_lock_and_keeps_none(tmp_path):
    write_run_file(tmp_path, "a")
    assert run_status(tmp_path) == "resumable"
    assert not (tmp_path / LOCK_FILE).exists()
    with locked(tmp_path):
        pass
    assert run_status(tmp_path) == "resumable"
    with trainer_at_work(tmp_path):  # it could not, if looking had kept the lock
        pass


def test_reading_the_status_does_not_take_the_lock_from_a_trainer(tmp_path):
    write_run_file(tmp_path, "a")
    with trainer_at_work(tmp_path):
        assert run_status(tmp_path) == run_status(tmp_path) == "running"
        with (
            pytest.raises(CourseError, match="is in use by another training process"),
            locked(tmp_path),
        ):
            pass


def test_a_trainer_that_starts_while_runs_are_listed_is_not_refused(tmp_path):
    looking = threading.Event()

    def look() -> None:
        with locked(tmp_path):
            looking.set()
            time.sleep(0.02)  # a look takes less than that

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    with locked(tmp_path):
        pass
    thread.join()


def test_a_folder_whose_lock_cannot_be_opened_is_still_listed(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    folder = make_run(tmp_path, "a", 20, {})
    write_run_file(folder, "a")
    (folder / LOCK_FILE).touch()
    monkeypatch.setattr("run_folder.FileLock", refuse)
    assert [run.state for run in list_runs(tmp_path)] == ["resumable"]


# --- finding a run ------------------------------------------------------------------------------

IDS = ("20261121-101530-laptop-3fa29c81d04e", "20261121-113022-full-77e01b2c9d10", "demo", "demo-2")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four runs, and a current folder elsewhere."""
    for name in IDS:
        make_run(tmp_path / "runs", name, 20, {})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (IDS[0], IDS[0]),
        ("20261121-11", IDS[1]),
        ("demo", "demo"),  # though demo-2 begins like it
        ("demo-", "demo-2"),
        ("../runs/demo-2", "demo-2"),
        ("../runs/demo-2/", "demo-2"),
        ("../runs/20261121-10", IDS[0]),
    ],
)
def test_a_run_is_found_by_its_folder_its_id_or_the_start_of_its_id(runs, given, found):
    assert find_run(given, runs).resolve() == runs / found


def test_a_run_here_comes_before_one_of_that_name_elsewhere_and_other_folders_do_not(runs):
    make_run(Path.cwd(), "demo", 20, {})
    Path("demo-2").mkdir()
    assert find_run("demo", runs).resolve() == Path.cwd() / "demo"
    assert find_run("demo-2", runs) == runs / "demo-2"


def test_the_current_folder_may_be_the_run(runs, monkeypatch):
    monkeypatch.chdir(runs / "demo")
    assert find_run(".", runs).resolve() == runs / "demo"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("20261121", f"'20261121' matches 2 runs: {IDS[0]}, {IDS[1]}"),
        ("20261121-101530-labtop-3fa29c81d04e", f"(did you mean '{IDS[0]}'?)"),
        ("20261121-101530-laptp-3fa29c81d04e", f"(did you mean '{IDS[0]}'?)"),
        ("20261221-1015", "(did you mean '20261121-1015'?)"),
        ("Demo", "no run 'Demo' under {runs} (did you mean 'demo'?)"),
        ("../runs/dmeo", "no run '../runs/dmeo' under ../runs (did you mean 'demo'?)"),
        ("nothing-like-it", "no run 'nothing-like-it' under {runs}"),
        ("", "no run '' under {runs}"),
        (".", "no run '.' under {runs}"),
        ("../runs", "no run '../runs' under .."),
    ],
)
def test_an_unknown_run_is_refused_with_the_closest_name(runs, given, words):
    with pytest.raises(UsageError) as raised:
        find_run(given, runs)
    said = str(raised.value).replace(str(runs), "{runs}").replace("\\", "/")
    assert words in said
    assert "\n" not in said


# --- as a program -------------------------------------------------------------------------------


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def test_the_program_prints_the_table(tmp_path):
    make_run(tmp_path, "demo", 20, {20: 1.5})
    done = run_program("list", "--root", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[1].split() == ["demo", "20/20", "1.5000", "old"]


def test_a_mistyped_command_is_one_line_and_exit_code_two():
    done = run_program("lst")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "'lst'" in done.stderr


def test_the_program_compares(tmp_path):
    for name, loss in (("demo-a", 1.5), ("demo-b", 1.25)):
        make_run(tmp_path, name, 20, {20: loss})
    out = tmp_path / "new" / "picture.svg"
    done = run_program("compare", "demo-a", "demo-b", "--root", str(tmp_path), "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert "best validation loss  1.5000  1.2500\n" in done.stdout
    assert done.stdout.endswith(f"picture {out}\n")
    assert out.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "the following arguments are required: RUN"),
        (("demo",), "compare needs at least two different runs"),
        (("demo", "dmeo"), "no run 'dmeo' under {root} (did you mean 'demo'?)"),
        (("demo", "demo", "--outt", "x.png"), "unknown argument --outt"),
    ],
)
def test_an_impossible_comparison_is_one_line_and_exit_code_two(tmp_path, arguments, words):
    make_run(tmp_path, "demo", 20, {20: 1.5})
    done = run_program("compare", *arguments, "--root", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert words.replace("{root}", str(tmp_path)) in done.stderr


def test_a_list_waits_for_neither_torch_nor_matplotlib(tmp_path):
    make_run(tmp_path, "demo", 20, {20: 1.5})
    program = (
        "import sys, experiment_tracking as e\n"
        f"e.table(e.list_runs({str(tmp_path)!r}))\n"
        "print(*{'torch', 'matplotlib'} & set(sys.modules))\n"
    )
    done = subprocess.check_output([sys.executable, "-c", program], encoding="utf-8")
    assert done == "\n"

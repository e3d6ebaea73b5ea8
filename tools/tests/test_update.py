"""`make update` brings in a newer release and keeps every answer and every change."""

import ast
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.update import update
from utils.errors import CourseError
from utils.grader.exercises import ROOT
from utils.grader.merge_answers import bodies, merge_answers

LESSONS = sorted(path.name for path in ROOT.glob("[0-9][0-9]_*"))
EXERCISES = "01_attention/exercises/exercises.py"


def stubs_of(lesson: str) -> str:
    return (ROOT / lesson / "exercises" / "exercises.py").read_text(encoding="utf-8")


def answers_of(lesson: str) -> str:
    """What a learner could have: every exercise solved, an import and a helper of their own."""
    text = (ROOT / lesson / "exercises" / "solutions.py").read_text(encoding="utf-8")
    helper = "def my_helper(x):\n    # keeps me honest\n    return [x, x]\n\n\n"
    first = re.search(r"^(def|class|@) ?\w", text, re.M)
    assert first
    return "".join([text[: first.start()], "import itertools\n\n", helper, text[first.start() :]])


# --- twenty releases: what may happen to an exercise ---


def definitions(text: str) -> list[ast.FunctionDef | ast.ClassDef]:
    return [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and "NotImplementedError" in ast.dump(node)
    ]


def part(text: str, at: int) -> str:
    """The text of a definition, counted from either end."""
    node = definitions(text)[at]
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    return "".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno])


def without(text: str, at: int) -> str:
    return text.replace(part(text, at), "")


def renamed(text: str, at: int) -> str:
    return re.sub(rf"\b{definitions(text)[at].name}\b", "another_name", text)


def moved(text: str, at: int) -> str:
    piece = part(text, at)
    return text.replace(piece, "").replace("\nif __name__", f"\n{piece}\n\nif __name__")


def described(text: str, at: int) -> str:
    piece = part(text, at)
    return text.replace(
        piece, piece.replace('"""Exercise', '"""As before. Exercise').replace(". ", ".  ")
    )


def with_arguments(text: str, at: int) -> str:
    piece = part(text, at)
    return text.replace(
        piece,
        re.sub(r"\bdef (\w+)\((self)?", r"def \1(\2extra, ", piece).replace(
            "selfextra", "self, extra"
        ),
    )


def added(text: str, at: int) -> str:
    stub = 'def fresh(x):\n    raise NotImplementedError("Exercise 0.99: fresh")\n\n\n'
    piece = part(text, at)
    return text.replace(piece, stub + piece)


RELEASES = {
    "nothing changed": lambda text: text,
    "first stub renamed": lambda text: renamed(text, 0),
    "last stub renamed": lambda text: renamed(text, -1),
    "second stub renamed": lambda text: renamed(text, 1),
    "first described anew": lambda text: described(text, 0),
    "last described anew": lambda text: described(text, -1),
    "all described anew": lambda text: text.replace('"""Exercise', '"""Anew: exercise'),
    "first removed": lambda text: without(text, 0),
    "last removed": lambda text: without(text, -1),
    "three removed": lambda text: without(without(without(text, 0), 0), 0),
    "one added at the start": lambda text: added(text, 0),
    "one added at the end": lambda text: added(text, -1),
    "first moved to the end": lambda text: moved(text, 0),
    "arguments of the first": lambda text: with_arguments(text, 0),
    "arguments of the last": lambda text: with_arguments(text, -1),
    "renumbered": lambda text: re.sub(r"(xercise \d)\.", r"\1.1", text),
    "imports changed": lambda text: text.replace("import math\n", "import math\nimport random\n"),
    "page's own text changed": lambda text: text.replace("make watch", "make watch   "),
    "renamed and described": lambda text: renamed(described(text, 1), 1),
    "removed, added and renamed": lambda text: renamed(added(without(text, 0), 1), -1),
}


@pytest.mark.parametrize("release", RELEASES)
def test_no_release_loses_an_answer(release):
    for lesson in LESSONS[[*RELEASES].index(release) % 3 :: 3]:
        base, mine = stubs_of(lesson), answers_of(lesson)
        new = RELEASES[release](base)
        merged = merge_answers(base, mine, new).text
        lost = bodies(ast.parse(mine)) - bodies(ast.parse(merged))
        assert lost <= bodies(ast.parse(base)), lesson
        assert "# keeps me honest" in merged
        names = {node.name for node in definitions(new)}
        assert names <= {getattr(node, "name", "") for node in ast.parse(merged).body}, lesson
        compile(merged, lesson, "exec")


# --- the whole way, in a git repository ---


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *args],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A small course in a repository: one lesson, and the files by which a release is known."""
    folder = tmp_path / "course"
    names = ["pyproject.toml", "tools/learn.py", "utils/grader/exercises.py", "README.md"]
    lesson = [f"01_attention/exercises/{name}" for name in ("exercises.yaml", "solutions.py")]
    for name in [*names, *lesson, EXERCISES, "01_attention/notebook.ipynb"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".gitignore").write_text(".progress/\n", encoding="utf-8")
    git(tmp_path, "init", "--quiet", "-b", "main", str(folder))
    commit(folder)
    return folder


@pytest.fixture
def learner(course: Path, tmp_path: Path) -> Path:
    """A clone in which everything is solved."""
    folder = tmp_path / "learner"
    git(tmp_path, "clone", "--quiet", str(course), str(folder))
    write(folder, EXERCISES, answers_of("01_attention"))
    return folder


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "a change")


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8", newline="\n")


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def release_of(course: Path) -> None:
    """A release with a new exercise, another description, a page more and one page less."""
    text = described(added(stubs_of("01_attention"), 1), 0)
    write(course, EXERCISES, text)
    write(course, "README.md", "Anew.\n")
    write(course, "glossary.md", "Words.\n")
    write(course, "pyproject.toml", read(course, "pyproject.toml").replace("0.1.0", "0.2.0"))
    commit(course)


def assert_updated(learner: Path) -> None:
    text = read(learner, EXERCISES)
    assert bodies(ast.parse(answers_of("01_attention"))) <= bodies(ast.parse(text))
    assert "def fresh(x)" in text and "As before" in text
    assert read(learner, "README.md") == "Anew.\n"
    assert read(learner, "glossary.md") == "Words.\n"


def test_a_clone_takes_the_release_and_git_shows_only_the_learners_changes(course, learner, capsys):
    release_of(course)
    update(learner, None)
    assert_updated(learner)
    assert git(learner, "status", "--porcelain").split() == ["M", EXERCISES]
    assert git(learner, "rev-parse", "HEAD") == git(course, "rev-parse", "HEAD")
    output = capsys.readouterr().out
    assert "Updated from 0.1.0 to 0.2.0" in output and "1.1 softmax: its description" in output
    assert max(map(len, output.splitlines())) <= 80
    [backup] = (learner / ".progress" / "backups").iterdir()
    assert read(backup, EXERCISES) == answers_of("01_attention")
    update(learner, None)
    assert "This is the newest release" in capsys.readouterr().out


def test_own_commits_are_joined_with_the_release(course, learner):
    write(learner, "notes.md", "Mine.\n")
    commit(learner)
    release_of(course)
    update(learner, None)
    assert_updated(learner)
    assert git(learner, "status", "--porcelain") == ""
    assert read(learner, "notes.md") == "Mine.\n"
    parents = git(learner, "rev-parse", "HEAD^1", "HEAD^2").split()
    assert git(course, "rev-parse", "HEAD").strip() == parents[1]
    release_again = read(course, "README.md") + "More.\n"
    write(course, "README.md", release_again)
    commit(course)
    update(learner, None)
    assert read(learner, "README.md") == release_again


def test_files_that_both_changed_are_the_releases_and_the_learners_are_in_the_backup(
    course, learner, capsys
):
    write(learner, "README.md", "My notes.\n")
    write(learner, "01_attention/notebook.ipynb", "{}")  # changed here alone
    write(learner, "glossary.md", "My words.\n")  # not in git here, and new in the release
    release_of(course)
    update(learner, None)
    assert_updated(learner)
    assert read(learner, "01_attention/notebook.ipynb") == "{}"
    [backup] = (learner / ".progress" / "backups").iterdir()
    assert read(backup, "README.md") == "My notes.\n"
    assert read(backup, "glossary.md") == "My words.\n"
    assert "README.md: both changed" in capsys.readouterr().out


def test_a_file_that_the_release_drops_goes_unless_the_learner_changed_it(course, learner):
    git(course, "rm", "--quiet", "README.md", "01_attention/notebook.ipynb")
    write(learner, "README.md", "Mine.\n")
    release = read(course, EXERCISES)
    write(course, EXERCISES, release)
    commit(course)
    update(learner, None)
    assert read(learner, "README.md") == "Mine.\n"
    assert not (learner / "01_attention" / "notebook.ipynb").exists()


def test_a_dry_run_changes_nothing(course, learner, capsys):
    release_of(course)
    update(learner, None, is_dry=True)
    assert read(learner, EXERCISES) == answers_of("01_attention")
    first, *names = capsys.readouterr().out.splitlines()
    assert first.startswith("Would update from 0.1.0 to 0.2.0") and first.endswith(": 4 files.")
    listed = [f"  {name}" for name in (EXERCISES, "README.md", "glossary.md", "pyproject.toml")]
    assert names[:4] == listed
    assert not (learner / ".progress").exists()


def test_a_dry_run_names_twenty_files_and_no_version_twice(course, learner, capsys):
    for number in range(23):
        write(course, f"page_{number:02d}.md", "A page.\n")
    commit(course)
    update(learner, None, is_dry=True)
    first, *names = capsys.readouterr().out.splitlines()
    assert first.startswith("Would update to 0.1.0 (") and "from" not in first
    assert [names[0], *names[19:21]] == ["  page_00.md", "  page_19.md", "  and 3 more"]


def test_a_file_that_python_cannot_read_stops_the_update_before_it_begins(course, learner):
    write(learner, EXERCISES, answers_of("01_attention") + "def (:\n")
    release_of(course)
    with pytest.raises(CourseError, match=r"nothing was changed.*exercises\.py, line"):
        update(learner, None)
    assert read(learner, "README.md") != "Anew.\n"


def test_an_interrupted_update_is_finished_by_the_next_one(course, learner, monkeypatch):
    release_of(course)
    monkeypatch.setattr("tools.update.move_branch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        update(learner, None)
    monkeypatch.undo()
    update(learner, None)
    assert_updated(learner)
    assert git(learner, "status", "--porcelain").split() == ["M", EXERCISES]


# --- without git ---


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_release_without_history_keeps_answers_too(course, learner, kind, tmp_path):
    release_of(course)
    shutil.rmtree(course / ".git")
    shutil.rmtree(learner / ".git")
    source = course
    if kind == "zip":
        source = tmp_path / "release.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(course.rglob("*")):
                if path.is_file():
                    archive.write(path, Path("course-main") / path.relative_to(course))
    update(learner, str(source))
    assert_updated(learner)


def test_without_git_and_without_a_source_the_error_says_what_to_give(learner):
    shutil.rmtree(learner / ".git")
    with pytest.raises(CourseError, match="--from FOLDER or --from"):
        update(learner, None)


def test_a_zip_of_something_else_is_refused(learner, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/b.txt", "x")
    with pytest.raises(CourseError, match="not a release of this course"):
        update(learner, str(tmp_path / "x.zip"))


def test_a_zip_that_leads_out_of_its_folder_is_refused(learner, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/../../b.txt", "x")
    with pytest.raises(CourseError, match="lead out"):
        update(learner, str(tmp_path / "x.zip"))


def test_a_remote_that_does_not_exist_is_one_line(learner):
    with pytest.raises(CourseError, match="git fetch"):
        update(learner, "nowhere")

"""What must be there: the files of the course, and everything a complete lesson has."""

import re
from collections.abc import Sequence
from pathlib import Path

from tools.checks.layout import LESSONS
from tools.checks.pages import blocks_of
from tools.checks.result import TO_COME, Result

LONGEST_THEORY = 3500  # words
LARGEST_PICTURE = 100_000  # bytes
REQUIRED = (  # whatever the state of the lessons
    *("Makefile", "README.md", "requirements.txt", "pyproject.toml", "conftest.py", "LICENSE"),
    *("AGENTS.md", ".gitignore", ".gitattributes", ".ci/run", ".github/workflows/ci.yml"),
    ".devcontainer/devcontainer.json",
    *("data/README.md", "data/download_datasets.sh", "data/simple_sequences.txt"),
    "setup/verify_environment.py",
    *(f"{lesson}/README.md" for lesson in LESSONS),
    "01_attention/interactive_demo.html",
    *(
        f"utils/{name}.py"
        for name in (
            *("command_line", "config", "corpus", "device", "errors", "files", "grammar"),
            *("kv_cache", "mock_corpus", "shape_checker", "visualization"),
        )
    ),
    *(
        f"utils/grader/{name}.py"
        for name in (
            *("exercises", "stubs", "learner_code", "guard", "feedback"),
            *("runner", "worker", "report", "check", "pytest_plugin"),
        )
    ),
    *(
        f"tools/{name}.py"
        for name in (
            *("install", "clean", "learn", "module_tests", "validate_all"),
            *("demo", "interactive", "benchmark", "ablations", "crash_test", "export_demo"),
            *("grade", "grading_trial"),
        )
    ),
    *(
        f"05_model/{name}.py"
        for name in ("tiny_transformer_lm", "parts", "fused", "custom_autograd", "engine")
    ),
    *("06_training/training_loop.py", "06_training/data_parallel.py"),
    *("07_sampling/generator.py", "08_engineering/fast_decoder.py"),
    *("09_capstone/train.py", "09_capstone/sample.py", "09_capstone/data/prepare_data.py"),
    "09_capstone/model/tiny_transformer.py",
    *("09_capstone/runs/README.md", "09_capstone/checkpoints/README.md"),
)
ANATOMY = (  # patterns; a complete lesson has a file for each
    "README.md",
    "theory.md",
    "pictures/draw.py",
    "pictures/*.png",
    "[a-z]*.py",
    "exercises/exercises.py",
    "exercises/solutions.py",
    "exercises/exercises.yaml",
    "tests/test_*.py",
    "tests/test_*_exercises.py",
    "tests/test_*_theory.py",
    "tests/*_misconceptions.py",
    "**/*.ipynb",
)


def check_structure(root: Path, module: str | None, ready: Sequence[str] = ()) -> list[Result]:
    """Is every required file there, and every file of the lessons that are ready?"""
    required = [name for name in REQUIRED if module in (None, name.split("/")[0])]
    lessons = [lesson for lesson in LESSONS if module in (None, lesson)]
    return [
        files_result("structure", root, required),
        *(lesson_result(root, lesson, lesson in ready) for lesson in lessons),
    ]


def lesson_result(root: Path, lesson: str, ready: bool) -> Result:
    """A ready lesson must be complete; any other is still to come, however much of it is there."""
    found = files_result(f"lesson {lesson}", root, [f"{lesson}/{pattern}" for pattern in ANATOMY])
    if not ready:
        return Result(found.check, True, found.detail, status=TO_COME)
    problems = (*found.problems, *theory_problems(root / lesson))
    for page in sorted((root / lesson).glob("*/theory.md")):  # of a part, as post_training
        problems += tuple(theory_problems(page.parent, page.relative_to(root).as_posix()))
    return Result(found.check, not problems, found.detail, problems)


def theory_problems(lesson: Path, where: str = "") -> list[str]:
    """What is wrong with a lesson's theory.md: its length, its pictures, checks in its blocks.

    lesson: its folder, or that of a part of it, which has a theory.md and pictures of its own.
    """
    path = lesson / "theory.md"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    where = where or f"{lesson.name}/theory.md"
    problems = text_problems(where, text)
    named = set(re.findall(r"\]\((?:\.\./)?pictures/([\w-]+\.png)\)", text))
    drawn = {picture.name for picture in (lesson / "pictures").glob("*.png")}
    pages = [(page, "") for page in lesson.glob("*.md")]
    pages += [(page, "../") for page in lesson.glob("*/*.md")]  # of a part of the lesson
    shown = {
        name
        for page, up in pages
        for name in drawn
        if f"]({up}pictures/{name})" in page.read_text(encoding="utf-8")
    }
    problems += [f"{where}: does not show pictures/{name}" for name in sorted(drawn - shown)]
    problems += [
        f"{where}: pictures/{picture.name} has {picture.stat().st_size:,} bytes"
        for picture in sorted((lesson / "pictures").glob("*.png"))
        if picture.stat().st_size >= LARGEST_PICTURE
    ]
    if len(named) < 2:
        problems.append(f"{where}: shows {len(named)} of its own pictures; at least 2")
    return problems


def text_problems(where: str, text: str) -> list[str]:
    """A theory that is too long, and the checks in its blocks."""
    problems = []
    if len(text.split()) > LONGEST_THEORY:
        problems.append(f"{where}: {len(text.split()):,} words; at most {LONGEST_THEORY:,}")
    problems += [
        f"{where}:{block.line}: an assertion; the block should print, and the page show it"
        for block in blocks_of(text)
        if re.search(r"^\s*assert\b", block.code, re.MULTILINE)
    ]
    return problems


def files_result(check: str, root: Path, patterns: Sequence[str]) -> Result:
    """Does each pattern match a file?"""
    missing = tuple(f"missing: {pattern}" for pattern in patterns if not any(root.glob(pattern)))
    found = len(patterns) - len(missing)
    return Result(check, not missing, f"{found} of {len(patterns)} files", missing)

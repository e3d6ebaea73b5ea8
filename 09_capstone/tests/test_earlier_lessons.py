"""Write before you read: no earlier lesson holds what an exercise of this one asks for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LESSON = Path(__file__).resolve().parents[1]
EARLIER = [folder for folder in sorted(LESSON.parent.glob("0[0-9]_*")) if folder != LESSON]


def functions(text: str) -> Iterator[ast.FunctionDef]:
    """Every function of a module."""
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))


def body_of(function: ast.FunctionDef) -> str:
    """What a function does: without its name and docstring, and with neutral names of its own."""
    body = function.body[ast.get_docstring(function) is not None :]
    own = {name.arg for name in ast.walk(function.args) if isinstance(name, ast.arg)}
    inside = [node for statement in body for node in ast.walk(statement)]
    own |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    text = "\n".join(map(ast.unparse, body))
    numbers: dict[str, str] = {}

    def neutral(found: re.Match[str]) -> str:
        name = found.group()
        return numbers.setdefault(name, f"name{len(numbers)}") if name in own else name

    return re.sub(r"\b[a-z_]\w*", neutral, text)


SOLUTIONS = {
    function.name: body_of(function)
    for function in functions((LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("folder", EARLIER, ids=lambda folder: folder.name)
def test_no_earlier_lesson_defines_a_function_of_this_one_s_exercises(folder: Path) -> None:
    pages = [path for suffix in ("md", "ipynb", "py") for path in folder.rglob(f"*.{suffix}")]
    assert pages
    wanted = re.compile(rf"\bdef ({'|'.join(SOLUTIONS)})\(")
    found = {p: m.group(1) for p in pages if (m := wanted.search(p.read_text(encoding="utf-8")))}
    assert not found


@pytest.mark.parametrize("folder", EARLIER, ids=lambda folder: folder.name)
def test_no_earlier_lesson_holds_the_body_of_a_solution_under_another_name(folder: Path) -> None:
    bodies = {body: name for name, body in SOLUTIONS.items() if body.count("\n") > 0}
    found = {
        (path.name, function.name): bodies[body]
        for path in folder.rglob("*.py")
        for function in functions(path.read_text(encoding="utf-8"))
        if (body := body_of(function)) in bodies
    }
    assert not found


def test_a_body_is_recognized_by_what_it_does() -> None:
    one, same, other = functions(
        "def f(x):\n    'Doc.'\n    y = x + 1\n    return y\n"
        "def g(a):\n    b = a + 1\n    return b\n"
        "def h(a):\n    b = a + 2\n    return b\n"
    )
    assert body_of(one) == body_of(same) != body_of(other)

"""Find the exercise to fix first: a wrong answer that calls another wrong one.

An exercise may call what earlier ones wrote: attention calls the softmax. When both are wrong, the
later one may be right in itself, so its message only names the one to fix first.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from utils.grader.definitions import SCOPES, last_binding
from utils.grader.exercises import Lesson
from utils.grader.learner_code import LoadError, read_source
from utils.grader.report import WRONG, Verdict


def with_root_causes(lesson: Lesson, verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The verdicts, in which an answer that calls another wrong one says so, and nothing else."""
    wrong = {one for one, found in verdicts.items() if is_mistaken(found)}
    if len(wrong) < 2 or any(found.broken_file for found in verdicts.values()):
        return dict(verdicts)
    calls = called_exercises(lesson)
    names = {exercise.id: exercise.names for exercise in lesson.exercises}
    result = dict(verdicts)
    for exercise in wrong:
        called = calls.get(exercise, {})
        causes = [one for one in names if one in wrong & called.keys()]
        if causes and exercise in calls[causes[0]]:  # they call each other: fix the earlier one
            causes = [one for one in causes if precedes(one, exercise, names)]
        if causes:
            first = causes[0]
            result[exercise] = replace(
                verdicts[exercise],
                check="",
                message=fix_first(first, called[first], names[first]),
                diagnosis="",
                printed="",
                failed=1,
                hint_for=first,
                holds="",
            )
    return result


def fix_first(exercise: str, called: Sequence[str], names: Sequence[str]) -> str:
    """What a learner reads in place of a failed check. `called`: some of the exercise's names."""
    if len(names) == 1:
        return f"it calls your {names[0]} ({exercise}), which is wrong: fix that first"
    # Which of its functions is wrong is not known: the called one may be right.
    listed = " and ".join(called)
    return f"it calls your {listed}, part of {exercise}, which is wrong: fix that first"


def is_mistaken(found: Verdict) -> bool:
    """Whether an answer gives wrong results; one that PyTorch wrote gives the right ones."""
    return found.outcome == WRONG and not found.is_replaced


def precedes(one: str, other: str, order: Iterable[str]) -> bool:
    """Whether an exercise comes before another in this order."""
    ids = list(order)
    return ids.index(one) < ids.index(other)


def called_exercises(lesson: Lesson) -> dict[str, dict[str, list[str]]]:
    """For each exercise the others that its code calls, directly or not, and by which names."""
    try:
        tree = read_source(lesson.file).tree
    except LoadError:
        return {}
    definitions = {node.name for node in tree.body if isinstance(node, SCOPES)}
    uses = {name: names_used(last_binding(tree, name)) & definitions for name in definitions}
    names = {exercise.id: reached(exercise.names, uses) for exercise in lesson.exercises}
    return {
        exercise.id: {
            other.id: [name for name in other.names if name in names[exercise.id]]
            for other in lesson.exercises
            if other.id != exercise.id and names[exercise.id].intersection(other.names)
        }
        for exercise in lesson.exercises
    }


def names_used(node: ast.AST | None) -> set[str]:
    """The names that a definition refers to, its own arguments and variables aside."""
    if node is None:
        return set()
    parts = list(ast.walk(node))
    names = [one for one in parts if isinstance(one, ast.Name)]
    own = {one.id for one in names if not isinstance(one.ctx, ast.Load)}
    own |= {one.arg for one in parts if isinstance(one, ast.arg)}
    own |= {one.asname or one.name for one in parts if isinstance(one, ast.alias)}
    return {one.id for one in names} - own


def reached(start: tuple[str, ...], uses: Mapping[str, set[str]]) -> set[str]:
    """The names that can be reached from these, over any number of calls."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += uses.get(name, set())
    return found

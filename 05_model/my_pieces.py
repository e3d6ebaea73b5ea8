"""Your code of lessons 01 to 04, judged: which parts of the model you have written, and how far.

What is solved is what the tests of an exercise say now, in a process of their own and with the
verdicts cached, exactly as in `make status`. A lesson without exercises, or without an
exercises.py, counts as not started.
"""

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from utils.errors import CourseError
from utils.grader.check import judged, place, where_is
from utils.grader.exercises import Exercise, Lesson, how_to, read_lesson
from utils.grader.guard import LearnerModule
from utils.grader.learner_code import LoadError, Source, describe, read_source
from utils.grader.report import SOLVED, TO_DO, WRONG, Verdict, understands_escapes
from utils.grader.runner import progress

PIECES = {  # field of Parts: the lesson, and the function or class in its exercises.py
    "attention": ("01_attention", "scaled_dot_product_attention"),
    "causal_mask": ("01_attention", "causal_mask"),
    "split_heads": ("02_multi_head", "split_heads"),
    "merge_heads": ("02_multi_head", "merge_heads"),
    "multi_head": ("02_multi_head", "MultiHeadAttention"),
    "repeat_kv": ("02_multi_head", "repeat_kv"),
    "grouped_query": ("02_multi_head", "GroupedQueryAttention"),
    "layer_norm": ("03_transformer_blocks", "LayerNorm"),
    "rms_norm": ("03_transformer_blocks", "RMSNorm"),
    "feed_forward": ("03_transformer_blocks", "FeedForward"),
    "swiglu": ("03_transformer_blocks", "SwiGLU"),
    "block": ("03_transformer_blocks", "TransformerBlock"),
    "token_embedding": ("04_embeddings", "TokenEmbedding"),
    "learned_positions": ("04_embeddings", "LearnedPositions"),
    "sinusoidal_positions": ("04_embeddings", "SinusoidalPositions"),
    "rotary_angles": ("04_embeddings", "rotary_angles"),
    "apply_rotary": ("04_embeddings", "apply_rotary"),
    "alibi_slopes": ("04_embeddings", "alibi_slopes"),
    "alibi_bias": ("04_embeddings", "alibi_bias"),
}


@dataclass(frozen=True)
class JudgedLesson:
    """A lesson's exercises.py as it was when it was judged, and the verdicts."""

    lesson: Lesson
    source: Source
    verdicts: dict[str, Verdict]

    @cached_property
    def learner(self) -> LearnerModule:
        """The file, loaded; only if something of it is solved, so that it is known to load."""
        return LearnerModule(self.source)

    def exercise_of(self, name: str) -> Exercise | None:
        """The exercise in which this function or class is written."""
        return next((one for one in self.lesson.exercises if name in one.names), None)

    def unfinished(self, exercise: Exercise) -> tuple[str, ...]:
        """The stubs that are still untouched, of an exercise that has been begun."""
        untouched = {stub.name for stub in self.source.stubs()}
        left = tuple(stub for stub in exercise.stubs if stub in untouched)
        # All of them untouched: nothing has been begun, so nothing is left of it.
        return left if len(left) < len(exercise.stubs) else ()


@dataclass(frozen=True)
class Piece:
    """One part of the model, and how its exercise stands."""

    part: str  # the field of Parts
    name: str  # the function or class
    outcome: str = TO_DO  # solved, wrong or to do
    owner: JudgedLesson | None = None
    exercise: Exercise | None = None

    @property
    def number(self) -> str:
        """ "1.5", or "" while there is no such exercise."""
        return self.exercise.id if self.exercise else ""

    @property
    def title(self) -> str:
        """ "1.5 scaled_dot_product_attention"."""
        return f"{self.number} {self.name}".lstrip()

    @property
    def value(self) -> Any:
        """The learner's function or class."""
        assert self.owner is not None
        return getattr(self.owner.learner.module, self.name)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The stubs that are left, if the exercise has been begun and not finished."""
        if self.owner is None or self.exercise is None or self.outcome != TO_DO:
            return ()
        return self.owner.unfinished(self.exercise)

    def where(self) -> str:
        """ "01_attention/exercises/exercises.py, line 76"."""
        assert self.owner is not None and self.exercise is not None
        return where_is(self.owner.lesson, self.exercise)

    def describe(self, error: Exception) -> str:
        """An error in one line, with the line of the learner's file."""
        assert self.owner is not None
        return " ".join(describe(error, self.owner.lesson.file).split())


def find_pieces(root: Path) -> list[Piece]:
    """Every piece that the exercises may give to a model, judged.

    Raises CourseError, which names the exercise, if one of them is wrong, or the file, if it cannot
    be loaded.
    """
    # Each lesson is judged once, however many parts it gives; `fromkeys` keeps the lessons' order.
    folders = dict.fromkeys(lesson for lesson, _ in PIECES.values())
    owners = {name: judge_lesson(root / name) for name in folders}
    pieces = [find_piece(part, name, owners[lesson]) for part, (lesson, name) in PIECES.items()]
    refuse_wrong(pieces)
    return pieces


def judge_lesson(folder: Path) -> JudgedLesson | None:
    """The verdicts of a lesson; None if it has nothing to solve yet. Raises CourseError."""
    exercises = folder / "exercises"
    if not all((exercises / name).is_file() for name in ("exercises.yaml", "exercises.py")):
        return None
    lesson = read_lesson(folder)
    file = place(lesson, lesson.file)
    try:
        source = read_source(lesson.file)
    except LoadError as error:
        raise CourseError(f"{file} cannot be used: {' '.join(str(error).split())}") from None
    verdicts = verdicts_of(lesson)
    # The tests load the file in another process: it may fail to load, whatever `read_source` found.
    broken = next((found for found in verdicts.values() if found.broken_file), None)
    if broken is not None:
        raise CourseError(f"{file} cannot be used: {' '.join(broken.message.split())}")
    # A save in between: the verdicts would be those of another text than the code that trains.
    if lesson.file.read_bytes() != source.data:
        raise CourseError(f"{file} was saved while it was checked; start again")
    return JudgedLesson(lesson, source, verdicts)


def verdicts_of(lesson: Lesson) -> dict[str, Verdict]:
    """The verdicts; while they are found, a terminal shows each exercise, a log each lesson."""
    if understands_escapes(sys.stderr):  # a line that can be overwritten shows each exercise
        return judged(lesson)
    first = lesson.exercises[0].id  # exercises are judged in order

    def announce(exercise: str) -> None:
        if exercise == first:
            print(f"parts   checking your exercises of {lesson.name}", flush=True)

    return progress(lesson, on_exercise=announce)


def find_piece(part: str, name: str, owner: JudgedLesson | None) -> Piece:
    """One piece; what no exercise writes is to do."""
    exercise = owner.exercise_of(name) if owner else None
    if owner is None or exercise is None:
        return Piece(part, name)
    return Piece(part, name, owner.verdicts[exercise.id].outcome, owner, exercise)


def refuse_wrong(pieces: list[Piece]) -> None:
    """Raise CourseError if an exercise is wrong, or its file does not load here."""
    wrong = [piece for piece in pieces if piece.outcome == WRONG]
    if wrong:
        # One exercise may be two parts (4.9 writes two functions), and is named once.
        others = ", ".join(dict.fromkeys(piece.number for piece in wrong[1:]))
        also = f" (and so {'are' if ',' in others else 'is'} {others})" if others else ""
        check = how_to("check", wrong[0].number)
        raise CourseError(f"your {wrong[0].title} is wrong{also}; {check} shows why")
    for piece in pieces:
        # Solved in the tests' process, and yet it doesn't load in this one.
        if piece.outcome == SOLVED and piece.owner and piece.owner.learner.problem:
            raise CourseError(f"{piece.where()}: {piece.owner.learner.problem}")

"""The calls of a learner's code, recorded so that they can be repeated with known wrong answers.

A *misconception* is a function with the same arguments as the exercise that makes one common
mistake; its docstring is the diagnosis.
"""

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from utils.grader.mistakes import Suspects, class_of
from utils.grader.values import copy_of, named

Misconception = Callable[..., Any]

CALLS_KEPT = 8  # in the history of a test


@dataclass
class Call:
    """One call of a learner's code: copies of its inputs, and its result or error.

    For a method, `build` makes an object of another class with the same parameters, so that a
    misconception can replace the learner's class; None for a plain function. `observe` calls a
    function with effects and returns what they are, in place of its result.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    random_state: Tensor
    misconceptions: Sequence[Misconception] = ()
    build: Callable[[Misconception], nn.Module] | None = None
    observe: Callable[..., Any] | None = None
    names: Sequence[str] = ()  # of the positional arguments
    result: Any = None
    error: BaseException | None = None

    def __str__(self) -> str:
        """The call with every argument named, and small inputs shown."""
        names = itertools.chain(self.names, itertools.repeat(""))
        arguments = [named(name, value) for name, value in zip(names, self.args, strict=False)]
        arguments += [named(name, value) for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(arguments)})"

    @property
    def function(self) -> str:
        """The function or class that was called, without the name of a method."""
        return self.name.partition(".")[0]

    def repeat(self, misconception: Misconception) -> Any:
        """The result of a misconception on the same inputs; an error it raises is returned."""
        args, kwargs = copy_of(self.args), copy_of(self.kwargs)
        now = torch.get_rng_state()
        function = misconception
        try:
            with warnings.catch_warnings(action="ignore"):
                if self.build is not None and class_of(misconception) is not None:
                    function = self.build(misconception)  # may draw random numbers
                torch.set_rng_state(self.random_state)
                if self.observe is not None:
                    return self.observe(function, *args, **kwargs)
                return function(*args, **kwargs)
        except Exception as error:
            return error
        finally:
            torch.set_rng_state(now)


@dataclass
class History:
    """The last calls of one test, so that a result can be traced to the call it came from.

    `refuted` holds the misconceptions that would have failed where the learner's answer was right,
    `replaced` a function of PyTorch that the learner called though it replaces the exercise.
    `suspects` are pairs of mistakes, over all the tests of an exercise.
    """

    calls: list[Call] = field(default_factory=list)
    refuted: set[str] = field(default_factory=set)
    replaced: str = ""
    suspects: Suspects = field(default_factory=Suspects)

    def clear(self) -> None:
        self.calls = []
        self.refuted = set()
        self.replaced = ""

    def add(self, call: Call) -> None:
        self.calls = [*self.calls[1 - CALLS_KEPT :], call]

    def origin(self, answer: Any) -> tuple[Call, int | None] | None:
        """The call that returned this answer (index None), or a tuple with it at an index."""
        for call in reversed(self.calls):
            if call.result is answer:
                return call, None
            if isinstance(call.result, tuple | list):
                for index, part in enumerate(call.result):
                    if part is answer:
                        return call, index
        return None


history = History()


def part_of(value: Any, index: int | None) -> Any:
    """value[index], or None if there is none; the value itself if index is None."""
    if index is None or isinstance(value, Exception):
        return value
    return value[index] if isinstance(value, tuple | list) and index < len(value) else None


# --- copying and formatting values ---

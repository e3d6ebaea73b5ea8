"""A learner's module under guard: whatever its functions do becomes one message.

The tests of an exercise reach the learner's code through `Guarded`, which stands for the module.
Each call is timed by a watchdog, its inputs are compared before and after, what it raises becomes
`NotStarted` (the stub is as it was handed out) or `Wrong`, and the call is remembered, so that
utils/grader/feedback.py can repeat it with known misconceptions.
"""

import contextlib
import ctypes
import inspect
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from utils.grader.exercises import how_to
from utils.grader.feedback import Call, Misconception, Wrong, copied, history, kind, raised_alike
from utils.grader.learner_code import (
    LoadError,
    Source,
    TimeUp,
    describe,
    is_interruption,
    last_line_in,
    left_raise,
    load,
    stub_behind,
)

SECONDS = 5.0  # for all the calls of one exercise together
PLAIN = str | bytes | bytearray | complex | float | int | set
LEASH = threading.Lock()  # held by a watchdog that barks, and while another one is born

Result = TypeVar("Result")


class NotStarted(Exception):  # noqa: N818 - an outcome, not an error
    """The exercise's own stub is as it was handed out."""


class BrokenFile(Wrong):
    """The file could not be loaded: the same message for each of its exercises."""


@dataclass
class Clock:
    """The time that one exercise may still spend in the learner's code."""

    limit: float = SECONDS
    spent: float = 0.0
    where: str = ""  # the line that was running when the time was up

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function for what is left of the time; raises TimeUp in it when that is over."""
        start = time.perf_counter()
        try:
            return call_within(max(0.0, self.limit - self.spent), function)
        finally:
            self.spent += time.perf_counter() - start

    def message(self) -> str:
        """What to tell the learner when the time is up."""
        where = f" at {self.where}" if self.where else ""
        return f"it still ran after {self.limit:.0f} seconds{where}: does a loop never end?"


def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function; raise TimeUp in it when the time is up, and again each second until it ends.

    It reaches Python code only; a call into C is interrupted when it returns. (What never returns
    is ended from outside: see utils/grader/runner.py.)
    """
    thread = threading.get_ident()
    over, barked = threading.Event(), threading.Event()

    def raise_in_thread(error: type[BaseException] | None) -> None:
        reference = ctypes.py_object(error) if error else None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), reference)

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            with LEASH:
                if not over.is_set():
                    barked.set()
                    raise_in_thread(TimeUp)
            wait = 1.0

    def leave() -> None:
        with LEASH:
            over.set()
            if barked.is_set():  # only then: for nothing, it would slow the interpreter down
                raise_in_thread(None)  # what is still under way is called back

    dog = threading.Thread(target=watch, daemon=True)
    try:
        try:
            with LEASH:  # Python 3.11 may hand the exception to a thread that is being born
                dog.start()
            return function()
        finally:
            leave()
    finally:
        leave()  # TimeUp may have struck in the first one; the next comes a second later


class Learner:
    """A learner's file, loaded once; if that failed, every use of it says why."""

    def __init__(self, source: Source | LoadError) -> None:
        self.source = source if isinstance(source, Source) else None
        self.problem = "" if isinstance(source, Source) else str(source)
        self.module = ModuleType("nothing")
        if isinstance(source, Source):
            self.load(source)

    def load(self, source: Source) -> None:
        """Run the file, for a limited time; what it switches in PyTorch is switched back."""
        clock = Clock()
        try:
            with same_state_afterwards():
                self.module = clock.run(lambda: load(source))
        except LoadError as error:
            self.problem = str(error)
        except TimeUp as error:
            clock.where = line_of(error, source)
            self.problem = f"{source.path.name} does not finish loading: {clock.message()}"


def line_of(error: BaseException, source: Source) -> str:
    """The line of the file that an error went through, in words."""
    line = last_line_in(error.__traceback__, source.path)
    return f"line {line}" if line else ""


class Guarded:
    """Stands for the learner's module in the tests of one exercise.

    Attributes are the module's; functions and classes are guarded. `misconceptions` are known
    wrong answers by the name of the function or class.
    """

    def __init__(
        self,
        learner: Learner,
        exercise: str,
        misconceptions: Mapping[str, Sequence[Misconception]],
        clock: Clock,
    ) -> None:
        self._learner = learner
        self._exercise = exercise
        self._misconceptions = misconceptions
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        if self._learner.problem:
            raise BrokenFile(self._learner.problem)
        value = getattr(self._learner.module, name, None)
        if value is None:
            reset = how_to("reset", self._exercise)
            raise Wrong(f"the file has no {name}: {reset} brings it back")
        if isinstance(value, type) and issubclass(value, nn.Module):
            return self._guarded_class(name, value)
        if not callable(value):
            raise Wrong(f"{name} is {kind(value)}, where a function was asked for")
        return self._guarded(name, value)

    def _guarded(
        self,
        name: str,
        function: Callable[..., Any],
        known: str | None = None,
        build: Callable[[type], nn.Module] | None = None,
    ) -> Callable[..., Any]:
        """The same function, watched. `known` is the name its misconceptions go by."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            misconceptions = self._misconceptions.get(known or name, ())
            before = copied(args), copied(kwargs)
            call = Call(name, *before, torch.get_rng_state(), misconceptions, build)
            history.remember(call)
            call.result = self._watch(call, lambda: function(*args, **kwargs))
            expect_unchanged(call, function, args, kwargs)
            return call.result

        return guarded

    def _guarded_class(self, name: str, cls: type[nn.Module]) -> Callable[..., nn.Module]:
        """The same class, whose objects have a watched forward."""

        def construct(*args: Any, **kwargs: Any) -> nn.Module:
            module = self._guarded(name, cls)(*args, **kwargs)

            def build(other: type) -> nn.Module:
                twin = other(*args, **kwargs)
                twin.load_state_dict(module.state_dict())
                return twin.train(module.training)

            forward = self._guarded(f"{name}.forward", module.forward, name, build)
            module.forward = forward
            return module

        return construct

    def _watch(self, call: Call, run: Callable[[], Any]) -> Any:
        """Run the learner's code; whatever it raises becomes NotStarted or Wrong."""
        if self._clock.spent >= self._clock.limit:
            raise Wrong(self._clock.message())
        try:
            with warnings.catch_warnings(action="ignore"):
                return self._clock.run(run)
        except BaseException as error:
            source = self._learner.source
            assert source is not None  # without a source there is nothing to call
            if isinstance(error, NotStarted | Wrong) or is_interruption(error, source):
                raise
            call.error = error
            raise self._verdict(call, error, source) from None

    def _verdict(self, call: Call, error: BaseException, source: Source) -> Exception:
        """What an error in the learner's code means for the exercise."""
        if isinstance(error, TimeUp):
            self._clock.where = line_of(error, source)
            self._clock.spent = max(self._clock.spent, self._clock.limit)
            return Wrong(f"{call}: {self._clock.message()}")
        stub = stub_behind(error, source)
        if stub is not None and stub.exercise == self._exercise:
            return NotStarted(f"{stub.exercise} {stub.name}")
        if stub is not None:
            return Wrong(f"it calls {stub.name} ({stub.exercise}), which is still to do")
        line = left_raise(error, source)
        if line is not None:
            return Wrong(f"line {line} still raises NotImplementedError: delete that line")
        said = "it ends the program" if isinstance(error, SystemExit) else "it fails"
        problem = describe(error, source.path)
        return Wrong(f"{call}: {said}, {problem}", raised_alike(call))


def expect_unchanged(
    call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise Wrong if a call changed one of its inputs."""
    names = argument_names(function, len(args))
    pairs = [*zip(names, call.args, args, strict=True)]
    pairs += [(name, call.kwargs[name], kwargs[name]) for name in kwargs]
    for name, before, after in pairs:
        if not unchanged(before, after):
            raise Wrong(
                f"{call}: it changes its input {name}, which the caller still needs; "
                "compute new tensors (masked_fill, not masked_fill_; x = x - 1, not x -= 1)"
            )


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first positional arguments; numbers where the signature does not say."""
    try:
        names = list(inspect.signature(function).parameters)[:count]
    except (TypeError, ValueError):
        names = []
    return names + [str(position) for position in range(len(names) + 1, count + 1)]


def unchanged(before: Any, after: Any) -> bool:
    """Whether a value is as it was; what cannot be compared counts as unchanged."""
    if isinstance(before, Tensor):
        return isinstance(after, Tensor) and unchanged_tensor(before, after.detach())
    if isinstance(before, np.ndarray):
        return isinstance(after, np.ndarray) and np.array_equal(before, after, equal_nan=True)
    if type(before) is not type(after):
        return False
    if isinstance(before, PLAIN):
        return before is after or before == after
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(map(unchanged, before, after))
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(
            unchanged(before[name], after[name]) for name in before
        )
    return True


def unchanged_tensor(before: Tensor, after: Tensor) -> bool:
    """Whether shape, dtype and values are the same; nan equals nan."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    if before.is_meta:  # it has no values
        return True
    return bool(((before == after) | ((before != before) & (after != after))).all())


@contextlib.contextmanager
def same_state_afterwards() -> Iterator[None]:
    """Whatever a learner's code switches, the next exercise finds PyTorch as it was."""
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    threads, autocast = torch.get_num_threads(), torch.is_autocast_enabled("cpu")
    deterministic = torch.are_deterministic_algorithms_enabled()
    generator, numpy_state = torch.get_rng_state(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.set_default_device(None)
        torch.set_autocast_enabled("cpu", autocast)
        if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it takes 1 s
            torch.use_deterministic_algorithms(deterministic)
        torch.set_rng_state(generator)
        np.random.set_state(numpy_state)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

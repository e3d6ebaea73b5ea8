"""Call a learner's functions safely: whatever they do becomes one message.

The tests of an exercise access the learner's module through a `Guarded` proxy. Each call has a time
limit, its inputs are compared before and after, and its errors become `NotStarted` (the stub is
untouched) or `Wrong`. The call is recorded, so that utils/grader/feedback.py can repeat it with
known misconceptions.
"""

import contextlib
import copy
import ctypes
import inspect
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from utils.grader.calls import Call, Misconception, history
from utils.grader.exercises import Exercise, how_to
from utils.grader.feedback import Wrong
from utils.grader.learner_code import (
    LoadError,
    Source,
    TimeUp,
    describe,
    is_interruption,
    last_line_in,
    leftover_raise,
    load,
    stub_that_raised,
)
from utils.grader.mistakes import class_of
from utils.grader.plain_words import explain
from utils.grader.report import TOO_LONG
from utils.grader.resemblance import misconceptions_with_same_error
from utils.grader.values import copy_of, type_name

SECONDS = 5.0  # of processor time, for all the calls of one exercise together
PATIENCE = 2.4  # seconds of wall time count as one, for code that sleeps
BUSY = 10.0  # and for code that computes, and has to wait for its turn on a busy machine
RUNNING = 0.01  # of the processor: code that gets less sleeps
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
COMPARABLE = str | bytes | bytearray | complex | float | int | set
WATCHDOG_LOCK = threading.Lock()  # held while a watchdog raises TimeUp, and while another starts
RAISE_IN_THREAD = ctypes.pythonapi.PyThreadState_SetAsyncExc
TIME_UP = ctypes.py_object(TimeUp)

Result = TypeVar("Result")


class NotStarted(Exception):  # noqa: N818 - an outcome, not an error
    """The stub of the exercise itself is untouched."""


class BrokenFile(Wrong):
    """The file could not be loaded: the same message for each of its exercises."""


class NoTerminalError(RuntimeError):
    """The learner's code wants to talk to a person, but the process has no terminal."""

    __module__ = "builtins"  # messages then show the plain name


def refuse_debugger(*_: Any, **__: Any) -> None:
    """Takes the place of `breakpoint()` and `pdb.set_trace()` in the worker process."""
    raise NoTerminalError(
        "breakpoint() needs a terminal, and exercises are checked without one: "
        "delete the line, or look at values with print()"
    )


def refuse_input(*_: Any) -> str:
    """Takes the place of `input()` in the worker process."""
    raise NoTerminalError("input() needs a terminal, and exercises are checked without one")


@dataclass
class Clock:
    """The time limit of one exercise, over all its calls of the learner's code."""

    limit: float = SECONDS
    spent: float = 0.0
    where: str = ""  # the line that was running when the time was up

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function; raises TimeUp inside it when the remaining time is over."""
        start = moment()
        try:
            return call_within(max(0.0, self.limit - self.spent), function)
        finally:
            self.spent += seconds_since(start)

    def message(self) -> str:
        """The message for the learner when the time is up."""
        where = f" at {self.where}" if self.where else ""
        return f"still running after {self.limit:.0f} seconds{where}; {TOO_LONG}"


def moment() -> tuple[float, float]:
    """The processor time of this process and the wall time, in seconds."""
    return time.process_time(), time.perf_counter()


def seconds_since(start: tuple[float, float]) -> float:
    """The seconds that count against a time limit: of the processor, or waited with patience."""
    processor, wall = (now - before for now, before in zip(moment(), start, strict=True))
    patience = PATIENCE if processor < RUNNING * wall else BUSY
    return min(wall, max(processor, wall / patience))  # several threads use more than wall time


def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function; raise TimeUp in it when the time is up, and again every second.

    Time is that of the processor, so that a busy machine does not make right answers late; one that
    sleeps is interrupted after PATIENCE times as long.

    This reaches Python code only; a call into C is interrupted when it returns. (A call that never
    returns is ended from outside: see utils/grader/runner.py.)
    """
    watchdog = Watchdog(seconds, threading.get_ident())
    try:
        try:
            watchdog.start()
            return function()
        finally:
            watchdog.stop()
    finally:
        watchdog.stop()  # TimeUp may have been raised in the first one; the next is a second away


class Watchdog:
    """A thread that raises TimeUp in another thread once its time is up.

    Python 3.11 notes that an exception is pending until it is raised. Until then, a thread whose
    lines are traced (by coverage, or a debugger) does not get into a Python function. So no
    exception stays pending, and no function of Python is called while the lock is held.
    """

    def __init__(self, seconds: float, thread: int) -> None:
        self.seconds = seconds
        self.thread = ctypes.c_ulong(thread)
        self.stopped = threading.Event()
        self.may_fire = True
        self.has_fired = False

    def start(self) -> None:
        with WATCHDOG_LOCK:  # Python 3.11 may raise the exception in a thread that is starting
            threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """End the watch; called in the watched thread. TimeUp may still be raised in here."""
        with WATCHDOG_LOCK:
            self.may_fire = False
        self.stopped.set()
        if self.has_fired:
            self._take_back()

    def _take_back(self) -> None:
        """Leave no exception pending: raise one, and end it here."""
        try:
            RAISE_IN_THREAD(self.thread, TIME_UP)  # in the place of one that is pending
            while True:  # the jump back is where Python looks
                time.sleep(0)
        except TimeUp:
            self.has_fired = False

    def _watch(self) -> None:
        start = moment()
        wait = self.seconds
        while not self.stopped.wait(wait):
            left = self.seconds - seconds_since(start)
            if left > 0 and not self.has_fired:  # the machine is busy
                wait = left
                continue
            with WATCHDOG_LOCK:
                if self.may_fire:
                    self.has_fired = True
                    RAISE_IN_THREAD(self.thread, TIME_UP)
            wait = 1.0


class LearnerModule:
    """A learner's file, loaded once; `problem` says why if that failed."""

    def __init__(self, source: Source | LoadError) -> None:
        self.source = source if isinstance(source, Source) else None
        self.problem = "" if isinstance(source, Source) else str(source)
        self.module = ModuleType("nothing")
        if isinstance(source, Source):
            self.load(source)

    def load(self, source: Source) -> None:
        """Run the file with a time limit; settings of PyTorch that it changes are restored."""
        clock = Clock()
        try:
            with restored_state():
                self.module = clock.run(lambda: load(source))
        except LoadError as error:
            self.problem = str(error)
        except TimeUp as error:
            clock.where = line_of(error, source)
            self.problem = f"{source.path.name} does not finish loading: {clock.message()}"


def line_of(error: BaseException, source: Source) -> str:
    """The last line of the file in the traceback of an error: "line 12", or "" if none."""
    line = last_line_in(error.__traceback__, source.path)
    return f"line {line}" if line else ""


class CallsWatched(TorchFunctionMode):
    """Notes in the history if a function of PyTorch is called that replaces the exercise."""

    def __init__(self, without: Sequence[str]) -> None:
        super().__init__()
        self.without = without

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # called by PyTorch for each of its functions
        name = getattr(func, "__name__", "")
        if name in self.without or "*" in self.without:
            history.replaced = "PyTorch" if "*" in self.without else f"PyTorch's {name}"
        return func(*args, **(kwargs or {}))


class Guarded:
    """A proxy for the learner's module in the tests of one exercise.

    Its attributes are the module's functions and classes, guarded. `misconceptions` holds the known
    wrong answers by the name of the function or class.
    """

    def __init__(
        self,
        learner: LearnerModule,
        exercise: Exercise,
        misconceptions: Mapping[str, Sequence[Misconception]],
        clock: Clock,
    ) -> None:
        self._learner = learner
        self._exercise = exercise.id
        self._without = exercise.without
        self._misconceptions = misconceptions
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        value = self._function(name)
        cls = class_of(value)
        if cls is not None and issubclass(cls, nn.Module):
            return self._guarded_class(name, value)
        return self._guarded(name, value)

    def _function(self, name: str) -> Callable[..., Any]:
        """The learner's function or class. Raises Wrong if there is none."""
        if self._learner.problem:
            raise BrokenFile(self._learner.problem)
        value = getattr(self._learner.module, name, None)
        if value is None:
            reset = how_to("reset", self._exercise)
            raise Wrong(f"{name} is missing from the file: undo that, or restore the stub: {reset}")
        if not callable(value):
            raise Wrong(f"{name} is {type_name(value)}; expected a function")
        return value

    def _guarded(
        self,
        name: str,
        function: Callable[..., Any],
        known: str | None = None,
        build: Callable[[Misconception], nn.Module] | None = None,
        observe: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """The same function, guarded. `known` is the name under which misconceptions are listed."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            misconceptions = self._misconceptions.get(known or name, ())
            inputs = copy_of(args), copy_of(kwargs)
            names = argument_names(function, len(args))
            state = torch.get_rng_state()
            call = Call(name, *inputs, state, misconceptions, build, observe, names)
            run = function if observe is None else partial(observe, function)
            history.add(call)
            call.result = self._run(call, lambda: run(*args, **kwargs))
            expect_unchanged(call, function, args, kwargs)
            return call.result

        return guarded

    def _guarded_class(self, name: str, cls: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        """The same class, whose objects have a guarded forward."""

        def construct(*args: Any, **kwargs: Any) -> nn.Module:
            module = self._guarded(name, cls)(*args, **kwargs)

            def build(other: Misconception) -> nn.Module:
                # Modules among the arguments are copied: loading weights into shared ones would
                # count as an in-place change, and the learner's backward pass would fail.
                own_args, own_kwargs = copy.deepcopy((args, kwargs))
                twin = other(*own_args, **own_kwargs)
                twin.load_state_dict(module.state_dict())
                return twin.train(module.training)

            forward = self._guarded(f"{name}.forward", module.forward, name, build)
            module.forward = forward
            return module

        return construct

    def _run(self, call: Call, run: Callable[[], Any]) -> Any:
        """Run the learner's code; any error becomes NotStarted or Wrong."""
        if self._clock.spent >= self._clock.limit:
            raise Wrong(self._clock.message())
        try:
            with warnings.catch_warnings(action="ignore"), CallsWatched(self._without):
                return self._clock.run(run)
        except BaseException as error:
            source = self._learner.source
            if source is None or isinstance(error, NotStarted | Wrong):
                raise
            if is_interruption(error, source):
                raise
            call.error = error
            raise self._outcome(call, error, source) from None

    def _outcome(self, call: Call, error: BaseException, source: Source) -> Exception:
        """The outcome that follows from an error in the learner's code."""
        if isinstance(error, TimeUp):
            self._clock.where = line_of(error, source)
            self._clock.spent = max(self._clock.spent, self._clock.limit)
            return Wrong(f"{call}\n{self._clock.message()}")
        stub = stub_that_raised(error, source)
        if stub is not None and stub.exercise == self._exercise:
            return NotStarted(f"{stub.exercise} {stub.name}")
        if stub is not None:
            return Wrong(f"it calls {stub.name} ({stub.exercise}), which is still to do")
        line = leftover_raise(error, source)
        if line is not None:
            return Wrong(f"line {line} still raises NotImplementedError: delete that line")
        problem = describe(error, source.path, call.name)
        if isinstance(error, SystemExit):
            return Wrong(f"{call}\nit exits Python: {problem}")
        meaning = explain(error)
        plain = f"\nIn plain words: {meaning}" if meaning else ""
        same = misconceptions_with_same_error(call)
        return Wrong(f"{call}\n{problem}{plain}", same, function=call.function)


def observed(ex: Guarded, name: str, observe: Callable[..., Any]) -> Callable[..., Any]:
    """A learner's function whose effects are judged, and not its result.

    observe(function, *args) calls the function, which may be the learner's or one of the
    misconceptions, and returns what it did: the files it left, the error it raised, the weights it
    trained. To the helpers of feedback.py that is the result of the call.
    """
    return ex._guarded(name, ex._function(name), observe=observe)


def expect_unchanged(
    call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise Wrong if a call changed one of its inputs."""
    names = argument_names(function, len(args))
    pairs = [*zip(names, call.args, args, strict=True)]
    pairs += [(name, call.kwargs[name], kwargs[name]) for name in kwargs]
    for name, before, after in pairs:
        if not unchanged(before, after):
            way_out = (
                "tensor instead (masked_fill, not masked_fill_; x = x - 1, not x -= 1; or change a "
                "copy, x.clone())"
            )
            if isinstance(before, list | dict) and not any(isinstance(x, Tensor) for x in before):
                way_out = f"{type(before).__name__} instead, or change a copy"
            raise Wrong(
                f"{call}\nit changes its input {name}, which the caller still needs: compute a new "
                f"{way_out}"
            )


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first positional arguments; their positions if there is no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    names = [one.name for one in parameters if one.kind in POSITIONAL][:count]
    return names + [str(position) for position in range(len(names) + 1, count + 1)]


def unchanged(before: Any, after: Any) -> bool:
    """Whether a value is unchanged; one that cannot be compared counts as unchanged."""
    if isinstance(before, Tensor):
        return isinstance(after, Tensor) and unchanged_tensor(before, after.detach())
    if isinstance(before, np.ndarray):
        return isinstance(after, np.ndarray) and np.array_equal(before, after, equal_nan=True)
    if type(before) is not type(after):
        return False
    if isinstance(before, COMPARABLE):
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
    if before.is_meta:  # a meta tensor has no values
        return True
    return bool(((before == after) | ((before != before) & (after != after))).all())


@contextlib.contextmanager
def restored_state() -> Iterator[None]:
    """Restore the settings and random states of PyTorch and NumPy afterwards."""
    dtype = torch.get_default_dtype()
    grad = torch.is_grad_enabled()
    autocast = torch.is_autocast_enabled("cpu")
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.set_default_device(None)
        torch.set_autocast_enabled("cpu", autocast)
        if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it takes 1 s
            torch.use_deterministic_algorithms(deterministic)
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

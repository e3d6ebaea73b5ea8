"""A submission's module as the tests see it, while its code runs in another process.

`RemoteModule` takes the place of the module that utils/grader/guard.py guards. Its functions send
their arguments to tools/grading/answers.py in a sandbox, and return the values that come back.
Gradients flow through: the backward pass asks the other process. Layers have their parameters
here, which are sent with each call.
"""

import builtins
import contextlib
import inspect
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tools.grading.sandbox import Sandbox, View, Watch, patience
from tools.grading.wire import HEADER, Packer, Unpacker, parse, send, sizes_of

PATIENCE = 15.0  # seconds for one answer
STARTUP = 180.0
SLICE = 0.1  # seconds; in between, the watchdog of the exercise may interrupt
CHUNK = 2**20
MOST_CALLS_BACK = 10_000
MOST_LATE = 3  # then the rest is not asked
# What is sent is not the answer's work: the watch over functions of PyTorch must not see it.
UNWATCHED = torch._C.DisableTorchFunction


class RemoteError(RuntimeError):
    """The process did not answer, or not with values."""


class Connection:
    """A process that answers for one submission; it is started when it is first asked."""

    def __init__(self, sandbox: Sandbox, view: View, file: str) -> None:
        self.sandbox, self.view, self.file = sandbox, view, file
        self.process: subprocess.Popen[bytes] | None = None
        self.watch: Watch | None = None
        self.started = 0  # which process; objects and calls of an earlier one are gone
        self.late = 0  # answers that did not come in time
        self.names: dict[str, Any] = {}
        self.problem = ""

    def start(self) -> None:
        """Start the process and load the submission."""
        self.process = self.sandbox.start(self.view, "tools.grading.answers", subprocess.DEVNULL)
        self.watch = Watch(self.sandbox, self.process)
        self.started += 1
        try:
            self._receive(STARTUP)
            reply, _ = self._exchange({"do": "load", "file": self.file}, {})
            self.problem = str(reply.get("problem", ""))
            self.names = reply.get("names", {})
        except BaseException:
            self.end()
            raise

    def ask(
        self,
        message: dict[str, Any],
        tensors: dict[str, Tensor],
        functions: Sequence[Callable[..., Any]] = (),
    ) -> Any:
        """The reply to a message. Raises RemoteError, or the error that the submission raised.

        `functions` are those among the arguments that the other process may call back.
        """
        if self.late >= MOST_LATE:
            raise RemoteError(f"no answer in time, {self.late} times")
        if self.process is None:
            self.start()
        try:
            reply, found = self._exchange(message, tensors)
            for _ in range(MOST_CALLS_BACK):
                if "call_back" not in reply:
                    break
                reply, found = self._exchange(*called_back(reply, found, functions))
            else:
                raise RemoteError("too many calls back")
        except BaseException:  # the watchdog's, too: an answer that comes late must not be read
            self.end()
            raise
        if "error" in reply:
            name, text = (str(one) for one in reply["error"])
            known: Any = getattr(builtins, name, None)
            if isinstance(known, type) and issubclass(known, Exception):
                raise known(text)
            raise RemoteError(text)
        return reply, found

    def _exchange(self, message: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
        if self.process is None or self.process.stdin is None:
            raise RemoteError("the process has ended")
        try:
            send(self.process.stdin, message, tensors)
        except (OSError, ValueError):
            raise RemoteError("the process has ended") from None
        return self._receive(PATIENCE * patience())

    def _receive(self, seconds: float) -> Any:
        """Read one message. Raises RemoteError if it is late, too long or not a message."""
        end = time.monotonic() + seconds
        try:
            first, second = sizes_of(self._read(HEADER.size, end))
            return parse(self._read(first, end), self._read(second, end))
        except RemoteError:
            raise
        except Exception as error:
            raise RemoteError(f"not an answer: {type(error).__name__}") from None

    def _read(self, count: int, end: float) -> bytes:
        assert self.process is not None and self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        parts: list[bytes] = []
        while count:
            if time.monotonic() > end:
                self.late += 1
                raise RemoteError("no answer in time")
            if not select.select([descriptor], [], [], SLICE)[0]:
                continue
            part = os.read(descriptor, min(count, CHUNK))
            if not part:
                raise RemoteError("the process has ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def end(self) -> None:
        """End the process; the next question starts another."""
        if self.process is None:
            return
        if self.watch is not None:
            self.watch.stop()
        self.sandbox.end(self.process)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self.process = None


def called_back(
    message: dict[str, Any], tensors: dict[str, Tensor], functions: Sequence[Callable[..., Any]]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Call a function of the test for the other process; returns the message with its result."""
    unpacker = Unpacker(tensors, allows_names=False)
    packer = Packer()
    try:
        args, kwargs = unpacker.unpack(message["args"]), unpacker.unpack(message["kwargs"])
        with torch.no_grad():
            result = packer.pack(functions[message["call_back"]](*args, **kwargs))
    except Exception as error:
        return {"error": str(error)[:500]}, {}
    return {"result": result}, packer.tensors


# --- what the tests call ---


def remote_module(connection: Connection) -> SimpleNamespace:
    """The functions and classes of a submission. Raises RemoteError if its process can't start."""
    if connection.process is None:
        connection.start()
    made = {}
    for name, about in connection.names.items():
        make = {"module": layer_class, "function": function}.get(about["kind"])
        if make is not None:
            made[name] = make(connection, name, signature(about["parameters"]))
    return SimpleNamespace(**made)


def signature(parameters: Sequence[Any]) -> inspect.Signature:
    """The signature that the other process named; an empty one if it is not valid."""
    kinds = list(inspect._ParameterKind)
    try:
        return inspect.Signature(
            [
                inspect.Parameter(
                    str(name), kinds[kind], default=None if given else inspect.Parameter.empty
                )
                for name, kind, given in parameters
            ]
        )
    except (ValueError, TypeError, IndexError):
        return inspect.Signature()


def function(connection: Connection, name: str, takes: inspect.Signature) -> Any:
    """A function that asks the other process."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        with UNWATCHED():
            return run(connection, {"do": "call", "name": name}, Packer(True), [], args, kwargs)

    ask.__name__ = ask.__qualname__ = name
    vars(ask)["__signature__"] = takes
    return ask


def run(
    connection: Connection,
    message: dict[str, Any],
    packer: Packer,
    leaves: list[Tensor],
    args: Any,
    kwargs: Any,
) -> Any:
    """Ask, and make the result part of the graph that autograd follows."""
    message["args"], message["kwargs"] = packer.pack(args), packer.pack(kwargs)
    message["grad"] = torch.is_grad_enabled()
    inputs = [*leaves, *packer.inputs]
    values = {**packer.tensors, "random": torch.get_rng_state()}
    reply, tensors = connection.ask(message, values, packer.functions)
    torch.set_rng_state(tensors["random"])
    for at, generator in enumerate(packer.generators):
        generator.set_state(tensors[f"generator{at}"])
    ready = {}
    names = [str(name) for name in reply["outputs"]]
    if names and inputs and torch.is_grad_enabled():
        outputs = [tensors[name] for name in names]
        place = (connection, connection.started, reply["call"])
        wrapped: Any = Differentiable.apply(place, outputs, *inputs)
        ready = dict(zip(names, wrapped, strict=True))
    return Unpacker(tensors, allows_names=False, ready=ready).unpack(reply["result"])


class Differentiable(torch.autograd.Function):
    """The results of a call in the other process, as functions of its inputs."""

    @staticmethod
    def forward(ctx: Any, place: Any, outputs: list[Tensor], *inputs: Tensor) -> Any:
        ctx.place = place
        ctx.inputs = [(one.shape, one.dtype) for one in inputs]
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        connection, started, call = ctx.place
        if connection.started != started or connection.process is None:
            raise RemoteError("the process has ended")
        given = {str(at): one.contiguous().clone() for at, one in enumerate(gradients)}
        _, found = connection.ask({"do": "backward", "call": call}, given)
        result = []
        for at, (shape, dtype) in enumerate(ctx.inputs):
            one = found.get(str(at))
            if one is not None and (one.shape != shape or one.dtype != dtype):
                raise RemoteError("a gradient has another shape than its input")
            result.append(one)
        return (None, None, *result)


def layer_class(connection: Connection, name: str, takes: inspect.Signature) -> Any:
    """A class whose objects have their parameters here and their forward in the other process."""
    return type(name, (RemoteLayer,), {"connection": connection, "__signature__": takes})


class RemoteLayer(nn.Module):
    """A layer of a submission."""

    connection: Connection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        with UNWATCHED():
            self._construct(args, kwargs)

    def _construct(self, args: Any, kwargs: Any) -> None:
        packer = Packer(True)
        message = {"do": "construct", "name": type(self).__name__}
        message["args"], message["kwargs"] = packer.pack(args), packer.pack(kwargs)
        values = {**packer.tensors, "random": torch.get_rng_state()}
        reply, tensors = self.connection.ask(message, values, packer.functions)
        torch.set_rng_state(tensors["random"])
        self.place = (self.connection.started, reply["object"])
        for path, packed in reply["parameters"].items():
            value = nn.Parameter(tensors[packed["tensor"]], requires_grad=packed["grad"] is True)
            folder, _, last = path.rpartition(".")
            submodule(self, folder).register_parameter(last, value)
        for path in reply["absent"]:
            folder, _, last = path.rpartition(".")
            submodule(self, folder).register_parameter(last, None)
        for path, packed in reply["buffers"].items():
            folder, _, last = path.rpartition(".")
            submodule(self, folder).register_buffer(last, tensors[packed["tensor"]])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        started, number = self.place
        if self.connection.started != started or self.connection.process is None:
            raise RemoteError("the process has ended")
        with UNWATCHED():
            packer = Packer(True)
            state = {name: packer.pack(one) for name, one in self.named_parameters()}
            state |= {name: packer.pack(one) for name, one in self.named_buffers()}
            leaves, packer.inputs, packer.input_names = packer.inputs, [], []
            message = {"do": "forward", "object": number, "state": state}
            message["training"] = self.training
            return run(self.connection, message, packer, leaves, args, kwargs)


def submodule(root: nn.Module, path: str) -> nn.Module:
    """The part of a layer at a path like "norm.inner", made if it is not there yet."""
    for name in filter(None, path.split(".")):
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    return root

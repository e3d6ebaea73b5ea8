"""The process that runs a submission's functions, and nothing else of the course's grading.

It is told a function and its arguments, and answers with what the function returned. It holds no
test, no expected value and no solution: whatever the submission does to this process, it can only
answer with values, and those are compared in another process (tools/grading/audit.py).
"""

try:
    from utils.grader.learner_code import LoadError, load, read_source
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import torch
from torch import Tensor, nn

from tools.grading.wire import HEADER, Packer, Unpacker, parse, send, sizes_of

Reply = tuple[dict[str, Any], dict[str, Tensor]]


class Answers:
    """A submission's module, its objects, and what is kept for the backward passes."""

    def __init__(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        self.requests, self.replies = requests, replies
        self.module = ModuleType("nothing")
        self.objects: list[nn.Module] = []
        self.calls: list[tuple[list[Tensor], list[Tensor]]] = []  # inputs and outputs

    def load(self, message: dict[str, Any], tensors: dict[str, Tensor]) -> Reply:
        """Run the file; the reply lists its functions and classes, or holds the problem."""
        try:
            self.module = load(read_source(Path(message["file"]).resolve()))
        except LoadError as error:
            return {"problem": str(error)}, {}
        return {"names": {name: kind_of(one) for name, one in vars(self.module).items()}}, {}

    def call(self, message: dict[str, Any], tensors: dict[str, Tensor]) -> Reply:
        """Call a function."""
        function = getattr(self.module, message["name"])
        return self._run(function, [], message, tensors)

    def construct(self, message: dict[str, Any], tensors: dict[str, Tensor]) -> Reply:
        """Make an object of a class; the reply lists its parameters and buffers."""
        unpacker = Unpacker(tensors, allows_names=True, call_back=self._call_back)
        torch.set_rng_state(tensors["random"])
        args, kwargs = unpacker.unpack(message["args"]), unpacker.unpack(message["kwargs"])
        module = getattr(self.module, message["name"])(*args, **kwargs)
        self.objects.append(module)
        packer = Packer()
        parameters = {name: packer.pack(one) for name, one in module.named_parameters()}
        kept = module.state_dict()
        buffers = {name: packer.pack(one) for name, one in module.named_buffers() if name in kept}
        reply = {"object": len(self.objects) - 1, "parameters": parameters, "buffers": buffers}
        reply["absent"] = [
            f"{place}.{name}".removeprefix(".")
            for place, part in module.named_modules()
            for name, value in part._parameters.items()
            if value is None
        ]
        return reply, {**packer.tensors, "random": torch.get_rng_state()}

    def forward(self, message: dict[str, Any], tensors: dict[str, Tensor]) -> Reply:
        """Call an object, with the parameters and buffers that came along."""
        module = self.objects[message["object"]].train(message["training"])
        state = dict([*module.named_parameters(), *module.named_buffers()])
        leaves = []
        for name, packed in message["state"].items():
            state[name].data.copy_(tensors[packed["tensor"]])
            if packed["grad"]:
                leaves.append(state[name])
        return self._run(module, leaves, message, tensors)

    def _run(
        self,
        function: Any,
        leaves: list[Tensor],
        message: dict[str, Any],
        tensors: dict[str, Tensor],
    ) -> Reply:
        unpacker = Unpacker(tensors, allows_names=True, call_back=self._call_back)
        args, kwargs = unpacker.unpack(message["args"]), unpacker.unpack(message["kwargs"])
        torch.set_rng_state(tensors["random"])
        with torch.set_grad_enabled(message["grad"]):
            result = function(*args, **kwargs)
        packer = Packer()
        packed = packer.pack(result)
        self.calls.append(([*leaves, *unpacker.inputs], packer.inputs))
        states = {f"generator{i}": one.get_state() for i, one in enumerate(unpacker.generators)}
        reply = {"result": packed, "call": len(self.calls) - 1, "outputs": packer.input_names}
        return reply, {**packer.tensors, **states, "random": torch.get_rng_state()}

    def _call_back(self, number: int, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the test that is among the arguments; gradients don't flow through."""
        packer = Packer()
        packed = {"args": packer.pack(args), "kwargs": packer.pack(kwargs)}
        send(self.replies, {"call_back": number, **packed}, packer.tensors)
        message, tensors = receive(self.requests)
        if "error" in message:
            raise RuntimeError(message["error"])
        return Unpacker(tensors, allows_names=True).unpack(message["result"])

    def backward(self, message: dict[str, Any], tensors: dict[str, Tensor]) -> Reply:
        """The gradients of a call's inputs; those without one are left out."""
        inputs, outputs = self.calls[message["call"]]
        found = torch.autograd.grad(
            outputs,
            inputs,
            [tensors[str(at)] for at in range(len(outputs))],
            allow_unused=True,
            retain_graph=True,
        )
        kept = {str(at): one for at, one in enumerate(found) if one is not None}
        return {}, {name: one.detach().contiguous().clone() for name, one in kept.items()}


def kind_of(value: Any) -> dict[str, Any]:
    """What a name of the module refers to, and the parameters it takes."""
    is_module = isinstance(value, type) and issubclass(value, nn.Module)
    kind = "module" if is_module else "function" if callable(value) else "value"
    return {"kind": kind, "parameters": parameters_of(value) if callable(value) else []}


def parameters_of(value: Any) -> list[tuple[str, int, bool]]:
    """Name, kind, and whether there is a default, for each parameter."""
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return []
    return [(one.name, int(one.kind), one.default is not one.empty) for one in found]


def receive(stream: IO[bytes]) -> Reply:
    """Read one message. Raises EOFError when the input ends."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    first, second = sizes_of(header)
    return parse(stream.read(first), stream.read(second))


def main(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer one request after the other, until the input ends."""
    torch.set_num_threads(1)
    answers = Answers(requests, replies)
    send(replies, {"ready": True}, {})
    while True:
        try:
            message, tensors = receive(requests)
        except EOFError:
            return
        try:
            reply: Reply = getattr(answers, message["do"])(message, tensors)
        except BaseException as error:
            reply = {"error": [type(error).__name__, str(error)[:500]]}, {}
        send(replies, *reply)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):  # what a submission prints is not an answer
        os.dup2(null, descriptor)
    main(sys.stdin.buffer, channel)
    os._exit(0)

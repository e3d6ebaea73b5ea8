"""Values that cross between a trusted and an untrusted process: JSON, and tensors as safetensors.

    data = pack({"x": torch.ones(2)})          bytes
    unpack(data)                               {"x": tensor([1., 1.])}

Reading them runs no code: every kind of value has its own entry here, and what is not listed
cannot be sent. Classes and functions of the course are named, not sent, and only the trusted side
may name them.
"""

import contextlib
import dataclasses
import importlib
import json
import struct
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

LARGEST = 64 * 2**20  # bytes of a message
DEEPEST = 40  # nested lists
HEADER = struct.Struct("<QQ")
PLAIN = (bool, int, float, str)
CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
MAPPINGS: dict[str, Callable[[Any], Any]] = {"dict": dict, "counter": Counter}


class CannotSendError(TypeError):
    """A value of a kind that does not cross."""


class Packer:
    """Turns values into JSON, and collects their tensors."""

    def __init__(self, allows_callbacks: bool = False) -> None:
        self.allows_callbacks = allows_callbacks
        self.tensors: dict[str, Tensor] = {}
        self.inputs: list[Tensor] = []  # those that require a gradient, in order
        self.input_names: list[str] = []
        self.generators: list[torch.Generator] = []
        self.functions: list[Callable[..., Any]] = []  # of the tests: the other side calls back

    def pack(self, value: Any, depth: int = 0) -> Any:
        """A value as JSON. Raises CannotSendError."""
        if depth > DEEPEST:
            raise CannotSendError("a value is nested too deeply")
        if value is None or type(value) in PLAIN:
            return value
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value)
        name = type(value).__name__.lower()
        if name in CONTAINERS and type(value) is CONTAINERS[name]:
            return {name: [self.pack(one, depth + 1) for one in value]}
        if name in MAPPINGS and type(value) is MAPPINGS[name]:
            return {
                name: [[self.pack(k, depth + 1), self.pack(v, depth + 1)] for k, v in value.items()]
            }
        if isinstance(value, torch.Generator):
            self.generators.append(value)
            return {"generator": self._add(value.get_state())}
        return self._other(value, depth)

    def _other(self, value: Any, depth: int) -> Any:
        match value:
            case torch.dtype() | torch.device():
                return {type(value).__name__: str(value).removeprefix("torch.")}
            case bytes():
                return {"bytes": value.hex()}
            case complex():
                return {"complex": [value.real, value.imag]}
            case range():
                return {"range": [value.start, value.stop, value.step]}
            case Fraction():
                return {"fraction": [value.numerator, value.denominator]}
            case PurePath():
                raise CannotSendError("a path")
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
            parts = {name: self.pack(each, depth + 1) for name, each in found.items()}
            return {"dataclass": [name_of(type(value)), parts]}
        if isinstance(value, nn.Module):
            return self._layer(value, depth)
        if isinstance(value, FunctionType | BuiltinFunctionType | type):
            try:
                return {"named": name_of(value)}
            except CannotSendError:
                if not self.allows_callbacks or isinstance(value, type):
                    raise
        if callable(value) and self.allows_callbacks:
            self.functions.append(value)
            return {"callback": len(self.functions) - 1}
        raise CannotSendError(f"a value of the type {type(value).__name__}")

    def _layer(self, layer: nn.Module, depth: int) -> Any:
        """A layer of PyTorch or of a lower lesson: its class by name, and what it holds."""
        kept = vars(nn.Module()).keys()
        plain = {name: value for name, value in vars(layer).items() if name not in kept}
        parts = {**layer._parameters, **layer._buffers, **layer._modules}
        return {
            "layer": [
                name_of(type(layer)),
                {name: self.pack(one, depth + 1) for name, one in plain.items()},
                {name: self.pack(one, depth + 1) for name, one in parts.items()},
                [*layer._parameters],
                layer.training,
            ]
        }

    def _add(self, tensor: Tensor) -> str:
        name = str(len(self.tensors))
        # A copy without gaps: safetensors refuses tensors that share memory.
        self.tensors[name] = tensor.detach().cpu().contiguous().clone()
        return name

    def _tensor(self, value: Tensor) -> Any:
        if value.is_meta:
            return {"meta": [list(value.shape), str(value.dtype).removeprefix("torch.")]}
        if value.layout is not torch.strided or value.is_quantized:
            raise CannotSendError(f"a tensor of the layout {value.layout}")
        name = self._add(value)
        if value.requires_grad:
            self.inputs.append(value)
            self.input_names.append(name)
        return {"tensor": name, "grad": value.requires_grad}

    def _array(self, value: Any) -> Any:
        try:
            tensor = torch.from_numpy(np.array(value))
        except TypeError:
            raise CannotSendError(f"an array of the dtype {value.dtype}") from None
        return {"array": self._add(tensor), "scalar": isinstance(value, np.generic)}


class Unpacker:
    """Makes the values again. Only the untrusted side resolves names: see `allows_names`."""

    def __init__(
        self,
        tensors: dict[str, Tensor],
        allows_names: bool,
        ready: dict[str, Tensor] | None = None,
        call_back: Callable[..., Any] | None = None,
    ) -> None:
        self.tensors = tensors
        self.call_back = call_back
        self.allows_names = allows_names
        self.ready = ready or {}  # tensors to use as they are, by name
        self.inputs: list[Tensor] = []
        self.generators: list[torch.Generator] = []

    def unpack(self, packed: Any, depth: int = 0) -> Any:
        """The value. Raises ValueError for what no Packer makes."""
        if depth > DEEPEST + 2:
            raise ValueError("nested too deeply")
        if packed is None or type(packed) in PLAIN:
            return packed
        if not isinstance(packed, dict) or not packed:
            raise ValueError("not a packed value")
        kind, content = next(iter(packed.items()))
        if kind in CONTAINERS:
            return CONTAINERS[kind](self.unpack(one, depth + 1) for one in content)
        if kind in MAPPINGS:
            pairs = {self.unpack(k, depth + 1): self.unpack(v, depth + 1) for k, v in content}
            return MAPPINGS[kind](pairs)
        if kind == "tensor" and content in self.ready:
            return self.ready[content]
        if kind == "tensor":
            tensor = self.tensors[content].clone()
            if packed.get("grad") is True:
                tensor.requires_grad_()
                self.inputs.append(tensor)
            return tensor
        if kind == "array":
            array = self.tensors[content].clone().numpy()
            return array[()] if packed.get("scalar") is True else array
        if kind == "generator":
            generator = torch.Generator()
            generator.set_state(self.tensors[content])
            self.generators.append(generator)
            return generator
        return self._other(kind, content, depth)

    def _other(self, kind: str, content: Any, depth: int) -> Any:
        match kind:
            case "meta":
                return torch.empty(content[0], dtype=dtype_of(content[1]), device="meta")
            case "dtype":
                return dtype_of(content)
            case "device":
                return torch.device(content)
            case "bytes":
                return bytes.fromhex(content)
            case "complex":
                return complex(*content)
            case "range":
                return range(*content)
            case "fraction":
                return Fraction(*content)
            case "named" if self.allows_names:
                return find(content)
            case "callback" if self.call_back is not None:
                return partial(self.call_back, content)
            case "layer" if self.allows_names:
                name, plain, parts, parameters, training = content
                return self._layer(name, plain, parts, parameters, training, depth)
            case "dataclass":
                cls = find(content[0]) if self.allows_names else known_dataclass(content[0])
                return cls(
                    **{name: self.unpack(one, depth + 1) for name, one in content[1].items()}
                )
        raise ValueError(f"an unknown kind of value, {kind!r}")

    def _layer(
        self, name: str, plain: Any, parts: Any, parameters: list[str], training: bool, depth: int
    ) -> nn.Module:
        cls = find(name)
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        for key, packed in plain.items():
            object.__setattr__(layer, key, self.unpack(packed, depth + 1))
        for key, packed in parts.items():
            value = self.unpack(packed, depth + 1)
            if key in parameters:
                layer.register_parameter(key, self._parameter(value))
            elif isinstance(value, nn.Module):
                layer.add_module(key, value)
            else:
                layer.register_buffer(key, value)
        return layer.train(training)

    def _parameter(self, value: Tensor | None) -> nn.Parameter | None:
        """A parameter, which takes the place of the tensor among the inputs."""
        if value is None:
            return None
        made = nn.Parameter(value.detach(), requires_grad=value.requires_grad)
        if value.requires_grad:
            self.inputs[-1] = made
        return made


def dtype_of(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"not a dtype: {name!r}")
    return found


def name_of(value: Any) -> str:
    """ "attention:causal_mask". Raises CannotSendError for what has no name in a module."""
    name = f"{value.__module__}:{value.__qualname__}"
    is_of_tests = str(value.__module__).startswith("test_")  # the other side has no tests
    with contextlib.suppress(ImportError, AttributeError):
        if not is_of_tests and find(name) is value:
            return name
    raise CannotSendError(f"{value.__qualname__}, which no module has under this name")


def find(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def known_dataclass(name: str) -> Any:
    """A dataclass of a module that this process has imported already; an answer may return one."""
    module, _, qualified = name.partition(":")
    found = getattr(sys.modules.get(module), qualified, None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"not a known dataclass: {name!r}")
    return found


# --- messages ---


def send(stream: IO[bytes], message: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write one message."""
    text = json.dumps(message).encode()
    data = safetensors.torch.save(tensors) if tensors else b""
    stream.write(HEADER.pack(len(text), len(data)) + text + data)
    stream.flush()


def sizes_of(header: bytes) -> tuple[int, int]:
    """The lengths of the two parts of a message. Raises ValueError if they are too large."""
    first, second = HEADER.unpack(header)
    if first + second > LARGEST:
        raise ValueError("a message is too large")
    return first, second


def parse(text: bytes, data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The two parts of a message. Raises ValueError, or an error of safetensors."""
    message = json.loads(text)
    if not isinstance(message, dict):
        raise ValueError("a message must be an object")
    return message, safetensors.torch.load(data) if data else {}

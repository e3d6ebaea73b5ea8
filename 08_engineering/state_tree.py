"""Nested dictionaries, lists and tuples of tensors as JSON plus a flat table of tensors, and back.

    {"lr": 0.1, "betas": (0.9, 0.99), "state": {0: {"exp_avg": Tensor}}}

becomes the structure

    {"pairs": [["lr", 0.1],
               ["betas", {"tuple": [0.9, 0.99]}],
               ["state", {"pairs": [[0, {"pairs": [["exp_avg", {"tensor": "0"}]]}]]}]]}

and the table {"0": Tensor}. `unflatten` is the exact inverse of `flatten`: JSON alone would turn
tuples into lists and the integer keys of an optimizer's state into strings. A tensor is named by
its number, because a path made of keys can be ambiguous ("a.b" may be one key or two).
"""

import json
from typing import Any

import torch
from torch import Tensor

from utils.errors import run_program

SCALARS = (bool, int, float, str, type(None))


def flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the structure of `value`, ready for JSON; its tensors are added to `tensors`.

    Raises TypeError for a value that could not be restored as it was.
    """
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        pairs = [[flatten(key, tensors), flatten(item, tensors)] for key, item in value.items()]
        return {"pairs": pairs}
    if isinstance(value, tuple):
        return {"tuple": [flatten(item, tensors) for item in value]}
    if isinstance(value, list):
        return [flatten(item, tensors) for item in value]
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"a state cannot hold {type(value).__name__} {value!r:.40}")


def unflatten(structure: Any, tensors: dict[str, Tensor]) -> Any:
    """Rebuild what `flatten` took apart."""
    if isinstance(structure, list):
        return [unflatten(item, tensors) for item in structure]
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(unflatten(item, tensors) for item in content)
    if kind == "pairs":
        return {unflatten(k, tensors): unflatten(v, tensors) for k, v in content}
    raise ValueError(f"unknown kind of node {kind!r}; known: tensor, tuple, pairs")


def ready_for_json(value: Any) -> Any:
    """The value itself. Raises TypeError if JSON would return something else."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: ready_for_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [ready_for_json(item) for item in value]
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"JSON cannot hold {type(value).__name__} {value!r:.40}")


def main() -> None:
    """Take an optimizer's state apart, and put it back together."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    structure = json.loads(json.dumps(flatten(state, tensors)))
    print("tensors:", {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    print("betas:  ", unflatten(structure, tensors)["param_groups"][0]["betas"])


if __name__ == "__main__":
    run_program(main)

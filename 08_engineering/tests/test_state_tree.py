"""Any nested dictionaries, lists, tuples, tensors and scalars are restored exactly."""

import json
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from optimizers import AdamW
from state_tree import flatten, ready_for_json, unflatten
from training_state import TrainingState, load_state, save_state

RUN = "run"


def round_trip(value: Any) -> Any:
    tensors: dict[str, Tensor] = {}
    structure = json.loads(json.dumps(flatten(value, tensors)))
    return unflatten(structure, tensors)


def same(one: Any, other: Any) -> bool:
    """Equal in type, order and value; NaN equals NaN, 1 differs from True and 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def random_scalar(draw: random.Random) -> Any:
    floats = [0.1 + 0.2, -0.0, 1e-320, float("nan"), float("inf")]
    words = ["", "a.b", "tensor", "tuple", "pairs", "0", "\ud800", "\n"]
    return draw.choice([None, True, False, 0, 1, -(2**70), *floats, *words])


def random_key(draw: random.Random) -> Any:
    return draw.choice(["a", "b", "a.b", "tensor", "pairs", "tuple", 0, 1, "0", (0, "a"), None])


def random_nest(draw: random.Random, depth: int) -> Any:
    kind = draw.choice(["scalar", "tensor", "list", "tuple", "dict"] if depth else ["scalar"])
    items = [random_nest(draw, depth - 1) for _ in range(draw.randrange(4))] if depth else []
    if kind == "tensor":
        return torch.tensor([draw.random()]) if draw.random() < 0.8 else torch.zeros(0, 2)
    if kind == "dict":
        return {random_key(draw): item for item in items}
    if kind == "list":
        return items
    return tuple(items) if kind == "tuple" else random_scalar(draw)


@pytest.mark.parametrize("seed", range(300))
def test_any_nested_state_is_restored_exactly(seed: int) -> None:
    nest = random_nest(random.Random(seed), depth=4)
    assert same(round_trip(nest), nest), nest


@pytest.mark.parametrize("seed", range(5))
def test_a_saved_optimizer_state_is_restored_exactly(seed: int, tmp_path) -> None:
    draw = random.Random(seed)
    nests = [{str(i): random_nest(draw, depth=4)} for i in range(3)]
    state = TrainingState({}, nests, {}, {"step": 1})
    assert same(load_state(save_state(tmp_path, state, RUN), RUN).optimizers, nests)


def test_tensors_under_keys_that_contain_dots_do_not_collide() -> None:
    nest = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}}
    assert same(round_trip(nest), nest)


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
def test_the_betas_of_an_optimizer_stay_a_tuple(kind: Any, tmp_path) -> None:
    optimizer = kind([torch.nn.Parameter(torch.ones(2))])
    state = TrainingState({}, [optimizer.state_dict()], {}, {"step": 1})
    (restored,) = load_state(save_state(tmp_path, state, RUN), RUN).optimizers
    assert same(restored, optimizer.state_dict())


def test_a_state_written_before_tuples_were_kept_is_still_read() -> None:
    moment = torch.tensor([0.5])
    old = {"pairs": [["state", {"pairs": [[0, {"pairs": [["m", {"tensor": "0.state.0.m"}]]}]]}]]}
    assert same(unflatten(old, {"0.state.0.m": moment}), {"state": {0: {"m": moment}}})
    assert unflatten({"pairs": [["betas", [0.9, 0.99]]]}, {}) == {"betas": [0.9, 0.99]}


def test_a_structure_of_a_later_format_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown kind of node 'set'; known: tensor, tuple, pairs"):
        unflatten({"set": [1]}, {})


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", torch.float32, object], ids=str)
def test_what_cannot_be_restored_is_refused_when_it_is_saved(value: Any) -> None:
    with pytest.raises(TypeError, match="a state cannot hold"):
        flatten({"a": [value]}, {})


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, torch.zeros(1)], ids=str)
def test_a_position_that_json_would_change_is_refused(value: Any) -> None:
    plain = {"a": [1, None, "b", {"c": float("nan")}]}
    assert same(ready_for_json(plain), plain)
    with pytest.raises(TypeError, match="JSON cannot hold"):
        ready_for_json({"a": [value]})

"""plain_words.py: the errors that learners really meet are explained, by their true cause."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from utils.grader.plain_words import MEANINGS, explain
from utils.grader.state_words import in_one_line

X, Y = torch.zeros(3, 5, 4), torch.zeros(3, 7, 4)
NOTHING: object = None
NAME: object = "gelu"


def in_place() -> None:
    x = torch.ones(3, requires_grad=True)
    y = torch.exp(x)
    y += 1
    y.sum().backward()


def leaf() -> None:
    x = torch.ones(3, requires_grad=True)
    x -= 1


def early() -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            self.projection = torch.nn.Linear(2, 2)

    Layer()


def into_a_slice() -> None:
    torch.zeros(5, 7)[:, 1::2] = torch.zeros(5, 4)


def detached() -> None:
    torch.ones(3).sum().backward()


MODEL = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
STATE = MODEL.state_dict()
OPTIMIZER = torch.optim.SGD(MODEL.parameters())
OTHER = torch.optim.SGD(MODEL[0].parameters()).state_dict()
WITHOUT_BUFFERS = dict(MODEL.named_parameters())
RENAMED = {f"module.{name}": value for name, value in STATE.items()}

# What is loaded, what is said in place of PyTorch's paragraph, and what to do about it
STATES: dict[str, tuple[Callable[[], object], str, str]] = {
    "parameters alone": (
        lambda: MODEL.load_state_dict(WITHOUT_BUFFERS),
        "load_state_dict: the state lacks 1.running_mean and 1.running_var",
        "no buffers",
    ),
    "nothing": (
        lambda: MODEL.load_state_dict({}),
        "load_state_dict: the state lacks 0.weight, 0.bias and 4 more",
        "still empty",
    ),
    "an entry more": (
        lambda: MODEL.load_state_dict({**STATE, "step": X}),
        "load_state_dict: the model has no step",
        "nothing else",
    ),
    "other names": (
        lambda: MODEL.load_state_dict(RENAMED),
        "load_state_dict: the state lacks 0.weight, 0.bias and 4 more; the model has no "
        "module.0.weight, module.0.bias and 5 more",
        "to the letter",
    ),
    "another size": (
        lambda: MODEL.load_state_dict({**STATE, "0.weight": torch.zeros(3, 1)}),
        "load_state_dict: 0.weight has the shape [3, 1], and [3, 2] in the model",
        "the same sizes",
    ),
    "a number": (
        lambda: MODEL.load_state_dict({**STATE, "0.weight": 3}),
        "load_state_dict: 0.weight is not a tensor, but int",
        ".clone()",
    ),
    "the optimizer's": (
        lambda: MODEL.load_state_dict(OPTIMIZER.state_dict()),
        "load_state_dict: the state lacks 0.weight, 0.bias and 4 more; the model has no "
        "state and param_groups",
        "of an optimizer",
    ),
    "the model's": (
        lambda: OPTIMIZER.load_state_dict(STATE),
        "KeyError: 'param_groups'",
        "state of its own",
    ),
    "another optimizer's": (
        lambda: OPTIMIZER.load_state_dict(OTHER),
        "ValueError: loaded state dict contains a parameter group that doesn't match the size of "
        "optimizer's group",
        "same groups",
    ),
    "a list": (
        lambda: MODEL.load_state_dict([*MODEL.parameters()]),  # pyright: ignore[reportArgumentType]
        "TypeError: Expected state_dict to be dict-like, got <class 'list'>.",
        "the dictionary",
    ),
}

ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "if tensor": (lambda: 1 if torch.zeros(2) == 0 else 2, "`if`, `and`"),
    "if array": (lambda: 1 if np.zeros(2) == 0 else 2, "`if`, `and`"),
    "Python's max": (lambda: max(X, 0), "functions of its own"),  # pyright: ignore
    "or after a method max": (lambda: X.amax() + X.amax(-1) or Y, "`if`, `and`"),
    "a name": (lambda: NAME(X), "the function that it names"),  # pyright: ignore
    "2-D product": (lambda: X[0] @ Y[0], "is a transpose"),
    "batched product": (lambda: X @ Y, "is a transpose"),
    "NumPy product": (lambda: np.zeros((5, 4)) @ np.zeros((7, 4)), "swapaxes"),
    "broadcast": (lambda: torch.zeros(5, 7) / torch.zeros(5), "keepdim=true"),
    "NumPy broadcast": (lambda: np.zeros((5, 7)) / np.zeros(5), "keepdims=true"),
    "where of numbers": (lambda: torch.where(X, X, 0), "the value where it is true"),
    "a pair": (lambda: X - X.max(dim=-1), "a pair"),  # pyright: ignore[reportOperatorIssue]
    "axis of a stable sort": (lambda: X.sort(-1, stable=True), "dim=-1"),  # pyright: ignore
    "axis of torch.sort": (lambda: torch.sort(X, -1, stable=True), "dim=-1"),  # pyright: ignore
    "length of a number": (lambda: len(torch.tensor(3)), "no axes"),
    "axis": (lambda: torch.zeros(3).transpose(1, 2), "fewer axes"),
    "NumPy axis": (lambda: np.zeros(3).sum(axis=2), "fewer axes"),
    "in place": (in_place, "overwritten"),
    "leaf": (leaf, "must not be changed in place"),
    "detached": (detached, "cut off"),
    "no super().__init__()": (early, "super().__init__()"),
    "numpy of a gradient": (lambda: torch.ones(1, requires_grad=True).numpy(), "follow gradients"),
    "softmax of integers": (lambda: torch.tensor([1, 2]).softmax(-1), "floating-point numbers"),
    "division into integers": (lambda: torch.tensor([1]).div_(2), "whole numbers"),
    "dtypes": (lambda: torch.zeros(2, 2) @ torch.zeros(2, 2).double(), "different dtypes"),
    "mask of floats": (lambda: X.masked_fill(torch.zeros(4), 0.0), "boolean mask"),
    "turned floats": (lambda: ~torch.zeros(2), "mask is not boolean"),
    "NumPy turned floats": (lambda: ~np.zeros(2), "mask is not boolean"),  # pyright: ignore[reportOperatorIssue]
    "1 - mask": (lambda: 1 - torch.tensor([True]), "can't be subtracted"),
    "NumPy minus": (lambda: np.array([True]) - np.array([True]), "can't be subtracted"),
    "device": (lambda: X.to("meta") + torch.zeros(3, 5, 4), "device=x.device"),
    "view": (lambda: torch.zeros(6).view(4, 2), "as many values"),
    "NumPy reshape": (lambda: np.zeros(6).reshape(4, 2), "as many values"),
    "view of a transpose": (lambda: X.mT.view(-1), "reshape"),
    "math.exp": (lambda: math.exp(torch.zeros(2)), "single number"),
    "int": (lambda: int(torch.zeros(2)), "single number"),
    "plus None": (lambda: X + NOTHING, "none"),  # pyright: ignore[reportOperatorIssue]
    "None's dtype": (lambda: NOTHING.dtype, "none"),  # pyright: ignore[reportAttributeAccessIssue]
    "a tuple's shape": (lambda: (X, Y).shape, "unpack it"),  # pyright: ignore[reportAttributeAccessIssue]
    "unpacking": (lambda: [T for T, d in [X.shape]], "left differs"),
    "index": (lambda: X[5], "past the end"),
    "scatter by floats": (lambda: X[0].scatter(-1, X[0], 1.0), "whole numbers"),
    "slice by a float": (lambda: X[: 4 / 2], "whole numbers"),  # pyright: ignore[reportArgumentType]
    "range of a float": (lambda: range(4 / 2), "use //"),  # pyright: ignore[reportArgumentType]
    "split by a float": (lambda: X.split(4 / 2), "use //"),  # pyright: ignore[reportArgumentType]
    "too many indices": (lambda: torch.zeros(4)[:, 0], "more indices"),
    "negative powers": (lambda: torch.arange(3) ** -1, "negative powers"),
    "log of 0": (lambda: math.log(0), "logarithm"),
    "int of infinity": (lambda: int(math.inf), "infinite"),
    "cat": (lambda: torch.cat((X, Y), -1), "along another axis"),
    "stack": (lambda: torch.stack((X, Y)), "along another axis"),
    "complex bfloat16": (lambda: torch.complex(X.bfloat16(), X.bfloat16()), "float32"),
    "NumPy bfloat16": (lambda: X.bfloat16().numpy(), "float32"),
    "scalar types": (lambda: torch.complex(X, X.double()), "different dtypes"),
    "into a slice": (into_a_slice, "both sides"),
    "expand": (lambda: X.expand(3, 5, 6), "axes of size 1 only"),
    "view of an expand": (lambda: X[:1].expand(3, 5, 4).view(15, 4), "transpose or expand"),
    "two indices": (lambda: X[torch.arange(2), torch.arange(3)], "one shape"),
    "scatter": (lambda: X.scatter(-1, torch.tensor([1]), 1.0), "as many axes"),
    "a floating index": (lambda: X[torch.tensor([1.0])], "whole numbers"),
    "outer": (lambda: torch.outer(X, Y), "one axis each"),
    "an array in torch": (lambda: torch.exp(np.zeros(2)), "numpy array"),  # pyright: ignore[reportArgumentType]
    "bincount of a table": (lambda: X.long()[0].bincount(), "flatten()"),
    "bincount of -1": (lambda: torch.tensor([-1, 2]).bincount(), "leave out"),
    "a list in a set": (lambda: {[1, 2]}, "a tuple"),  # pyright: ignore[reportUnhashable]
    "list minus number": (lambda: [1.0, 2.0] - 1.0, "compute"),  # pyright: ignore[reportOperatorIssue]
    "a method of tensors": (lambda: np.zeros((2, 2)).masked_fill, "numpy array"),  # pyright: ignore[reportAttributeAccessIssue]
}


@pytest.mark.parametrize(("fails", "said"), ERRORS.values(), ids=ERRORS)
def test_the_real_error_is_explained(fails: Callable[[], object], said: str) -> None:
    with pytest.raises(Exception) as error:
        fails()
    assert said in explain(error.value).lower(), f"{type(error.value).__name__}: {error.value}"


@pytest.mark.parametrize(("load", "said", "meaning"), STATES.values(), ids=STATES)
def test_a_refused_state_is_one_line_that_says_what_to_do(
    load: Callable[[], object], said: str, meaning: str
) -> None:
    with pytest.raises(Exception) as error:
        load()
    assert in_one_line(error.value) == said
    assert meaning in explain(error.value)


def test_another_error_keeps_its_message() -> None:
    assert in_one_line(ValueError("two\nlines")) == "ValueError: two lines"
    assert in_one_line(KeyError()) == "KeyError"


def test_an_explanation_is_one_sentence_without_its_full_stop() -> None:
    assert all(not meaning.endswith(".") for _, meaning in MEANINGS)


def test_what_is_not_known_is_not_explained() -> None:
    assert explain(ValueError("something else")) == ""
    assert explain(ZeroDivisionError("division by zero")) == ""

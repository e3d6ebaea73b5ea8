"""A pattern accepts the shapes that it describes, and an error message helps to fix the others."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from utils.shape_checker import ShapeError, ShapeTracer, check_shape, check_shapes

QUERY = ("...", "T_q", "d_k")
KEY = ("...", "T_k", "d_k")


def refusal(*args: object, **kwargs: object) -> str:
    """The message of the ShapeError that a check raises."""
    check = check_shape if args else check_shapes
    with pytest.raises(ShapeError) as caught:
        check(*args, **kwargs)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        ((2, 5, 64), ("B", "T", "d_model")),
        ((2, 5, 64), ("B", 5, 64)),
        ((2, 5, 64), ("...", "d_model")),
        ((64,), ("...", "d_model")),
        ((2, 5), ("...",)),
        ((4, 4), ("T", "T")),
        ((0, 1), ("B", "T")),
        ((), ()),
    ],
)
def test_a_matching_shape_is_returned_as_integers(shape, pattern):
    result = check_shape(torch.zeros(shape), pattern)
    assert result == shape
    assert type(result) is tuple


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        ((2, 5), ("B", "T", "d_model")),
        ((2, 5, 64, 1), ("B", "T", "d_model")),
        ((2, 5, 64), ("B", "T", 32)),
        ((4, 5), ("T", "T")),
        ((5,), ("...", "T", "d_model")),
        ((1,), ()),
    ],
)
def test_any_other_shape_is_refused_and_the_message_has_both_shapes(shape, pattern):
    message = refusal(torch.zeros(shape), pattern)
    assert f"x has shape {shape}" in message
    assert all(str(name) in message for name in pattern)


def test_numpy_arrays_are_checked_too():
    assert check_shape(np.zeros((3, 4)), ("T", "d_model"), d_model=4) == (3, 4)


def test_a_given_size_must_match():
    message = refusal(torch.zeros(2, 5, 32), ("B", "T", "d_model"), d_model=64)
    assert "d_model is 32, not 64 as given" in message


def test_a_size_that_names_no_axis_is_a_type_error():
    with pytest.raises(TypeError, match="d_modle=64 names no axis"):
        check_shape(torch.zeros(2, 64), ("B", "d_model"), d_modle=64)


def test_dots_anywhere_but_first_are_a_type_error():
    with pytest.raises(TypeError, match="can only come first"):
        check_shape(torch.zeros(2, 64), ("B", "...", "d_model"))


def test_a_value_without_a_shape_is_named_by_its_type():
    message = refusal((torch.zeros(2), None), ("B",), "output")
    assert message == "output is not a tensor but a tuple, expected (B,)"


def test_names_are_bound_across_tensors():
    sizes = check_shapes(q=(torch.zeros(2, 5, 4), QUERY), k=(torch.zeros(2, 7, 4), KEY))
    assert sizes == {"T_q": 5, "d_k": 4, "T_k": 7}


def test_a_contradiction_names_every_binding_and_the_tensor_that_it_came_from():
    message = refusal(q=(torch.zeros(2, 5, 4), QUERY), k=(torch.zeros(2, 7, 6), KEY))
    assert "k has shape (2, 7, 6), expected (..., T_k, d_k): d_k is 6, not 4 as in q" in message
    for binding in ("T_q = 5 (in q)", "d_k = 4 (in q)", "T_k = 7 (in k)", "... = (2,) (in k)"):
        assert binding in message
    assert "swapped" not in message


@pytest.mark.parametrize("a", [(), (1,), (2,), (3, 1), (3, 2), (3,), (4, 1, 2)])
@pytest.mark.parametrize("b", [(), (1,), (2,), (3, 1), (3, 2), (3,), (0,)])
def test_leading_axes_pass_exactly_when_pytorch_broadcasts_them(a, b):
    tensors = {"q": (torch.zeros(*a, 5, 4), QUERY), "k": (torch.zeros(*b, 7, 4), KEY)}
    try:
        torch.broadcast_shapes(a, b)
    except RuntimeError:
        assert "do not broadcast" in refusal(**tensors)
    else:
        assert check_shapes(**tensors)["T_k"] == 7


def test_every_pair_of_leading_axes_is_compared():
    leads = [(1,), (2,), (3,)]
    tensors = {f"x{i}": (torch.zeros(*lead, 4), ("...", "d")) for i, lead in enumerate(leads)}
    assert "(3,) do not broadcast with (2,) of x1" in refusal(**tensors)


def test_swapped_axes_are_recognized():
    message = refusal(torch.zeros(2, 64, 5), ("B", "T", "d_model"), d_model=64)
    assert "axes -2 and -1 of x look swapped: x.transpose(-2, -1) fits" in message


def test_a_swap_is_found_in_an_earlier_tensor():
    message = refusal(q=(torch.zeros(4, 5), QUERY), k=(torch.zeros(7, 4), KEY))
    assert "axes -2 and -1 of q look swapped" in message


def test_the_hint_to_transpose_works():
    x = torch.zeros(64, 2, 5)
    assert "x.transpose(-3, -1) fits" in refusal(x, ("B", "T", "d_model"), d_model=64)
    check_shape(x.transpose(-3, -1), ("B", "T", "d_model"), d_model=64)


def test_axes_without_a_name_are_not_suggested_for_a_swap():
    message = refusal(q=(torch.zeros(3, 2, 5, 4), QUERY), k=(torch.zeros(3, 4, 7, 2), KEY))
    assert "swapped" not in message  # transpose(-3, -1) would fit, and make heads of features


def test_a_wrong_size_that_no_swap_fixes_gets_no_such_hint():
    assert "swapped" not in refusal(torch.zeros(2, 5, 32), ("B", "T", "d_model"), d_model=64)


def test_a_shape_error_is_a_value_error():
    assert issubclass(ShapeError, ValueError)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_function_has_no_graph_break_and_still_gets_the_sizes(dynamic):
    def scale(q: Tensor, k: Tensor) -> Tensor:
        _, T_q, _ = check_shape(q, ("B", "T_q", "d_k"), d_k=4)
        return q * T_q * check_shapes(q=(q, QUERY), k=(k, KEY))["T_k"]

    compiled = torch.compile(scale, backend="eager", fullgraph=True, dynamic=dynamic)
    q, k = torch.ones(2, 5, 4), torch.ones(2, 7, 4)
    assert torch.equal(compiled(q, k), scale(q, k))
    assert torch.equal(compiled(q, k), torch.full((2, 5, 4), 35.0))


def test_nothing_is_checked_while_compiling(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert check_shape(torch.zeros(2, 3), ("B", 4)) == (2, 3)
    assert check_shapes(a=(torch.zeros(9, 2, 3), ("...", "T", 4)))["T"] == 2


class Doubler(nn.Module):
    """Two layers and one pair of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 4)])

    def forward(self, x: Tensor, *, extra: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        for layer in self.layers:
            x = layer(x)
        return x, extra


def test_the_tracer_records_each_call_in_order_with_its_shapes():
    with ShapeTracer(model := Doubler(), show=False) as tracer:
        model(torch.zeros(3, 4), extra=torch.zeros(5))
    seen = [(r.name, r.kind, r.depth, r.inputs, r.outputs) for r in tracer.records]
    assert seen == [
        ("(model)", "Doubler", 0, ((3, 4), (5,)), ((3, 4), (5,))),
        ("layers.0", "Linear", 1, ((3, 4),), ((3, 8),)),
        ("layers.1", "Linear", 1, ((3, 8),), ((3, 4),)),
    ]


def test_the_tracer_prints_an_aligned_table(capsys):
    with ShapeTracer(model := Doubler()):
        model(torch.zeros(3, 4))
    assert capsys.readouterr().out.splitlines() == [
        "(model)     Doubler  (3, 4) -> (3, 4)",
        "  layers.0  Linear   (3, 4) -> (3, 8)",
        "  layers.1  Linear   (3, 8) -> (3, 4)",
    ]


def test_the_table_stays_within_80_columns():
    model = nn.TransformerEncoderLayer(64, 4, batch_first=True)
    with ShapeTracer(model, show=False) as tracer:
        model(torch.zeros(16, 100, 64))
    lines = str(tracer).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("-> (16, 100, 64)" in line for line in lines) == 7  # not linear1 and dropout


def test_a_call_that_raises_is_marked_and_the_next_one_is_recorded_as_usual():
    model = Doubler()
    with ShapeTracer(model, show=False) as tracer:
        with pytest.raises(RuntimeError):
            model(torch.zeros(3, 5))
        model(torch.zeros(3, 4))
    assert str(tracer).splitlines()[1] == "  layers.0  Linear   (3, 5) -> did not return"
    assert [record.depth for record in tracer.records] == [0, 1, 0, 1, 1]


def test_the_hooks_are_removed_after_the_tracer():
    model = Doubler()
    with pytest.raises(KeyboardInterrupt), ShapeTracer(model, show=False) as tracer:
        raise KeyboardInterrupt
    model(torch.zeros(3, 4))
    assert tracer.records == []
    assert str(tracer) == "no module was called"

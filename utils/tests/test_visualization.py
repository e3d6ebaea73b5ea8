"""Each picture shows the numbers it was given, labelled, and refuses what it cannot draw."""

import math

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf  # the figures that pyplot keeps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.errors import UsageError
from utils.shape_checker import ShapeError
from utils.visualization import (
    plot_attention,
    plot_attention_heads,
    plot_embeddings,
    plot_positional_encoding,
    plot_sampling_distributions,
    plot_training_curves,
)

ROWS = [
    {"step": 0, "train_loss": 4.0, "val_loss": 4.1, "learning_rate": 0.0},
    {"step": 1, "train_loss": 3.0, "val_loss": None, "learning_rate": 0.1},
    {"step": 2, "train_loss": 2.0, "val_loss": 2.5, "learning_rate": 0.05},
]
COIN = torch.tensor([0.5, 0.25, 0.25])


def random_weights(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)).softmax(-1)


def labels_of(axes: Axes, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


def points_of(line: Line2D) -> list[list[float]]:
    return np.asarray(line.get_xydata()).tolist()


def drawing_of_each() -> dict[str, Figure]:
    return {
        "attention": plot_attention(random_weights(3, 3), "abc"),
        "heads": plot_attention_heads(random_weights(2, 3, 3), "abc"),
        "curves": plot_training_curves(ROWS, floor=1.0),
        "embeddings": plot_embeddings(torch.eye(3), "abc"),
        "positions": plot_positional_encoding(torch.eye(3)),
        "sampling": plot_sampling_distributions({"model": COIN}, "abc"),
    }


def test_every_picture_is_a_figure_with_a_title():
    for figure in drawing_of_each().values():
        assert isinstance(figure, Figure)
        assert figure.get_suptitle() or figure.axes[0].get_title()


def test_no_picture_touches_the_global_state_of_pyplot():
    settings, windows = dict(matplotlib.rcParams), list(Gcf.figs)
    drawing_of_each()
    assert dict(matplotlib.rcParams) == settings
    assert list(Gcf.figs) == windows


@pytest.mark.parametrize("as_numpy", [False, True])
def test_a_heat_map_shows_the_weights_and_the_tokens(as_numpy):
    weights = random_weights(3, 4)
    given = weights.numpy() if as_numpy else weights.clone().requires_grad_()
    axes = plot_attention(given, ["a", " b", "\n"], key_tokens="k $\t", title="Head 1").axes[0]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), weights.numpy())
    assert axes.get_title() == "Head 1"
    assert labels_of(axes, "y") == ["a", "␣b", "↵"]
    assert labels_of(axes, "x") == ["k", "␣", "$", "⇥"]
    assert [text.get_text() for text in axes.texts][:2] == [f"{w:.2f}" for w in weights[0, :2]]


def test_masked_positions_stay_blank():
    weights = torch.eye(3)
    axes = plot_attention(weights, "abc").axes[0]
    image = np.ma.asarray(axes.images[0].get_array())
    assert np.array_equal(np.ma.getmaskarray(image), weights.numpy() == 0)
    assert len(axes.texts) == 3


def test_bfloat16_weights_are_drawn():
    plot_attention(random_weights(3, 3).bfloat16(), "abc")


def test_a_long_heat_map_labels_every_nth_token_and_grows_only_so_far():
    figure = plot_attention(random_weights(120, 120), "x" * 120)
    assert len(figure.axes[0].get_xticks()) == 40
    assert max(figure.get_size_inches()) <= 12


@pytest.mark.parametrize("n_heads", [1, 4, 5, 6, 8])
def test_the_grid_shows_each_head_once_on_one_scale(n_heads):
    weights = random_weights(n_heads, 3, 3)
    panels = plot_attention_heads(weights, "abc").axes[:n_heads]
    for head, axes in enumerate(panels):
        image = axes.images[0]
        np.testing.assert_allclose(np.asarray(image.get_array()), weights[head].numpy())
        assert axes.get_title() == f"head {head}"
        assert image.get_clim() == (0, pytest.approx(weights.max().item()))
    assert labels_of(panels[0], "y") == ["a", "b", "c"]
    assert labels_of(panels[-1], "x") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("weights", "tokens", "error", "message"),
    [
        (torch.ones(1, 3, 3), "abc", ShapeError, "weights has shape (1, 3, 3)"),
        (torch.ones(3, 3), "ab", UsageError, "tokens has 2 entries, but there are 3"),
        (-torch.ones(3, 3), "abc", UsageError, "contains -1; apply softmax to scores"),
        (torch.full((3, 3), math.nan), "abc", UsageError, "weights contains nan"),
        (torch.ones(0, 3), "", UsageError, "nothing to draw"),
    ],
)
def test_weights_that_are_not_attention_weights_are_refused(weights, tokens, error, message):
    with pytest.raises(error) as caught:
        plot_attention(weights, tokens)
    assert message in str(caught.value)


def test_curves_show_both_losses_and_skip_the_empty_cells():
    losses, rates = plot_training_curves(ROWS, floor=1.5, floor_label="entropy").axes
    drawn = {str(line.get_label()): points_of(line) for line in losses.lines}
    assert drawn["train"] == [[0, 4.0], [1, 3.0], [2, 2.0]]
    assert drawn["validation, best 2.500"] == [[0, 4.1], [2, 2.5]]
    assert [y for _, y in drawn["entropy: 1.500"]] == [1.5, 1.5]
    assert points_of(rates.lines[0]) == [[0, 0.0], [1, 0.1], [2, 0.05]]
    assert (losses.get_ylabel(), rates.get_xlabel()) == ("loss (nats per token)", "step")


def test_rows_of_a_csv_file_and_columns_give_the_same_curves():
    as_text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in ROWS]
    as_columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    drawn = [
        [points_of(line) for axes in plot_training_curves(m).axes for line in axes.lines]
        for m in (ROWS, as_text, as_columns)
    ]
    assert drawn[0] == drawn[1] == drawn[2]


def test_without_a_learning_rate_there_is_one_panel():
    figure = plot_training_curves({"step": [1, 2], "val_loss": [3.0, math.inf]})
    assert len(figure.axes) == 1
    assert points_of(figure.axes[0].lines[0]) == [[1, 3.0]]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([], "columns found: none"),
        ([{"step": 1}], "columns found: step"),
        ({"step": [1], "train_loss": [1.0, 2.0]}, "differ in length"),
        ({"step": [1], "train_loss": ["much"]}, "column train_loss of metrics"),
    ],
)
def test_metrics_that_hold_no_curve_are_refused(metrics, message):
    with pytest.raises(UsageError, match=message):
        plot_training_curves(metrics)


def test_embeddings_keep_all_distances_when_two_directions_are_all_there_is():
    generator = torch.Generator().manual_seed(2)
    flat = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    weight = flat @ torch.linalg.qr(torch.randn(5, 5, generator=generator).double()).Q[:2]
    axes = plot_embeddings(weight, "abcdef").axes[0]
    points = torch.tensor(np.array([text.xy for text in axes.texts]))  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(flat, flat))
    assert [text.get_text() for text in axes.texts] == list("abcdef")


def test_the_first_direction_is_the_widest_and_its_share_is_shown():
    weight = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # variance 18 to 2
    axes = plot_embeddings(weight, "abcd").axes[0]
    assert axes.get_xlabel() == "first direction (90% of the variance)"
    assert axes.get_ylabel() == "second direction (10%)"


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_embeddings_without_a_plane_are_refused(shape):
    with pytest.raises(UsageError, match="at least 2"):
        plot_embeddings(torch.ones(shape), "x" * shape[0])


def test_equal_embeddings_are_drawn_without_a_warning():
    axes = plot_embeddings(torch.ones(3, 4), "abc").axes[0]
    assert axes.get_ylabel() == "second direction (0%)"


def test_positions_are_drawn_with_zero_in_the_middle_of_the_colours():
    table = torch.tensor([[0.5, -2.0, 0.0], [1.0, 0.0, 0.25]])
    image = plot_positional_encoding(table).axes[0].images[0]
    np.testing.assert_array_equal(np.asarray(image.get_array()), table.numpy())
    assert image.get_clim() == (-2.0, 2.0)


def test_strategies_show_the_same_tokens_with_their_own_probabilities():
    p = {"model": torch.tensor([0.1, 0.6, 0.3]), "greedy": torch.tensor([0.0, 1.0, 0.0])}
    model, greedy = plot_sampling_distributions(p, ["a", " ", "c"], n_top=2).axes
    assert labels_of(model, "y") == ["␣", "c", "all others"]
    widths = [[bar.get_width() for bar in axes.patches] for axes in (model, greedy)]  # pyright: ignore[reportAttributeAccessIssue]
    assert widths == [pytest.approx([0.6, 0.3, 0.1]), [1.0, 0.0, 0.0]]
    assert [text.get_text() for text in greedy.texts] == ["100.0%", "0", "0"]
    assert model.get_xlim() == greedy.get_xlim()


def test_a_vocabulary_that_fits_has_no_others():
    axes = plot_sampling_distributions({"model": COIN}, "abc").axes[0]
    assert labels_of(axes, "y") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("distributions", "error", "message"),
    [
        ({}, UsageError, "distributions is empty"),
        ({"logits": 2 * COIN}, UsageError, "logits must be probabilities"),
        ({"model": COIN, "other": COIN[:2] / 0.75}, ShapeError, "other has shape (2,)"),
    ],
)
def test_values_that_are_not_probabilities_are_refused(distributions, error, message):
    with pytest.raises(error) as caught:
        plot_sampling_distributions(distributions, "abc")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG\r\n\x1a\n"), (".svg", b"<?xml"), (".pdf", b"%PDF-")]
)
def test_a_picture_is_saved_in_the_format_of_its_suffix(tmp_path, suffix, start):
    path = tmp_path / "new folder" / f"picture{suffix}"
    plot_attention(random_weights(3, 3), "a $", path=path)
    assert path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_unknown_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"'\.pgn' \(did you mean '\.png'\?\)"):
        plot_positional_encoding(torch.eye(3), path=tmp_path / "picture.pgn")
    assert list(tmp_path.iterdir()) == []

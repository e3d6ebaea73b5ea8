"""The stored picture of each reading exercise is the one whose letters its solution names."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from utils.visualization import save_figure

ROOT = Path(__file__).resolve().parents[2]
TILES = 8  # in each direction
ALIKE = 0.02  # mean difference within a tile; fonts differ a little between platforms
PICTURES: dict[str, Callable[[Any], Figure]] = {
    "00_setup/which_text": lambda draw: draw.which_text(),
    "01_attention/which_mask": lambda draw: draw.which_mask(),
    "02_multi_head/which_head": lambda draw: draw.which_head(),
    "03_transformer_blocks/which_curve": lambda draw: draw.which_curve(
        draw.read_measured(draw.HERE)["curves"]
    ),
    "04_embeddings/which_scheme": lambda draw: draw.which_scheme(),
    "05_model/which_pattern": lambda draw: draw.which_pattern(),
    "06_training/sick_curves": lambda draw: draw.sick_curves(draw.read_measured(draw.HERE)["sick"]),
    "07_sampling/which_rule": lambda draw: draw.which_rule(),
    "08_engineering/which_profile": lambda draw: draw.which_profile(
        draw.read_measured(draw.HERE)["profiles"]
    ),
    "09_capstone/texts_by_loss": lambda draw: draw.draw_texts(
        draw.read_measured(draw.HERE)["texts"]
    ),
}


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of a pixel, from 0 to 1, in the tile that differs most."""
    if one.shape != other.shape:
        return 1.0
    rows = np.array_split(np.abs(one - other).mean(-1), TILES)
    return max(float(tile.mean()) for row in rows for tile in np.array_split(row, TILES, axis=1))


def stored(name: str) -> np.ndarray:
    """The pixels of a picture in the repository."""
    lesson, picture = name.split("/")
    return image.imread(ROOT / lesson / "pictures" / f"{picture}.png")[..., :3]


@pytest.mark.parametrize("name", PICTURES)
def test_drawn_again_the_picture_looks_as_it_is_stored(name: str, tmp_path: Path) -> None:
    lesson = name.split("/")[0]
    path = ROOT / lesson / "pictures" / "draw.py"
    spec = importlib.util.spec_from_file_location(f"draw_{lesson}", path)
    assert spec is not None and spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    again = save_figure(PICTURES[name](draw), tmp_path / "again.png")
    assert difference(stored(name), image.imread(again)[..., :3]) < ALIKE


def test_every_reading_exercise_has_its_picture_here() -> None:
    asked = {
        f"{path.parents[1].name}/{line.split('/pictures/')[1].split('.png')[0]}"
        for path in ROOT.glob("0*/exercises/exercises.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "/pictures/" in line
    }
    assert asked == PICTURES.keys()


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("parts", [2, 3])
def test_a_picture_with_its_panels_exchanged_is_noticed(name: str, parts: int) -> None:
    pixels = stored(name)
    exchanged = np.roll(pixels, pixels.shape[1] // parts, axis=1)
    assert difference(pixels, exchanged) > 2 * ALIKE

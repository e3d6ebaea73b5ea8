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
ALIKE = 0.03  # mean difference of a pixel; fonts differ a little between platforms
PICTURES: dict[str, Callable[[Any], Figure]] = {
    "00_setup/which_text": lambda draw: draw.which_text(),
    "01_attention/which_mask": lambda draw: draw.which_mask(),
    "02_multi_head/which_head": lambda draw: draw.which_head(),
    "03_transformer_blocks/which_curve": lambda draw: draw.which_curve(
        draw.read_measured()["curves"]
    ),
    "04_embeddings/which_scheme": lambda draw: draw.which_scheme(),
    "05_model/which_pattern": lambda draw: draw.which_pattern(),
    "06_training/sick_curves": lambda draw: draw.sick_curves(draw.read_measured()["sick"]),
    "07_sampling/which_rule": lambda draw: draw.which_rule(),
}


def difference(one: Path, other: Path) -> float:
    """The mean difference of two pictures of one size, from 0 to 1; 1 if their sizes differ."""
    pixels = [image.imread(path)[..., :3] for path in (one, other)]
    return float(np.abs(pixels[0] - pixels[1]).mean()) if pixels[0].shape == pixels[1].shape else 1


@pytest.mark.parametrize("name", PICTURES)
def test_drawn_again_the_picture_looks_as_it_is_stored(name: str, tmp_path: Path) -> None:
    lesson, picture = name.split("/")
    path = ROOT / lesson / "pictures" / "draw.py"
    spec = importlib.util.spec_from_file_location(f"draw_{lesson}", path)
    assert spec is not None and spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    again = save_figure(PICTURES[name](draw), tmp_path / "again.png")
    assert difference(path.with_name(f"{picture}.png"), again) < ALIKE


def test_every_reading_exercise_has_its_picture_here() -> None:
    asked = {
        f"{path.parents[1].name}/{line.split('/pictures/')[1].split('.png')[0]}"
        for path in ROOT.glob("0*/exercises/exercises.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "/pictures/" in line
    }
    assert asked == PICTURES.keys()


def test_a_picture_with_its_panels_exchanged_is_noticed(tmp_path: Path) -> None:
    stored = ROOT / "04_embeddings" / "pictures" / "which_scheme.png"
    pixels = image.imread(stored)
    half = pixels.shape[0] // 2
    image.imsave(tmp_path / "exchanged.png", np.concatenate([pixels[half:], pixels[:half]]))
    assert difference(stored, tmp_path / "exchanged.png") > 2 * ALIKE

"""What the drawing programs of the lessons share (pictures/draw.py in each of them).

save_pictures({"waves": waves(), ...}, HERE)      every figure as a PNG beside the program
found = read_measured(HERE)                       what took minutes to train or to count
write_measured(HERE, found)                       ... kept in measured.json, read by the tests
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.files import atomic_write_text
from utils.visualization import save_figure

MEASURED = "measured.json"


def save_pictures(pictures: Mapping[str, Figure], folder: Path) -> None:
    """Save each figure under its name, and print the names and sizes."""
    for name, figure in pictures.items():
        path = save_figure(figure, folder / f"{name}.png")
        print(f"{path.name:<24}{path.stat().st_size / 1000:6.0f} kB")


def read_measured(folder: Path) -> dict[str, Any]:
    """The measurements that the pictures are drawn from; {} before the first."""
    path = folder / MEASURED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_measured(folder: Path, found: Mapping[str, Any]) -> None:
    """Keep measurements, whole or not at all."""
    atomic_write_text(folder / MEASURED, as_text(found) + "\n")


def as_text(value: Any, indent: str = "") -> str:
    """JSON with a line per list of numbers, so that a difference shows what has changed."""
    inner = f"{indent}  "
    if isinstance(value, Mapping):
        lines = [f"{inner}{json.dumps(str(key))}: {as_text(v, inner)}" for key, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        lines = [f"{inner}{json.dumps(entry)}" for entry in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value)


def hide_frame(*panels: Axes) -> None:
    """Leave the axes that are read: the left one and the lower one."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)

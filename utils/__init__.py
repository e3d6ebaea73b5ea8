"""Code shared by two or more lessons: shapes, configuration, corpora, plots, devices.

    from utils import ModelConfig, check_shape

Each name below is loaded when it is first used, so importing one does not load what the others
need. Nothing here loads PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and pyright; at run time __getattr__ finds them
    from utils.config import ModelConfig, SampleConfig, TrainConfig, load_config, save_config
    from utils.corpus import Corpus, load_corpus, split_text
    from utils.errors import CourseError, UsageError
    from utils.shape_checker import ShapeError, ShapeTracer, check_shape, check_shapes

__all__ = [
    "Corpus",
    "CourseError",
    "ModelConfig",
    "SampleConfig",
    "ShapeError",
    "ShapeTracer",
    "TrainConfig",
    "UsageError",
    "check_shape",
    "check_shapes",
    "load_config",
    "load_corpus",
    "save_config",
    "split_text",
]

_MODULES = ("errors", "shape_checker", "config", "corpus")  # the quickest to import first


def __getattr__(name: str) -> Any:
    """Find a public name in its module. Python calls this for names that are not here."""
    if name in __all__:
        for module in _MODULES:
            found = getattr(import_module(f"utils.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

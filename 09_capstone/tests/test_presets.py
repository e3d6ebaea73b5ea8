"""The presets: each is found by its name, and they grow."""

import pytest
import torch

from model import config as presets
from model.config import PRESETS, preset
from parts import Parts
from utils.errors import UsageError


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_found_by_its_name_and_documented(name: str) -> None:
    assert preset(name) is PRESETS[name]
    assert f"\n{name} " in (presets.__doc__ or "")


def test_an_unknown_preset_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UsageError, match=r"'baby-gpt' \(did you mean 'baby_gpt'\?\); choose one"):
        preset("baby-gpt")


def test_the_presets_grow() -> None:
    sizes = []
    for name in ("smoke", "laptop", "full", "baby_gpt"):
        with torch.device("meta"):  # shapes without numbers
            blocks = Parts.reference().build_block(preset(name).model)
        weights = sum(p.numel() for p in blocks.parameters())
        sizes.append(weights * preset(name).model.n_layers)
    assert sizes == sorted(set(sizes))

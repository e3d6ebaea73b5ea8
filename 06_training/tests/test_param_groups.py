"""Every parameter has exactly one optimizer, the right one, with the right weight decay."""

import pytest
import torch
from torch import nn

from optimizers import AdamW, Muon
from param_groups import build_optimizers, set_learning_rate_, split_parameters
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, TrainConfig

MODELS = {
    "classic": {},
    "untied": {"tie_weights": False},
    "without biases": {"bias": False, "norm": "rmsnorm"},
    "modern": {"position": "rope", "activation": "swiglu", "norm": "rmsnorm", "n_kv_heads": 1},
    "post-norm": {"norm_placement": "post"},
}
EVERY = pytest.mark.parametrize("name", MODELS)


def small_model(name: str, parts: Parts | None = None) -> TinyTransformerLM:
    config = ModelConfig(11, 8, d_model=8, n_layers=2, n_heads=2, **MODELS[name])
    return TinyTransformerLM(config, parts)


def optimizers_of(model: nn.Module, **options: object) -> dict[str, tuple[str, float, float]]:
    """For every parameter name: its optimizer, weight decay and peak learning rate."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, tuple[str, float, float]] = {}
    for optimizer in build_optimizers(model, TrainConfig(**options)):  # type: ignore[arg-type]
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[id(parameter)]
                assert name not in found, f"{name} is updated twice"
                entry = (type(optimizer).__name__, group["weight_decay"], group["peak_lr"])
                found[name] = entry
    return found


@EVERY
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_is_updated_by_one_optimizer(name, optimizer):
    for parts in (Parts.reference(), Parts.fused()):
        model = small_model(name, parts)
        updated = optimizers_of(model, optimizer=optimizer)
        assert updated.keys() == dict(model.named_parameters()).keys()


@EVERY
def test_muon_updates_the_matrices_of_the_blocks_and_adamw_the_rest(name):
    model = small_model(name)
    updated = optimizers_of(model, optimizer="muon", lr=0.5, muon_lr=0.25, weight_decay=0.3)
    for parameter_name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            expected = ("AdamW", 0.0, 0.5)
        elif parameter_name.startswith("blocks."):
            expected = ("Muon", 0.3, 0.25)
        else:
            expected = ("AdamW", 0.3, 0.5)
        assert updated[parameter_name] == expected, parameter_name


@EVERY
def test_with_adamw_matrices_and_tables_decay_and_vectors_do_not(name):
    model = small_model(name)
    updated = optimizers_of(model, optimizer="adamw", lr=0.5, weight_decay=0.3)
    for parameter_name, parameter in model.named_parameters():
        decay = 0.3 if parameter.dim() == 2 else 0.0
        assert updated[parameter_name] == ("AdamW", decay, 0.5), parameter_name


def test_parameters_are_sorted_by_role():
    matrices, tables, vectors = split_parameters(small_model("untied"))
    shapes = [sorted(tuple(p.shape) for p in group) for group in (matrices, tables, vectors)]
    block = [(8, 8), (8, 8), (8, 8), (8, 8), (8, 32), (32, 8)]  # q, k, v, out; down and up
    assert shapes[0] == sorted(block * 2)
    assert shapes[1] == [(8, 8), (11, 8), (11, 8)]  # positions, tokens, output
    assert set(shapes[2]) == {(8,), (32,)}


def test_a_tied_output_layer_is_the_embedding_and_is_listed_once():
    tied, untied = small_model("classic"), small_model("untied")
    names = set(optimizers_of(untied)) - set(optimizers_of(tied))
    assert names == {"unembedding.weight"}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_model_without_blocks_or_without_vectors_works_too(optimizer):
    for model in (nn.Linear(3, 4), nn.Linear(3, 4, bias=False), nn.LayerNorm(3)):
        updated = optimizers_of(model, optimizer=optimizer)
        assert updated.keys() == dict(model.named_parameters()).keys()
        assert {kind for kind, _, _ in updated.values()} == {"AdamW"}


def test_the_options_reach_the_optimizers():
    config = TrainConfig(optimizer="muon", beta1=0.7, beta2=0.8, momentum=0.6)
    muon, adamw = build_optimizers(small_model("classic"), config)
    assert isinstance(muon, Muon) and isinstance(adamw, AdamW)
    assert muon.param_groups[0]["momentum"] == 0.6
    assert all(group["betas"] == (0.7, 0.8) for group in adamw.param_groups)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weight_decay_shrinks_matrices_and_leaves_vectors(optimizer):
    model = small_model("classic")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    config = TrainConfig(optimizer=optimizer, lr=0.1, muon_lr=0.1, weight_decay=0.5)
    for step_of in build_optimizers(model, config):
        step_of.step()
    for parameter in model.parameters():
        expected = 1.0 if parameter.dim() == 1 else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.data, torch.full_like(parameter, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_iterates_in_the_dtype_of_the_model(dtype):
    config = TrainConfig(optimizer="muon")
    muon, _ = build_optimizers(small_model("classic"), config, dtype)
    assert isinstance(muon, Muon) and muon.dtype == dtype


def test_every_group_gets_its_own_peak_times_the_ratio():
    config = TrainConfig(optimizer="muon", lr=0.5, muon_lr=0.25)
    for optimizer in build_optimizers(small_model("classic"), config):
        for ratio in (0.1, 0.4):  # of the peak, not of the rate before
            set_learning_rate_(optimizer, ratio)
        for group in optimizer.param_groups:
            assert group["lr"] == 0.4 * (0.25 if isinstance(optimizer, Muon) else 0.5)

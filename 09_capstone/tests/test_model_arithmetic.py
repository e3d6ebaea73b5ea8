"""model_arithmetic.py against PyTorch modules, budgets.py, published figures and transformers."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import budgets
from model_arithmetic import (
    MODELS,
    Architecture,
    Experts,
    Latent,
    active_parameters,
    attention_parameters,
    embedding_parameters,
    kv_cache_bytes,
    parameter_count,
    training_bytes,
)
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig

LLAMA = MODELS["Llama 3.1 8B"]
DEEPSEEK = MODELS["DeepSeek-V3"]


def size_of(*modules: nn.Module) -> int:
    """How many parameters the modules have together."""
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_a_dense_model_has_as_many_parameters_as_the_module_of_the_course(tied: bool) -> None:
    config = ModelConfig(
        *(77, 16, 48, 3, 6, 2, 100, "rmsnorm", "pre", "swiglu", "rope"),
        bias=False,
        tie_weights=tied,
    )
    model = Architecture(77, 48, 3, 6, 2, 8, 100, tied=tied)
    assert parameter_count(model) == size_of(TinyTransformerLM(config))
    assert active_parameters(model) == parameter_count(model)


def test_llama_agrees_with_budgets() -> None:
    assert parameter_count(LLAMA) == budgets.count_parameters(budgets.LLAMA_3_8B)
    for B, T in ((1, 8192), (3, 100)):
        ours = kv_cache_bytes(LLAMA, B, T, bytes_per_value=4)
        assert ours == budgets.cache_bytes(budgets.LLAMA_3_8B, B, T)


def test_latent_attention_has_the_matrices_of_the_paper() -> None:
    d_model, n_heads, d_v = 40, 5, 6
    latent = Latent(q_rank=12, kv_rank=8, d_rope=4, d_nope=7)
    layers = [
        nn.Linear(d_model, 12, bias=False),  # W_DQ
        nn.RMSNorm(12),
        nn.Linear(12, n_heads * 7, bias=False),  # W_UQ
        nn.Linear(12, n_heads * 4, bias=False),  # W_QR
        nn.Linear(d_model, 8, bias=False),  # W_DKV
        nn.RMSNorm(8),
        nn.Linear(8, n_heads * 7, bias=False),  # W_UK
        nn.Linear(8, n_heads * d_v, bias=False),  # W_UV
        nn.Linear(d_model, 4, bias=False),  # W_KR
        nn.Linear(n_heads * d_v, d_model, bias=False),  # W_O
    ]
    model = Architecture(10, d_model, 1, n_heads, n_heads, d_v, 64, latent=latent)
    assert attention_parameters(model) == size_of(*layers)


def test_a_mixture_holds_all_experts_and_uses_k_and_the_shared_ones() -> None:
    experts = Experts(n_experts=6, k=2, width=9, n_shared=1, n_dense_layers=1)
    model = Architecture(10, 16, 4, 4, 2, 4, 50, experts=experts)
    expert = 3 * 16 * 9
    without = parameter_count(replace(model, experts=replace(experts, n_experts=1, n_shared=0)))
    assert parameter_count(model) - without == 3 * (5 * 16 + 6 * expert)  # routers, experts
    assert parameter_count(model) - active_parameters(model) == 3 * 4 * expert
    one_dense_layer_less = replace(model, experts=replace(experts, n_dense_layers=0))
    mixture = 16 * 6 + 7 * expert
    assert parameter_count(one_dense_layer_less) - parameter_count(model) == mixture - 3 * 16 * 50


PUBLISHED = {  # total, active: in billions, as the models' cards and papers give them
    "Llama 3.1 8B": (8.03, None),
    "Llama 3.1 70B": (70.6, None),
    "Qwen3 8B": (8.2, None),
    "Qwen3 30B-A3B": (30.5, None),
    "Qwen3 235B-A22B": (235, 22),
    "Gemma 2 9B": (9.242, None),
    "Gemma 3 1B": (1.000, None),
    "Mixtral 8x7B": (46.7, 12.9),
    "DeepSeek-V3": (671, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_count_is_the_published_one(name: str) -> None:
    total, active = PUBLISHED[name]
    assert float(f"{parameter_count(MODELS[name]) / 1e9:.4g}") == pytest.approx(total, rel=0.004)
    if active is not None:
        assert active_parameters(MODELS[name]) / 1e9 == pytest.approx(active, rel=0.01)


def test_gemmas_tables_are_the_published_ones() -> None:
    assert round(embedding_parameters(MODELS["Gemma 3 1B"]) / 1e6) == 302
    assert round(embedding_parameters(MODELS["Gemma 2 9B"]) / 1e6) == 918


def test_a_window_stops_the_growth_of_the_local_layers_only() -> None:
    gemma = MODELS["Gemma 3 27B"]
    assert gemma.window is not None
    short, longer = (kv_cache_bytes(gemma, 1, T) for T in (gemma.window, gemma.window + 1))
    assert short == kv_cache_bytes(replace(gemma, window=None), 1, gemma.window)
    assert longer - short == gemma.n_global_layers * 2 * gemma.n_kv_heads * gemma.d_head * 2
    assert kv_cache_bytes(gemma, 1, 10) == kv_cache_bytes(replace(gemma, window=None), 1, 10)


def test_qk_norm_has_a_scale_for_queries_and_one_for_keys() -> None:
    qwen = MODELS["Qwen3 8B"]
    more = parameter_count(qwen) - parameter_count(replace(qwen, qk_norm=False))
    assert more == qwen.n_layers * size_of(nn.RMSNorm(128), nn.RMSNorm(128))


def test_a_latent_is_cached_once_for_all_heads() -> None:
    assert kv_cache_bytes(DEEPSEEK, 2, 10) == 2 * 10 * 61 * (512 + 64) * 2
    assert kv_cache_bytes(replace(DEEPSEEK, n_heads=1), 2, 10) == kv_cache_bytes(DEEPSEEK, 2, 10)


def test_the_stages_are_those_of_figure_1_of_the_zero_paper() -> None:
    figures = [training_bytes(7_500_000_000, 64, stage) / 1e9 for stage in range(4)]
    assert [math.floor(10 * x + 0.5) / 10 for x in figures] == [120, 31.4, 16.6, 1.9]
    assert training_bytes(1000, 1, 0) == training_bytes(1000, 1, 3) == 16_000


@pytest.mark.transformers
@pytest.mark.parametrize("name", MODELS)
def test_the_library_transformers_counts_the_same(name: str) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="compares with transformers: python tools/install.py --extra interop"
    )
    model, extra = MODELS[name], {}
    family = name.split()[0] + (" 2" if name.startswith("Gemma 2") else "")
    kind = {
        "Llama": ("LlamaForCausalLM", "LlamaConfig"),
        "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config"),
        "Gemma": ("Gemma3ForCausalLM", "Gemma3TextConfig"),
        "Gemma 2": ("Gemma2ForCausalLM", "Gemma2Config"),
        "Mixtral": ("MixtralForCausalLM", "MixtralConfig"),
        "DeepSeek-V3": ("DeepseekV3ForCausalLM", "DeepseekV3Config"),
    }[family]
    if family != "DeepSeek-V3":
        extra["head_dim"] = model.d_head
    if model.experts is not None:
        extra |= {"num_local_experts": model.experts.n_experts}
        if family == "Qwen3":
            kind = ("Qwen3MoeForCausalLM", "Qwen3MoeConfig")
            extra = {"head_dim": 128, "num_experts": 128}
        extra |= {"moe_intermediate_size": model.experts.width}
    config = getattr(transformers, kind[1])(
        vocab_size=model.vocab_size,
        hidden_size=model.d_model,
        num_hidden_layers=model.n_layers,
        num_attention_heads=model.n_heads,
        num_key_value_heads=model.n_kv_heads,
        intermediate_size=model.d_ff,
        tie_word_embeddings=model.tied,
        **extra,
    )
    with warnings.catch_warnings(), torch.device("meta"):  # sizes without memory
        warnings.simplefilter("ignore")
        library_model = getattr(transformers, kind[0])(config)
    assert size_of(library_model) == parameter_count(model)

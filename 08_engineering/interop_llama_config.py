"""config.json of Llama and Qwen3, from our configuration and back.

Llama says in two fields what we say in one (bias), and Qwen3 has no bias in its MLP at all. Whether
queries and keys are normalized is not a field there: it is the difference between the two models.

Source: configuration_llama.py and configuration_qwen3.py in transformers 5.23.
"""

from collections.abc import Mapping
from typing import Any

from interop_fields import Allowed, check_ours, check_theirs, renamed, to_model_config
from utils.config import ModelConfig
from utils.errors import run_program
from utils.terminal import labelled

NAMES = {  # ours: theirs
    "vocab_size": "vocab_size",
    "max_seq_len": "max_position_embeddings",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_ff": "intermediate_size",
    "tie_weights": "tie_word_embeddings",
    "dropout": "resid_pdrop",  # GPT-2's name: these have no such dropout, and ignore the field
}
SIZES = NAMES.values()
ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "relu": "relu2"}  # theirs: ours
HIDDEN_ACT = {"swiglu": "silu", "relu2": "relu"}  # ours: theirs
OURS: Allowed = {
    "norm": ("rmsnorm",),
    "norm_placement": ("pre",),
    "position": ("rope",),
    "activation": tuple(HIDDEN_ACT),
}
THEIRS: Allowed = {
    "hidden_act": tuple(ACTIVATIONS),
    "rms_norm_eps": (1e-5,),  # 03_transformer_blocks/layer_norm.py
    "rope_theta": (10_000.0,),  # the base in 04_embeddings/positional_embeddings.py
    "rope_scaling": (None,),
    "pretraining_tp": (None, 1),
    "use_sliding_window": (None, False),
}
DEFAULTS = {  # what a field means that config.json leaves out
    "llama": {
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "intermediate_size": 11008,
    },
    "qwen3": {
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "intermediate_size": 22016,
    },
}
SHARED_DEFAULTS = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,  # not ours: a file that says nothing about it is refused
    "rope_theta": 10_000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "resid_pdrop": 0.0,
}


def to_config(config: ModelConfig, model_type: str) -> dict[str, Any]:
    """Their config.json, as "llama" or "qwen3". Raises UsageError for what that doesn't have."""
    check_ours(config, OURS, model_type)
    check_ours(config, {"qk_norm": (model_type == "qwen3",)}, model_type)
    if model_type == "qwen3":
        check_ours(config, {"bias": (False,)}, model_type)  # its MLP has none
    bias = {"attention_bias": config.bias, "mlp_bias": config.bias}
    return {
        **renamed(config, NAMES),
        "head_dim": config.d_head,
        "hidden_act": HIDDEN_ACT[config.activation],
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},  # from version 5 on
        **(bias if model_type == "llama" else {"attention_bias": False}),
    }


def from_config(stored: Mapping[str, Any]) -> ModelConfig:
    """Our configuration for their config.json. Raises CourseError for what we don't have.

    Dropout on attention weights acts in training only; it is left out.
    """
    model_type = stored["model_type"]
    stored = {**SHARED_DEFAULTS, **DEFAULTS[model_type], **stored, **rotary_fields(stored)}
    if stored["num_key_value_heads"] is None:
        stored["num_key_value_heads"] = stored["num_attention_heads"]
    check_theirs(stored, THEIRS)
    check_layers(stored)
    if model_type == "qwen3":
        check_theirs(stored, {"attention_bias": (False,)})  # its MLP never has a bias
    elif stored["attention_bias"] != stored["mlp_bias"]:
        check_theirs(stored, {"mlp_bias": (stored["attention_bias"],)})
    config = to_model_config(
        stored,
        NAMES,
        norm="rmsnorm",
        position="rope",
        qk_norm=model_type == "qwen3",
        activation=ACTIVATIONS[stored["hidden_act"]],
        bias=stored["attention_bias"],
    )
    check_theirs(stored, {"head_dim": (config.d_head, None)})
    return config


def rotary_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """rope_theta and rope_scaling, wherever they are: version 5 writes both in one dictionary."""
    rope = stored.get("rope_parameters")
    if rope is None:
        return {}
    if not isinstance(rope, Mapping) or rope.get("rope_type") != "default" or len(rope) != 2:
        return {"rope_scaling": rope}  # which will be refused
    return {"rope_theta": rope.get("rope_theta")}


def check_layers(stored: Mapping[str, Any]) -> None:
    """Raise CourseError if a layer attends to a window only."""
    kinds = stored.get("layer_types") or []
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        check_theirs({"layer_types": kind}, {"layer_types": ("full_attention",)})


def main() -> None:
    """Print the fields of a small model that are not sizes, as Llama and as Qwen3."""
    for model_type in ("llama", "qwen3"):
        qk_norm = model_type == "qwen3"
        config = ModelConfig(
            norm="rmsnorm", position="rope", activation="relu2", bias=False, qk_norm=qk_norm
        )
        fields = to_config(config, model_type).items()
        print(labelled(model_type, {name: value for name, value in fields if name not in SIZES}))


if __name__ == "__main__":
    run_program(main)

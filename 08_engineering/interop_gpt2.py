"""GPT-2 in Hugging Face's format: GPT2LMHeadModel, the classic configuration of this course.

    x = wte[tokens] + wpe[positions]
    x = x + attn(ln_1(x));  x = x + mlp(ln_2(x))        for each block h.0, h.1, ...
    logits = ln_f(x) lm_head^T                          lm_head is wte if weights are tied

Four things differ from our state dict: the names, matrices that are transposed (`Conv1D`), queries,
keys and values in one matrix, and biases that are always there.

Source: Radford et al. 2019; modeling_gpt2.py in transformers 5.23.
"""

from collections.abc import Mapping
from typing import Any

from interop_fields import Allowed, check_ours, check_theirs, renamed, to_model_config
from interop_table import Constant, Conv1D, Linear, Row
from utils.config import ModelConfig
from utils.errors import CourseError, run_program

ARCHITECTURE = "GPT2LMHeadModel"

# --- configuration ---

NAMES = {  # ours: theirs
    "vocab_size": "vocab_size",
    "max_seq_len": "n_positions",
    "d_model": "n_embd",
    "n_layers": "n_layer",
    "n_heads": "n_head",
    "d_ff": "n_inner",
    "tie_weights": "tie_word_embeddings",
    "dropout": "resid_pdrop",
}
# The original GPT-2 has "gelu_new", an approximation with tanh. Ours is exact, and called "gelu" in
# transformers.
ACTIVATIONS = {"gelu": "gelu", "relu2": "relu2"}  # theirs: ours
OURS: Allowed = {
    "norm": ("layernorm",),
    "norm_placement": ("pre",),
    "position": ("learned",),
    "activation": tuple(ACTIVATIONS.values()),
    "qk_norm": (False,),
}
THEIRS: Allowed = {
    "activation_function": tuple(ACTIVATIONS),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
DEFAULTS = {  # what a field means that config.json leaves out
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "resid_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def to_config(config: ModelConfig) -> dict[str, Any]:
    """Their config.json for a model of ours. Raises UsageError for what GPT-2 doesn't have."""
    check_ours(config, {**OURS, "n_kv_heads": (config.n_heads,)}, "gpt2")
    theirs = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    return {
        **renamed(config, NAMES),
        "activation_function": theirs[config.activation],
        "layer_norm_epsilon": 1e-5,
        "embd_pdrop": 0.0,  # we drop out what a sublayer adds, and nothing else
        "attn_pdrop": 0.0,
        # A note for ourselves, which they ignore: GPT-2 always has biases, so false means zeros.
        "bias": config.bias,
    }


def from_config(stored: Mapping[str, Any]) -> ModelConfig:
    """Our configuration for their config.json. Raises CourseError for what we don't have.

    Dropout on embeddings and on attention weights acts in training only; it is left out.
    """
    stored = {**DEFAULTS, **stored}
    if stored["activation_function"] == "gelu_new":
        raise CourseError(
            'activation_function "gelu_new" is an approximation that this course doesn\'t have; '
            "--exact-gelu imports the model with the exact function"
        )
    check_theirs(stored, THEIRS)
    return to_model_config(
        stored,
        NAMES,
        norm="layernorm",
        position="learned",
        activation=ACTIVATIONS[stored["activation_function"]],
        bias=stored.get("bias", True),
    )


# --- weights ---


def rows(config: ModelConfig) -> list[Row]:
    """The table of all weights: theirs, ours."""
    table: list[Row] = [
        Linear("transformer.wte.weight", ("token_embedding.weight",)),
        Linear("transformer.wpe.weight", ("position_embedding.weight",)),
        Linear("transformer.ln_f.weight", ("final_norm.weight",)),
        bias("transformer.ln_f.bias", ("final_norm.bias",), config, config.d_model),
    ]
    if not config.tie_weights:
        table.append(Linear("lm_head.weight", ("unembedding.weight",)))
    for i in range(config.n_layers):
        table += block_rows(config, f"transformer.h.{i}", f"blocks.{i}")
    return table


def block_rows(config: ModelConfig, h: str, b: str) -> list[Row]:
    """The table of one block, `h` in their names and `b` in ours."""
    d, d_ff = config.d_model, config.ff_width
    qkv = ("q_proj", "k_proj", "v_proj")
    return [
        # LayerNorm: a scale and a shift
        Linear(f"{h}.ln_1.weight", (f"{b}.attention_norm.weight",)),
        bias(f"{h}.ln_1.bias", (f"{b}.attention_norm.bias",), config, d),
        # Attention: one matrix for queries, keys and values, then the one that mixes the heads
        Conv1D(f"{h}.attn.c_attn.weight", tuple(f"{b}.attention.{p}.weight" for p in qkv)),
        bias(f"{h}.attn.c_attn.bias", tuple(f"{b}.attention.{p}.bias" for p in qkv), config, 3 * d),
        Conv1D(f"{h}.attn.c_proj.weight", (f"{b}.attention.out_proj.weight",)),
        bias(f"{h}.attn.c_proj.bias", (f"{b}.attention.out_proj.bias",), config, d),
        # The second norm
        Linear(f"{h}.ln_2.weight", (f"{b}.feed_forward_norm.weight",)),
        bias(f"{h}.ln_2.bias", (f"{b}.feed_forward_norm.bias",), config, d),
        # The feed-forward network: up, then down
        Conv1D(f"{h}.mlp.c_fc.weight", (f"{b}.feed_forward.up_proj.weight",)),
        bias(f"{h}.mlp.c_fc.bias", (f"{b}.feed_forward.up_proj.bias",), config, d_ff),
        Conv1D(f"{h}.mlp.c_proj.weight", (f"{b}.feed_forward.down_proj.weight",)),
        bias(f"{h}.mlp.c_proj.bias", (f"{b}.feed_forward.down_proj.bias",), config, d),
    ]


def bias(theirs: str, ours: tuple[str, ...], config: ModelConfig, width: int) -> Row:
    """The row of a bias; where our model has none, theirs is zero, which adds nothing."""
    if config.bias:
        return Linear(theirs, ours)
    return Constant(theirs, 0.0, (width,), "config.json says that this model has no biases")


def main() -> None:
    """Print the table of one block."""
    for row in block_rows(ModelConfig(), "h.0", "blocks.0"):
        ours = [*row.ours] if isinstance(row, Linear | Conv1D) else ["-"]
        more = f" and {len(ours) - 1} more" if len(ours) > 1 else ""
        print(f"{row.theirs:<22} {type(row).__name__:<7} {ours[0]}{more}")


if __name__ == "__main__":
    run_program(main)

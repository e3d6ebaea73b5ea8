"""Llama and Qwen3 in Hugging Face's format: the modern configuration of this course.

    q, k = rope(W_q x), rope(W_k x)                    Llama
    q, k = rope(norm(W_q x)), rope(norm(W_k x))        Qwen3: queries and keys are normalized
    mlp  = W_down (act(W_gate x) * W_up x)             both

Matrices are stored as ours, (out, in), and rotary positions turn halves, as here. So most rows of
the table only rename. Two of our choices need a thought:

    qk_norm      Qwen3's norms of queries and keys have a weight; ours have none: it is all ones
    relu2        relu(u)^2 = relu(u) * u: a gate and an up projection that are the same matrix

Sources: Touvron et al. 2023; Yang et al. 2025; modeling_llama.py and modeling_qwen3.py in
transformers 5.23.
"""

from interop_table import Constant, Linear, Row
from utils.config import ModelConfig
from utils.errors import run_program


def rows(config: ModelConfig) -> list[Row]:
    """The table of all weights: theirs, ours. They have the same names in Llama and in Qwen3."""
    table: list[Row] = [
        Linear("model.embed_tokens.weight", ("token_embedding.weight",)),
        Linear("model.norm.weight", ("final_norm.weight",)),
    ]
    if not config.tie_weights:
        table.append(Linear("lm_head.weight", ("unembedding.weight",)))
    for i in range(config.n_layers):
        table += block_rows(config, f"model.layers.{i}", f"blocks.{i}")
    return table


def block_rows(config: ModelConfig, layer: str, b: str) -> list[Row]:
    """The table of one block, `layer` in their names and `b` in ours."""
    table: list[Row] = [
        Linear(f"{layer}.input_layernorm.weight", (f"{b}.attention_norm.weight",)),
        Linear(f"{layer}.post_attention_layernorm.weight", (f"{b}.feed_forward_norm.weight",)),
    ]
    matrices = {  # theirs: ours
        "self_attn.q_proj": "attention.q_proj",
        "self_attn.k_proj": "attention.k_proj",
        "self_attn.v_proj": "attention.v_proj",
        "self_attn.o_proj": "attention.out_proj",
        # silu(gate) * up; or, for relu2, relu(up) * up = relu(up)^2
        "mlp.gate_proj": "feed_forward.gate_proj",
        "mlp.up_proj": "feed_forward.up_proj",
        "mlp.down_proj": "feed_forward.down_proj",
    }
    if config.activation == "relu2":
        matrices["mlp.gate_proj"] = "feed_forward.up_proj"
    for theirs, ours in matrices.items():
        for kind in ("weight", "bias") if config.bias else ("weight",):
            table.append(Linear(f"{layer}.{theirs}.{kind}", (f"{b}.{ours}.{kind}",)))
    if config.qk_norm:
        table += [
            Constant(f"{layer}.self_attn.{norm}.weight", 1.0, (config.d_head,), NO_QK_WEIGHT)
            for norm in ("q_norm", "k_norm")
        ]
    return table


NO_QK_WEIGHT = "qk-norm has no weights here, and in q_proj or k_proj it would be normalized away"


def main() -> None:
    """Print the table of one block, for Qwen3."""
    config = ModelConfig(norm="rmsnorm", activation="swiglu", qk_norm=True, bias=False)
    for row in block_rows(config, "layers.0", "blocks.0"):
        ours = row.ours[0] if isinstance(row, Linear) else "all ones"
        print(f"{row.theirs:<40} {ours}")


if __name__ == "__main__":
    run_program(main)

"""Parameters and memory of published language models, from their configurations alone.

    model = MODELS["Qwen3 30B-A3B"]
    parameter_count(model)              what has to be stored
    active_parameters(model)            what one token passes through
    kv_cache_bytes(model, B=1, T=8192)  what generation keeps of 8192 tokens

05_model/budgets.py does this for the models that the course builds. Here are those that it can't
express: heads of any width, experts, latents in place of keys and values, sliding windows. All of
them have RMSNorm, rotary positions (no parameters), three matrices per feed-forward network (gate,
up, down) and no biases. The sizes are those of the published config.json files; reference.md says
what each idea is for.

Dimensions: B batch, T positions.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from dataclasses import dataclass


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the feed-forward network, behind the first dense layers."""

    n_experts: int
    k: int  # experts per token
    width: int  # of one expert
    n_shared: int = 0  # experts that every token passes through
    n_dense_layers: int = 0  # the first ones, with an ordinary network


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: keys and values are rebuilt from one short vector per token."""

    q_rank: int
    kv_rank: int
    d_rope: int  # width of the rotated part of a query, and of the one rotated key
    d_nope: int  # width of the part without positions


@dataclass(frozen=True)
class Architecture:
    """The sizes that decide on parameters and memory. d_head is that of the values."""

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    tied: bool = False  # one table for embedding and unembedding
    norms_per_block: int = 2
    qk_norm: bool = False
    experts: Experts | None = None
    latent: Latent | None = None
    window: int | None = None  # of the local layers, which see the last tokens only
    n_global_layers: int = 0  # how many layers see everything, if there is a window


def parameter_count(model: Architecture) -> int:
    """All parameters; a tied table counts once."""
    return _count(model, None if model.experts is None else model.experts.n_experts)


def active_parameters(model: Architecture) -> int:
    """The parameters that one token passes through: k of the experts, and everything else."""
    return _count(model, None if model.experts is None else model.experts.k)


def _count(model: Architecture, n_routed: int | None) -> int:
    tables = embedding_parameters(model)
    norms = (model.norms_per_block * model.n_layers + 1) * model.d_model  # and one at the end
    attention = model.n_layers * attention_parameters(model)
    return tables + norms + attention + _feed_forward(model, n_routed)


def embedding_parameters(model: Architecture) -> int:
    """The token embedding, and the output layer if it has a table of its own."""
    return (1 if model.tied else 2) * model.vocab_size * model.d_model


def attention_parameters(model: Architecture) -> int:
    """One layer's matrices for queries, keys, values and output, with the norms between them."""
    d_model, n_heads, d_head = model.d_model, model.n_heads, model.d_head
    if model.latent is None:
        kv_width = model.n_kv_heads * d_head
        norms = 2 * d_head if model.qk_norm else 0  # one scale for all heads
        return 2 * d_model * n_heads * d_head + 2 * d_model * kv_width + norms
    latent = model.latent
    d_query = latent.d_nope + latent.d_rope
    queries = latent.q_rank * (d_model + 1 + n_heads * d_query)  # down, norm, up
    down = d_model * (latent.kv_rank + latent.d_rope) + latent.kv_rank  # latent, key, norm
    up = latent.kv_rank * n_heads * (latent.d_nope + d_head)  # keys and values of every head
    return queries + down + up + n_heads * d_head * d_model


def _feed_forward(model: Architecture, n_routed: int | None) -> int:
    """All layers' networks, with n_routed of the routed experts."""
    dense = 3 * model.d_model * model.d_ff
    if model.experts is None or n_routed is None:
        return model.n_layers * dense
    experts = model.experts
    router = model.d_model * experts.n_experts  # scores all experts, not just the chosen
    mixture = router + 3 * model.d_model * experts.width * (n_routed + experts.n_shared)
    n_sparse = model.n_layers - experts.n_dense_layers
    return experts.n_dense_layers * dense + n_sparse * mixture


def kv_cache_bytes(model: Architecture, B: int, T: int, bytes_per_value: int = 2) -> int:
    """What generation keeps of T tokens of each of B sequences, in every layer.

    Keys and values; with a latent, only that and one rotated key; local layers keep a window.
    """
    if model.latent is not None:
        per_layer = model.latent.kv_rank + model.latent.d_rope
    else:
        per_layer = 2 * model.n_kv_heads * model.d_head
    if model.window is None:
        kept = model.n_layers * T  # tokens, summed over the layers
    else:
        n_local = model.n_layers - model.n_global_layers
        kept = model.n_global_layers * T + n_local * min(T, model.window)
    return B * kept * per_layer * bytes_per_value


def training_bytes(n_parameters: int, n_gpus: int = 1, stage: int = 0) -> float:
    """Weights, gradients and AdamW's state per GPU, in mixed precision, sharded by ZeRO's stage.

    16 bytes per parameter: 2 for the weight and 2 for the gradient in bfloat16; 4 each for the
    weight, m and v in float32. Stage 1 shards the last three, stage 2 the gradients too, stage 3
    (FSDP) everything. Rajbhandari et al. 2019, figure 1. Activations come on top.
    """
    weights, gradients, state = 2.0, 2.0, 12.0  # bytes per parameter
    state /= n_gpus if stage >= 1 else 1
    gradients /= n_gpus if stage >= 2 else 1
    weights /= n_gpus if stage >= 3 else 1
    return n_parameters * (weights + gradients + state)


MODELS = {
    "Llama 2 7B": Architecture(32000, 4096, 32, 32, 32, 128, 11008),
    "Llama 3.1 8B": Architecture(128256, 4096, 32, 32, 8, 128, 14336),
    "Llama 3.1 70B": Architecture(128256, 8192, 80, 64, 8, 128, 28672),
    "Llama 3.1 405B": Architecture(128256, 16384, 126, 128, 8, 128, 53248),
    "Qwen3 8B": Architecture(151936, 4096, 36, 32, 8, 128, 12288, qk_norm=True),
    "Qwen3 30B-A3B": Architecture(
        *(151936, 2048, 48, 32, 4, 128, 6144), qk_norm=True, experts=Experts(128, 8, 768)
    ),
    "Qwen3 235B-A22B": Architecture(
        *(151936, 4096, 94, 64, 4, 128, 12288), qk_norm=True, experts=Experts(128, 8, 1536)
    ),
    "Gemma 2 9B": Architecture(
        *(256000, 3584, 42, 16, 8, 256, 14336, True, 4), window=4096, n_global_layers=21
    ),
    "Gemma 3 1B": Architecture(
        *(262144, 1152, 26, 4, 1, 256, 6912, True, 4, True), window=512, n_global_layers=4
    ),
    "Gemma 3 27B": Architecture(
        *(262208, 5376, 62, 32, 16, 128, 21504, True, 4, True), window=1024, n_global_layers=10
    ),
    "Mixtral 8x7B": Architecture(32000, 4096, 32, 32, 8, 128, 14336, experts=Experts(8, 2, 14336)),
    "DeepSeek-V3": Architecture(
        *(129280, 7168, 61, 128, 128, 128, 18432),
        experts=Experts(256, 8, 2048, n_shared=1, n_dense_layers=3),
        latent=Latent(q_rank=1536, kv_rank=512, d_rope=64, d_nope=128),
    ),
}


def main() -> None:
    """Print the parameters and the cache of every model."""
    print(f"{'':16}{'parameters':>18}{'per token':>18}{'cache of 8,192, MiB':>21}")
    for name, model in MODELS.items():
        cache = kv_cache_bytes(model, B=1, T=8192) / 2**20
        print(f"{name:16}{parameter_count(model):18,}{active_parameters(model):18,}{cache:21,.0f}")


if __name__ == "__main__":
    run_program(main)

"""Parameters, arithmetic and memory of a model, from its configuration alone.

    parameters          d_model, n_layers and vocab_size decide; the context hardly counts
    forward operations  2 per matrix weight and token, plus the two products of attention
    training            3 times the forward operations; 4 times the memory of the weights with Adam,
                        plus what the forward pass keeps for the backward pass

All of it is counted on paper and compared with PyTorch in the tests. "6 N operations per token"
(Kaplan et al. 2020, section 2.1) is what remains if attention's products are left out.

Dimensions: B batch, T positions.
"""

from utils.config import ModelConfig
from utils.errors import run_program


def parameters_by_kind(config: ModelConfig) -> dict[str, int]:
    """How many parameters each kind of layer has, over all the blocks."""
    V, d_model, n_layers = config.vocab_size, config.d_model, config.n_layers
    n_norms = 2 * n_layers + (1 if config.norm_placement == "pre" else 0)  # and one at the end
    has_shift = config.norm == "layernorm" and config.bias
    return {
        "token embedding": V * d_model,
        "positions": config.max_seq_len * d_model if config.position == "learned" else 0,
        "attention": n_layers * (attention_weights(config) + attention_biases(config)),
        "feed-forward": n_layers * (feed_forward_weights(config) + feed_forward_biases(config)),
        "norms": n_norms * (2 if has_shift else 1) * d_model,
        "unembedding": 0 if config.tie_weights else V * d_model,
    }


def count_parameters(config: ModelConfig) -> int:
    """How many parameters a TinyTransformerLM with this configuration has; tied weights once."""
    return sum(parameters_by_kind(config).values())


def attention_weights(config: ModelConfig) -> int:
    """The entries of the four matrices of one attention layer."""
    kv_width = config.kv_heads * config.d_head  # d_model without grouped queries
    return 2 * config.d_model * config.d_model + 2 * config.d_model * kv_width  # q, out; k, v


def attention_biases(config: ModelConfig) -> int:
    """One per output feature of each matrix."""
    kv_width = config.kv_heads * config.d_head
    return 2 * config.d_model + 2 * kv_width if config.bias else 0


def feed_forward_weights(config: ModelConfig) -> int:
    """The entries of the matrices of one feed-forward network: up, down, and SwiGLU's gate."""
    n_matrices = 3 if config.activation == "swiglu" else 2
    return n_matrices * config.d_model * config.ff_width


def feed_forward_biases(config: ModelConfig) -> int:
    """d_ff for each matrix on the way up, d_model for the way down."""
    n_up = 2 if config.activation == "swiglu" else 1
    return n_up * config.ff_width + config.d_model if config.bias else 0


def forward_flops(config: ModelConfig, T: int) -> int:
    """Floating-point operations of the matrix products for one sequence of T tokens.

    A multiply-add is two operations. Lookups, norms, activations and softmaxes are not counted; all
    T x T scores are, although half of them are masked.
    """
    weights = config.n_layers * (attention_weights(config) + feed_forward_weights(config))
    weights += config.vocab_size * config.d_model  # logits, whether the table is tied or not
    products = config.n_layers * 2 * T * T * config.d_model  # q k^T, and weights times values
    return 2 * (T * weights + products)


def training_flops(config: ModelConfig, T: int) -> int:
    """Forward and backward: each product y = x W needs two more, for the gradients of x and W."""
    return 3 * forward_flops(config, T)


def training_state_bytes(config: ModelConfig, bytes_per_value: int = 4) -> int:
    """Weights, gradients, and Adam's two averages: four values per parameter."""
    return 4 * count_parameters(config) * bytes_per_value


def activation_values(config: ModelConfig, T: int) -> int:
    """Values that the fused engine keeps of one sequence for the backward pass, in its blocks.

    For GELU, pre-norm LayerNorm with bias, and as many key-value heads as heads.
    """
    d_model, d_ff, n_heads = config.d_model, config.ff_width, config.n_heads
    norms = 2 * (2 * d_model + 2)  # input, output, mean and 1 / standard deviation
    attention = 4 * d_model + n_heads  # q, k, v, output; the logarithm of each softmax's sum
    feed_forward = 2 * d_ff  # before and after the activation
    return config.n_layers * T * (norms + attention + feed_forward)


def cache_bytes(config: ModelConfig, B: int, T: int, bytes_per_value: int = 4) -> int:
    """Keys and values of T tokens in every layer, for B sequences that are being generated."""
    return 2 * config.n_layers * B * T * config.kv_heads * config.d_head * bytes_per_value


GPT_2 = ModelConfig(50257, max_seq_len=1024, d_model=768, n_layers=12, n_heads=12)
LLAMA_3_8B = ModelConfig(
    *(128256, 8192, 4096, 32, 32, 8, 14336, "rmsnorm", "pre", "swiglu", "rope"),
    bias=False,
    tie_weights=False,
)


def main() -> None:
    """Print the budgets of three models."""
    models = {"the default": ModelConfig(), "GPT-2 small": GPT_2, "Llama 3 8B": LLAMA_3_8B}
    print(f"{'':16}" + "".join(f"{name:>16}" for name in models))
    kinds = {name: parameters_by_kind(config) for name, config in models.items()}
    for kind in kinds["the default"]:
        print(f"{kind:16}" + "".join(f"{kinds[name][kind]:16,}" for name in models))
    for name, count in {
        "parameters N": count_parameters,
        "training, GiB": lambda config: training_state_bytes(config) / 2**30,
        "cache, MiB": lambda config: cache_bytes(config, 1, config.max_seq_len) / 2**20,
        "per N and token": lambda config: (
            training_flops(config, config.max_seq_len)
            / count_parameters(config)
            / config.max_seq_len
        ),
    }.items():
        values = [count(config) for config in models.values()]
        print(f"{name:16}" + "".join(f"{x:16,}" if x > 1e5 else f"{x:16.2f}" for x in values))


if __name__ == "__main__":
    run_program(main)

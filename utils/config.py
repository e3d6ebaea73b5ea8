"""Configuration: frozen dataclasses that validate themselves, and can be loaded and saved.

    config = TrainConfig(model=ModelConfig(d_model=128), max_steps=500)
    save_config(config, "config.yaml")
    load_config("config.yaml", TrainConfig)

Each field is described once, in `option(...)`; utils/command_line.py turns it into a flag with its
help. The checks are in utils/config_fields.py, the files in utils/config_files.py.
"""

from dataclasses import dataclass, field

from utils.config_fields import article, check_fields, check_range, divisors, field_types, option
from utils.config_files import from_dict, load_config, save_config, to_dict
from utils.errors import UsageError

__all__ = [
    "ModelConfig",
    "SampleConfig",
    "TrainConfig",
    "article",
    "check_fields",
    "check_range",
    "divisors",
    "field_types",
    "from_dict",
    "load_config",
    "option",
    "save_config",
    "to_dict",
]


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a transformer language model, from GPT-2 to Llama."""

    vocab_size: int = option(
        65, "number of different tokens: set by the text, or with bpe how many to learn (512)"
    )
    max_seq_len: int = option(64, "context length: how many tokens the model can attend to")
    d_model: int = option(128, "width of the residual stream")
    n_layers: int = option(4, "number of transformer blocks")
    n_heads: int = option(4, "attention heads per layer; must divide d_model")
    n_kv_heads: int | None = option(None, "key-value heads; grouped-query if fewer than n_heads")
    d_ff: int | None = option(None, "feed-forward hidden width; none means 4 * d_model")
    norm: str = option("layernorm", "normalization layer", ("layernorm", "rmsnorm"))
    norm_placement: str = option("pre", "norm before or after each sublayer", ("pre", "post"))
    activation: str = option("gelu", "feed-forward non-linearity", ("gelu", "relu2", "swiglu"))
    position: str = option(
        "learned", "position encoding", ("learned", "sinusoidal", "rope", "alibi")
    )
    qk_norm: bool = option(False, "normalize queries and keys before their dot product")
    bias: bool = option(True, "biases in linear layers and layer norms")
    tie_weights: bool = option(True, "use the token embedding as the output projection")
    dropout: float = option(0.0, "dropout probability of each residual update")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("vocab_size", "max_seq_len", "d_model", "n_layers", "n_heads"):
            check_range(self, name, at_least=1)
        for name in ("n_kv_heads", "d_ff"):
            check_range(self, name, at_least=1)
        check_range(self, "dropout", at_least=0.0, below=1.0)
        if self.d_model % self.n_heads != 0:
            raise UsageError(
                f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}; "
                f"n_heads may be one of: {divisors(self.d_model)}"
            )
        if self.n_heads % self.kv_heads != 0:
            raise UsageError(
                f"n_heads {self.n_heads} is not divisible by n_kv_heads {self.kv_heads}; "
                f"n_kv_heads may be one of: {divisors(self.n_heads)}"
            )
        if self.position == "rope" and self.d_head % 2 != 0:
            raise UsageError(
                f"position rope rotates pairs: d_model / n_heads = {self.d_head} must be even"
            )

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """Key-value heads: n_kv_heads, or n_heads if it is None."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def ff_width(self) -> int:
        """Hidden width of the feed-forward network: d_ff, or 4 * d_model if it is None."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff


@dataclass(frozen=True)
class TrainConfig:
    """One training run: the model, the data, the optimizer and the schedule."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: str = option(
        "shakespeare", "shakespeare, mock, mock-large, a text file, or a prepared folder"
    )
    init_from: str | None = option(
        None, "fine-tune this checkpoint or Hugging Face folder: its weights, sizes, tokenizer"
    )
    tokenizer: str = option(
        "auto",
        "tokens are characters, or learned by byte-pair encoding; auto is char, or the "
        "tokenizer of a prepared folder",
        ("auto", "char", "bpe"),
    )
    seed: int = option(0, "seed of the initial weights, the batches and dropout")
    batch_size: int = option(12, "sequences per micro-batch")
    accumulation: int = option(1, "micro-batches per step; their gradients are averaged")
    max_steps: int = option(2000, "optimizer steps")
    max_minutes: float | None = option(None, "time limit in minutes; lowers max_steps to fit")
    optimizer: str = option(
        "adamw", "muon: Muon for matrices, AdamW for the rest", ("adamw", "muon")
    )
    lr: float = option(1e-3, "peak learning rate of AdamW")
    muon_lr: float = option(0.02, "peak learning rate of Muon")
    beta1: float = option(0.9, "AdamW: decay rate of the mean gradient")
    beta2: float = option(0.99, "AdamW: decay rate of the mean squared gradient")
    momentum: float = option(0.95, "Muon: decay rate of the momentum")
    weight_decay: float = option(0.1, "weight decay of the matrices")
    grad_clip: float = option(1.0, "maximum gradient norm; 0 for no clipping")
    schedule: str = option("cosine", "learning rate schedule", ("cosine", "wsd", "constant"))
    warmup_steps: int = option(100, "steps over which the learning rate rises")
    decay_fraction: float = option(0.5, "wsd: last fraction of the steps, where the rate falls")
    min_lr_ratio: float = option(0.1, "final learning rate, as a fraction of the peak")
    eval_interval: int = option(250, "steps between evaluations on the whole validation split")
    save_interval: int = option(250, "steps between saved training states, for --resume")
    sample_interval: int = option(500, "steps between text samples; 0 for none")
    log_interval: int = option(10, "steps between rows of metrics.csv")
    parts: str = option(
        "fused",
        "code of the model: the lessons', PyTorch's fused kernels, or your solved exercises",
        ("reference", "fused", "mine"),
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    dtype: str = option("auto", "data type of the matrix products", ("auto", "float32", "bfloat16"))
    compile: bool = option(False, "compile the model with torch.compile; slow to start")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("batch_size", "accumulation", "max_steps"):
            check_range(self, name, at_least=1)
        for name in ("eval_interval", "save_interval", "log_interval"):
            check_range(self, name, at_least=1)
        for name in ("seed", "warmup_steps", "sample_interval", "lr", "muon_lr", "weight_decay"):
            check_range(self, name, at_least=0)
        check_range(self, "grad_clip", at_least=0.0)
        for name in ("beta1", "beta2", "momentum"):
            check_range(self, name, at_least=0.0, below=1.0)
        for name in ("decay_fraction", "min_lr_ratio"):
            check_range(self, name, at_least=0.0, at_most=1.0)
        check_range(self, "max_minutes", above=0.0)


@dataclass(frozen=True)
class SampleConfig:
    """How text is sampled from a trained model."""

    prompt: str = option("", "text to continue; by default a new line")
    max_tokens: int = option(500, "new tokens per sample")
    temperature: float = option(0.8, "below 1 is safer, above 1 more random; 0 is greedy")
    top_k: int | None = option(None, "sample from the k most likely tokens")
    top_p: float | None = option(None, "sample from the top tokens up to this total probability")
    min_p: float | None = option(None, "drop tokens below this fraction of the top probability")
    repetition_penalty: float = option(1.0, "above 1: avoid tokens of prompt and new text")
    presence_penalty: float = option(
        0.0, "subtract this from the logits of tokens that the new text has"
    )
    frequency_penalty: float = option(0.0, "subtract this for each time the new text has the token")
    beams: int | None = option(None, "search for the most probable text with N beams, no sampling")
    length_penalty: float = option(1.0, "beams: 0 favours short texts, above 1 long ones")
    num_samples: int = option(1, "number of samples; with beams, the N best texts")
    stop: tuple[str, ...] = option(
        (),
        r"end a sample at this text; may be given several times; "
        r"\n is a newline, \t a tab, \\ a backslash",
    )
    seed: int = option(0, "random seed for sampling")
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self, "max_tokens", at_least=0)
        check_range(self, "num_samples", at_least=1)
        check_range(self, "temperature", at_least=0.0)
        check_range(self, "top_k", at_least=1)
        check_range(self, "top_p", above=0.0, at_most=1.0)
        check_range(self, "min_p", at_least=0.0, at_most=1.0)
        check_range(self, "repetition_penalty", above=0.0)
        for name in ("presence_penalty", "frequency_penalty", "length_penalty"):
            check_range(self, name)
        check_range(self, "beams", at_least=1)
        if self.beams is not None and self.num_samples > self.beams:
            raise UsageError(
                f"num_samples {self.num_samples} is more than the {self.beams} texts that "
                f"{self.beams} beams can find; num_samples must be at most beams"
            )
        check_range(self, "seed", at_least=0)

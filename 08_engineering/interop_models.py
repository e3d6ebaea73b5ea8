"""A model of this course in a format of Hugging Face, and back: configuration and weights.

    to_hugging_face(config, weights, "llama")     -> config.json, tensors
    from_hugging_face(config.json, tensors)       -> config, weights

Three formats: GPT-2 for the classic configuration, Llama for the modern one, and Qwen3 for the
modern one with qk-norm. Their tables are in interop_gpt2.py and interop_llama.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import interop_gpt2
import interop_llama
import interop_llama_config
from interop_fields import either
from interop_table import Row, check_tensors, count_layers, export_weights, import_weights
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import CourseError, UsageError, pick, run_program


@dataclass(frozen=True)
class Format:
    """One model_type of Hugging Face: its class, its configuration and its table of weights."""

    architecture: str
    embedding: str  # the tensor that lm_head.weight repeats if weights are tied
    to_config: Callable[[ModelConfig], dict[str, Any]]
    from_config: Callable[[Mapping[str, Any]], ModelConfig]
    rows: Callable[[ModelConfig], list[Row]]
    positions: str | None = None  # the tensor with one row per position


def llama_format(architecture: str, model_type: str) -> Format:
    """Llama or Qwen3, which share a table."""
    return Format(
        architecture,
        "model.embed_tokens.weight",
        partial(interop_llama_config.to_config, model_type=model_type),
        interop_llama_config.from_config,
        interop_llama.rows,
    )


FORMATS = {
    "gpt2": Format(
        "GPT2LMHeadModel",
        "transformer.wte.weight",
        interop_gpt2.to_config,
        interop_gpt2.from_config,
        interop_gpt2.rows,
        positions="transformer.wpe.weight",
    ),
    "llama": llama_format("LlamaForCausalLM", "llama"),
    "qwen3": llama_format("Qwen3ForCausalLM", "qwen3"),
}
LARGEST_CONTEXT = 16_384  # 256 MiB for the causal mask
# Tables that old files store with the weights, and that are computed from config.json.
COMPUTED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def fitting_format(config: ModelConfig) -> str:
    """The format to try for a model of ours."""
    if config.norm == "layernorm":
        return "gpt2"
    return "qwen3" if config.qk_norm else "llama"


def to_hugging_face(
    config: ModelConfig, weights: Mapping[str, Tensor], model_type: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Their configuration and tensors. Raises UsageError for what the format can't express."""
    target = FORMATS[pick(model_type, FORMATS, "format")]
    stored = {
        "architectures": [target.architecture],
        "model_type": model_type,
        **target.to_config(config),
        "dtype": "float32",
        # No token ends a text, unless the tokenizer has one: Llama's default is id 2, whatever
        # character that may be.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    return stored, export_weights(target.rows(config), weights)


def from_hugging_face(
    stored: Mapping[str, Any], tensors: Mapping[str, Tensor], max_seq_len: int | None = None
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Our configuration and weights; with max_seq_len, for at most that many positions.

    Raises CourseError, naming the field or the tensor, for what can't be expressed here.
    """
    model_type = str(stored.get("model_type"))
    if model_type not in FORMATS:
        raise CourseError(f"model_type {model_type!r} can't be read; it may be {either(FORMATS)}")
    source = FORMATS[model_type]
    config = source.from_config(stored)
    tensors = without_repetitions(tensors, source, config)
    check_sizes(config, tensors, source)
    if max_seq_len is not None:
        config, tensors = shortened(config, tensors, source, max_seq_len)
    check_context(config)
    with torch.device("meta"):  # names and shapes, without data
        shapes = TinyTransformerLM(config).state_dict()
    return config, import_weights(source.rows(config), tensors, shapes)


def check_sizes(config: ModelConfig, tensors: Mapping[str, Tensor], source: Format) -> None:
    """Raise CourseError if config.json belongs to another model: before anything large is made."""
    embedding = {name: t for name, t in tensors.items() if name == source.embedding}
    check_tensors(embedding, {source.embedding: (config.vocab_size, config.d_model)})
    n_layers = count_layers(tensors)
    if n_layers != config.n_layers:
        raise CourseError(f"n_layers is {config.n_layers}, but the weights have {n_layers} layers")


def check_context(config: ModelConfig) -> None:
    """Raise CourseError if the causal mask of our model would not fit into an ordinary memory."""
    if config.max_seq_len > LARGEST_CONTEXT:
        raise CourseError(
            f"max_seq_len {config.max_seq_len} is too long: our model keeps a table of all pairs "
            f"of positions; import it for at most {LARGEST_CONTEXT}, with --max-seq-len"
        )


def shortened(
    config: ModelConfig, tensors: Mapping[str, Tensor], source: Format, max_seq_len: int
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The same model for fewer positions, on which it computes the same."""
    if not 1 <= max_seq_len <= config.max_seq_len:
        raise UsageError(f"max_seq_len {max_seq_len} must be from 1 to {config.max_seq_len}")
    tensors = dict(tensors)
    if source.positions in tensors:
        tensors[source.positions] = tensors[source.positions][:max_seq_len]
    return replace(config, max_seq_len=max_seq_len), tensors


def without_repetitions(
    tensors: Mapping[str, Tensor], source: Format, config: ModelConfig
) -> dict[str, Tensor]:
    """The tensors under the names of the table, without computed tables and repeated weights."""
    tensors = {name: t for name, t in tensors.items() if not name.endswith(COMPUTED)}
    # A file of the model without its head has no prefix: "wte.weight", as in the first GPT-2.
    prefix = source.embedding.split(".")[0] + "."
    if not any(name.startswith(prefix) for name in tensors):
        in_head = {name for name in tensors if name.startswith("lm_head.")}
        tensors = {name if name in in_head else prefix + name: t for name, t in tensors.items()}
    if config.tie_weights and "lm_head.weight" in tensors:
        head = tensors.pop("lm_head.weight")
        if not torch.equal(head, tensors.get(source.embedding, head)):
            raise CourseError(
                f"tie_word_embeddings is true, but lm_head.weight differs from {source.embedding}"
            )
    return tensors


def main() -> None:
    """Which format fits which configuration, and how many tensors it has."""
    for config in (ModelConfig(), ModelConfig(norm="rmsnorm", position="rope", activation="relu2")):
        model_type = fitting_format(config)
        weights = TinyTransformerLM(config).state_dict()
        _, tensors = to_hugging_face(config, weights, model_type)
        print(f"{model_type:<6} {len(weights)} tensors of ours, {len(tensors)} of theirs")


if __name__ == "__main__":
    run_program(main)

"""A model of this course as a Hugging Face folder, and back.

    to_hugging_face(config, weights, "llama")     -> config.json, tensors
    from_hugging_face(config.json, tensors)       -> config, weights
    export_folder, import_folder                     the same with files, tokenizer included

Three formats: GPT-2 for the classic configuration, Llama for the modern one, and Qwen3 for the
modern one with qk-norm. Their tables are in interop_gpt2.py and interop_llama.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import interop_gpt2
import interop_llama
from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer
from checkpointing import Checkpoint
from interop_folder import CONFIG, TOKENIZER, read_config, read_json, read_weights, write_folder
from interop_foreign_tokenizer import from_tokenizer_json
from interop_table import Row, count_layers, export_weights, import_weights
from interop_tokenizer import to_tokenizer_json
from special_tokens import BOS, EOS, PAD
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import CourseError, pick, run_program


@dataclass(frozen=True)
class Format:
    """One model_type of Hugging Face: its class, its configuration and its table of weights."""

    architecture: str
    embedding: str  # the tensor that lm_head.weight repeats if weights are tied
    to_config: Callable[[ModelConfig], dict[str, Any]]
    from_config: Callable[[Mapping[str, Any]], ModelConfig]
    rows: Callable[[ModelConfig], list[Row]]


def llama_format(architecture: str, model_type: str) -> Format:
    """Llama or Qwen3, which share a table."""
    return Format(
        architecture,
        "model.embed_tokens.weight",
        partial(interop_llama.to_config, model_type=model_type),
        interop_llama.from_config,
        interop_llama.rows,
    )


FORMATS = {
    "gpt2": Format(
        "GPT2LMHeadModel",
        "transformer.wte.weight",
        interop_gpt2.to_config,
        interop_gpt2.from_config,
        interop_gpt2.rows,
    ),
    "llama": llama_format("LlamaForCausalLM", "llama"),
    "qwen3": llama_format("Qwen3ForCausalLM", "qwen3"),
}
# Tables that old files store with the weights, and that are computed from config.json.
COMPUTED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def fitting_format(config: ModelConfig) -> str:
    """The format to try for a model of ours."""
    if config.norm == "layernorm":
        return "gpt2"
    return "qwen3" if config.qk_norm else "llama"


# --- in memory ---


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
    stored: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Our configuration and weights. Raises CourseError for what can't be expressed here."""
    model_type = stored.get("model_type")
    if model_type not in FORMATS:
        raise CourseError(f"model_type {model_type!r} is not one of: {', '.join(FORMATS)}")
    source = FORMATS[model_type]
    config = source.from_config(stored)
    tensors = without_repetitions(tensors, source, config)
    stored_layers = count_layers(tensors)
    if stored_layers != config.n_layers:  # before a table of a million layers is made
        raise CourseError(
            f"config.json asks for {config.n_layers} layers, and the weights have {stored_layers}"
        )
    with torch.device("meta"):  # names and shapes, without data
        shapes = TinyTransformerLM(config).state_dict()
    return config, import_weights(source.rows(config), tensors, shapes)


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


# --- on disk ---


def export_folder(checkpoint: Checkpoint, folder: Path, model_type: str | None = None) -> str:
    """Write a folder that transformers can load; returns the format, by default the fitting one.

    Raises UsageError for what the format can't express, and for a folder that is not empty.
    """
    config, tokenizer = checkpoint.model_config, checkpoint.tokenizer
    model_type = model_type or fitting_format(config)
    weights = checkpoint.build_model().state_dict()  # checks names and shapes
    stored, tensors = to_hugging_face(config, weights, model_type)
    special = tokenizer.special_ids if isinstance(tokenizer, BPETokenizer) else {}
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    known = {name: token for name, token in names.items() if token in special}
    stored |= {f"{name}_id": special[token] for name, token in known.items()}
    files = {
        TOKENIZER: to_tokenizer_json(tokenizer),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.max_seq_len,
            "clean_up_tokenization_spaces": False,  # or decoding would take out spaces
            **known,
        },
        CONFIG: stored,
    }
    write_folder(folder, tensors, files)
    return model_type


def import_folder(folder: Path) -> Checkpoint:
    """The model and the tokenizer of a folder. Raises CourseError, in one line, naming the file."""
    stored = read_config(folder)
    try:
        config, weights = from_hugging_face(stored, read_weights(folder))
    except CourseError as error:
        raise CourseError(f"{folder}: {error}") from None
    tokenizer, order = read_tokenizer(folder, config.vocab_size)
    for name in ("token_embedding.weight", "unembedding.weight"):
        if name in weights:  # the rows move to our ids
            weights[name] = weights[name][order]
    return Checkpoint(config, tokenizer, weights, {"imported": folder.name}, str(folder))


def read_tokenizer(folder: Path, vocab_size: int) -> tuple[Tokenizer, list[int]]:
    """The tokenizer of a folder, and which of its ids each of ours was. Raises CourseError."""
    tokenizer, order = from_tokenizer_json(read_json(folder / TOKENIZER))
    if tokenizer.vocab_size != vocab_size:
        raise CourseError(
            f"{folder}: vocab_size is {vocab_size}, and tokenizer.json has {tokenizer.vocab_size}"
        )
    return tokenizer, order


def main() -> None:
    """Which format fits which configuration, and how many tensors it has."""
    for config in (ModelConfig(), ModelConfig(norm="rmsnorm", position="rope", activation="relu2")):
        model_type = fitting_format(config)
        weights = TinyTransformerLM(config).state_dict()
        _, tensors = to_hugging_face(config, weights, model_type)
        print(f"{model_type:<6} {len(weights)} tensors of ours, {len(tensors)} of theirs")


if __name__ == "__main__":
    run_program(main)

"""A checkpoint of this course as a Hugging Face folder, and a folder as a checkpoint.

config.json, model.safetensors    interop_models.py
tokenizer.json                    interop_tokenizer.py, interop_foreign_tokenizer.py
tokenizer_config.json             which class of transformers reads tokenizer.json
"""

from pathlib import Path

from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer
from checkpointing import Checkpoint
from interop_folder import (
    CONFIG,
    TOKENIZER,
    naming_folder,
    read_config,
    read_json,
    read_weights,
    write_folder,
)
from interop_foreign_tokenizer import from_tokenizer_json
from interop_models import fitting_format, from_hugging_face, to_hugging_face
from interop_tokenizer import to_tokenizer_json
from special_tokens import BOS, EOS, PAD
from utils.errors import CourseError, run_program


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


def import_folder(
    folder: Path, max_seq_len: int | None = None, exact_gelu: bool = False
) -> Checkpoint:
    """The model and the tokenizer of a folder. Raises CourseError, in one line, naming the file.

    max_seq_len shortens the context. exact_gelu takes GPT-2's "gelu_new", an approximation, as the
    exact function: the only way to read the original GPT-2, with slightly different logits.
    """
    with naming_folder(folder):
        stored = read_config(folder)
        if exact_gelu and stored.get("activation_function") == "gelu_new":
            stored["activation_function"] = "gelu"
        config, weights = from_hugging_face(stored, read_weights(folder), max_seq_len)
        tokenizer, order = read_tokenizer(folder, config.vocab_size)
    for name in ("token_embedding.weight", "unembedding.weight"):
        if name in weights:  # the rows move to our ids
            weights[name] = weights[name][order]
    return Checkpoint(config, tokenizer, weights, {"imported": folder.resolve().name}, str(folder))


def read_tokenizer(folder: Path, vocab_size: int) -> tuple[Tokenizer, list[int]]:
    """The tokenizer of a folder, and which of its ids each of ours was. Raises CourseError."""
    tokenizer, order = from_tokenizer_json(read_json(folder / TOKENIZER))
    if tokenizer.vocab_size != vocab_size:
        raise CourseError(
            f"vocab_size is {vocab_size}, and tokenizer.json has {tokenizer.vocab_size} tokens"
        )
    return tokenizer, order


def main() -> None:
    """Export a small model, list the folder, and import it again."""
    import tempfile

    from tiny_transformer_lm import TinyTransformerLM
    from tokenizer import CharTokenizer
    from utils.config import ModelConfig

    tokenizer = CharTokenizer.train("to be or not to be")
    config = ModelConfig(tokenizer.vocab_size, d_model=32, n_layers=2)
    model = TinyTransformerLM(config)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tiny"
        model_type = export_folder(Checkpoint(config, tokenizer, model.state_dict()), folder)
        print(f"{model_type}:", ", ".join(sorted(path.name for path in folder.iterdir())))
        back = import_folder(folder)
        same = (back.model_config, back.tokenizer) == (config, tokenizer)
        print(f"the same configuration and tokenizer: {same}")


if __name__ == "__main__":
    run_program(main)

"""Characters or learned tokens? Train both with equal compute; compare bpe.py with a library.

    python tools/compare_tokenizers.py             # about ten minutes on two cores
    python tools/compare_tokenizers.py --quick     # a few steps, to check that it works
    python tools/compare_tokenizers.py --only library    # measure one part again

Writes 06_training/pictures/tokenizers.json, from which lesson 06 quotes:

    training  a small model (the laptop preset, half as wide, with three layers) with a tokenizer of
              each kind and several seeds. A larger vocabulary makes each token more expensive, so
              it gets fewer steps: all runs have the same number of FLOP. The losses are in bits per
              character, because a loss per token is not comparable.
    library   merges, training and encoding beside Hugging Face's tokenizers, on one thread, in
              alternating rounds. Seconds are those of the processor, so other programs, which may
              hold the processor meanwhile, count little.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from any_tokenizer import tokenizer_kind
from bpe_tokenizer import BPETokenizer, train_bpe
from compute_peak import training_flops_per_token
from engine import build_model, choose_engine
from experiment_tracking import environment_info
from loss_functions import bits_per_char
from model.config import preset
from split_pattern import split_words, word_pattern
from training_data import TrainingData, load_training_data
from training_loop import Trainer
from utils.command_line import OneLineParser
from utils.config import TrainConfig
from utils.corpus import load_corpus
from utils.errors import CourseError, pick
from utils.files import atomic_write_text, shown

OUT = Path(__file__).resolve().parents[1] / "06_training" / "pictures" / "tokenizers.json"
PARTS = ("library", "training")
CHAR_STEPS = 1000  # of the run with characters; the others get as many FLOP
SIZES = (None, 512, 1024)  # None: characters
SEEDS = (0, 1, 2)
MERGES = (512, 1024, 4096)  # compared with the library


def main() -> None:
    """Train, measure, and write the file."""
    parser = OneLineParser(description="Compare tokenizers: by their models, and with a library.")
    parser.add_argument("--data", default="shakespeare", metavar="TEXT", help="shakespeare or mock")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="where to write")
    parser.add_argument("--only", metavar="|".join(PARTS), help="measure this part again")
    parser.add_argument("--quick", action="store_true", help="a few steps and rounds: do not quote")
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    steps, rounds = (20, 2) if args.quick else (CHAR_STEPS, 5)
    parts = PARTS if args.only is None else (pick(args.only, PARTS, "part"),)
    found: dict[str, Any] = {"machine": machine(), "text": args.data, "quick": args.quick}
    if args.only is not None and args.out.exists():  # keeps the other part
        found = {**json.loads(args.out.read_text(encoding="utf-8")), **found}
    for part in parts:
        if part == "library":
            found[part] = compare_with_library(load_corpus(args.data).text, rounds)
        else:
            found[part] = train_all(args.data, steps, SEEDS[:1] if args.quick else SEEDS)
        atomic_write_text(args.out, json.dumps(found, indent=1) + "\n")
    print(f"wrote {shown(args.out)}")


def machine() -> dict[str, Any]:
    """Where this was measured."""
    info = environment_info("cpu")
    return {name: info[name] for name in ("cpu", "torch", "python") if name in info}


# --- models with each kind of token ---------------------------------------------------------------


def train_all(source: str, char_steps: int, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row per tokenizer, with a run per seed."""
    rows = []
    budget = None
    for size in SIZES:
        data = load_training_data(source, "char" if size is None else "bpe", size)
        config = fitted(data, 1)
        per_step = config.batch_size * config.model.max_seq_len
        flops = per_step * training_flops_per_token(config.model)
        budget = budget or char_steps * flops  # characters come first
        config = fitted(data, round(budget / flops))
        runs = [train(replace(config, seed=seed), data) for seed in seeds]
        rows.append({**describe(config, data, per_step, flops), "runs": runs})
    return rows


def fitted(data: TrainingData, n_steps: int) -> TrainConfig:
    """A small model for this vocabulary, trained by the laptop's recipe, evaluated at the end."""
    config = preset("laptop")
    sizes = {"d_model": 64, "n_layers": 3, "vocab_size": data.tokenizer.vocab_size}
    model = replace(config.model, **sizes)
    lengths = {"max_steps": n_steps, "eval_interval": n_steps}
    return replace(config, model=model, device="cpu", dtype="float32", **lengths)


def train(config: TrainConfig, data: TrainingData) -> dict[str, Any]:
    """Train one model; returns its loss per token and per character."""
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    trainer = Trainer(model, data.train, data.val, config, engine.device, engine.dtype)
    loss = trainer.fit()
    bits = bits_per_char(loss, data.chars_per_token)
    name = f"{tokenizer_kind(data.tokenizer)} {data.tokenizer.vocab_size}, seed {config.seed}"
    print(f"{name}: {loss:.4f} nats per token, {bits:.4f} bits per character", flush=True)
    seconds = round(trainer.seconds, 1)
    return {"seed": config.seed, "loss": loss, "bits_per_char": bits, "seconds": seconds}


def describe(config: TrainConfig, data: TrainingData, per_step: int, flops: int) -> dict[str, Any]:
    """What a run of this row computes, and how much text it reads."""
    model = build_model(config.model, choose_engine(config), 0)
    tokens = per_step * config.max_steps
    n_tokens = len(data.train) + len(data.val)
    return {
        "tokenizer": tokenizer_kind(data.tokenizer),
        "vocab_size": data.tokenizer.vocab_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": config.max_steps,
        "tokens_per_step": per_step,
        "context": config.model.max_seq_len,
        "gflop_per_step": round(flops / 1e9, 2),
        "total_tflop": round(flops * config.max_steps / 1e12, 2),
        "chars_per_token": round(sum(data.n_characters) / n_tokens, 3),
        "chars_per_predicted_token": data.chars_per_token,  # of the validation split
        "tokens_read": tokens,
        "characters_read": round(tokens * data.n_characters[0] / len(data.train)),
    }


# --- the library ----------------------------------------------------------------------------------


def compare_with_library(text: str, rounds: int) -> dict[str, Any]:
    """Merges, and the seconds of training and encoding, for several numbers of merges."""
    try:
        import tokenizers
    except ImportError:
        raise CourseError("tokenizers is not installed; make install-dev installs it") from None
    word_pattern()  # built once per process
    rows = [library_row(text, n_merges, rounds) for n_merges in MERGES]
    megabytes = len(text.encode()) / 1e6
    return {"version": tokenizers.__version__, "megabytes": megabytes, "rows": rows}


def library_row(text: str, n_merges: int, rounds: int) -> dict[str, Any]:
    """One number of merges; each round measures ours and the library's, one after the other."""
    seconds: dict[str, list[float]] = {}
    ours, theirs = train_bpe(text, 256 + n_merges), train_library(text, n_merges)
    for _ in range(rounds):
        fresh = BPETokenizer(ours.merges)  # has no words in its cache
        measured: dict[str, Callable[[], Any]] = {
            "our_training": lambda: train_bpe(text, 256 + n_merges),
            "library_training": lambda: train_library(text, n_merges),
            "our_encoding": lambda fresh=fresh: fresh.encode_array(text),
            "library_encoding": lambda: theirs.encode_batch_fast([text]),
        }
        for name, call in measured.items():
            seconds.setdefault(name, []).append(elapsed(call))
    row = {
        "merges": n_merges,
        "tokens": len(ours.encode(text)),
        "library_tokens": len(theirs.encode(text)),
        **agreement(text, ours, theirs),
        **{name: spread(values) for name, values in seconds.items()},
    }
    print(json.dumps(row), flush=True)
    return row


def train_library(text: str, n_merges: int) -> Any:
    """The library's byte-level BPE, with its usual settings."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([text], trainer(n_merges, alphabet, trainers.BpeTrainer))
    return tokenizer


def trainer(n_merges: int, alphabet: list[str], make: Any) -> Any:
    """Its trainer with our rule: no pair that occurs once."""
    settings = {"vocab_size": 256 + n_merges, "min_frequency": 2, "initial_alphabet": alphabet}
    return make(**settings, show_progress=False)


def agreement(text: str, ours: BPETokenizer, theirs: Any) -> dict[str, int]:
    """How many merges are at the same place: with its own order of the bytes, and with ours.

    That order decides between pairs that are equally frequent.
    """
    from tokenizers import Tokenizer, models, trainers

    same_order = Tokenizer(models.BPE())
    as_ours = [chr(byte) for byte in range(256)]  # a character for each byte, in our order
    words = (word.encode().decode("latin-1") for word in split_words(text))
    make = trainers.BpeTrainer
    same_order.train_from_iterator(words, trainer(len(ours.merges), as_ours, make))
    spelled = [tuple(ours.tokens[i].decode("latin-1") for i in pair) for pair in ours.merges]
    usual = [tuple(map(bytes_of, pair)) for pair in merges_of(theirs)]
    return {
        "equal_with_our_byte_order": count_equal(spelled, merges_of(same_order)),
        "equal_with_its_byte_order": count_equal(spelled, usual),
        "in_both": len(set(spelled) & set(usual)),
    }


def count_equal(ours: list[tuple[str, ...]], theirs: list[tuple[str, ...]]) -> int:
    """How many merges stand at the same place in both lists."""
    return sum(a == b for a, b in zip(ours, theirs, strict=False))


def merges_of(tokenizer: Any) -> list[tuple[str, ...]]:
    """The merges in the file that the library would save."""
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def bytes_of(token: str) -> str:
    """Undo the library's spelling of bytes: the visible ones stand for themselves."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    spelling = {byte if byte in visible else next(others): byte for byte in range(256)}
    return "".join(chr(spelling[ord(character)]) for character in token)


def elapsed(call: Callable[[], Any]) -> float:
    """The processor seconds that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def spread(values: list[float]) -> dict[str, float]:
    """The least and the median of some measurements."""
    return {"min": round(min(values), 4), "median": round(statistics.median(values), 4)}


if __name__ == "__main__":
    run_program(main)

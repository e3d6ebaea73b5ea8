"""How does the loss depend on the size of the model, and on the amount of text? Nine tiny runs.

    python 06_training/scaling_runs.py       trains all nine, in about five minutes

Five models of different sizes read the same amount of text, and one of them is trained on four
different amounts. The text is the mock corpus, so the lowest possible loss E is known, and what is
left, L - E, can be compared with a power law:

    L(N) = E + a N^-alpha        N weights in the blocks
    L(D) = E + b D^-beta         D characters of training text

Each run has a schedule of its own, which ends when the run ends: a loss in the middle of a longer
run, at a high learning rate, would be too bad for the text it has seen. Kaplan et al. 2020,
"Scaling laws for neural language models", section 3; with E, Henighan et al. 2020.
"""

import math
from functools import cache

import numpy as np
import torch

from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Trainer
from utils.config import ModelConfig, TrainConfig
from utils.corpus import split_text
from utils.errors import run_program
from utils.mock_corpus import entropy_rate, generate
from utils.recipes import MODERN, MODERN_TRAINING

T = 64
BATCH_SIZE = 16
SIZES = {16: 2, 32: 2, 48: 3, 64: 3, 96: 4}  # d_model: number of layers
N_STEPS = 800  # for the comparison of sizes
MIDDLE = 48  # the d_model that is trained for
DURATIONS = (100, 200, 400, 1600)  # steps, besides N_STEPS


@cache
def corpus() -> tuple[int, np.ndarray, np.ndarray]:
    """V, and the tokens of the mock plays: for training and for validation."""
    # More text than the longest run reads, so that no run is limited by how much there is.
    train_text, val_text = split_text(generate(2_000_000), val_fraction=0.02)
    tokenizer = CharTokenizer.train(train_text)
    tokens = tokenizer.encode_array(train_text), tokenizer.encode_array(val_text)
    return tokenizer.vocab_size, *tokens


def configuration(d_model: int, n_steps: int, vocab_size: int) -> TrainConfig:
    """The recipe of the capstone's `laptop` for this width, with a shorter decay."""
    model = ModelConfig(
        vocab_size,
        T,
        d_model,
        n_layers=SIZES[d_model],
        n_heads=d_model // 16,  # d_head 16 in all of them: wider models have more heads
        **MODERN,
    )
    return TrainConfig(
        model,
        batch_size=BATCH_SIZE,
        max_steps=n_steps,
        warmup_steps=min(50, n_steps // 4),
        eval_interval=n_steps,  # once, at the end
        **{**MODERN_TRAINING, "decay_fraction": 0.5},  # laptop: 0.8
    )


def n_block_weights(d_model: int) -> int:
    """N: the weights of the matrices in the blocks, 12 d_model^2 per layer."""
    # 4 d^2 in attention (q, k, v, output) and 8 d^2 in the feed-forward network (d to 4 d to d).
    # The embeddings are left out, as Kaplan et al. do: they don't grow with the depth.
    return 12 * d_model**2 * SIZES[d_model]


def n_characters(n_steps: int) -> int:
    """D: how many characters a run reads."""
    return n_steps * BATCH_SIZE * T


def final_loss(d_model: int, n_steps: int) -> float:
    """Train one model; returns its validation loss at the end, in nats per character."""
    vocab_size, train_tokens, val_tokens = corpus()
    config = configuration(d_model, n_steps, vocab_size)
    model = TinyTransformerLM(config.model, Parts.fused(), seed=0)
    return Trainer(model, train_tokens, val_tokens, config).fit()


def floor() -> float:
    """E: the entropy of the mock plays, in nats per character."""
    return entropy_rate().bits_per_char * math.log(2)


def law_through(
    first: tuple[float, float], last: tuple[float, float], lowest: float
) -> tuple[float, float]:
    """(a, alpha) of the law through two runs, each given as (size or characters, loss).

    On logarithmic axes it is a line, and two points determine it. Lesson 09 fits all runs.
    """
    (x, loss), (other_x, other_loss) = first, last
    # log(L - E) = log a - alpha log x: alpha is minus the slope.
    alpha = math.log((loss - lowest) / (other_loss - lowest)) / math.log(other_x / x)
    return (loss - lowest) * x**alpha, alpha  # a, from L - E = a x^-alpha at the first run


def measure() -> tuple[dict[int, float], dict[int, float]]:
    """Train all nine; returns the final losses by d_model, and by number of steps."""
    by_size = {d_model: final_loss(d_model, N_STEPS) for d_model in SIZES}
    # The middle size at N_STEPS belongs to both comparisons, and is trained once.
    by_steps = {n: final_loss(MIDDLE, n) for n in DURATIONS} | {N_STEPS: by_size[MIDDLE]}
    return by_size, dict(sorted(by_steps.items()))


def main() -> None:
    """Train all nine, print their losses, and the law through the first and the last."""
    torch.set_num_threads(1)
    print(f"E, the lowest possible loss: {floor():.4f} nats per character")
    by_size, by_steps = measure()
    sizes = {n_block_weights(d_model): loss for d_model, loss in by_size.items()}
    texts = {n_characters(n_steps): loss for n_steps, loss in by_steps.items()}
    for name, found in (("N", sizes), ("D", texts)):
        for amount, loss in found.items():
            print(f"{name} = {amount:>9,}  loss {loss:.4f}")
        first, *_, last = found.items()
        factor, exponent = law_through(first, last, floor())
        print(f"L({name}) = E + {factor:.3g} {name}^-{exponent:.3f}\n")


if __name__ == "__main__":
    run_program(main)

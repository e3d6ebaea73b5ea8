"""What does each change do to the loss, and how sure is that? One change at a time, several seeds.

For each seed s, the change and the base are trained with the same seed, and their losses are
subtracted. Over n seeds:

    d_s   = loss(change, s) - loss(base, s)
    mean  = sum of d_s / n
    error = standard deviation of d_s / sqrt(n)        with n - 1 in the deviation

What a seed does to both runs, its first weights or the order of its batches, cancels out in d_s; so
the error of the pairs is often smaller than that of two independent means. With a few seeds, a mean
of less than three errors may well be noise. `tools/ablations.py` does the same for the presets.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import did_you_mean
from utils.mock_corpus import generate

N_TRAIN, N_VAL = 15_000, 4_000  # windows of the 20,000 characters
Config = Mapping[str, Any]  # the fields of a configuration, by name


def ablate(
    train: Callable[[Config, int], float],
    base: Config,
    changes: Mapping[str, Config],
    seeds: Sequence[int],
) -> dict[str, tuple[float, float]]:
    """Mean and standard error of what each change adds to the loss, by its name.

    train(config, seed) returns a loss; base and every change are trained once per seed. With one
    seed the error is nan. Raises ValueError, before anything is trained, if a change has a field
    that base lacks: such a change would compare base with itself.
    """
    for name, change in changes.items():
        for field in change:
            if field not in base:
                raise ValueError(f"{name}: unknown field {field}{did_you_mean(field, base)}")
    base_losses = [train(base, seed) for seed in seeds]
    table = {}
    for name, change in changes.items():
        losses = [train({**base, **change}, seed) for seed in seeds]
        differences = [mine - other for mine, other in zip(losses, base_losses, strict=True)]
        table[name] = (statistics.fmean(differences), standard_error(differences))
    return table


def standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean of these values; nan for a single one."""
    n = len(values)
    return statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan


@cache
def corpus() -> tuple[Tensor, int]:
    """Mock plays as ids (n,), and how many different characters they have."""
    text = generate(20_000)
    vocabulary = sorted(set(text))
    return torch.tensor([vocabulary.index(character) for character in text]), len(vocabulary)


def train_window_model(config: Config, seed: int) -> float:
    """Train a network on the last few characters of the mock plays; returns its validation loss.

    It stands in for a real model: a run takes less than a second.
    """
    ids, n_characters = corpus()
    windows = ids.unfold(0, config["context"] + 1, 1)  # (n, context + 1)
    train_windows, val = windows[:N_TRAIN], windows[-N_VAL:]
    batches = torch.Generator().manual_seed(seed)  # the same batches, whatever the model draws
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Embedding(n_characters, 16),
        nn.Flatten(),
        nn.Linear(16 * config["context"], config["width"]),
        nn.ReLU(),
        nn.Linear(config["width"], n_characters),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    for _ in range(200):
        batch = train_windows[torch.randint(N_TRAIN, (64,), generator=batches)]
        loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        return loss_of(model, val).item()


def loss_of(model: nn.Module, windows: Tensor) -> Tensor:
    """The loss of the last character of each window, given the others."""
    return F.cross_entropy(model(windows[:, :-1]), windows[:, -1])


def main() -> None:
    """Three changes of a tiny model, with five seeds each."""
    torch.set_num_threads(1)  # the model is too small for more
    base = {"context": 6, "width": 64, "lr": 0.005}
    changes = {
        "half the context": {"context": 3},
        "half the width": {"width": 32},
        "a width of 60": {"width": 60},
    }
    table = ablate(train_window_model, base, changes, seeds=range(5))
    for name, (mean, error) in table.items():
        verdict = "clear" if abs(mean) > 3 * error else "may be noise"
        print(f"{name:<17} {mean:+.4f} nats, standard error {error:.4f}: {verdict}")


if __name__ == "__main__":
    run_program(main)

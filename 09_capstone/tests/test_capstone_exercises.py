"""What the exercises of lesson 09 must do, against NumPy in float64, by hand and by brute force.

Where an exercise has effects, `observed` calls it on a model or a trainer of its own, and what it
did is compared: the weights at the end, which models were trained. The first case of an exercise is
small enough to be printed whole.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # the first optimizer imports it, for seconds: not while a limit is running
import torch.nn.functional as F
from torch import Tensor, nn

from utils.grader.difference import View, identity
from utils.grader.feedback import (
    expect,
    expect_equal,
    expect_prediction,
    expect_same_gradients,
)
from utils.grader.guard import observed
from utils.grader.readings import expect_letters
from utils.mock_corpus import entropy_rate

# --- 9.1 ---

ENTROPY = 0.6266  # bits per character, as the docstring says


def test_the_entropy_of_the_docstring_is_that_of_the_plays():
    assert f"{entropy_rate().bits_per_char:.4f}" == str(ENTROPY)


def test_the_predicted_numbers_are_those_of_the_model(ex):
    """each number is that of the model"""
    nats = 1.50 / 2.5  # per character
    bits, uniform = nats / math.log(2), math.log2(65)
    share = (uniform - bits) / (uniform - ENTROPY)
    row = [bits, bits - ENTROPY, math.exp(nats), share]
    expect_prediction(ex.predict_floor(), row, what="the four numbers", within=0.001)


# --- 9.2 ---

MEANS = "the mean losses (n_groups,)"


def expect_means(ex: Any, losses: Tensor, groups: Tensor, n_groups: int) -> None:
    """Group by group, in float64."""
    rows = [losses.double()[groups == group] for group in range(n_groups)]
    truth = torch.stack([row.mean() for row in rows]).float()  # the mean of nothing is nan
    expect_equal(ex.loss_by_group(losses, groups, n_groups), truth, what=MEANS)


def some_losses(*shape: int) -> Tensor:
    return 4 * torch.rand(*shape)


def test_each_group_gets_the_mean_of_its_losses(ex):
    """each group gets the mean of its losses"""
    expect_means(ex, torch.tensor([2.0, 4.0, 1.0, 6.0, 5.0]), torch.tensor([0, 1, 0, 1, 1]), 2)
    groups = torch.cat([torch.arange(7), torch.randint(7, (43,))])  # none is empty
    expect_means(ex, some_losses(50), groups, 7)
    expect_means(ex, torch.tensor([0.0, 4.0, 1.0, 0.0]), torch.tensor([0, 1, 0, 1]), 2)


def test_a_group_without_targets_is_nan(ex):
    """a group without targets is nan"""
    expect_means(ex, torch.tensor([2.0, 4.0, 1.0]), torch.tensor([3, 1, 3]), 5)
    expect_means(ex, some_losses(6), torch.full((6,), 2), 3)


def test_targets_of_no_group_do_not_count(ex):
    """a target whose group is -1 doesn't count"""
    expect_means(ex, torch.tensor([2.0, 4.0, 9.0, 6.0]), torch.tensor([0, 1, -1, 1]), 2)
    expect_means(ex, some_losses(40), torch.arange(40) % 4 - 1, 3)
    expect_means(ex, some_losses(3), torch.full((3,), -1), 2)
    for loss in (math.nan, math.inf):
        expect_means(ex, torch.tensor([2.0, loss, 4.0, 1.0]), torch.tensor([0, -1, 1, 0]), 2)


@pytest.mark.parametrize("shape", [(2, 3), (3, 5), (2, 3, 4), (1, 1)])
def test_losses_of_any_shape_are_grouped(ex, shape):
    """losses and groups may have any shape"""
    expect_means(ex, some_losses(*shape), torch.randint(-1, 3, shape), 3)
    places = torch.arange(shape[-1]).expand(shape)  # the place in the window
    expect_means(ex, some_losses(*shape), places, shape[-1])


# --- 9.3 ---

LAW = ("a", "alpha")


def line_of(sizes: Sequence[float], losses: Sequence[float], lowest: float) -> tuple[float, float]:
    """(a, alpha) by the textbook's formula for the slope."""
    x = np.log(np.array(sizes, dtype=np.float64))
    y = np.log(np.array(losses, dtype=np.float64) - lowest)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return float(np.exp(y.mean() - slope * x.mean())), float(-slope)


@pytest.mark.parametrize(
    ("sizes", "lowest", "a", "alpha"),
    [
        ([1, 4, 16], 1.0, 4.0, 0.5),
        ([6144, 24576, 82944, 442368], 0.4343, 15.0, 0.27),
        ([100.0, 300.0], 0.0, 2.0, 0.1),
        ([10, 20, 40], 1.5, 0.5, 1.0),
    ],
)
def test_losses_on_a_power_law_give_its_numbers(ex, sizes, lowest, a, alpha):
    """losses that are on a power law give its a and alpha"""
    losses = [lowest + a * size**-alpha for size in sizes]
    expect_equal(ex.fit_power_law(sizes, losses, lowest), (a, alpha), what=LAW)


@pytest.mark.parametrize(
    ("sizes", "losses", "lowest"),
    [
        ([1, 10, 100], [3.0, 1.5, 1.25], 1.0),
        ([6144, 24576, 82944, 147456, 442368], [1.615, 1.221, 1.003, 0.922, 0.812], 0.4343),
        ([50, 50, 200, 800, 800], [2.5, 2.75, 2.0, 1.5, 1.625], 0.5),
    ],
)
def test_noisy_losses_give_the_line_of_least_squares(ex, sizes, losses, lowest):
    """noisy losses give the line of the least squared errors in the logarithms"""
    truth = line_of(sizes, losses, lowest)
    expect_equal(ex.fit_power_law(sizes, losses, lowest), truth, what=LAW)


@pytest.mark.parametrize(
    ("size", "lowest", "a", "alpha"),
    [(100, 1.0, 4.0, 0.5), (1e6, 0.4343, 15.0, 0.27), (1, 0.5, 2.0, 0.3), (8, 0.0, 1.0, 1.0)],
)
def test_the_law_predicts_the_loss_of_another_size(ex, size, lowest, a, alpha):
    """a law predicts the loss of another size"""
    truth = lowest + a / math.exp(alpha * math.log(size))
    expect_equal(ex.predicted_loss(size, lowest, a, alpha), truth, what="the loss")


# --- 9.4 ---

Batch = tuple[Tensor, Tensor]


def small_classifier(dropout: float, norm: bool = False) -> nn.Sequential:
    """Always with the same weights; norm gives it buffers, the running means and variances."""
    middle = nn.BatchNorm1d(6) if norm else nn.Tanh()
    model = nn.Sequential(nn.Linear(4, 6), middle, nn.Dropout(dropout), nn.Linear(6, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.arange(parameter.numel()).sin()
            parameter.copy_(values.view_as(parameter))
    return model


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def flat_buffers(model: nn.Module) -> Tensor:
    return torch.cat([torch.zeros(0), *(buffer.flatten().float() for buffer in model.buffers())])


def step_of(values: Tensor, history: Sequence[Tensor]) -> str:
    """The step, counted from 1, after which these were the values."""
    found = [step for step, one in enumerate(history, start=1) if torch.allclose(one, values)]
    return f"{found[0]}" if found else "none of them"


def kept(
    train_keeping_best: Callable[..., Any],
    model: str,
    optimizer: str,
    batches: Sequence[Batch],
    val: Batch,
    eval_every: int,
    *,
    lr: float = 0.5,
    dropout: float = 0.0,
    report: str,
    history: Sequence[tuple[float, Tensor, Tensor]] = (),
) -> Any:
    """Train a new model: what was returned, the weights at the end, those of which step they are,
    or when dropout was on. history: for the steps, the weights and buffers after each of them.

    The names of model and optimizer are for the message only; both are made here.
    """
    ours = small_classifier(dropout, norm=report == "whose weights")
    sgd = torch.optim.SGD(ours.parameters(), lr=lr)
    with_dropout: dict[bool, set[bool]] = {True: set(), False: set()}  # by "is it validation?"

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with_dropout[len(inputs[0]) == len(val[0])].add(module.training)

    ours[2].register_forward_hook(note)
    answer = train_keeping_best(ours, sgd, batches, val, eval_every)
    if report == "weights":
        return flat(ours)
    if report == "whose weights":
        _, weights, buffers = zip(*history, strict=True)
        return {
            "the step of the weights": step_of(flat(ours), weights),
            "the step of the buffers": step_of(flat_buffers(ours), buffers),
        }
    if report == "dropout":
        on = {frozenset([True]): "on", frozenset([False]): "off", frozenset(): "never needed"}
        said = {was: on.get(frozenset(modes), "on and off") for was, modes in with_dropout.items()}
        return {"dropout in training": said[False], "dropout in validation": said[True]}
    return answer


def steps_by_hand(
    batches: Sequence[Batch], val: Batch, lr: float, norm: bool
) -> list[tuple[float, Tensor, Tensor]]:
    """The validation loss, the weights and the buffers after every step."""
    model = small_classifier(0.0, norm)
    history = []
    for x, y in batches:
        model.train()
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), [*model.parameters()])
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * gradient
            model.eval()
            loss = F.cross_entropy(model(val[0]), val[1]).item()
            history.append((loss, flat(model).clone(), flat_buffers(model).clone()))
    return history


def best_step(history: Sequence[tuple[float, Tensor, Tensor]], eval_every: int) -> int:
    """Every step was kept, and the best is chosen afterwards."""
    measured = {*range(eval_every, len(history) + 1, eval_every), len(history)}
    return min(sorted(measured), key=lambda one: history[one - 1][0])  # the first of equal ones


def data_of(kinds: str) -> tuple[list[Batch], Batch]:
    """One batch per letter, and validation data: "+" is like them, "-" has other targets."""
    generator = torch.Generator().manual_seed(len(kinds))

    def batch(rows: int, turned: bool) -> Batch:
        x = torch.randn(rows, 4, generator=generator)
        return x, (x[:, :3].argmax(dim=-1) + int(turned)) % 3

    return [batch(5, kind == "-") for kind in kinds], batch(9, turned=False)


def expect_kept(
    ex: Any, kinds: str, eval_every: int, report: str, lr: float = 0.5, dropout: float = 0.0
) -> None:
    batches, val = data_of(kinds)
    history = steps_by_hand(batches, val, lr, norm=report == "whose weights")
    step = best_step(history, eval_every)
    truth, what = {
        "returned": ((history[step - 1][0], step), ("the validation loss", "its step")),
        "weights": (history[step - 1][1], "the weights of the model at the end"),
        "whose weights": (
            {"the step of the weights": f"{step}", "the step of the buffers": f"{step}"},
            "at the end",
        ),
        "dropout": (
            {"dropout in training": "on", "dropout in validation": "off"},
            "during the call",
        ),
    }[report]
    observe = partial(kept, lr=lr, dropout=dropout, report=report, history=history)
    train = observed(ex, "train_keeping_best", observe)
    expect_equal(train("a classifier", "SGD", batches, val, eval_every), truth, what=what)


@pytest.mark.parametrize(
    ("kinds", "eval_every"), [("++--", 1), ("+++---", 2), ("+++++--+", 1), ("--++--+-", 2)]
)
def test_the_model_has_the_weights_of_the_best_step(ex, kinds, eval_every):
    """at the end the model has the weights and buffers of the step with the lowest loss"""
    expect_kept(ex, kinds, eval_every, "whose weights")


@pytest.mark.parametrize(
    ("kinds", "eval_every", "lr"),
    [("++--", 1, 0.5), ("+++---", 2, 0.5), ("----", 1, 0.5), ("+++++--+", 1, 0.5), ("+++", 1, 0.0)],
)
def test_the_lowest_validation_loss_and_its_step_are_returned(ex, kinds, eval_every, lr):
    """the lowest validation loss and its step are returned, the first of equal ones"""
    expect_kept(ex, kinds, eval_every, "returned", lr)


def test_dropout_is_on_for_training_and_off_for_validation(ex):
    """dropout is on for training and off for validation"""
    expect_kept(ex, "++++-", 1, "dropout", dropout=0.5)


@pytest.mark.parametrize(
    ("kinds", "eval_every"),
    [("+++++++", 3), ("++++", 10), ("+-+++--", 3), ("++----+", 3), ("++", 2)],
)
@pytest.mark.parametrize("report", ["returned", "weights"])
def test_the_loss_is_measured_at_intervals_and_at_the_end(ex, report, kinds, eval_every):
    """the loss is measured after every eval_every-th step, and after the last one"""
    expect_kept(ex, kinds, eval_every, report)


# --- 9.5 ---

Config = Mapping[str, Any]
BASE = {"position": "rope", "d_model": 64, "lr": 0.5}
CHANGES = {"learned positions": {"position": "learned"}, "wide": {"d_model": 96, "lr": 0.25}}

# What is observed, by name
OTHERS = "trainings of other configurations"
NAMED = "the field that the error names"
TRAINED_BEFORE = "models trained before the error"


def three_seeds(config: Config, seed: int) -> float:
    """A table that can be followed by hand."""
    rope, learned, wide = [1.52, 1.61, 1.57], [1.54, 1.66, 1.61], [1.47, 1.54, 1.53]
    losses = {("rope", 64): rope, ("learned", 64): learned, ("rope", 96): wide}
    return losses.get((config["position"], config["d_model"]), [9.0, 9.5, 9.25])[seed % 3]


def some_training(config: Config, seed: int) -> float:
    """A loss that depends on everything, and on the seed most."""
    what = sorted((name, str(value)) for name, value in config.items())
    return 1 + 3 * random.Random(seed).random() + random.Random(f"{what} {seed}").random() / 4


def compared(
    ablate: Callable[..., Any],
    train: Callable[[Config, int], float],
    base: Config,
    changes: Mapping[str, Config],
    seeds: Sequence[int],
    *,
    report: str,
) -> Any:
    """Ablate once: the table, how often each model was trained, or what became of an error."""
    trained: list[tuple[Config, int]] = []

    def counted(config: Config, seed: int) -> float:
        trained.append((dict(config), seed))
        return train(config, seed)

    if report == "error":
        try:
            ablate(counted, base, changes, seeds)
        except ValueError as error:
            fields = {field for change in changes.values() for field in change} - {*base}
            named = sorted(field for field in fields if field in str(error))
            said = ", ".join(named) or "none"
            return {NAMED: said, TRAINED_BEFORE: f"{len(trained)}"}
        return {NAMED: "there is no error"}
    table = ablate(counted, base, changes, seeds)
    if report == "table":
        return table
    configs = {"base": base} | {name: {**base, **change} for name, change in changes.items()}
    counts = {f"seeds of {name}": seeds_of(trained, config) for name, config in configs.items()}
    others = sum(config not in configs.values() for config, _ in trained)
    return counts | {OTHERS: f"{others}"}


def seeds_of(trained: Sequence[tuple[Config, int]], config: Config) -> str:
    found = [seed for one, seed in trained if one == config]
    return ", ".join(map(str, sorted(found))) or "none"


def by_column(table: Any) -> dict[str, float | str]:
    """All means, then all standard errors: what is wrong with the first column is told first."""
    if not isinstance(table, dict):
        raise TypeError("a dictionary is asked for, with an entry for each change")
    columns: dict[str, float | str] = {}
    for at, column in enumerate(("the mean of", "the standard error of")):
        for name, row in table.items():
            is_pair = isinstance(row, tuple | list) and len(row) == 2
            columns[f"{column} {name}"] = float(row[at]) if is_pair else f"no pair, but {row}"
    return columns


def table_by_hand(
    train: Callable[[Config, int], float], changes: Mapping[str, Config], seeds: Sequence[int]
) -> dict[str, tuple[float, float]]:
    table = {}
    for name, change in changes.items():
        pairs = [(train({**BASE, **change}, seed), train(BASE, seed)) for seed in seeds]
        differences = np.array([mine - other for mine, other in pairs])
        several = len(seeds) > 1
        error = differences.std(ddof=1) / math.sqrt(len(seeds)) if several else math.nan
        table[name] = (float(differences.mean()), float(error))
    return table


def expect_table(
    ex: Any,
    train: Callable[[Config, int], float],
    changes: Mapping[str, Config],
    seeds: Sequence[int],
) -> None:
    ablate = observed(ex, "ablate", partial(compared, report="table"))
    answer = ablate(train, dict(BASE), changes, seeds)
    truth = table_by_hand(train, changes, seeds)
    expect_equal(answer, truth, what="the differences", view=by_column)


@pytest.mark.parametrize("seeds", [[0, 1, 2], [5]])
def test_each_model_is_trained_once_with_its_own_configuration(ex, seeds):
    """base and each change are trained once per seed, each with its own configuration"""
    changes = CHANGES | {"slow": {"lr": 0.125}}
    truth = {f"seeds of {name}": ", ".join(map(str, seeds)) for name in ("base", *changes)}
    ablate = observed(ex, "ablate", partial(compared, report="trained"))
    answer = ablate(some_training, dict(BASE), changes, seeds)
    expect_equal(answer, truth | {OTHERS: "0"}, what="the trainings")


@pytest.mark.parametrize("seeds", [[0, 1, 2], [0, 1], [2, 1]])
def test_each_change_is_compared_with_base_seed_by_seed(ex, seeds):
    """each change is compared with base, seed by seed"""
    expect_table(ex, three_seeds, CHANGES, seeds)
    changes = CHANGES | {"slow": {"lr": 0.125}}
    expect_table(ex, some_training, changes, [seed + 7 for seed in range(2 * len(seeds))])


def test_one_seed_has_no_standard_error(ex):
    """with one seed the standard error is nan"""
    expect_table(ex, three_seeds, CHANGES, [1])


@pytest.mark.parametrize("first", [True, False])
def test_an_unknown_field_is_an_error_before_anything_is_trained(ex, first):
    """a field that base doesn't have is a ValueError that names it, before anything is trained"""
    wrong = {"wider": {"d_modle": 96}}
    changes = wrong | CHANGES if first else CHANGES | wrong
    ablate = observed(ex, "ablate", partial(compared, report="error"))
    answer = ablate(three_seeds, dict(BASE), changes, [0, 1])
    truth = {NAMED: "d_modle", TRAINED_BEFORE: "0"}
    expect_equal(answer, truth, what="the unknown field d_modle")


# --- 9.6 ---

LETTERS = {  # and the panels of the picture, in pictures/draw.py
    "3.1 nats": "D",
    "2.2 nats": "A",
    "2.0 nats": "F",
    "1.8 nats": "C",
    "1.6 nats": "B",
    "a bigram table": "E",
}


def test_each_text_is_given_its_model(ex):
    """each text is given its model"""
    expect_letters(ex.read_texts(), LETTERS, "the texts")


# --- 9.7 ---

NO_NO = "no no no no"
TO_BE = "to be or not to be"
KING = "Enter the king. The king is dead, the king is dead."


def grams_of(text: str, n: int) -> list[str]:
    """The n-grams of one text, as strings."""
    words = text.split()
    return [" ".join(words[i:][:n]) for i in range(len(words)) if i + n <= len(words)]


def expect_distinct(ex: Any, samples: list[str], n: int) -> None:
    grams = [gram for sample in samples for gram in grams_of(sample, n)]
    different = sum(gram not in grams[:i] for i, gram in enumerate(grams))
    truth = different / len(grams) if grams else 0.0
    expect_equal(ex.distinct_n(samples, n), truth, what="the share of different n-grams")


@pytest.mark.parametrize("n", [2, 1, 3])
@pytest.mark.parametrize(
    "samples",
    [
        [TO_BE],
        [NO_NO, "no"],
        [TO_BE, "not to be or to be", NO_NO],
        [KING, KING.upper(), KING],
        ["a b\nc  d\n", "a b c\td"],
        ["a b c", "a bc", "ab c", "ab cd e", "a bc de"],
    ],
)
def test_different_ngrams_are_counted_among_all(ex, samples, n):
    """different n-grams are counted, and divided by the number of all"""
    expect_distinct(ex, samples, n)


@pytest.mark.parametrize("n", [2, 3])
def test_no_ngram_reaches_from_one_text_into_the_next(ex, n):
    """no n-gram reaches from one text into the next"""
    expect_distinct(ex, ["a b c", "d e f", "c d a"], n)
    expect_distinct(ex, ["a b a", "b a b", "b a", "a b a"], n)


@pytest.mark.parametrize(
    ("samples", "n"),
    [(["to be"], 3), ([], 1), (["", " \n"], 1), (["a b", "a b c", "", "a b c d"], 3)],
)
def test_texts_without_ngrams_have_none(ex, samples, n):
    """texts that are shorter than n have no n-grams; without any, the result is 0"""
    expect_distinct(ex, samples, n)


def expect_repeated(ex: Any, sample: str, n: int) -> None:
    """Word by word: is one of the n-grams that hold it the repetition of an earlier one?"""
    grams, length = grams_of(sample, n), len(sample.split())
    repeated = [
        any(grams[i] in grams[:i] for i in range(max(0, at - n + 1), at + 1) if i < len(grams))
        for at in range(length)
    ]
    truth = sum(repeated) / length if length else 0.0
    expect_equal(ex.repeated_share(sample, n), truth, what="the share of repeated words")


@pytest.mark.parametrize("n", [2, 1, 3])
@pytest.mark.parametrize(
    "sample",
    [
        TO_BE,
        KING,
        "a b c d e a b c f a b g a b c d",
        "a b c a b x b c",
        "a b c",
        "a bc ab c d a bcd",
    ],
)
def test_words_of_an_ngram_that_occurred_before_are_repeated(ex, sample, n):
    """the words of an n-gram that occurs earlier are repeated"""
    expect_repeated(ex, sample, n)


@pytest.mark.parametrize("n", [2, 1, 3, 5])
@pytest.mark.parametrize(
    "sample",
    [NO_NO, "a b a b a b a", "the king the king the king and the king", "no", "", " \n"],
)
def test_a_word_counts_once(ex, sample, n):
    """a word of several repeated n-grams counts once; a text without words has a share of 0"""
    expect_repeated(ex, sample, n)


# --- 9.8 ---

COPY = ("the start", "the length")


def copy_by_hand(sample: str, corpus: str) -> tuple[int, int]:
    """Every stretch, the longest first."""
    for length in range(len(sample), 0, -1):
        for start in range(len(sample) - length + 1):
            if sample[start : start + length] in corpus:
                return start, length
    return 0, 0


def expect_copy(ex: Any, sample: str, corpus: str) -> None:
    truth = copy_by_hand(sample, corpus)
    expect_equal(ex.longest_copy(sample, corpus), truth, what=COPY)


@pytest.mark.parametrize(
    ("sample", "corpus"),
    [
        ("abcab", "bcaxab"),
        ("the kind king", "he was a king and the king was kind"),
        ("xxabc", "abc"),
        ("abc", "xxabcxx"),
        ("To be, or", "to be, OR not to be"),
        ("a b\nc d", "b\nc e"),
        ("aabaab", "abaa"),
        ("  ab c", "xab c"),
        ("a\nb", "a b"),
    ],
)
def test_the_longest_stretch_is_found(ex, sample, corpus):
    """the longest stretch of the sample that is in the corpus is found"""
    expect_copy(ex, sample, corpus)
    chance = random.Random(len(sample))
    expect_copy(ex, "".join(chance.choices("ab", k=40)), "".join(chance.choices("ab", k=200)))


@pytest.mark.parametrize(
    ("sample", "corpus"),
    [("abxcd", "cd ab"), ("xay", "yabx"), ("abcXabc", "..abc"), ("baab", "ab ba"), ("aaaa", "aa")],
)
def test_the_first_of_several_is_returned(ex, sample, corpus):
    """of several stretches of the same length, the first is returned"""
    expect_copy(ex, sample, corpus)


@pytest.mark.parametrize(
    ("sample", "corpus"), [("abc", "xyz"), ("", "abc"), ("abc", ""), ("", ""), ("ABC", "abc")]
)
def test_nothing_in_common_gives_0_and_0(ex, sample, corpus):
    """without a common character the result is (0, 0)"""
    expect_copy(ex, sample, corpus)


@cache
def characters(seed: int, count: int) -> str:
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz ,.\n", k=count))


def test_a_large_corpus_is_searched_in_time(ex):
    """800 characters are looked up in 500,000 in time: two searches for each, not every stretch"""
    # Noise of the corpus's own characters: a search skips over characters that it doesn't have, and
    # every stretch would be searched in time. The copy is late, so that few are left out before it.
    corpus, noise = characters(0, 500_000), characters(1, 700) + "abc " * 15
    sample = noise[:600] + corpus[123_456:123_496] + noise[600:]
    answer = ex.longest_copy(sample, corpus)
    # (not expect_equal: each known wrong answer would have to search it as well)
    said = f"a copy of 40 characters begins at place 600 of the sample: (600, 40), not {answer}"
    expect(isinstance(answer, tuple | list) and tuple(answer) == (600, 40), said)


# --- 9.9 ---

HASHES = "the hashes"
DIGITS = [3, 1, 4, 1, 5, 9, 2, 6]


def as_tensor(hashes: Any) -> Tensor:
    """The hashes as a tensor, so that the first that differs can be shown."""
    if not isinstance(hashes, list | tuple):
        raise TypeError("a list of whole numbers is asked for")
    limit = 2**62  # more than any modulus here; what was never reduced may be far above it
    return torch.tensor([max(-limit, min(int(one), limit)) for one in hashes], dtype=torch.int64)


def expect_hashes(ex: Any, tokens: list[int], n: int, *numbers: int) -> None:
    base, modulus = numbers or (1_000_003, 2**61 - 1)
    truth = [
        sum(token * base**power for power, token in enumerate(reversed(tokens[i : i + n])))
        % modulus
        for i in range(len(tokens) - n + 1)
    ]
    answer = ex.rolling_hashes(tokens, n, *numbers)
    expect_equal(answer, truth, what=HASHES, view=as_tensor)


@pytest.mark.parametrize("n", [3, 1, 2, 5, 8])
def test_each_hash_is_the_number_of_its_digits(ex, n):
    """each hash is the number whose digits are the tokens, modulo the modulus"""
    expect_hashes(ex, DIGITS, n, 10, 1_000_003)
    expect_hashes(ex, DIGITS, n, 10, 97)
    expect_hashes(ex, [0, 0, 7, 0, 7, 0, 0, 12], n, 10, 1009)
    tokens = random.Random(n).choices(range(50_000), k=30)
    expect_hashes(ex, tokens, n, 257, 65_521)
    expect_hashes(ex, tokens, n)
    if n == 8:  # once only: without a common divisor, a wrong inverse is told by its hashes
        expect_hashes(ex, DIGITS * 2, n, 10, 1_000_000)


@pytest.mark.parametrize("tokens", [[], [5], [5, 6]])
def test_too_few_tokens_have_no_hash(ex, tokens):
    """fewer than n tokens have no hash"""
    expect_hashes(ex, tokens, 3, 10, 1000)
    expect_hashes(ex, tokens, len(tokens) + 1, 10, 1000)


def test_long_ngrams_take_no_longer(ex):
    """n-grams of 8,000 tokens take no longer: the work grows with the tokens, not with n"""
    tokens = random.Random(0).choices(range(65), k=20_000)
    hashes = ex.rolling_hashes(tokens, 8000)
    wrong = f"20,000 tokens have 12,001 n-grams of 8,000 tokens, not {len(hashes)}"
    expect(len(hashes) == 12_001, wrong)


def covered_by_hand(train: list[int], evaluation: list[int], n: int) -> float:
    """Token by token: does one of the n-grams that hold it occur in train?"""
    known = [train[i : i + n] for i in range(len(train) - n + 1)]
    covered = [
        any(
            evaluation[i : i + n] in known
            for i in range(max(0, at - n + 1), at + 1)
            if i + n <= len(evaluation)
        )
        for at in range(len(evaluation))
    ]
    return sum(covered) / len(evaluation) if evaluation else 0.0


def expect_share(ex: Any, train: list[int], evaluation: list[int], n: int) -> None:
    truth = covered_by_hand(train, evaluation, n)
    answer = ex.contaminated_share(train, evaluation, n)
    expect_equal(answer, truth, what="the contaminated share")


@pytest.mark.parametrize(
    ("train", "evaluation", "n"),
    [
        ([1, 2, 3, 4], [9, 2, 3, 8, 4], 2),
        ([1, 2, 3, 4, 5, 6], [2, 3, 4, 0, 4, 5, 6, 0, 0, 1], 3),
        ([1, 2, 3], [3, 2, 1, 1, 3], 2),
        ([1, 2, 3], [3, 2, 1, 7], 1),
        ([5, 1, 2], [1, 2, 5, 1], 2),
        ([11, 2], [1, 2, 4], 2),
        ([1, 12], [11, 2, 4], 2),
    ],
)
def test_tokens_of_shared_ngrams_are_contaminated(ex, train, evaluation, n):
    """the tokens of n-grams that train holds are contaminated"""
    expect_share(ex, train, evaluation, n)


@pytest.mark.parametrize("n", [2, 3, 1, 4])
def test_a_token_of_several_ngrams_counts_once(ex, n):
    """a token that is part of several such n-grams counts once"""
    expect_share(ex, [1, 2, 3, 4, 5], [9, 2, 3, 4, 5, 9, 9], n)
    expect_share(ex, [7, 7, 7, 7, 1], [7, 7, 7, 7, 7, 0, 7, 7], n)
    chance = random.Random(n)
    expect_share(ex, chance.choices(range(3), k=30), chance.choices(range(3), k=25), n)
    expect_share(ex, chance.choices(range(6), k=40), chance.choices(range(7), k=25), n)


@pytest.mark.parametrize(
    ("train", "evaluation"), [([1, 2, 3], []), ([1, 2], [1, 2]), ([], [1, 2, 3]), ([1], [1, 1, 1])]
)
def test_texts_too_short_for_an_ngram_share_none(ex, train, evaluation):
    """texts that are too short for an n-gram share none"""
    expect_share(ex, train, evaluation, 3)


BASE_OF_HASHES = 1_000_003  # 0, BASE_OF_HASHES and 1, 0 are the same number


@pytest.mark.parametrize(
    ("train", "evaluation"),
    [
        ([1, 0, 5], [7, 0, BASE_OF_HASHES, 7]),
        ([1, 0, 5, 0, BASE_OF_HASHES], [1, 0, 8, 7, 0, BASE_OF_HASHES, 7]),
        ([2, BASE_OF_HASHES, 5, 3, 0, 4], [3, 0, 7, 7, 2, BASE_OF_HASHES]),
    ],
)
def test_ngrams_with_one_hash_are_told_apart(ex, train, evaluation):
    """different n-grams that have the same hash are told apart"""
    expect_share(ex, train, evaluation, 2)


def test_large_data_are_compared_in_time(ex):
    """30,000 tokens are compared with 20,000 in time: not each place with each other one"""
    chance = random.Random(0)
    train = chance.choices(range(1000), k=30_000)
    evaluation = chance.choices(range(1000, 2000), k=20_000)
    evaluation[5000:9000] = train[100:4100]
    answer = ex.contaminated_share(train, evaluation, 13)
    right = isinstance(answer, float) and math.isclose(answer, 0.2)
    expect(right, f"4,000 of the 20,000 tokens are copied in a row: 0.2, not {answer}")


# --- 9.10 ---


def test_the_five_numbers_of_post_training_are_predicted(ex):
    """each number is what the method gives"""
    rewards = np.array([0.9, 0.4, 0.1, 0.2])
    first = (rewards[0] - rewards.mean()) / rewards.std()
    h = (-40 + 45) - (-55 + 54)
    pair = math.log1p(math.exp(-0.1 * h))
    k3 = 0.5 / 0.2 - 1 - math.log(0.5 / 0.2)
    risen, fallen = (objective_by_hand(now / old, -2.0, 0.2) for now, old in ((6, 4), (3, 5)))
    row = [float(first), pair, k3, risen, fallen]
    expect_prediction(ex.predict_post_training(), row, what="the five numbers", within=0.001)


# --- 9.11 ---

ANSWER_LOSS = "the answers' loss, a scalar"


def loss_by_hand(logits: Tensor, tokens: Tensor, is_answer: Tensor) -> Tensor:
    """Token by token, in float64."""
    rows = logits.detach().double().numpy()
    losses = []
    for b, t in is_answer.nonzero().tolist():
        scores = rows[b, t - 1]
        highest = scores.max()
        losses.append(
            highest + math.log(np.exp(scores - highest).sum()) - scores[int(tokens[b, t])]
        )
    return torch.tensor(float(np.mean(losses)))


def chat(*rows: tuple[int, int, int], V: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, tokens and answers; a row has tokens of prompt, answer and padding."""
    generator = torch.Generator().manual_seed(seed)
    B, T = len(rows), sum(rows[0])
    tokens = torch.randint(V, (B, T), generator=generator)
    is_answer = torch.zeros(B, T, dtype=torch.bool)
    for b, (prompt, answer, _) in enumerate(rows):
        is_answer[b, prompt : prompt + answer] = True
    return 2 * torch.randn(B, T, V, generator=generator), tokens, is_answer


def expect_answer_loss(ex: Any, logits: Tensor, tokens: Tensor, is_answer: Tensor) -> None:
    truth = loss_by_hand(logits, tokens, is_answer)
    expect_equal(ex.answer_loss(logits, tokens, is_answer), truth, what=ANSWER_LOSS)


@pytest.mark.parametrize(
    ("rows", "V"),
    [
        ([(2, 2, 1)], 3),
        ([(2, 3, 2), (4, 2, 1), (1, 5, 1)], 7),
        ([(3, 2, 0), (1, 2, 2), (2, 2, 1)], 4),
        ([(1, 6, 0), (3, 1, 3)], 5),
    ],
)
def test_the_loss_is_the_mean_over_the_tokens_of_the_answers(ex, rows, V):
    """the loss is the mean over the answers' tokens, each predicted by the logits before it"""
    for seed in range(3):
        expect_answer_loss(ex, *chat(*rows, V=V, seed=seed))


def test_each_token_of_an_answer_counts_the_same(ex):
    """each token counts the same, in a long answer and in a short one"""
    logits, tokens, is_answer = chat((2, 1, 5), (2, 6, 0), (1, 3, 4), V=5, seed=1)
    expect_answer_loss(ex, logits, tokens, is_answer)
    expect_answer_loss(ex, logits[:2], tokens[:2], is_answer[:2])
    logits = 4 * F.one_hot(tokens.roll(-1, dims=1), 5).float()  # almost sure of every token
    logits[0] = 0
    expect_answer_loss(ex, logits, tokens, is_answer)


@pytest.mark.parametrize("padding", [0, 3])
def test_prompt_and_padding_have_no_influence(ex, padding):
    """what the prompt and the padding hold has no influence; an answer may hold any token"""
    logits, tokens, is_answer = chat((2, 3, 2), (3, 4, 0), (4, 1, 2), V=5, seed=2)
    tokens[:, -2:] = torch.where(is_answer[:, -2:], tokens[:, -2:], padding)
    tokens[is_answer] = torch.tensor([0, 3, 0, 3, 1, 0, 2, 3])
    expect_answer_loss(ex, logits, tokens, is_answer)
    expect_answer_loss(ex, logits, torch.where(is_answer, tokens, padding), is_answer)
    several = is_answer.clone()
    several[:2, 1] = True  # a conversation has several answers in a row
    expect_answer_loss(ex, logits, tokens, several)


def test_large_logits_have_a_finite_answer_loss(ex):
    """logits of 1000 have a finite loss"""
    logits, tokens, is_answer = chat((1, 2, 0), (1, 1, 1), V=3, seed=3)
    logits = 1000 * F.one_hot(tokens.roll(-1, dims=1), 3).float()
    expect_answer_loss(ex, logits, tokens, is_answer)
    expect_answer_loss(ex, -logits, tokens, is_answer)


def test_the_answer_loss_lets_gradients_through(ex):
    """the loss lets gradients through"""
    logits, tokens, is_answer = chat((2, 3, 2), (4, 2, 1), (1, 5, 1), V=7, seed=4)
    logits.requires_grad_()
    result = ex.answer_loss(logits, tokens, is_answer)
    expect_equal(result, loss_by_hand(logits, tokens, is_answer), what=ANSWER_LOSS)
    targets = tokens.masked_fill(~is_answer, -100)[:, 1:]
    truth = F.cross_entropy(logits[:, :-1].transpose(1, 2), targets)
    expect_same_gradients(result, truth, {"logits": logits})


# --- 9.12 ---

PAIR_LOSS = "the loss of the pairs, a scalar"


def pairs_by_hand(difference: Tensor) -> Tensor:
    """The mean of log(1 + e^-d), in float64."""
    return torch.tensor(float(np.logaddexp(0, -difference.detach().double().numpy()).mean()))


def some_rewards(B: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chosen, rejected = 2 * torch.randn(2, B, generator=generator)
    return chosen + 1, rejected


def expect_pair_loss(ex: Any, chosen: Tensor, rejected: Tensor) -> None:
    truth = pairs_by_hand(chosen - rejected)
    expect_equal(ex.bradley_terry_loss(chosen, rejected), truth, what=PAIR_LOSS)


@pytest.mark.parametrize("B", [3, 1, 2, 8])
def test_the_loss_of_pairs_is_that_of_bradley_and_terry(ex, B):
    """the loss is minus the logarithm of the probability that the better one is preferred"""
    expect_pair_loss(ex, torch.tensor([2.0, 0.5, 3.0])[:B], torch.tensor([1.0, 2.0, -1.0])[:B])
    for seed in range(3):
        expect_pair_loss(ex, *some_rewards(B, seed))


def test_only_the_differences_of_a_pair_count(ex):
    """only the difference within each pair counts"""
    chosen, rejected = some_rewards(5, 3)
    expect_pair_loss(ex, chosen + 7, rejected + 7)
    expect_pair_loss(ex, chosen - 7, rejected - 7)
    moved = torch.tensor([1.0, -2.0, 3.0, 0.0, -4.0])
    expect_pair_loss(ex, chosen + moved, rejected + moved)
    expect_pair_loss(ex, moved, moved)


def test_differences_of_1000_have_a_finite_loss(ex):
    """differences of 1000 have a finite loss"""
    expect_pair_loss(ex, torch.tensor([0.0, 500.0]), torch.tensor([1000.0, -500.0]))
    expect_pair_loss(ex, torch.tensor([1000.0, -20.0, 0.0]), torch.tensor([-3.0, 3.0, 30.0]))
    expect_pair_loss(ex, torch.tensor([1000.0, 1001.0]), torch.tensor([1000.0, 1000.0]))


def test_the_loss_of_pairs_lets_gradients_through(ex):
    """the loss lets gradients through, for differences of 1000 as well"""
    chosen, rejected = torch.tensor([2.0, 0.0, 1000.0, 1.0]), torch.tensor([1.0, 1000.0, 0.0, 3.0])
    chosen.requires_grad_()
    rejected.requires_grad_()
    result = ex.bradley_terry_loss(chosen, rejected)
    expect_equal(result, pairs_by_hand(chosen - rejected), what=PAIR_LOSS)
    truth = F.softplus(rejected - chosen).mean()
    expect_same_gradients(result, truth, {"chosen": chosen, "rejected": rejected})


# --- 9.13 ---

DPO_LOSS = "the loss of DPO, a scalar"


def dpo_by_hand(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> Tensor:
    """Grouped by model, in float64."""
    policy = chosen.detach().double() - rejected.detach().double()
    return pairs_by_hand(beta * (policy - (ref_chosen.double() - ref_rejected.double())))


def expect_dpo_loss(ex: Any, log_probs: Sequence[Tensor], beta: float | None = None) -> None:
    truth = dpo_by_hand(*log_probs, beta=0.1 if beta is None else beta)  # type: ignore[misc]
    answer = ex.dpo_loss(*log_probs) if beta is None else ex.dpo_loss(*log_probs, beta=beta)
    expect_equal(answer, truth, what=DPO_LOSS)


def some_log_probs(B: int, seed: int) -> list[Tensor]:
    """Of a policy and a reference that are not far apart."""
    generator = torch.Generator().manual_seed(seed)
    reference = -20 - 10 * torch.rand(2, B, generator=generator)
    policy = reference + 6 * torch.randn(2, B, generator=generator)
    return [*policy, *reference]


def four(*rows: Sequence[float]) -> list[Tensor]:
    return [torch.tensor(row) for row in rows]


@pytest.mark.parametrize("B", [1, 3, 6])
def test_the_loss_of_dpo_is_that_of_the_implied_rewards(ex, B):
    """the loss is that of pairs whose rewards are beta times log(policy / reference)"""
    small = four(
        [-10.0, -8.0, -9.0], [-12.0, -15.0, -7.0], [-14.0, -7.0, -6.0], [-9.0, -11.0, -8.0]
    )
    expect_dpo_loss(ex, [row[:B] for row in small])
    for seed in range(3):
        expect_dpo_loss(ex, some_log_probs(B, seed))


def test_equal_gains_over_the_reference_cost_log_2(ex):
    """the same gain over the reference for both answers costs log 2"""
    _, _, ref_chosen, ref_rejected = some_log_probs(4, 5)
    for gain in (0.0, 3.0, -30.0):
        expect_dpo_loss(ex, [ref_chosen + gain, ref_rejected + gain, ref_chosen, ref_rejected])


@pytest.mark.parametrize("beta", [0.5, 0.02, 1.0, 3.0])
def test_beta_scales_the_implied_rewards(ex, beta):
    """beta scales the rewards"""
    expect_dpo_loss(ex, four([-10.0, -8.0], [-12.0, -15.0], [-14.0, -7.0], [-9.0, -11.0]), beta)
    expect_dpo_loss(ex, some_log_probs(5, 6), beta)


def test_large_log_ratios_have_a_finite_dpo_loss(ex):
    """differences of 10,000 have a finite loss"""
    expect_dpo_loss(ex, four([-800.0, -9.0], [-90.0, -50.0], [-700.0, -1209.0], [-1200.0, -800.0]))
    expect_dpo_loss(
        ex, four([-10_500.0, -600.0], [-700.0, -9000.0], [-500.0, -600.0], [-700.0] * 2)
    )


def test_the_dpo_loss_lets_gradients_through(ex):
    """the loss lets gradients through to the policy"""
    chosen, rejected, ref_chosen, ref_rejected = some_log_probs(4, 7)
    chosen.requires_grad_()
    rejected.requires_grad_()
    result = ex.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)
    truth = dpo_by_hand(chosen, rejected, ref_chosen, ref_rejected, 0.5)
    expect_equal(result, truth, what=DPO_LOSS)
    h = (chosen - rejected) - (ref_chosen - ref_rejected)
    truth = F.softplus(-0.5 * h).mean()
    expect_same_gradients(result, truth, {"chosen": chosen, "rejected": rejected})


# --- 9.14 ---

ADVANTAGES = "the advantages (n_prompts, G)"


def without_rounding(advantages: Tensor) -> Tensor:
    """What float32 rounds in a distance from the mean, 3e-7 at most, is 3e-3 when it is divided."""
    return torch.where(advantages.abs() < 3e-3, torch.zeros_like(advantages), advantages)


def expect_advantages(ex: Any, rewards: Tensor, view: View = identity) -> None:
    """By NumPy, whose std divides by G, in float64."""
    values = rewards.double().numpy()
    centred = values - values.mean(axis=1, keepdims=True)
    truth = torch.from_numpy(centred / (values.std(axis=1, keepdims=True) + 1e-4)).float()
    expect_equal(ex.group_advantages(rewards), truth, what=ADVANTAGES, view=view)


def some_groups(n_prompts: int, G: int, seed: int) -> Tensor:
    """Rewards of prompts that are easy or hard, and whose answers differ much or little."""
    generator = torch.Generator().manual_seed(seed)
    level, spread = 3 * torch.rand(2, n_prompts, 1, generator=generator)
    return level + (spread + 0.1) * torch.rand(n_prompts, G, generator=generator)


@pytest.mark.parametrize(("n_prompts", "G"), [(2, 4), (3, 5), (5, 3), (4, 4), (1, 6)])
def test_each_reward_is_compared_with_its_group(ex, n_prompts, G):
    """each reward is compared with its own group"""
    rewards = torch.tensor([[1.0, 0.0, 0.5, 0.0], [2.0, 3.0, 2.5, 4.0]])
    expect_advantages(ex, rewards if (n_prompts, G) == (2, 4) else some_groups(n_prompts, G, 0))
    expect_advantages(ex, some_groups(n_prompts, G, 1))


@pytest.mark.parametrize("G", [2, 3, 8])
def test_the_deviation_is_that_of_a_population(ex, G):
    """the deviation is that of a population: the variance is a mean of G squares"""
    expect_advantages(ex, torch.eye(G) + torch.arange(G)[:, None])
    expect_advantages(ex, (torch.arange(3 * G) % 2).float().view(3, G))
    expect_advantages(ex, some_groups(3, G, 2))


def test_small_deviations_are_damped_by_1e_4(ex):
    """1e-4 is added to the deviation"""
    expect_advantages(ex, torch.tensor([[0.001, 0.0, 0.0], [0.0, 0.0, 0.0001]]))
    small = torch.tensor([[0.001, 0.0, 0.0], [0.0, 0.0005, 0.001], [0.5, 0.0, 0.0]])
    expect_advantages(ex, small)
    expect_advantages(ex, -small)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_equal_rewards_have_no_advantage(ex, value):
    """equal rewards, also a single one, have the advantage 0"""
    several = torch.tensor([[value] * 3, [value, value + 1, value]])
    expect_advantages(ex, torch.full((2, 4), value), without_rounding)
    expect_advantages(ex, several, without_rounding)
    expect_advantages(ex, torch.full((3, 1), value))


# --- 9.15 ---

K3 = "the estimate per token"


def expect_k3(ex: Any, log_probs: Tensor, ref_log_probs: Tensor) -> None:
    """From the ratio itself, in float64."""
    log_ratio = ref_log_probs.double().numpy() - log_probs.double().numpy()
    truth = torch.from_numpy(np.exp(log_ratio) - 1 - log_ratio).float()
    expect_equal(ex.kl_k3(log_probs, ref_log_probs), truth, what=K3)


def some_tokens(*shape: int, seed: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of tokens under two models."""
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.rand(2, *shape, generator=generator) * 0.98 + 0.01
    return one.log(), other.log()


@pytest.mark.parametrize("shape", [(2,), (3, 4), (1,), (2, 3, 5), (4, 1)])
def test_k3_is_computed_from_each_token(ex, shape):
    """each token gets ratio - 1 - log ratio, with ratio = reference / policy"""
    if shape == (2,):
        expect_k3(ex, torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -0.5]))
    expect_k3(ex, *some_tokens(*shape, seed=0))
    expect_k3(ex, *some_tokens(*shape, seed=1))


def test_k3_of_equal_probabilities_is_0(ex):
    """equal probabilities have the estimate 0"""
    log_probs, _ = some_tokens(3, 4, seed=2)
    expect_k3(ex, log_probs, log_probs.clone())
    expect_k3(ex, log_probs, torch.where(log_probs > -1, log_probs, log_probs - 0.5))


def test_k3_of_distant_probabilities_is_exact(ex):
    """log-probabilities that are 12, 25 or 40 apart are not cut off"""
    expect_k3(ex, torch.tensor([-0.1, -25.5, -40.5]), torch.tensor([-40.1, -0.5, -0.5]))
    expect_k3(ex, torch.tensor([-12.5, -0.5, -6.5]), torch.tensor([-0.5, -12.5, -0.5]))


def test_k3_lets_gradients_through(ex):
    """the estimate lets gradients through to the policy"""
    log_probs, ref_log_probs = some_tokens(3, 4, seed=3)
    log_probs.requires_grad_()
    result = ex.kl_k3(log_probs, ref_log_probs)
    truth = (ref_log_probs - log_probs).exp() - 1 - ref_log_probs + log_probs
    expect_equal(result, truth.detach(), what=K3)
    expect_same_gradients(result, truth, {"log_probs": log_probs})


# --- 9.16 ---

OBJECTIVE = "the objective per token"


def objective_by_hand(ratio: float, advantage: float, clip: float) -> float:
    """One token, case by case."""
    if advantage > 0:
        return min(ratio, 1 + clip) * advantage
    return max(ratio, 1 - clip) * advantage


def expect_objective(
    ex: Any, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float | None = None
) -> None:
    inputs = (log_probs, old_log_probs, advantages)
    ratio = np.exp(log_probs.double().numpy() - old_log_probs.double().numpy())
    by_hand = np.vectorize(objective_by_hand, otypes=[np.float64])
    values = by_hand(ratio, advantages.double().numpy(), 0.2 if clip is None else clip)
    answer = (
        ex.clipped_objective(*inputs) if clip is None else ex.clipped_objective(*inputs, clip=clip)
    )
    expect_equal(answer, torch.from_numpy(values).float(), what=OBJECTIVE)


def some_policies(*shape: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two policies that are some steps apart, and advantages of both signs."""
    generator = torch.Generator().manual_seed(seed)
    log_probs, advantages = torch.randn(2, *shape, generator=generator)
    old = -0.5 - 2 * torch.rand(*shape, generator=generator)
    return old + 0.4 * log_probs, old, 2 * advantages


def ratios(*values: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities whose ratios are these."""
    old = torch.full((len(values),), 0.25).log()
    return old + torch.tensor(values).log(), old


def test_the_objective_is_clipped_where_the_advantage_asks_for_it(ex):
    """the objective ends at the clip where the advantage asks for it, and only there"""
    now, old = ratios(1.5, 0.6, 1.1)
    expect_objective(ex, now, old, torch.tensor([1.0, 1.0, 1.0]))
    expect_objective(ex, now, old, torch.tensor([-2.0, -2.0, -2.0]))
    expect_objective(ex, now, old, torch.tensor([2.0, -1.0, 0.0]))
    now, old = ratios(4.0, 0.1, 0.9)
    expect_objective(ex, now, old, torch.tensor([-3.0, 2.0, -1.0]))
    for seed in range(3):
        expect_objective(ex, *some_policies(3, 5, seed=seed))


def test_the_objective_broadcasts(ex):
    """the shapes broadcast, so an answer may have one advantage for all its tokens"""
    now, old, advantages = some_policies(4, 3, seed=4)
    expect_objective(ex, now, old, advantages[:, :1])
    expect_objective(ex, now, old, advantages[0])
    expect_objective(ex, now, old, advantages[0, 0])
    expect_objective(ex, now[0], old[0], advantages[0])


@pytest.mark.parametrize("clip", [0.1, 0.3, 0.5])
def test_another_clip_moves_the_bounds(ex, clip):
    """another clip moves both bounds"""
    now, old = ratios(1.6, 1.25, 0.75, 0.4)
    expect_objective(ex, now, old, torch.tensor([1.0, 1.0, 1.0, 1.0]), clip)
    expect_objective(ex, now, old, torch.tensor([-1.0, -1.0, -1.0, -1.0]), clip)
    expect_objective(ex, *some_policies(3, 5, seed=5), clip)


def test_nothing_pulls_beyond_the_clip(ex):
    """a token beyond the clip has no gradient, one that has moved the other way has its full one"""
    now, old = ratios(1.5, 1.5, 0.6, 0.6, 1.1, 0.9)
    advantages = torch.tensor([1.0, -2.0, 1.0, -2.0, -1.0, 3.0])
    now = now.clone().requires_grad_()
    result = ex.clipped_objective(now, old, advantages)
    ratio = (now - old).exp()
    beyond = ((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))
    truth = torch.where(beyond, ratio.detach().clamp(0.8, 1.2), ratio) * advantages
    expect_equal(result, truth.detach(), what=OBJECTIVE)
    expect_same_gradients(result, truth, {"log_probs": now})

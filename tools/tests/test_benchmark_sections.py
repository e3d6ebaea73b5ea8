"""What the benchmark's sections measure, on tiny shapes and with a simulated clock."""

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import evaluation
import tools.benchmarks.changes as changes_section
import tools.benchmarks.generation as generation_section
import tools.benchmarks.interleave as interleave_module
import tools.benchmarks.losses as losses_section
import tools.benchmarks.training as training_section
import tools.benchmarks.unit as unit_module
from compute_peak import training_flops_per_token
from engine import choose_engine
from fast_decoder import FastDecoder
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools.benchmarks import shapes
from tools.benchmarks.baseline import NOT_INSTALLED, gpt2_layout
from tools.benchmarks.changes import changes, generation_measures
from tools.benchmarks.generation import generation
from tools.benchmarks.held_out import LAST, TUNING, WHOLE, held_out_losses, split_parts
from tools.benchmarks.interleave import (
    Measure,
    Settings,
    elapsed,
    in_subprocess,
    interleave,
    repeat,
    throughput,
)
from tools.benchmarks.losses import (
    losses,
    time_rows,
    train_between_units,
    unit_rows,
)
from tools.benchmarks.measured_runs import MeasuredRun, RunFolder
from tools.benchmarks.report import Section, full_label, table
from tools.benchmarks.training import training
from tools.benchmarks.unit import unit_measure
from training_data import TrainingData
from utils.config import ModelConfig, TrainConfig
from utils.errors import CourseError
from utils.recipes import MODERN, MODERN_TRAINING

MODEL = ModelConfig(max_seq_len=8, d_model=16, n_layers=1, n_heads=2, **MODERN)
TRAIN = TrainConfig(MODEL, batch_size=2, max_steps=6, dtype="float32", **MODERN_TRAINING)
PEAK = 4e9  # FLOP/s of the simulated machine


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleave_module, "REST", 0.0)


@pytest.fixture
def settings() -> Settings:
    """Three rounds on eleven letters."""
    tokenizer = CharTokenizer.train("abcdefghijk")
    tokens = np.tile(np.arange(11, dtype=np.uint8), 20)
    return Settings(TrainingData("letters", "eleven letters", tokenizer, tokens, tokens), rounds=3)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What the next calls of elapsed() return, in order; after the last, one second each."""
    durations: list[float] = []
    now, started = 100.0, False

    def clock() -> float:
        nonlocal now, started
        if started:
            now += durations.pop(0) if durations else 1.0
        started = not started
        return now

    monkeypatch.setattr(interleave_module, "clock", clock)
    yield durations


@pytest.fixture
def shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny shapes, two training steps per round, a known peak, and the baseline as a fake.

    Everything is measured in this process, where the clock is simulated.
    """
    monkeypatch.setattr(shapes, "TRAINING", {"tiny": (TRAIN, 2)})
    monkeypatch.setattr(shapes, "GENERATION", {"tiny": MODEL})
    monkeypatch.setattr(training_section, "matmul_peak", lambda *args, **kwargs: PEAK)
    for section in (training_section, generation_section, changes_section):
        monkeypatch.setattr(section, "in_subprocess", lambda make, *args: make(*args))
    for section in (training_section, generation_section):
        monkeypatch.setattr(section, "is_installed", lambda: True)
    monkeypatch.setattr(training_section, "BaselineTrainer", FakeBaselineTrainer)
    monkeypatch.setattr(training_section, "has_compiler", lambda: False)
    monkeypatch.setattr(generation_section, "build_baseline", lambda config: "the model")
    monkeypatch.setattr(generation_section, "baseline_generate", fake_generate)


class FakeBaselineTrainer:
    """Takes the baseline's arguments and does no work; test_benchmark_baseline.py has the rest."""

    def __init__(self, config: TrainConfig, tokens: np.ndarray, dtype: torch.dtype) -> None:
        assert len(tokens) and dtype in (torch.float32, torch.bfloat16)

    def train_step(self) -> float:
        return 0.0


def fake_generate(model: str, prompt: list[int], n_tokens: int) -> None:
    assert (model, prompt) == ("the model", [0])


def labels(section: Section) -> list[str]:
    return [row.label for row in section.rows]


def values(section: Section) -> dict[str, tuple[float, ...]]:
    return {row.label: row.values for row in section.rows}


# --- how it is measured ---


def test_candidates_are_interleaved_and_keep_their_own_values() -> None:
    order: list[str] = []

    def run(name: str, value: float) -> Any:
        return lambda: order.append(name) or value + len(order)

    found = interleave({"A": run("A", 0.0), "B": run("B", 10.0)}, 3, "letters")
    assert order == ["A", "B", "A", "B", "A", "B"]
    assert found == {"A": (1.0, 3.0, 5.0), "B": (12.0, 14.0, 16.0)}


def test_throughput_is_the_amount_over_the_elapsed_time(seconds: list[float]) -> None:
    done: list[int] = []
    seconds += [4.0, 2.0]
    run = throughput(repeat(lambda: done.append(1), 3), amount=12)
    assert done == []  # nothing runs before the first measurement
    assert [run(), run(), run()] == [3.0, 6.0, 12.0]
    assert len(done) == 9
    assert elapsed(lambda: None) == 1.0


def threads_and_process() -> Measure:
    """Called in the subprocess."""
    answers = iter([float(torch.get_num_threads()), float(os.getpid())])
    return lambda: next(answers)


def test_a_subprocess_has_as_many_threads_and_exits_with_its_last_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    run = in_subprocess(threads_and_process)
    (child,) = multiprocessing.active_children()
    assert [run(), run()] == [3.0, child.pid]
    del run
    child.join(20)
    assert child.exitcode == 0


def test_a_failure_in_the_subprocess_is_one_line_here() -> None:
    run = in_subprocess(throughput, "not callable", 1.0)
    with pytest.raises(CourseError, match="a measuring process failed"):
        run()


# --- training ---


def test_in_float32_ours_is_compared_with_both_optimizers(
    settings: Settings, shape: None, seconds: list[float]
) -> None:
    (section,) = training(settings)
    assert section.title == "training tiny, 2 x 8 tokens per step"
    assert labels(section) == [
        "ours, float32",
        "transformers, float32",
        "ours with AdamW, float32",
        "ratio: ours / transformers, float32",
        "ratio: ours with AdamW / transformers, float32",
        "matrix product peak, float32, GFLOP/s",
    ]


def test_in_bfloat16_both_sides_run_in_both_precisions_within_80_columns(
    settings: Settings,
    shape: None,
    seconds: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = TrainConfig(MODEL, batch_size=2, dtype="bfloat16", **MODERN_TRAINING)
    monkeypatch.setattr(shapes, "TRAINING", {"tiny": (half, 1)})
    (section,) = training(settings)
    assert labels(section) == [
        "ours, bfloat16",
        "transformers, float32",
        "ours with AdamW, float32",
        "ours, float32",
        "transformers, bfloat16",
        "ratio: ours bfloat16 / transformers float32",
        "ratio: ours / transformers, bfloat16",
        "ratio: ours with AdamW / transformers, float32",
        "ratio: ours / transformers, float32",
        "matrix product peak, bfloat16, GFLOP/s",
        "matrix product peak, float32, GFLOP/s",
    ]
    assert max(map(len, table(section).splitlines())) == 80


def test_where_there_is_a_compiler_the_compiled_step_has_a_row_and_a_ratio(
    settings: Settings, shape: None, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(training_section, "has_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(1) or function)
    (section,) = training(settings)
    assert compiled
    assert {"ours with --compile, float32"} < {*labels(section)}
    assert "ratio: ours with --compile / transformers, float32" in labels(section)
    compiled.clear()
    training_without = training(replace(settings, quick=True))
    assert "with --compile" not in str(next(training_without)) and not compiled


def test_ratios_of_training_speeds_are_computed_within_each_round(
    settings: Settings, shape: None, seconds: list[float]
) -> None:
    seconds += [1.0, 2.0, 4.0, 8.0, 8.0, 4.0, 2.0, 5.0, 1.0]  # ours, theirs, ours with AdamW, ...
    (section,) = training(settings)
    found = values(section)
    tokens = 2 * 2 * 8  # steps x batch size x context
    assert found["ours, float32"] == (tokens / 1, tokens / 8, tokens / 2)
    assert found["transformers, float32"] == (tokens / 2, tokens / 8, tokens / 5)
    assert found["ratio: ours / transformers, float32"] == (2.0, 1.0, 2.5)
    assert found["ratio: ours with AdamW / transformers, float32"] == (0.5, 2.0, 5.0)


def test_shares_of_the_peak_count_what_each_side_computes(
    settings: Settings, shape: None, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = replace(TRAIN, model=replace(MODEL, activation="swiglu"))  # three matrices, not two
    monkeypatch.setattr(shapes, "TRAINING", {"tiny": (gated, 2)})
    (section,) = training(settings)
    model = settings.fit(gated.model)
    flops = {"ours": training_flops_per_token(model)}
    flops["transformers"] = training_flops_per_token(gpt2_layout(model))
    assert flops["ours"] > flops["transformers"]
    for row in section.rows[:3]:
        expected = 32 * flops[row.label.split(",")[0].split()[0]] / PEAK  # 32 tokens per second
        assert row.of_peak == pytest.approx((expected,) * 3)
    assert section.rows[-1].values == (4.0, 4.0, 4.0)


def test_without_transformers_its_row_says_how_to_install_it(
    settings: Settings, shape: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_section, "is_installed", lambda: False)
    monkeypatch.setattr(generation_section, "is_installed", lambda: False)
    for section in (*training(settings), *generation(settings)):
        (row,) = (row for row in section.rows if row.label == "transformers")
        assert (row.values, row.note) == ((), NOT_INSTALLED)
        assert not any(" / transformers" in label for label in labels(section))
        assert (
            "\n  transformers: not measured: python tools/install.py --extra interop\n"
            in table(section) + "\n"
        )


def test_quick_uses_small_batches_and_short_texts(
    settings: Settings, shape: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = TrainConfig(MODEL, batch_size=32, dtype="float32", **MODERN_TRAINING)
    monkeypatch.setattr(shapes, "TRAINING", {"tiny": (large, 20)})
    longer = ModelConfig(max_seq_len=64, d_model=16, n_layers=1, n_heads=2, **MODERN)
    monkeypatch.setattr(shapes, "GENERATION", {"tiny": longer})
    quick = Settings(settings.data, rounds=1, quick=True)
    (trained,), (generated,) = training(quick), generation(quick)
    assert trained.title == "training tiny, 4 x 8 tokens per step"
    assert generated.title == "generation tiny, 15 new tokens"


def test_ours_with_adamw_differs_from_ours_in_the_optimizer_alone(
    settings: Settings, shape: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainConfig] = []

    class Recorder(training_section.Trainer):
        def __init__(self, model: Any, train: Any, val: Any, config: TrainConfig, *rest: Any):
            seen.append(config)
            super().__init__(model, train, val, config, *rest)

    monkeypatch.setattr(training_section, "Trainer", Recorder)
    list(training(settings))
    ours, plain = seen
    assert (ours.optimizer, plain.optimizer) == ("muon", "adamw")
    changed = {name for name in vars(ours) if getattr(ours, name) != getattr(plain, name)}
    assert changed == {"optimizer"}


# --- time to given losses ---


def run_of(*losses: tuple[float, float], units: tuple[float, ...] = ()) -> MeasuredRun:
    return MeasuredRun(losses, steps=9, total=0.0, held_out={}, units=units)


def test_a_target_is_reached_when_the_loss_is_first_at_or_below_it() -> None:
    run = run_of((1.0, 2.0), (2.0, 1.70), (3.0, 1.8), (4.0, 1.65))
    assert run.seconds_to(1.92) == 2.0
    assert run.seconds_to(1.70) == 2.0
    assert run.seconds_to(1.69) == 4.0
    assert run.seconds_to(1.60) is None


def test_a_target_that_some_seeds_miss_says_how_many_reached_it() -> None:
    seeds = [run_of((1.0, 1.9), (5.0, 1.65)), run_of((2.0, 1.9), (7.0, 1.75))]
    rows = time_rows(seeds)
    found = {row.label: (row.values, row.note) for row in rows}
    assert found == {
        "to a validation loss of 1.92": ((1.0, 2.0), ""),
        "to a validation loss of 1.70": ((5.0,), "1 of 2 seeds"),
        "to a validation loss of 1.60": ((), "0 of 2 seeds"),
        "to a validation loss of 1.50": ((), "0 of 2 seeds"),
        "to the last step": ((5.0, 7.0), ""),
    }
    shown = table(Section("times", "seconds", rows)).splitlines()
    assert max(map(len, shown)) == 80
    assert "  to a validation loss of 1.60: 0 of 2 seeds" in shown


@pytest.fixture
def no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if transformers were not installed."""
    monkeypatch.setattr(unit_module, "is_installed", lambda: False)


@pytest.mark.usefixtures("no_units")
def test_losses_trains_each_seed_without_and_with_a_time_limit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainConfig] = []

    class Recorder(losses_section.Trainer):
        def __init__(self, model: Any, train: Any, val: Any, config: TrainConfig, *rest: Any):
            seen.append(config)
            super().__init__(model, train, val, config, *rest)

    monkeypatch.setattr(losses_section, "Trainer", Recorder)
    monkeypatch.setattr(losses_section, "preset", {"tiny": TRAIN}.__getitem__)
    monkeypatch.setattr(losses_section, "LIMITED", "tiny")
    two = Settings(settings.data, seeds=2, preset="tiny")
    time, in_units, loss = losses(two)
    assert [(config.seed, config.max_minutes) for config in seen] == [
        (0, None),
        (1, None),
        (0, 0.25),
        (1, 0.25),
    ]
    assert [config.eval_interval for config in seen] == [1] * 2 + [TRAIN.eval_interval] * 2
    assert "tiny preset" in time.title
    assert len(values(time)["to the last step"]) == 2
    assert [len(found) for found in values(loss).values()] == [2] * 8
    assert "after 6 steps" in labels(loss)
    shown = [line for section in (time, in_units, loss) for line in table(section).splitlines()]
    assert max(map(len, shown)) == 80


@pytest.mark.parametrize(
    ("units", "minutes"),
    [([], 0.25), ([69.0], 0.23), ([80.0, 73.6, 60.0], 0.245), ([0.1], 0.001)],
)
def test_the_time_limit_is_a_fifth_of_a_unit(units: list[float], minutes: float) -> None:
    assert losses_section.minutes_of(losses_section.LIMIT, units) == minutes


@pytest.mark.usefixtures("no_units")
def test_the_losses_are_those_of_the_trainer_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses_section, "preset", lambda name: TRAIN)
    *_, loss = losses(Settings(settings.data, seeds=1))
    config = TrainConfig(settings.fit(MODEL), batch_size=2, max_steps=6, **MODERN_TRAINING)
    engine = choose_engine(TrainConfig(config.model, dtype="float32", device="cpu"))
    model = losses_section.build_model(config.model, engine, 0)
    trainer = losses_section.Trainer(
        model, settings.data.train, settings.data.val, config, torch.device("cpu")
    )
    assert values(loss)["after 6 steps"] == (trainer.fit(),)


@pytest.mark.usefixtures("no_units")
def test_every_loss_stands_at_both_contexts_and_on_both_parts_of_the_split(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses_section, "preset", lambda name: TRAIN)
    monkeypatch.setattr(evaluation, "EQUAL_CHARACTERS", 3)  # shorter than the context of 8
    *_, loss = losses(Settings(settings.data, seeds=1))
    assert [full_label(row) for row in loss.rows[:6]] == [
        "after 6 steps",
        "after 6 steps, equal evaluation, blocks of 3",
        "first two thirds",
        "first two thirds, equal evaluation, blocks of 3",
        "last third",
        "last third, equal evaluation, blocks of 3",
    ]
    own, equal, *_ = (row.values for row in loss.rows)
    assert own != equal


@pytest.mark.usefixtures("no_units")
def test_a_split_whose_last_third_is_too_short_is_refused_before_the_training(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses_section, "preset", lambda name: TRAIN)
    monkeypatch.setattr(losses_section, "train", None)
    short = replace(settings.data, val=settings.data.val[:24])
    with pytest.raises(CourseError, match="the last third of the validation split has 8 tokens"):
        list(losses(Settings(short, seeds=1)))


@pytest.mark.parametrize("n", [2, 3, 4, 100, 101, 102])
def test_the_parts_of_the_split_share_no_target_and_leave_none_out(n: int) -> None:
    val = np.arange(n, dtype=np.uint8)
    parts = split_parts(val)
    assert [*parts[TUNING][1:], *parts[LAST][1:]] == list(val[1:]) == list(parts[WHOLE][1:])
    assert len(parts[LAST]) - 1 == pytest.approx(n / 3, abs=1)


def test_the_losses_of_the_parts_add_up_to_that_of_the_whole(settings: Settings) -> None:
    data = replace(settings.data, val=settings.data.val[:193])  # 128 + 64 targets, blocks of 8
    model = TinyTransformerLM(settings.fit(MODEL))
    found = held_out_losses(model, data, 8, torch.float32)
    mean = (2 * found[TUNING].own + found[LAST].own) / 3
    assert found[WHOLE].own == pytest.approx(mean, rel=1e-6)


# --- units ---


def test_a_unit_is_gpt2_of_4_x_128_on_12_x_64_tokens_for_2000_steps(
    settings: Settings, shape: None, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainConfig] = []
    steps: list[int] = []

    class Baseline(FakeBaselineTrainer):
        def __init__(self, config: TrainConfig, tokens: np.ndarray, dtype: torch.dtype) -> None:
            seen.append(config)
            assert dtype == torch.float32

        def train_step(self) -> float:
            steps.append(1)
            return 0.0

    monkeypatch.setattr(unit_module, "is_installed", lambda: True)
    monkeypatch.setattr(unit_module, "in_subprocess", lambda make, *args: make(*args))
    monkeypatch.setattr(unit_module, "BaselineTrainer", Baseline)
    measure = unit_measure(settings)
    assert measure is not None
    (config,) = seen
    sizes = (config.model.n_layers, config.model.d_model, config.model.max_seq_len)
    assert (*sizes, config.batch_size, config.model.vocab_size) == (4, 128, 64, 12, 11)
    before = len(steps)
    seconds += [7.0, 6.0]
    assert [measure(), measure()] == [70.0, 60.0]  # for 2,000 steps
    assert len(steps) - before == 2 * 200


def test_the_unit_is_measured_before_and_after_each_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def fake_train(config: TrainConfig, *_: Any) -> tuple[MeasuredRun, None]:
        order.append(f"seed {config.seed}")
        return run_of((1.0, 2.0)), None

    def unit() -> float:
        order.append("unit")
        return len(order)

    monkeypatch.setattr(losses_section, "REST", 0.0)
    monkeypatch.setattr(losses_section, "unit_measure", lambda _: unit)
    monkeypatch.setattr(losses_section, "train", fake_train)
    engine: Any = None
    configs = [replace(TRAIN, seed=n) for n in (3, 4)]
    runs = train_between_units(configs, settings, engine, RunFolder(None, settings.data))
    assert order == ["unit", "seed 3", "unit", "unit", "seed 4", "unit"]
    assert [run.units for run in runs] == [(1, 3), (4, 6)]


def test_a_time_in_units_is_divided_by_the_mean_of_the_two_units_around_it() -> None:
    seeds = [
        run_of((1.0, 1.9), (6.0, 1.55), units=(1.0, 3.0)),
        run_of((3.0, 1.9), (9.0, 1.75), units=(3.0, 6.0)),
    ]
    found = {row.label: (row.values, row.digits) for row in unit_rows(seeds)}
    assert found == {
        "one unit, in seconds": ((1.0, 3.0, 3.0, 6.0), 1),
        "to a validation loss of 1.92": ((1.0 / 2, 3.0 / 4.5), 2),
        "to a validation loss of 1.70": ((6.0 / 2,), 2),
        "to a validation loss of 1.60": ((6.0 / 2,), 2),
        "to a validation loss of 1.50": ((), 2),
        "to the last step": ((6.0 / 2, 9.0 / 4.5), 2),
    }


def test_without_transformers_there_are_no_units(settings: Settings, no_units: None) -> None:
    assert unit_measure(settings) is None
    (row,) = unit_rows([run_of((1.0, 1.9))])
    assert (row.label, row.values, row.note) == ("one unit", (), NOT_INSTALLED)


# --- generation ---


def test_generation_measures_four_candidates_and_three_ratios(
    settings: Settings, shape: None, seconds: list[float]
) -> None:
    seconds += [1.0, 4.0, 2.0, 3.0]  # the first round
    (section,) = generation(settings)
    n_tokens = 7  # a prompt of one token fills up the context of 8
    assert section.title == "generation tiny, 7 new tokens"
    first = {label: found[0] for label, found in values(section).items()}
    assert first == {
        "ours, batch size 1": n_tokens / 1,
        "ours, batch size 1, no cache": n_tokens / 4,
        "ours, batch size 16": 16 * n_tokens / 2,
        "transformers, batch size 1": n_tokens / 3,
        "ratio: with cache / without": 4.0,
        "ratio: batch size 16 / batch size 1": 8.0,
        "ratio: ours / transformers": 3.0,
    }
    assert all(len(line) <= 80 for line in table(section).splitlines())


def test_each_candidate_of_generation_does_what_its_label_says(
    settings: Settings, shape: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, bool]] = []
    generate = generation_section.generate_tokens

    def recording(
        model: Any, config: Any, prompts: Any, n: int, choose: Any, cached: bool, make: Any
    ) -> Any:
        seen.append((len(prompts), n, cached))
        assert not model.training
        return generate(model, config, prompts, n, choose, cached, make)

    monkeypatch.setattr(generation_section, "generate_tokens", recording)
    monkeypatch.setattr(generation_section, "is_installed", lambda: False)
    list(generation(Settings(settings.data, rounds=2)))
    one_round = [(1, 7, True), (1, 7, False), (16, 7, True)]
    assert seen == 3 * one_round  # one warm-up, two rounds


# --- one change at a time ---


def test_each_change_is_compared_with_the_row_above_and_the_last_with_the_first(
    settings: Settings, shape: None, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(changes_section, "keep_freed_memory", lambda: kept.append(True))
    trained, generated = changes(settings)
    assert kept == [True]  # only the last row of training
    assert labels(trained) == [
        "reference parts, float32",
        "+ fused parts",
        "+ freed memory reused",
        "ratio: fused parts / row above",
        "ratio: freed memory reused / row above",
        "ratio: all changes together",
    ]
    assert labels(generated)[:4] == [
        "reference parts, no cache",
        "+ fused parts",
        "+ KV cache",
        "+ fast decode step",
    ]
    assert all(
        len(line) <= 80 for part in (trained, generated) for line in table(part).splitlines()
    )


def test_the_ratios_of_changes_are_computed_within_each_round() -> None:
    found = changes_section.rows({"old": (1.0, 2.0), "+ one": (2.0, 2.0), "+ two": (6.0, 4.0)})
    assert {row.label: row.values for row in found[3:]} == {
        "ratio: one / row above": (2.0, 1.0),
        "ratio: two / row above": (3.0, 2.0),
        "ratio: all changes together": (6.0, 2.0),
    }


def test_bfloat16_has_a_row_if_the_engine_uses_it(
    settings: Settings, shape: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = replace(TRAIN, dtype="bfloat16")
    monkeypatch.setattr(shapes, "TRAINING", {"tiny": (half, 1)})
    assert "+ bfloat16" in labels(next(changes(settings)))


def test_the_row_of_the_kv_cache_does_not_use_the_fast_decoder(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for kind, name in ((FastDecoder, "__call__"), (TinyTransformerLM, "forward")):
        real = getattr(kind, name)

        def recorded(*args: Any, real: Any = real, kind: type = kind) -> Any:
            called.append(kind.__name__)
            assert torch.is_inference_mode_enabled()  # recording a graph would cost time
            return real(*args)

        monkeypatch.setattr(kind, name, recorded)
    measures = generation_measures(settings.fit(MODEL), 5)
    called.clear()
    measures["+ KV cache"]()
    assert called == ["TinyTransformerLM"] * 5
    called.clear()
    measures["+ fast decode step"]()
    assert called == ["TinyTransformerLM"] + ["FastDecoder"] * 4

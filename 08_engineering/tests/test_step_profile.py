"""Properties of profiles: they add up, every call has a kind, every operation counts once."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count, islice, repeat
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import step_profile
import step_timing
from compute_peak import forward_flops, product_weights, training_flops_per_token
from engine import Engine
from greedy import greedy
from parts import Parts
from profile_report import Profile, draw, rows_of, table
from step_profile import TOKEN_STAGES, TRAINING_STAGES, profile_generation, profile_training
from step_timing import KINDS, Stopwatch, by_kind, by_stage, kind_of
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.config import ModelConfig, TrainConfig, save_config
from utils.errors import UsageError

CPU = torch.device("cpu")
FUSED = Engine(Parts.fused(), CPU, torch.float32, "fused")
small = partial(ModelConfig, vocab_size=19, max_seq_len=12, d_model=16, n_layers=2, n_heads=2)
MODELS = {
    "classic": small(),
    "modern": small(
        norm="rmsnorm",
        activation="relu2",
        position="rope",
        qk_norm=True,
        bias=False,
        tie_weights=False,
    ),
    "grouped-query, swiglu": small(n_kv_heads=1, activation="swiglu"),
    "alibi, post-norm": small(position="alibi", norm_placement="post", dropout=0.1),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch) -> None:
    """Run as few steps as possible, and use made-up peaks of this machine."""
    monkeypatch.setattr(step_timing, "SECONDS", 0.0)
    monkeypatch.setattr(step_timing, "ROUNDS", 1)
    monkeypatch.setattr(step_profile, "PROFILED_TOKENS", 3)
    monkeypatch.setattr(step_profile, "matmul_peak", lambda dtype, device: 1e11)
    monkeypatch.setattr(step_profile, "memory_bandwidth", lambda device: 1e10)


def some_tokens(n: int = 500) -> np.ndarray:
    return np.random.default_rng(0).integers(19, size=n).astype(np.uint16)


def new_trainer(config: TrainConfig, parts: Parts | None = None) -> Trainer:
    model = TinyTransformerLM(config.model, parts)
    return Trainer(model, some_tokens(), some_tokens(), config)


class Clock:
    """A clock that advances only when a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- the stopwatch ---


def test_time_between_two_readings_belongs_to_the_stage_that_ends():
    clock = Clock()
    watch = Stopwatch(CPU, clock)

    def step() -> None:
        for seconds, stage in ((3, "forward"), (5, "loss"), (2, "forward")):
            clock.now += seconds
            watch.end_stage(stage)
        clock.now += 7

    assert watch.time_step(step, last_stage="optimizer") == 3 + 5 + 2 + 7
    assert watch.laps == [{"forward": 5, "loss": 5, "optimizer": 7}]


def test_time_between_two_steps_belongs_to_neither():
    clock = Clock()
    watch = Stopwatch(CPU, clock)

    def step() -> None:
        clock.now += 1

    watch.time_step(step, "all")
    clock.now += 100
    watch.end_stage("prompt")
    watch.time_step(step, "all")
    assert watch.laps == [{"all": 1}, {"all": 1}]


def test_a_stage_is_the_median_over_steps_without_the_warm_up(monkeypatch):
    monkeypatch.setattr(step_timing, "SECONDS", 9.5)
    clock = Clock()
    watch = Stopwatch(CPU, clock)
    lengths = [*[900.0] * step_timing.WARM_UP, 1.0, 1.0, 1.0, 1.0, 50.0, 700.0]

    def step(seconds: float) -> None:
        clock.now += seconds
        watch.end_stage("forward")
        clock.now += 2

    steps = (partial(step, seconds) for seconds in lengths)
    assert by_stage(steps, watch, ("forward", "loss", "rest")) == {
        "forward": 1.0,
        "loss": 0.0,
        "rest": 2.0,
    }
    assert len(watch.laps) == 5  # 12 seconds exceed the limit, but 4 steps are too few


# --- a training step ---


class Recorder(Stopwatch):
    """A stopwatch that records the order of its readings."""

    def __init__(self) -> None:
        super().__init__(CPU, count().__next__)
        self.order: list[str] = []

    def end_stage(self, stage: str, *from_a_hook: object) -> None:
        self.order.append(stage)
        super().end_stage(stage)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_stages_of_a_training_step_are_read_in_order(optimizer, accumulation):
    config = TrainConfig(small(), batch_size=2, accumulation=accumulation, optimizer=optimizer)
    trainer, watch = new_trainer(config), Recorder()
    with step_profile._watched(trainer, watch):
        watch.time_step(trainer.train_step, TRAINING_STAGES[-1])
    micro_batch = ["batch", "forward", "loss", "backward"]
    assert watch.order == micro_batch * accumulation + ["clipping, checks", "optimizer"]
    assert watch.laps == [{stage: watch.order.count(stage) for stage in TRAINING_STAGES}]


def test_profiling_changes_no_weight_and_removes_its_hooks():
    config = TrainConfig(small(), batch_size=2, warmup_steps=0)
    plain, backward = new_trainer(config), Tensor.backward
    watched = new_trainer(config)
    with step_profile._watched(watched, Stopwatch(CPU)):
        for _ in range(2):
            plain.train_step()
            watched.train_step()
    for ours, theirs in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert Tensor.backward is backward
    assert not watched.model._forward_hooks
    assert not watched.model._forward_pre_hooks
    assert not watched.optimizers[0]._optimizer_step_pre_hooks


def test_a_step_that_fails_leaves_no_hooks_either():
    trainer, backward = new_trainer(TrainConfig(small(), batch_size=2)), Tensor.backward
    with pytest.raises(ZeroDivisionError), step_profile._watched(trainer, Stopwatch(CPU)):
        raise ZeroDivisionError
    assert Tensor.backward is backward
    assert not trainer.model._forward_hooks


def adds_up(profile: Profile) -> bool:
    """Whether the shares of both breakdowns sum to 1, and no part is negative."""
    return all(
        sum(row.share for row in rows) == pytest.approx(1)
        and min(row.seconds for row in rows) >= 0
        and all(
            row.share * sum(r.seconds for r in rows) == pytest.approx(row.seconds) for row in rows
        )
        for rows in (profile.stages, profile.kinds)
    )


@every_model
def test_the_breakdown_of_a_training_step_is_complete(model):
    config = TrainConfig(model, batch_size=3, accumulation=2, optimizer="muon")
    profile = profile_training(config, FUSED, some_tokens())
    assert adds_up(profile)
    assert tuple(row.name for row in profile.stages) == TRAINING_STAGES
    assert {row.name for row in profile.kinds} <= {*KINDS, "optimizer", "interpreter"}
    assert {"matrix products", "optimizer", "interpreter"} <= {row.name for row in profile.kinds}
    forward = 3 * 2 * forward_flops(model, 12, 12)
    assert [row.flops for row in profile.stages] == [0, forward, 0, 2 * forward, 0, 0]


# --- kinds of operations ---


def event(name: str, *callers: str, device: str = "CPU") -> Any:
    """A call as the profiler reports it; `callers` from the innermost to the outermost."""
    caller = event(*callers) if callers else None
    return SimpleNamespace(name=name, cpu_parent=caller, device_type=SimpleNamespace(name=device))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::linear", "matrix products"),
        ("aten::bmm", "attention, softmax"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention, softmax"),
        ("aten::_softmax", "attention, softmax"),
        ("aten::embedding_dense_backward", "embedding, indexing"),
        ("aten::index", "embedding, indexing"),
        ("aten::copy_", "copies, casts, views"),
        ("aten::_to_copy", "copies, casts, views"),
        ("aten::t", "copies, casts, views"),
        ("aten::select_backward", "copies, casts, views"),
        ("aten::_unsafe_view", "copies, casts, views"),
        ("aten::native_layer_norm", "norms, elementwise"),
        ("aten::mul", "norms, elementwise"),
        ("aten::tanh", "norms, elementwise"),
        ("aten::topk", "norms, elementwise"),
        ("other_library::operation", "norms, elementwise"),
        ("autograd::engine::evaluate_function: MmBackward0", "autograd"),
        ("AddmmBackward0", "autograd"),
        ("torch::autograd::AccumulateGrad", "autograd"),
    ],
)
def test_the_name_of_a_call_decides_its_kind(name, kind):
    assert kind_of(event(name)) == kind


def test_calls_inside_an_optimizer_count_as_optimizer_and_its_own_time_as_interpreter():
    assert kind_of(event("aten::mm", "Optimizer.step#Muon.step")) == "optimizer"
    assert kind_of(event("aten::t", "aten::linear", "Optimizer.step#Muon.step")) == "optimizer"
    assert kind_of(event("Optimizer.step#Muon.step")) is None


def test_a_gpu_kernel_is_counted_only_with_the_call_that_launched_it():
    assert kind_of(event("ampere_sgemm_128x64", device="CUDA")) is None


@pytest.fixture
def profiled(monkeypatch) -> Callable[..., None]:
    """Fake rounds under the profiler: (seconds of a round, microseconds of each call)."""

    def install(*rounds: tuple[float, dict[str, float]]) -> None:
        left = list(rounds)

        def fake(*args: object, with_flops: bool = False) -> tuple[SimpleNamespace, float]:
            seconds, calls = rounds[-1] if with_flops else left.pop(0)
            events = [event(*name.split(" < ")) for name in calls]
            for call, microseconds in zip(events, calls.values(), strict=True):
                call.self_cpu_time_total, call.flops = microseconds, 50 if with_flops else 0
            return SimpleNamespace(function_events=events), seconds

        monkeypatch.setattr(step_timing, "ROUNDS", len(rounds))
        monkeypatch.setattr(step_timing, "_profiled", fake)

    return install


def test_calls_and_interpreter_add_up_to_the_length_of_a_step(profiled):
    profiled((20.0, {"aten::linear": 2e6, "aten::mm < aten::linear": 6e6, "aten::gelu": 4e6}))
    rows = {row.name: row for row in by_kind(iter([]), CPU, n_steps=2)}
    seconds = {name: row.seconds for name, row in rows.items()}
    assert seconds == {"matrix products": 4, "norms, elementwise": 2, "interpreter": 4}
    assert rows["matrix products"].share == 0.4
    assert rows["matrix products"].flops == 50  # of aten::mm alone


def test_the_round_of_median_length_is_analysed(profiled):
    profiled(*((wall, {"aten::mm": 1e6 * wall / 2}) for wall in (9.0, 1.0, 600.0, 2.0, 7.0)))
    assert [row.seconds for row in by_kind(iter([]), CPU, n_steps=1)] == [3.5, 3.5]


def test_overlapping_calls_leave_the_interpreter_zero_and_not_less(profiled):
    profiled((2.0, {"aten::mm": 3e6}))
    assert [row.name for row in by_kind(iter([]), CPU, n_steps=1)] == ["matrix products"]


def counted(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@every_model
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_operation_of_a_step_is_counted_once(model, optimizer):
    config = TrainConfig(model, batch_size=3, optimizer=optimizer)
    trainer = new_trainer(config, Parts.reference())  # whose attention is plain matrix products
    rows = {row.name: row.flops for row in by_kind(repeat(trainer.train_step), CPU, n_steps=1)}
    assert sum(rows.values()) == counted(trainer.train_step)
    learning = rows["matrix products"] + rows["attention, softmax"]
    assert learning == 3 * 12 * training_flops_per_token(model)
    assert (rows["optimizer"] > 0) == (optimizer == "muon")


# --- a generated token ---


@every_model
def test_the_breakdown_of_a_generated_token_is_complete(model):
    profile = profile_generation(model, CPU, Parts.fused())
    assert adds_up(profile)
    assert tuple(row.name for row in profile.stages) == TOKEN_STAGES
    assert all(row.seconds > 0 for row in profile.stages)
    assert profile.stages[0].flops == forward_flops(model, T_q=1, T_k=6)
    assert profile.weight_bytes == 4 * product_weights(model)


def test_one_token_is_one_call_of_the_model_and_prompts_are_prefilled_between_steps():
    config = small()
    model = TinyTransformerLM(config).eval()
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda model, args: seen.append(args[0].shape))
    for step in islice(step_profile.token_steps(model, config, greedy), 20):
        seen.clear()
        step()
        assert seen == [(1, 1)]


@pytest.mark.parametrize("context", [1, 2, 3, 5])
def test_the_shortest_contexts_can_be_profiled_too(context):
    config = small(max_seq_len=context)
    assert adds_up(profile_generation(config, CPU, Parts.fused()))


# --- the report ---


def made_up(scale: float = 1.0) -> Profile:
    seconds = {"forward": 4e-3 * scale, "backward": 12e-3 * scale}
    kinds = {"matrix products": 10e-3 * scale, "interpreter": 10e-3 * scale}
    return Profile(
        "a step",
        rows_of(seconds, {"forward": 1e8}),
        rows_of(kinds, {"matrix products": 4e8}),
        peak=1e11,
        weight_bytes=10_000_000,
        reading="forward",
        bandwidth=5e9,
    )


def test_the_table_of_a_busy_machine_says_so():
    noisy = replace(made_up(), stages=made_up(scale=0.1).stages)
    assert "12.50 times as long" in table(noisy)
    assert "busy machine" in table(noisy)


def test_the_table_shows_time_share_and_speed():
    lines = [line.split() for line in table(made_up()).splitlines()]
    assert ["forward", "4.000", "25.0%", "25.00", "25.0%"] in lines
    assert ["backward", "12.000", "75.0%"] in lines
    assert ["all", "16.000", "100.0%", "6.25", "6.2%"] in lines
    assert ["matrix", "products", "10.000", "50.0%", "40.00", "40.0%"] in lines
    assert "the peak: 100.0 GFLOP/s" in table(made_up())
    assert "1.25 times as long" in table(made_up())
    assert "busy machine" not in table(made_up())
    assert "10.00 MB of weights, read once in the 4.00 ms of the model: 2.50 GB/s" in table(
        made_up()
    )
    assert "50.0% of the 5.0 GB/s" in table(made_up())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_the_table_fits_80_columns(scale):
    assert max(map(len, table(made_up(scale)).splitlines())) <= 80


def bars(figure: Figure) -> Iterator[tuple[list[float], list[float]]]:
    """Left ends and widths of the segments of each bar."""
    for axes in figure.axes:
        pieces = [patch for container in axes.containers for patch in container]
        yield [piece.get_x() for piece in pieces], [piece.get_width() for piece in pieces]


def test_the_picture_has_one_stacked_bar_per_breakdown(tmp_path):
    path = tmp_path / "new" / "profile.png"
    profiles = {"training step": made_up(), "generated token": made_up(0.1)}
    figure = draw(profiles, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(bars(figure)) == [([0, 0.25], [0.25, 0.75]), ([0, 0.5], [0.5, 0.5])] * 2
    title = figure.axes[1].get_title(loc="left")
    assert title == "training step, by kind of operation, under the profiler: 20 ms"
    legend = figure.axes[2].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["forward 0.4 ms", "backward 1.2 ms"]


def test_a_name_has_one_colour_in_all_bars_and_there_may_be_more_names_than_colours():
    names = [f"stage {i}" for i in range(12)]
    seconds = dict.fromkeys(names, 1.0)
    whole = Profile("a", rows_of(seconds, {}), rows_of(seconds, {}), peak=1.0)
    part = Profile("b", rows_of({"stage 7": 1.0}, {}), rows_of(seconds, {}), peak=1.0)
    first, _, second, _ = draw({"a": whole, "b": part}).axes
    assert len(first.containers) == 12
    assert first.containers[7][0].get_facecolor() == second.containers[0][0].get_facecolor()


def test_an_empty_profile_and_an_unknown_picture_format_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no profile"):
        draw({})
    with pytest.raises(UsageError, match=r"unknown suffix of a picture '.bmp'"):
        draw({"a": made_up()}, tmp_path / "profile.bmp")
    assert not list(tmp_path.iterdir())


# --- the program ---


@pytest.fixture
def program(monkeypatch, capsys) -> Callable[..., str]:
    def run(*flags: str) -> str:
        monkeypatch.setattr(sys, "argv", ["step_profile.py", "--device", "cpu", *flags])
        step_profile.main()
        return capsys.readouterr().out

    return run


SMALL_FLAGS = [
    f"--{flag}"
    for flag in ("d-model=16", "n-layers=1", "n-heads=2", "max-seq-len=8", "batch-size=2")
]


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_the_program_prints_both_profiles_in_80_columns(program, dtype):
    output = program(*SMALL_FLAGS, "--dtype", dtype)
    assert "a training step: 1 layers x 16, 2 x 8 tokens" in output
    assert "a generated token: 1 layers x 16, float32" in output
    assert "--out profile.png draws one" in output
    assert max(map(len, output.splitlines())) <= 80
    assert dtype in output or dtype == "auto"


def test_the_program_draws_to_the_path_in_out(program, tmp_path):
    path = tmp_path / "profile.svg"
    output = program(*SMALL_FLAGS, "--parts", "reference", "--out", str(path))
    assert "generated token, by stage" in path.read_text(encoding="utf-8")
    assert str(path) in output


def test_the_program_starts_from_the_configuration_of_a_run(program, tmp_path):
    path = tmp_path / "config.yaml"
    save_config(TrainConfig(small(), batch_size=5, max_steps=1, dtype="float32"), path)
    output = program("--config", str(path), "--n-layers", "1")
    assert "1 layers x 16, 5 x 12 tokens, float32" in output


def test_an_unknown_picture_format_is_refused_before_anything_is_measured(program):
    with pytest.raises(UsageError, match=r"'.bmp'"):
        program("--out", "profile.bmp", "--n-layers", "1000000")

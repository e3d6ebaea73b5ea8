"""Trains the variants of tools/ablations.py that ablations.json does not have yet."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine import Engine, choose_engine
from experiment_tracking import environment_info
from model.config import preset
from tools.benchmarks.ablation_ideas import IDEAS, Idea
from tools.benchmarks.ablation_record import describe, digest, missing, read_record, write_record
from tools.benchmarks.ablation_variants import tables, variants, with_fields
from tools.benchmarks.interleave import progress
from training_data import TrainingData, load_training_data
from training_loop import Callback, StepReport, Trainer
from utils.config import TrainConfig
from utils.errors import CourseError

PLAIN = Idea("")  # no idea: the model and the trainer of the course


class StepTimer(Callback):
    """Records how long each step took, and advances the progress bar."""

    def __init__(self, bar: "tqdm[Any]", name: str) -> None:
        self.bar = bar
        self.name = name
        self.times: list[float] = []  # seconds per step
        self.previous = 0.0

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Called after each step; report.seconds does not include evaluations."""
        self.times.append(report.seconds - self.previous)
        self.previous = report.seconds
        self.bar.set_description_str(f"{self.name}, loss {report.train_loss:.3f}", refresh=False)
        self.bar.update()


def train_missing(path: Path, only: Sequence[str], n_steps: int, n_seeds: int) -> None:
    """Train what the file does not have yet, and save each result as soon as it is known."""
    record = read_record(path)
    data = load_training_data(preset("laptop").data)
    environment, engine = resolve_engine(record, data)
    configs = {row.name: resolve(row.config, data, engine, n_steps) for row in variants()}
    ideas = {row.name: row.idea for row in variants()}
    update_configs(record, configs, ideas, data)
    todo = missing(record, only or list(configs), n_seeds)
    if todo:
        record["environments"].append(environment)
    write_record(path, record)
    with progress(len(todo) * n_steps, "starting") as bar:
        for name, seed in todo:
            timer = StepTimer(bar, f"{name}, seed {seed}")
            config = replace(configs[name], seed=seed)
            result = train_one(config, IDEAS.get(ideas[name], PLAIN), data, engine, timer)
            record["runs"].append(
                {
                    "config": record["variants"][name],
                    "seed": seed,
                    "where": len(record["environments"]) - 1,
                    **result,
                }
            )
            write_record(path, record)
            tqdm.write(f"{name:<24} seed {seed}   {summary_line(result)}")


def update_configs(
    record: dict[str, Any],
    configs: Mapping[str, TrainConfig],
    ideas: Mapping[str, str],
    data: TrainingData,
) -> None:
    """Make the record describe today's variants, and every older one that has runs."""
    described = {name: describe(config, data, ideas[name]) for name, config in configs.items()}
    digests = {name: digest(description) for name, description in described.items()}
    have_runs = {run["config"] for run in record["runs"]}
    known = {key: value for key, value in record["configs"].items() if key in have_runs}
    known |= {digests[name]: description for name, description in described.items()}
    record |= {"tables": tables(), "variants": digests, "configs": known}


def resolve_engine(record: Mapping[str, Any], data: TrainingData) -> tuple[dict[str, Any], Engine]:
    """This machine, and one engine for all rows; on a machine in the record, the same one again."""
    laptop = preset("laptop")
    auto = laptop.dtype == "auto"
    environment = environment_info(laptop.device)
    environment.pop("packages")
    for known in record["environments"]:
        if auto and all(known[key] == environment[key] for key in ("cpu", "device")):
            laptop = replace(laptop, dtype=known["dtype"])
    engine = choose_engine(with_fields(laptop, {"vocab_size": data.tokenizer.vocab_size}))
    return {**environment, "dtype": engine.dtype_name}, engine


def resolve(config: TrainConfig, data: TrainingData, engine: Engine, n_steps: int) -> TrainConfig:
    """The configuration as it is trained: n_steps long, evaluated once, at the end."""
    return replace(
        config,
        model=replace(config.model, vocab_size=data.tokenizer.vocab_size),
        max_steps=n_steps,
        eval_interval=n_steps,
        max_minutes=None,
        compile=False,
        device=str(engine.device),
        dtype=engine.dtype_name,
    )


def train_one(
    config: TrainConfig, idea: Idea, data: TrainingData, engine: Engine, timer: StepTimer
) -> dict[str, Any]:
    """Train one model; return its results for the record."""
    model = idea.model(config.model, engine.parts, config.seed)
    arguments = (model, data.train, data.val, config, engine.device, engine.dtype, [timer])
    trainer = idea.trainer(*arguments)
    loss, stopped = fit(trainer)
    if stopped:
        timer.bar.update(config.max_steps - trainer.step)
    step = statistics.median(timer.times) if timer.times else None
    return {
        "val_loss": loss,
        "stopped": stopped,
        "seconds": round(trainer.seconds, 3),
        "ms_per_step": step and round(1000 * step, 3),
        "tokens_per_second": step and round(trainer.tokens_per_step / step),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def fit(trainer: Trainer) -> tuple[float | None, str | None]:
    """(validation loss, None), or (None, reason) if the loss became non-finite: a result too."""
    try:
        loss = trainer.fit()
    except CourseError as error:
        return None, str(error).split(";")[0]
    if math.isfinite(loss):
        return round(loss, 6), None
    return None, f"step {trainer.step}: the validation loss is {loss}"


def summary_line(result: Mapping[str, Any]) -> str:
    """The results of a run for the terminal."""
    if result["stopped"]:
        return f"stopped at {result['stopped']}"[:40]
    return f"validation {result['val_loss']:.4f}   {result['ms_per_step']:6.1f} ms per step"

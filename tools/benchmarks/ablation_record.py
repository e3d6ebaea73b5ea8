"""ablations.json: which runs were done, of which configurations, and with which results.

{"tables": rows of each table, "variants": name -> digest, "configs": digest -> description,
 "environments": machines, "runs": results, each with its config, seed and environment}
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.benchmarks.ablation_variants import flat
from training_data import TrainingData
from utils.config import TrainConfig
from utils.errors import CourseError
from utils.files import atomic_write_text

CORPORA = {"shakespeare": "Tiny Shakespeare", "mock": "the mock corpus"}
# Fields that are not part of a description: no variant changes them, or they change no weight.
IGNORED = {
    *("seed", "max_minutes", "compile"),
    *("eval_interval", "save_interval", "sample_interval", "log_interval"),
}
KEYS = {"tables", "variants", "configs", "environments", "runs"}


def read_record(path: Path) -> dict[str, Any]:
    """The results so far; empty if there is no file. Raises CourseError for any other file."""
    if not path.exists():
        return {"tables": {}, "variants": {}, "configs": {}, "environments": [], "runs": []}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CourseError(f"{path} is not JSON: {error}") from None
    complete = isinstance(record, dict) and record.keys() >= KEYS
    if not complete or "laptop" not in record["variants"]:
        raise CourseError(f"{path} holds no ablations; name another folder with --out")
    return record


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write the file in one piece, one line per entry, so that git can show a readable diff."""
    entries = [f"{json.dumps(key)}: {_block(value)}" for key, value in record.items()]
    atomic_write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def _block(value: Any) -> str:
    if isinstance(value, dict):
        rows = [f"{json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + "\n}"
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"


def describe(config: TrainConfig, data: TrainingData, idea: str = "") -> dict[str, Any]:
    """Everything that determines the result of a run, except its seed."""
    values = {name: value for name, value in flat(config).items() if name not in IGNORED}
    values["idea"] = idea or "none"
    name = CORPORA.get(data.name, data.name)
    return {**values, "data": name, "fingerprint": data.fingerprint[:16], "n_val": len(data.val)}


def digest(description: Mapping[str, Any]) -> str:
    """A short name for a description; equal descriptions have equal names."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def missing(record: Mapping[str, Any], names: Sequence[str], n_seeds: int) -> list[tuple[str, int]]:
    """The runs to do, as (variant, seed); variants of the same configuration share a run.

    Ordered by seed, so that an interrupted command leaves complete tables of fewer seeds.
    """
    done = {(run["config"], run["seed"]) for run in record["runs"]}
    todo = {}
    for seed in range(n_seeds):
        for name in names:
            key = (record["variants"][name], seed)
            if key not in done:
                todo.setdefault(key, (name, seed))
    return list(todo.values())

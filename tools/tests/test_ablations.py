"""tools/ablations.py: what each row changes, what is trained again, and what the page shows."""

import itertools
import json
import math
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import build_model, choose_engine
from model.config import PRESETS, preset
from tokenizer import CharTokenizer
from tools import ablations
from tools.benchmarks import ablation_training, ablation_variants
from tools.benchmarks.ablation_ideas import IDEAS
from tools.benchmarks.ablation_page import EXPECTED, render
from tools.benchmarks.ablation_record import describe, digest, read_record, write_record
from tools.benchmarks.ablation_summary import differences
from tools.benchmarks.ablation_variants import (
    STEPS,
    flat,
    ladder,
    other_rates,
    steps,
    tables,
    variants,
    without,
)
from training_data import TrainingData
from training_loop import Trainer
from utils.config import TrainConfig, to_dict
from utils.errors import CourseError

ROOT = Path(__file__).resolve().parents[2]
# The fields in which two presets may differ without differing in their recipe: sizes, durations and
# intervals, and what only one of two optimizers or schedules reads.
HELD = {
    *("max_seq_len", "d_model", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "dropout"),
    *("batch_size", "accumulation", "max_steps", "max_minutes", "warmup_steps"),
    *("eval_interval", "save_interval", "sample_interval", "log_interval"),
    "muon_lr",
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(call_program: Run) -> Run:
    """Run the program; exit code, output and errors."""
    return partial(call_program, ablations.main)


def tiny_data(text: str = "to be or not to be, ") -> TrainingData:
    tokenizer = CharTokenizer.train(text)
    tokens = tokenizer.encode_array(text * 60)
    return TrainingData("tiny", "written by the test", tokenizer, tokens[:-200], tokens[-200:])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets at a size that trains in milliseconds, on a text of one repeated line."""

    def small(name: str) -> TrainConfig:
        config = preset(name)
        model = replace(config.model, d_model=16, n_layers=1, n_heads=2, max_seq_len=8)
        return replace(config, model=model, batch_size=2, dtype="float32", device="cpu")

    monkeypatch.setattr(ablation_variants, "preset", small)
    monkeypatch.setattr(ablation_training, "preset", small)
    monkeypatch.setattr(ablation_training, "load_training_data", lambda _: tiny_data())


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, int]]:
    """(configuration, seed) of every training run that starts."""
    started: list[tuple[TrainConfig, int]] = []
    train_one = ablation_training.train_one

    def recording(config: TrainConfig, *rest: Any) -> dict[str, Any]:
        started.append((replace(config, seed=0), config.seed))
        return train_one(config, *rest)

    monkeypatch.setattr(ablation_training, "train_one", recording)
    return started


def changed(before: TrainConfig, after: TrainConfig) -> set[str]:
    """The fields that differ, found without the program's own functions."""
    first, second = to_dict(before), to_dict(after)
    of_model = {k for k in first["model"] if first["model"][k] != second["model"][k]}
    return of_model | {k for k in first if k != "model" and first[k] != second[k]}


# --- the variants -------------------------------------------------------------------------------


def test_a_name_has_one_configuration_and_is_in_a_table_once() -> None:
    rows = variants()
    places = [(row.table, row.name) for row in rows]
    assert len(set(places)) == len(places)
    configs: dict[str, TrainConfig] = {}
    for row in rows:
        assert configs.setdefault(row.name, row.config) == row.config


def test_every_row_is_compared_with_an_existing_row() -> None:
    names = {row.name for row in variants()}
    assert {row.compared for row in variants()} <= names | {""}


def test_each_step_of_the_ladder_changes_exactly_the_fields_it_names() -> None:
    rows = ladder()
    groups = [set(names) for _, names in STEPS]
    for before, after in itertools.pairwise(rows):
        fields = changed(before.config, after.config)
        listed = differences(flat(before.config), flat(after.config))
        assert {change.split()[0] for change in listed} == fields != set()
        assert after.compared == before.name
        assert sum(fields <= group for group in groups) == 1


def test_no_field_is_changed_by_two_steps() -> None:
    names = [name for _, group in STEPS for name in group]
    assert len(set(names)) == len(names)


def test_the_ladder_ends_with_the_laptop_preset_and_the_second_table_begins_with_it() -> None:
    assert ladder()[-1].config == preset("laptop") == without()[0].config
    assert ladder()[-1].name == "laptop" == without()[0].name


def test_the_ladder_begins_with_the_recipe_of_nano_in_the_sizes_of_laptop() -> None:
    classic = ladder()[0].config
    assert changed(classic, PRESETS["nano"]) <= HELD | {"lr"}
    assert not changed(classic, PRESETS["laptop"]) & HELD


def test_every_field_in_which_recipes_differ_is_in_a_step() -> None:
    in_steps = {name for _, names in STEPS for name in names}
    differ = changed(PRESETS["nano"], PRESETS["laptop"])
    assert differ <= in_steps | HELD, "a new field needs a step in tools/ablations.py"


def test_each_row_of_the_second_table_reverts_one_step_to_the_classic_recipe() -> None:
    classic, laptop, *rows = ladder()[0], *without()
    groups = [set(names) for _, names in STEPS] + [{"warmup_steps"}]
    for row in rows:
        fields = changed(laptop.config, row.config)
        assert fields and sum(fields <= group for group in groups) == 1
        if fields != {"warmup_steps"}:
            assert not changed(classic.config, row.config) & fields
    assert rows[-1].config.warmup_steps == 0 or preset("laptop").warmup_steps == 0
    assert len(rows) == len(ladder()) - 1 + (preset("laptop").warmup_steps > 0)


def test_other_rates_change_only_the_learning_rate_of_adamw() -> None:
    rows = {row.name: row for row in other_rates()}
    for row in rows.values():
        assert row.config.optimizer == "adamw"
        if row.compared:
            assert changed(rows[row.compared].config, row.config) == {"lr"}
    assert {row.compared for row in rows.values()} == {"", "classic", "without-muon"}


def test_names_and_steps_follow_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    laptop = preset("laptop")
    other = replace(laptop, model=replace(laptop.model, position="alibi", tie_weights=True))
    monkeypatch.setattr(ablation_variants, "preset", {**PRESETS, "laptop": other}.__getitem__)
    names = [row.name for row in variants()]
    assert "with-alibi" in names and "without-alibi" in names and "with-rope" not in names
    assert not any("untied" in name for name in names)
    assert ladder()[-1].config == other


def test_every_step_has_an_expectation() -> None:
    labels = [label for label, _, _ in steps()]
    assert labels == list(EXPECTED)


# --- training -----------------------------------------------------------------------------------


def test_a_call_trains_its_rows_and_writes_results_and_page(
    run: Run, tiny: None, trained: list[Any], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder"
    code, printed, err = run(
        "--steps", 3, "--seeds", 2, "--out", out, "--only", "classic", "laptop"
    )
    assert (code, err) == (0, "")
    assert [seed for _, seed in trained] == [0, 0, 1, 1]
    assert all(len(line) < 80 for line in printed.splitlines() if "wrote" not in line)
    record = json.loads((out / "ablations.json").read_text(encoding="utf-8"))
    assert len(record["runs"]) == 4
    page = (out / "ablations.md").read_text(encoding="utf-8")
    assert page == render(record)
    assert len(table_row(page, "classic")) == len(table_row(page, "+ wsd = laptop")) == 9
    assert "without rope" not in page
    expectations = page.partition("## What to expect of each change")[2].partition("##")[0]
    assert [each.split(":**")[0] for each in expectations.split("\n- **")[1:]] == list(EXPECTED)
    n_variants = len(record["variants"])
    text = " ".join(page.split())  # without the line breaks
    assert f"{n_variants - 2} of {n_variants} variants are not trained yet" in text


def test_the_loss_is_that_of_an_ordinary_training_run(run: Run, tiny: None, tmp_path: Path) -> None:
    run("--steps", 4, "--seeds", 2, "--out", tmp_path, "--only", "with-muon")
    record = json.loads((tmp_path / "ablations.json").read_text(encoding="utf-8"))
    data, row = tiny_data(), next(r for r in ladder() if r.name == "with-muon")
    model = replace(row.config.model, vocab_size=data.tokenizer.vocab_size)
    config = replace(row.config, model=model, max_steps=4, seed=1)
    engine = choose_engine(config)
    trainer = Trainer(build_model(model, engine, 1), data.train, data.val, config)
    assert record["runs"][1]["seed"] == 1
    assert record["runs"][1]["val_loss"] == pytest.approx(trainer.fit(), abs=1e-6)


def test_a_call_after_an_interruption_trains_only_what_is_missing(
    run: Run,
    tiny: None,
    trained: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("--steps", 2, "--seeds", 2, "--out", tmp_path, "--only", "classic", "without-rope")
    with monkeypatch.context() as patch:
        fit, left = Trainer.fit, iter([False, False, False, True])

        def interrupted(trainer: Trainer) -> float:
            if next(left):
                raise KeyboardInterrupt
            return fit(trainer)

        patch.setattr(Trainer, "fit", interrupted)
        code, _, err = run(*command)
    assert (code, err) == (130, "interrupted\n")
    kept = json.loads((tmp_path / "ablations.json").read_text(encoding="utf-8"))["runs"]
    assert len(kept) == 3
    last = trained[-1]
    trained.clear()
    assert run(*command)[0] == 0
    assert trained == [last]
    record = json.loads((tmp_path / "ablations.json").read_text(encoding="utf-8"))
    assert record["runs"][:3] == kept and len(record["environments"]) == 2
    trained.clear()
    assert run(*command)[0] == 0
    assert trained == []


def test_runs_with_other_steps_seeds_or_data_are_trained_anew(
    run: Run, tiny: None, trained: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(n_steps: int, seeds: int) -> int:
        trained.clear()
        run("--steps", n_steps, "--seeds", seeds, "--out", tmp_path, "--only", "laptop")
        return len(trained)

    assert [train(2, 1), train(3, 1), train(2, 3), train(3, 1)] == [1, 1, 2, 0]
    # The same words in another order: the same vocabulary, but different data.
    monkeypatch.setattr(
        ablation_training, "load_training_data", lambda _: tiny_data("not to be, or to be ")
    )
    assert train(2, 1) == 1


def test_two_rows_with_the_same_configuration_are_trained_once(
    run: Run, tiny: None, trained: list[Any], tmp_path: Path
) -> None:
    run("--steps", 1, "--seeds", 1, "--out", tmp_path, "--only", "with-muon", "without-wsd")
    assert len(trained) == 1
    page = (tmp_path / "ablations.md").read_text(encoding="utf-8")
    assert "| + muon |" in page and "| without wsd |" in page


def test_a_whole_table_can_be_selected_by_name() -> None:
    rows = [row.name for row in ladder()]
    assert ablations.select(["ladder"]) == rows
    assert ablations.select(["laptop", "without-rope"]) == ["laptop", "without-rope"]


def test_a_non_finite_loss_is_a_result_and_the_other_runs_continue(
    run: Run, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.train_step

    def failing(trainer: Trainer) -> tuple[float, float, float]:
        learned = trainer.config.model.position == "learned"
        if trainer.step == 1 and trainer.config.seed == 1 and learned:
            raise CourseError("step 2: the loss is nan; no weight was changed by it")
        return step(trainer)

    monkeypatch.setattr(Trainer, "train_step", failing)
    only = ("--only", "laptop", "without-rope")
    code, printed, _ = run("--steps", 3, "--seeds", 2, "--out", tmp_path, *only)
    assert code == 0 and "stopped at step 2: the loss is nan" in printed
    text = (tmp_path / "ablations.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    row = table_row((tmp_path / "ablations.md").read_text(encoding="utf-8"), "without rope")
    assert row[2:5] == ["1 of 2 stopped", "", ""]


# --- the page -----------------------------------------------------------------------------------


def invented(losses: dict[str, list[float]], ms: float = 10.0) -> dict[str, Any]:
    """A record of runs that never happened, of today's variants."""
    data = tiny_data()
    described = {row.name: describe(row.config, data, row.idea) for row in variants()}
    names = {name: digest(config) for name, config in described.items()}
    environment = {
        **{"cpu": "a CPU", "cores": 2, "device": "cpu (x, 2 threads)", "platform": "Linux"},
        **{"python": "3.11", "torch": "2", "git": {"commit": "0123456789abcdef", "dirty": False}},
    }
    runs = [
        {
            **{"config": names[name], "seed": seed, "where": 0, "val_loss": loss, "stopped": None},
            **{"seconds": 30.0, "ms_per_step": ms + seed, "tokens_per_second": 1000 - seed},
            "parameters": 5,
        }
        for name, results in losses.items()
        for seed, loss in enumerate(results)
    ]
    return {
        "tables": tables(),
        "variants": names,
        "configs": {names[name]: config for name, config in described.items()},
        "environments": [environment],
        "runs": runs,
    }


def table_row(page: str, label: str, nth: int = 0) -> list[str]:
    """The cells of the nth row with that label."""
    rows = [line for line in page.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in rows[nth].strip("|").split("|")]


def test_a_row_shows_mean_range_difference_its_error_and_speed() -> None:
    page = render(invented({"classic": [2.0, 2.3, 2.6], "with-rope": [1.0, 1.5, 1.7]}))
    _, _, loss, spread, difference, error, ms, speed, seeds = table_row(page, "+ rope")
    assert float(loss) == pytest.approx(4.2 / 3, abs=5e-5)
    assert spread == "1.0000 to 1.7000"
    assert float(difference) == pytest.approx(1.4 - 2.3, abs=5e-5)
    # By hand: -1.0, -0.8 and -0.9 seed by seed, so a deviation of 0.1, over the root of 3.
    assert float(error) == pytest.approx(0.1 / math.sqrt(3), abs=5e-5)
    assert (ms, speed, seeds) == ("11.0", "999", "3")
    assert table_row(page, "+ rope")[1] == "position learned -> rope"
    assert "3.0 minutes" in page and "--seeds 3" in page


def test_a_row_of_the_second_table_is_compared_with_laptop() -> None:
    losses = {"laptop": [1.0], "without-rope": [1.25], "with-muon": [9.0]}
    assert table_row(render(invented(losses)), "without rope")[4] == "+0.2500"


@pytest.mark.parametrize(
    ("mine", "other"), [([1.0], [2.0]), ([1.0, 1.1], [2.0, 2.1, 2.2]), ([1.0, 1.1], [])]
)
def test_without_two_pairs_of_all_seeds_there_is_no_standard_error(
    mine: list[float], other: list[float]
) -> None:
    page = render(invented({"classic": other, "with-rope": mine}))
    assert table_row(page, "+ rope")[5] == ""


def test_ideas_that_are_clearly_better_or_worse_are_named_and_all_are_explained() -> None:
    laptop = [1.5, 1.6, 1.7]
    better, worse, noise = ([1.4, 1.51, 1.6], [1.6, 1.69, 1.8], [1.4, 1.6, 1.81])
    losses = {"laptop": laptop, "normuon": better, "deeper": worse, "wider": noise}
    page = " ".join(render(invented(losses)).split())
    assert "errors or more, better than `laptop`: NorMuon. Worse: deeper." in page
    assert f"**wider:** {IDEAS['wider'].expected}" in page and "**two targets:**" not in page
    alone = render(invented({name: losses[name][:1] for name in losses}))
    assert "errors or more" not in alone  # one seed says nothing


def test_the_sizes_are_those_of_the_recipe_and_not_of_the_ideas() -> None:
    record = invented({"laptop": [1.5], "wider": [1.5]})
    (wider,) = (run for run in record["runs"] if run["config"] == record["variants"]["wider"])
    wider["parameters"] = 77
    assert "number of parameters: 5 to 5." in " ".join(render(record).split())


@pytest.mark.parametrize(
    ("mine", "marked"), [([1.5, 1.9], False), ([1.5, 2.0], True), ([2.05, 2.1], True)]
)
def test_a_difference_with_overlapping_ranges_is_marked(mine: list[float], marked: bool) -> None:
    page = render(invented({"classic": [2.0, 2.2], "with-rope": mine}))
    assert table_row(page, "+ rope")[4].endswith("~") == marked


def test_the_ladder_is_summarized_only_if_both_of_its_ends_are_trained() -> None:
    whole = render(invented({"classic": [2.0], "laptop": [1.5]}))
    assert "2.0000 to 1.5000: -0.5000" in whole
    assert "From the first row" not in render(invented({"laptop": [1.5]}))


def test_a_row_has_no_difference_if_its_neighbour_is_not_trained() -> None:
    page = render(invented({"with-relu2": [2.0]}))
    assert table_row(page, "+ relu2")[4] == ""


def test_the_page_names_the_machine_the_commit_and_the_text() -> None:
    page = render(invented({"laptop": [1.5]}))
    assert "a CPU, 2 cores" in page and "0123456789ab" in page and "The text:** tiny" in page


def test_the_page_is_rendered_from_the_file_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = invented({"classic": [2.0, 2.1], "laptop": [1.5, 1.6]})
    write_record(tmp_path / "ablations.json", record)
    page = render(record)

    def forbidden(*_: object) -> None:
        pytest.fail("--render must not read presets or data")

    monkeypatch.setattr(ablation_variants, "preset", forbidden)
    monkeypatch.setattr(ablation_training, "preset", forbidden)
    monkeypatch.setattr(ablation_training, "load_training_data", forbidden)
    assert run("--render", "--out", tmp_path)[0] == 0
    assert (tmp_path / "ablations.md").read_text(encoding="utf-8") == page


def test_without_a_finished_run_there_is_no_page(run: Run, tmp_path: Path) -> None:
    write_record(tmp_path / "ablations.json", invented({}))
    code, _, err = run("--render", "--out", tmp_path)
    assert (code, err.count("\n")) == (2, 1) and "no finished run" in err
    assert not (tmp_path / "ablations.md").exists()


def test_the_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    record = invented({"classic": [2.0]})
    write_record(tmp_path / "ablations.json", record)
    assert read_record(tmp_path / "ablations.json") == record


def test_the_committed_page_is_what_the_committed_results_say(tmp_path: Path) -> None:
    results, page = ROOT / "09_capstone" / "ablations.json", ROOT / "09_capstone" / "ablations.md"
    assert results.exists() == page.exists(), "one of the two is missing: run tools/ablations.py"
    if not results.exists():
        results, page = tmp_path / "ablations.json", tmp_path / "ablations.md"
        write_record(results, invented({"classic": [2.0], "laptop": [1.5]}))
        page.write_text(render(read_record(results)), encoding="utf-8")
    record = read_record(results)
    assert page.read_text(encoding="utf-8") == render(record)
    losses = [run["val_loss"] for run in record["runs"] if run["stopped"] is None]
    assert losses and all(math.isfinite(loss) for loss in losses)


# --- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps 0"),
        (["--seeds", "-1"], "--seeds -1"),
        (["--steps", "many"], "'many'"),
        (["--only", "without-ropes"], "did you mean 'without-rope'"),
        (["--list", "--render"], "--list"),
        (["--step", "5"], "--steps"),
        (["--render", "--out", "no_such_folder"], "no_such_folder"),
        (["--out", __file__], "is a file"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(
    arguments: list[str], message: str, run: Run, trained: list[Any]
) -> None:
    code, printed, err = run(*arguments)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and message in err
    assert trained == []


EMPTY = '{"tables": {}, "variants": {}, "configs": {}, "environments": [], "runs": []}'


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": []}', EMPTY])
def test_a_foreign_file_is_named_and_kept(
    text: str, run: Run, tmp_path: Path, trained: list[Any]
) -> None:
    path = tmp_path / "ablations.json"
    path.write_text(text, encoding="utf-8")
    code, _, err = run("--out", tmp_path)
    assert (code, err.count("\n"), trained) == (1, 1, [])
    assert "ablations.json" in err and path.read_text(encoding="utf-8") == text


def test_the_list_names_every_variant_within_80_columns(run: Run) -> None:
    code, printed, err = run("--list")
    lines = printed.splitlines()
    assert (code, err) == (0, "") and max(map(len, lines)) < 80
    listed = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert sorted(listed) == sorted({row.name for row in variants()})


def test_it_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/ablations.py", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "tools" / "ablations.py"), run_name="__main__")
    assert left.value.code == 0

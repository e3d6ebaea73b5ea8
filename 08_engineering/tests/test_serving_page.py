"""serving.md: its tables and numbers are those of the measurements, the limits and the rules."""

import json
import math
import re
from pathlib import Path

import pytest

from serving_limits import DRAIN_SECONDS, QUEUE, SLOTS, Limits
from slot_decoder import GROUP
from tools.benchmarks.load_page import BEGIN, END, tables, write_tables
from utils.errors import CourseError

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "serving.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
MEASURED = json.loads((LESSON / "serving_measured.json").read_text(encoding="utf-8"))
LENGTHS = {"A": 4, "B": 1, "C": 2, "D": 3, "E": 2}


def test_the_tables_are_those_of_the_recorded_measurement() -> None:
    assert f"{BEGIN}\n{tables(MEASURED)}\n{END}" in PAGE


def test_no_text_was_lost_or_mixed_up() -> None:
    crowd = MEASURED["crowd"]
    assert (crowd["requests"], crowd["lost"], crowd["mixed_up"]) == (1000, 0, 0)
    assert crowd["different_texts"] == 1000
    assert [figures["clients"] for figures in crowd["passes"]] == [1, 32]
    assert crowd["passes"][0]["tokens"] == crowd["passes"][1]["tokens"]


def test_what_the_page_says_of_the_groups_is_what_was_measured() -> None:
    ratios = {name: result["cpu_ratio"] for name, result in MEASURED["ratios"].items()}
    assert sorted(ratios) == [
        f"{model}, group {group}" for model in ("laptop", "small_model") for group in (1, 4)
    ]
    for name, ratio in ratios.items():
        low, high = (3.5, 5) if name.endswith("4") else (2.5, 3.5)
        assert low <= ratio <= high
    assert (
        "between 3.5 and 5 times as much as one in groups of four, and between 2.5 and 3.5" in WORDS
    )


def slots_of(heading: str) -> list[list[str]]:
    """The two rows of the first table after these words."""
    table = PAGE[PAGE.index(heading) :]
    rows = re.findall(r"^\| slot \d \| (.*) \|$", table, re.MULTILINE)[:2]
    return [row.split(" | ") for row in rows]


def test_static_batches_wait_for_their_longest_text() -> None:
    names = list(LENGTHS)
    pairs = [names[i : i + 2] for i in range(0, len(names), 2)]
    steps = sum(max(LENGTHS[name] for name in pair) for pair in pairs)
    table = slots_of("*Static* batching")
    assert steps == len(table[0]) == 9
    assert {name: sum(row.count(name) for row in table) for name in LENGTHS} == LENGTHS
    assert f"12 of {2 * steps} places are used, {12 / (2 * steps):.0%}" in WORDS
    assert sum(LENGTHS.values()) == 12


def test_continuous_batching_leaves_no_place_empty() -> None:
    first, second = slots_of("*Continuous* batching")
    assert len(first) == len(second) == 6
    assert {name: (first + second).count(name) for name in LENGTHS} == LENGTHS
    assert second.index("C") == 1 and max(i for i, x in enumerate(second) if x == "C") == 2
    static = slots_of("*Static* batching")
    assert max(i for i, name in enumerate(static[0]) if name == "C") == 5  # after six steps


def test_the_limits_of_the_page_are_the_defaults() -> None:
    limits = Limits()
    assert f"{limits.max_body // 1024} KiB, complete within {limits.seconds_to_read:g} s" in PAGE
    assert f"{limits.max_prompt_tokens:,} tokens of a prompt, {limits.max_tokens:,} new" in PAGE
    assert f"`--max-tokens`), {limits.max_texts} texts" in PAGE
    assert f"| {limits.seconds:g} seconds (`--max-seconds`)" in PAGE
    assert f"accepts nothing for {limits.seconds_to_send:g} seconds" in WORDS
    assert f"(`--queue`, {QUEUE})" in WORDS
    assert f"for {DRAIN_SECONDS:g} seconds at most (`--drain-seconds`)" in WORDS
    assert GROUP == 4 and "rows are computed in groups of four" in WORDS


def test_little_s_law_is_computed() -> None:
    assert f"With {SLOTS} slots" in WORDS and f"32 clients for {SLOTS} slots" in WORDS
    assert f"{SLOTS} / 0.2 = {SLOTS / 0.2:g} texts per second" in WORDS
    assert f"100 per second arrive, the queue grows by {100 - SLOTS / 0.2:g}" in WORDS


def test_reading_the_weights_of_seven_billion_parameters_takes_as_long_as_the_page_says() -> None:
    seconds = 14e9 / 3.35e12
    assert f"needs {1000 * seconds:.1f} ms" in WORDS
    assert f"at most {1 / seconds:.0f} tokens per second" in WORDS
    assert f"eight rows together get {8 / seconds:,.0f}" in WORDS
    assert math.isclose(8 / seconds, 1914, abs_tol=0.5)


def test_the_tables_are_written_between_their_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_tables(page, MEASURED)
    assert (
        page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{tables(MEASURED)}\n{END}\nafter\n"
    )
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(CourseError, match="has no place for the tables"):
        write_tables(page, MEASURED)


def test_the_solution_of_the_exercise_is_not_on_the_page() -> None:
    assert PAGE.rstrip().endswith("**Now write 8.17** (`schedule`).")
    assert "def schedule" not in PAGE

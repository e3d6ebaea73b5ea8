"""post_training/results.md: every figure is that of a run in pictures/measured.json."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from post_training.experiments import KL_WEIGHTS, PICTURES
from post_training.post_args import METHOD_SETTINGS
from utils.mock_corpus import entropy_rate
from utils.pictures import read_measured

MEASURED = read_measured(PICTURES)
PAGE = (PICTURES.parent / "results.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())  # sentences without their line breaks

Rows = Sequence[Mapping[str, Any]]
Form = Callable[[float], str]


def last(name: str) -> list[Mapping[str, Any]]:
    """The last evaluation of each run of a name."""
    return [rows[-1] for rows in MEASURED[name].values()]


def spread(values: Sequence[float], form: Form) -> str:
    """The median and the range: "96.1% (95.7% to 97.1%)"; a single value alone."""
    middle = form(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form(min(values))} to {form(max(values))})"


def share(value: float) -> str:
    return f"{100 * value:.1f}%"


def digits(n: int) -> Form:
    return lambda value: f"{value:.{n}f}"


def between(rows: Rows, column: str, form: Form) -> str:
    """The range of a column: "239 to 245"."""
    values = [row[column] for row in rows]
    return f"{form(min(values))} to {form(max(values))}"


def method_row(label: str, name: str) -> str:
    """A row of the table of methods."""
    rows = last(name)
    cells = [
        label,
        f"{len(rows)}",
        spread([row["right"] for row in rows], share),
        spread([row["kl"] for row in rows], digits(3)),
        spread([row["distinct"] for row in rows], lambda value: f"{value:.0%}"),
        spread([row["val_loss"] for row in rows], digits(3)),
        spread([row["seconds"] for row in rows], digits(0)),
    ]
    return f"| {' | '.join(cells)} |"


METHODS = {
    "GRPO, a reward for every token": "grpo",
    "GRPO, one reward per answer": "exact",
    "SFT": "sft",
    "DPO": "dpo",
}


def test_the_table_of_methods() -> None:
    base = MEASURED["grpo"]["1"][0]
    start = f"| base model |  | {share(base['right'])} | 0 | {base['distinct']:.0%} |"
    assert f"{start} {base['val_loss']:.3f} |  |" in PAGE
    for label, name in METHODS.items():
        if name in MEASURED:
            assert method_row(label, name) in PAGE


def test_how_many_steps_each_method_took() -> None:
    grpo, sft, dpo = ({int(row["step"]) for row in last(name)} for name in ("grpo", "sft", "dpo"))
    assert grpo == {METHOD_SETTINGS["grpo"].max_steps} and len(sft) == len(dpo) == 1
    assert f"GRPO took {grpo.pop()} steps, its default." in TEXT
    assert min(sft) > METHOD_SETTINGS["sft"].max_steps
    assert min(dpo) > METHOD_SETTINGS["dpo"].max_steps
    assert f"the same time, {sft.pop():,} and {dpo.pop()}, which is more" in TEXT


def test_what_grpo_reaches_in_fewer_steps() -> None:
    rows = [row for rows in MEASURED["grpo"].values() for row in rows if row["step"] == 200]
    seconds = sorted(row["seconds"] for row in rows)
    first, second, third = sorted(share(row["right"]) for row in rows)
    assert (
        f"which took {seconds[0]:.0f} to {seconds[-1]:.0f} s, it has {first}, {second} and {third}."
        in TEXT
    )
    assert all(row["right"] > 0.95 for row in last("grpo"))


def test_what_grpo_reaches_on_a_quiet_machine() -> None:
    rows = [row for rows in MEASURED["grpo-quiet"].values() for row in rows]
    early, late = ([row for row in rows if row["step"] == n] for n in (200, 250))
    assert len(early) == len(late) == len(MEASURED["grpo"])
    assert min(row["right"] for row in rows) > 0.95 and max(row["seconds"] for row in late) < 300
    assert (
        f"had {between(late, 'right', share)} right after their 250 steps, which took "
        f"{between(late, 'seconds', digits(0))} s, at a KL of {between(late, 'kl', digits(3))}; "
        f"after 200, in {between(early, 'seconds', digits(0))} s, {between(early, 'right', share)}."
    ) in TEXT


def test_what_the_price_of_a_nat_does() -> None:
    ends = {weight: last(f"kl-{weight}")[0] for weight in KL_WEIGHTS}
    assert ends[0.2]["kl"] < ends[0]["kl"] / 2 and "less than half" in TEXT
    assert ends[0.2]["val_loss"] == min(end["val_loss"] for end in ends.values())


def test_the_standard_error_of_a_share_of_right_answers() -> None:
    shares = [row["right"] for name in METHODS.values() if name in MEASURED for row in last(name)]
    errors = [100 * math.sqrt(p * (1 - p) / 512) for p in shares]
    assert min(errors) > 0.5 and max(errors) < 2.5 and "error of 1 to 2 points" in TEXT


def test_what_one_reward_per_answer_gives() -> None:
    (row,), grpo = last("exact"), last("grpo")
    assert row["step"] == grpo[0]["step"]
    assert f"{share(row['right'])} after as many steps, with half the KL." in TEXT
    assert 0.4 < row["kl"] / statistics.median(each["kl"] for each in grpo) < 0.6


def test_how_counting_rhymes_ends() -> None:
    (middle,) = (row for row in MEASURED["rhyme"]["1"] if row["step"] == 100)
    assert f"steps {share(middle['right'])} were right, at a KL of {middle['kl']:.2f};" in TEXT
    base, others = MEASURED["rhyme"]["1"][0]["right"], MEASURED["word"]["1"][0]["right"]
    assert abs(base - others) < 2 * math.sqrt(2 * base * (1 - base) / 512)  # the noise of sampling


def test_where_dpo_is_best() -> None:
    rows = [row for rows in MEASURED["dpo"].values() for row in rows]
    best = max(rows, key=lambda row: row["right"])
    assert f"gets {share(best['right'])} at best, after {best['step']:.0f} steps, which is" in TEXT
    base = MEASURED["dpo"]["1"][0]["right"]
    assert best["right"] - base < 2 * math.sqrt(2 * base * (1 - base) / 512)  # within the noise


def test_the_table_of_reward_models() -> None:
    labels = {"reward-model": "never errs", "reward-model-noisy": "errs in 20% of the pairs"}
    for name, label in labels.items():
        (row,) = last(name)
        assert f"| {label} | {share(row['pairs'])} | {share(row['slips'])} |" in PAGE
        assert row["step"] == 2 * 4096 / 16  # "two epochs"
    (clean,), (noisy,) = map(last, labels)
    assert 0.2 < clean["pairs"] < 0.3 and "about one of four pairs" in TEXT
    assert clean["slips"] > clean["pairs"] - 0.02 and "hardly less often" in TEXT
    more = [100 * (noisy[kind] - clean[kind]) for kind in ("pairs", "slips")]
    assert [round(points) for points in more] == [7, 7] and "about seven points" in TEXT


def test_the_floor_of_the_loss() -> None:
    assert f"the entropy of the plays is {entropy_rate().nats_per_char:.3f}." in TEXT


def test_the_table_of_kl_weights() -> None:
    for weight in KL_WEIGHTS:
        (row,) = last(f"kl-{weight}")
        cells = (share(row["right"]), f"{row['kl']:.3f}", f"{row['distinct']:.0%}")
        assert f"| {weight:g} | {' | '.join(cells)} | {row['val_loss']:.3f} |" in PAGE


def test_the_table_of_cheated_rewards() -> None:
    for name in ("word", "rhyme", "length"):
        rows = MEASURED[name]["1"]
        before, after = rows[0], rows[-1]
        first = next(row for row in rows if row["reward"] is not None)
        assert first is rows[1] and first["reward"] < after["reward"]  # "at the first evaluation"
        assert after["distinct"] > 0.9 or name == "rhyme"  # "most lines were still different"
        cells = (
            f"{after['step']:.0f}",
            f"{first['reward']:.2f} to {after['reward']:.2f}",
            f"{share(before['right'])} to {share(after['right'])}",
            f"{after['kl']:.2f}",
            f"{after['distinct']:.0%}",
        )
        assert f"| {name} | {' | '.join(cells)} |" in PAGE


def test_how_often_instructions_are_followed() -> None:
    before, after = MEASURED["follow"]["1"][0], MEASURED["follow"]["1"][-1]
    for row, when in ((before, "before"), (after, "after")):
        assert f"| {when} | {share(row['followed'])} | {share(row['right'])} |" in PAGE

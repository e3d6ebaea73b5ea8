"""row_sampling.py: each row draws what lesson 07 would draw for it alone."""

import pytest
import torch

from generator import choose_with
from penalties import TokenCounts
from row_sampling import RowSampler, choose_tokens
from utils.config import SampleConfig

V = 12
SETTINGS = {
    "greedy": SampleConfig(temperature=0),
    "temperature": SampleConfig(temperature=0.7, seed=3),
    "top-p": SampleConfig(temperature=1.3, top_p=0.8, seed=4),
    "top-k and min-p": SampleConfig(top_k=5, min_p=0.05, seed=5),
    "penalties": SampleConfig(presence_penalty=0.5, frequency_penalty=0.7, seed=6),
    "repetition, greedy": SampleConfig(temperature=0, repetition_penalty=1.5),
    "the same settings, another seed": SampleConfig(temperature=0.7, seed=9),
}
PROMPT = [1, 2, 2, 5]


def alone(sampling: SampleConfig, rows: torch.Tensor) -> list[int]:
    """The tokens that one row gets from lesson 07's rule, from logits (steps, V)."""
    choose = choose_with(sampling, TokenCounts.of_prompts([PROMPT], V))
    return [int(choose(row[None])) for row in rows]


@pytest.mark.parametrize("names", [list(SETTINGS), ["temperature"], ["penalties"] * 3], ids=len)
def test_rows_together_draw_what_each_draws_alone(names: list[str]) -> None:
    settings = [SETTINGS[name] for name in names]
    samplers = [RowSampler(sampling, PROMPT, V) for sampling in settings]
    logits = 2 * torch.randn(30, len(names), V)  # 30 steps
    drawn = [choose_tokens(step, samplers) for step in logits]
    for row, sampling in enumerate(settings):
        assert [step[row] for step in drawn] == alone(sampling, logits[:, row])


def test_a_row_that_leaves_changes_nothing_for_the_others() -> None:
    logits = torch.randn(20, 1, V)
    one, two, again = (RowSampler(SampleConfig(seed=seed), PROMPT, V) for seed in (1, 2, 1))
    company = [choose_tokens(logits[i].expand(2, -1), [two, one])[1] for i in range(10)]
    company += [choose_tokens(logits[i], [one])[0] for i in range(10, 20)]
    assert company == [choose_tokens(logits[i], [again])[0] for i in range(20)]


def test_only_settings_that_change_the_distribution_separate_groups() -> None:
    base = SampleConfig(seed=1, prompt="a", stop=("x",), max_tokens=5)
    other = SampleConfig(seed=2, prompt="b", stop=(), max_tokens=9)
    assert RowSampler(base, [0], V).group == RowSampler(other, [0], V).group
    for changed in (SampleConfig(temperature=0.5), SampleConfig(top_p=0.5), SampleConfig(top_k=2)):
        assert RowSampler(changed, [0], V).group != RowSampler(base, [0], V).group


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    samplers = [RowSampler(SampleConfig(temperature=1.0, seed=seed), [0], 3) for seed in range(8)]
    logits = probabilities.log().expand(8, -1)
    drawn = torch.tensor([choose_tokens(logits, samplers) for _ in range(500)]).flatten()
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, probabilities, atol=0.03, rtol=0)

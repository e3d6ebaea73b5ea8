"""The numbers of post_training/theory.md that no code block prints; what it says of the code."""

import json
import math
import random
import re
import statistics
from pathlib import Path

import pytest
import torch

from post_training.dpo import dpo_loss
from post_training.experiments import REWARD_MODELS, START
from post_training.grpo import group_advantages, kl_k3
from post_training.post_args import METHOD_SETTINGS, PER_ANSWER
from post_training.ppo import clipped_objective, gae
from post_training.preferences import make_pairs
from post_training.reward_model import bradley_terry_loss
from post_training.rewards import exact
from post_training.rollouts import collate, token_mean
from post_training.sft import answer_loss, with_rows
from post_training.tasks import OPEN, SPECIAL, Continue, Follow, Prompt
from post_training.verifier import Verifier
from small_model import load_small_model
from tokenizer import CharTokenizer
from tools.checks.anatomy import LONGEST_THEORY
from utils.grammar import Grammar

FOLDER = Path(__file__).resolve().parents[1] / "post_training"
TEXT = (FOLDER / "theory.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.split())  # line breaks as spaces
MEASURED = json.loads((FOLDER / "pictures" / "measured.json").read_text(encoding="utf-8"))


def says(*statements: str) -> None:
    """The page contains each of these."""
    for statement in statements:
        assert statement in PAGE, statement


# --- the page as a whole ---


def test_the_exercises_come_in_their_order() -> None:
    named = re.findall(r"\*\*Now (\w+) (9\.\d+)\b", PAGE)
    assert named == [
        ("predict", "9.10"),
        *(("write", f"9.{number}") for number in range(11, 16)),
        ("repair", "9.16"),
    ]


def test_the_page_is_as_short_as_every_theory() -> None:
    assert len(TEXT.split()) <= LONGEST_THEORY


# --- 1. what is right ---


def test_the_fog_that_is_read_by_hand() -> None:
    animals = [(1, "fox"), (1, "hen")]
    lines = [(1, "The {noun} sleeps."), (1, "A {noun} and a {noun} walk by.")]
    toy = Verifier(Grammar({"line": lines, "noun": animals}, "line"))
    _, accepted = toy.advance(toy.start(), "A hen and a fog")
    says(f"A hen and a fog wrong: {accepted} characters were accepted")
    noun = toy.grammar.symbol("noun")
    for text, unread, expected in (
        ("A ", "", [noun, " and a ", noun, " walk by."]),
        ("A hen", "", [" and a ", noun, " walk by."]),
        ("A hen and", " and", [" and a ", noun, " walk by."]),
        ("A hen and a fo", "fo", [noun, " walk by."]),
    ):
        state, _ = toy.advance(toy.start(), text)
        assert state is not None and state.unread == unread
        stack, parts = state.expected, []
        while stack is not None:
            part, stack = stack
            parts.append(part)
        assert parts == expected


def fool_greets(task: Follow) -> Prompt:
    """The instruction of the page, as the task draws it: its answer ends with the mark."""
    drawn = task.prompts(2000, random.Random(0))
    return next(prompt for prompt in drawn if prompt.text == "[Fool greets KING ALDRIC]")


def test_the_tasks_are_those_of_the_code() -> None:
    length = Continue(n_chars=5_000).max_tokens
    first = f"the first {Continue.shortest} to {Continue.longest} characters of a scene are shown"
    says(f"{first}, the next {length} are judged")
    task = Follow()
    prompt = fool_greets(task)
    answer = "Well met, royal sir: you are merry to-day."
    says(f"after `{prompt.text}` comes, say, `{answer}`, a newline and the mark `{task.stop}`")
    assert task.judge(prompt, f"{answer}\n{task.stop}").is_right
    assert not task.judge(prompt, f"{answer}\n").is_right


def test_right_is_strict() -> None:
    says(f"0.99⁶⁴ = {0.99**64:.3f}; for 0.95", f"1 - 0.95^(1/64) = {1 - 0.95 ** (1 / 64):.4f}")


# --- 2. log-probabilities ---


def test_three_tokens_by_hand() -> None:
    first, second, third = (math.log(p) for p in (0.5, 0.8, 0.25))
    says(f"{first:.3f} - {-second:.3f} - {-third:.3f} = {first + second + third:.3f}, the log")
    assert math.isclose(first + second + third, math.log(0.1))


# --- 3. SFT ---


def test_the_table_of_the_mask() -> None:
    tokenizer = CharTokenizer.train("[]|ahi")
    batch = collate([Prompt("[a]", Verifier().start(), "")], ["hi|"], tokenizer)
    predicted = batch.is_answer[0, 1:].tolist()  # by the logits at 0 to 4
    assert predicted == [False, False, True, True, True]
    (block,) = re.findall(r"^```\n(token .*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    tokens, in_answer, predicts, counts = block.splitlines()
    columns = [match.start() for match in re.finditer(r"\S+", tokens)][1:]
    assert "".join(tokens[column] for column in columns) == "[a]hi|"
    assert "".join(predicts[column] for column in columns[:-1]) == "a]hi|"
    marked = [in_answer[column : column + 3] == "yes" for column in columns]
    assert marked == batch.is_answer[0].tolist()
    assert [counts[column : column + 3] == "yes" for column in columns[:-1]] == predicted

    logits = torch.zeros(1, 6, 6)
    logits[0, 5] = torch.randn(6)  # of the end mark: they predict nothing
    logits[0, 0] = torch.randn(6)  # of the prompt
    loss = answer_loss(logits, batch.tokens, batch.is_answer)
    assert math.isclose(loss.item(), math.log(6), rel_tol=1e-6)


def test_one_sum_and_not_a_mean_of_means() -> None:
    losses = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    says("with losses 3, and 1, 1, 1, the mean is 6 / 4 = 1.5")
    assert token_mean(losses, mask) == 1.5
    assert ((losses * mask).sum(-1) / mask.sum(-1)).mean() == 2  # 1/2 against 1/6 per token


def test_a_row_that_is_the_mean_of_all_is_never_likely() -> None:
    model, tokenizer = load_small_model()
    n_old, n_new = tokenizer.vocab_size, len(SPECIAL)
    assert OPEN not in tokenizer.characters
    says(f"at most 1 / (V + n), here 1 / {n_old + n_new}, in any context")
    features = 3 * torch.randn(100, model.config.d_model)
    logits = features @ with_rows(model.output_weight, n_new).T
    probs = logits.softmax(-1)[:, n_old:]
    assert (probs <= 1 / (n_old + n_new)).all() and (probs > 0).any()


# --- 4. preferences ---


def test_two_rewards_by_hand() -> None:
    chosen, rejected = torch.tensor([2.0]), torch.tensor([1.2])
    loss, other = bradley_terry_loss(chosen, rejected), bradley_terry_loss(rejected, chosen)
    says(
        f"P = σ(0.8) = {(-loss).exp():.3f}, and the loss is {loss:.3f}",
        f"if the other had been chosen, {other:.3f}",
    )
    assert math.isclose(bradley_terry_loss(chosen + 5, rejected + 5), loss, rel_tol=1e-5)


def test_the_difference_that_a_judge_who_errs_teaches() -> None:
    best = math.log(0.8 / 0.2)
    says(f"at a difference of log(0.8 / 0.2) = {best:.3f}")
    difference = torch.tensor([best], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    loss = 0.8 * bradley_terry_loss(difference, zero) + 0.2 * bradley_terry_loss(zero, difference)
    loss.backward()
    assert difference.grad is not None and abs(difference.grad.item()) < 1e-12


def test_the_reward_that_is_right_about_all_that_was_judged() -> None:
    def quality(x: float) -> float:
        return x * (2 - x)

    seen = [k / 10 for k in range(9)]
    assert sorted(seen, key=quality) == seen and max(seen) == 0.8
    says(f"prefers x = 3, of quality {quality(3)}, to x = 1", "best at 1")
    assert quality(1) > max(quality(0.99), quality(1.01))


def test_a_pair_is_the_best_and_the_worst_of_8() -> None:
    says("of 8 answers to a prompt, the best is **chosen**, the worst **rejected**")
    assert METHOD_SETTINGS["dpo"].group_size == 8
    prompts = [Prompt(str(n // 8), Verifier().start(), "") for n in range(16)]
    tokenizer = CharTokenizer.train("0123456789abcdefgh")
    rollout = collate(prompts, list("abcdefgh" * 2), tokenizer)
    scores = torch.tensor([0.3, 0.9, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5] + [0.7] * 8)
    (pair,) = make_pairs(rollout, scores, 8)  # none of the second group, whose scores are equal
    assert (pair.chosen, pair.rejected) == ("b", "c")


# --- 5. DPO ---


def test_the_best_policy_by_hand() -> None:
    start, rewards, beta = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.0, 0.0, 1.0]), 0.5
    parts = start * (rewards / beta).exp()
    best, back = parts / parts.sum(), beta * (parts / parts.sum() / start).log()
    shown = [f"{p:.3f}" for p in best]
    says(
        f"are 1, 1, {math.exp(2):.3f}, so Z = 0.5 + 0.3 + {parts[2]:.3f} = {parts.sum():.3f}",
        f"and π* = {', '.join(shown)}",
        f"β log({shown[2]} / 0.2) = {back[2]:.3f}, β log({shown[0]} / 0.5) = {back[0]:.3f}",
    )
    assert math.isclose(back[2] - back[0], 1, rel_tol=1e-5)

    def wanted(policy: torch.Tensor) -> float:
        return (policy * (rewards - beta * (policy / start).log())).sum().item()

    others = torch.distributions.Dirichlet(torch.ones(3)).sample((200,))
    assert all(wanted(other) < wanted(best) for other in others)
    assert math.isclose(wanted(best), beta * parts.sum().log().item(), rel_tol=1e-5)  # line 2


def test_the_loss_of_pairs_that_fall_together() -> None:
    start = torch.tensor([-60.0])
    apart = dpo_loss(start + 2, start - 2, start, start, 0.1)
    fall = dpo_loss(start - 10, start - 50, start, start, 0.1)
    says(f"loses 2 costs {apart:.3f}. If they lose 10 and 50, it costs {fall:.3f}")


# --- 6. policy gradients ---


def test_a_baseline_removes_the_noise_of_the_example() -> None:
    scores = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    slopes = []
    for answer in (0, 1):
        (slope,) = torch.autograd.grad(scores.log_softmax(-1)[answer], scores)
        slopes.append(slope[0].item())
    assert slopes == [0.5, -0.5]
    plain = [reward * slope for reward, slope in zip((1.0, 0.9), slopes, strict=True)]
    mean = statistics.mean(plain)
    says(
        f"the estimate is {plain[0]:.1f} or {plain[1]:.2f}: on average {mean:.3f}",
        f"with a deviation of {statistics.pstdev(plain):.3f}",
        "0.05 × 0.5 = 0.025 or -0.05 × -0.5 = 0.025",
    )
    less = [reward * slope for reward, slope in zip((0.05, -0.05), slopes, strict=True)]
    assert less == [0.025, 0.025] and math.isclose(mean, 0.025)


def test_what_ppo_says_of_three_tokens() -> None:
    values = torch.tensor([0.6, 0.7, 0.2])
    one, all_three = (
        ", ".join(f"{x:.1f}" for x in gae(torch.zeros(3), values, lam=lam).tolist())
        for lam in (0.0, 1.0)
    )
    says(f"had been expected: δ = {one}.", f"With λ = 1, A = {all_three} blames all three")


def test_the_advantages_of_a_group() -> None:
    rewards = torch.tensor([[2.0, 1.0, 0.5, 0.5]], dtype=torch.float64)
    deviation = rewards.std(correction=0)
    exact_ones = (rewards - rewards.mean()) / deviation
    shown = ", ".join(f"{a:.3f}" if a else "0" for a in exact_ones[0].tolist())
    says(f"√((1 + 0 + 0.25 + 0.25) / 4) = {deviation:.3f}, and the advantages are {shown}")
    torch.testing.assert_close(group_advantages(rewards), exact_ones, atol=1e-3, rtol=0)
    assert not group_advantages(torch.ones(2, 8)).any()


def test_how_many_groups_teach_nothing() -> None:
    low, high = (p**8 + (1 - p) ** 8 for p in (0.1, 0.95))
    says(f"{low:.0%} at p = 0.1, {high:.0%} at p = 0.95")
    assert PER_ANSWER.group_size == METHOD_SETTINGS["dpo"].group_size == 8


def test_the_exact_reward_is_the_share_plus_1() -> None:
    task = Follow()
    says(
        "our reward `exact` is the share, plus 1 if all is right",
        "(An answer without its end gets half the share.)",
    )
    prompt = fool_greets(task)
    right = "Well met, royal sir: you are merry to-day.\n|"
    answers = {right: 1, "Well met, sirrah.\n|": 1, right[:-1]: 0.5, "Well met, royal sir|": 0.5}
    for answer, weight in answers.items():
        verdict = task.judge(prompt, answer)
        assert exact(task, prompt, answer) == weight * verdict.share + verdict.is_right


# --- 7. KL ---


def test_the_table_of_the_estimators() -> None:
    policy = torch.tensor([0.8, 0.2], dtype=torch.float64)
    reference = torch.tensor([0.6, 0.4], dtype=torch.float64)
    d = (reference / policy).log()
    k3 = kl_k3(policy.log(), reference.log())
    rows = {"k1 = -d": -d, "k2 = d² / 2": d**2 / 2, "k3 = e^d - 1 - d": k3}
    for name, values in rows.items():
        mean = (policy * values).sum()
        says(f"| {name} | {values[0]:.3f} | {values[1]:.3f} | {mean:.4f} |")
    kl = torch.distributions.kl_divergence(
        torch.distributions.Categorical(policy), torch.distributions.Categorical(reference)
    )
    for values in (-d, k3):
        assert math.isclose((policy * values).sum(), kl)

    def scatter(values: torch.Tensor) -> float:
        return (policy * (values - kl) ** 2).sum().sqrt().item()

    assert scatter(k3) < scatter(-d) / 2 and (k3 >= 0).all()


# --- 8. the clip ---


@pytest.mark.parametrize(("advantage", "ratio"), [(1, 1.5), (1, 0.5), (-1, 0.5), (-1, 1.5)])
def test_the_table_of_the_clip(advantage: int, ratio: float) -> None:
    log_prob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    value = clipped_objective(log_prob, torch.zeros(1), torch.tensor([advantage]), 0.2)
    value.sum().backward()
    plain, clipped = ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage
    cells = [
        f"**{x:.1f}**" if math.isclose(x, value.item()) else f"{x:.1f}" for x in (plain, clipped)
    ]
    (pull,) = re.findall(
        re.escape(f"| {advantage} | {ratio} | {cells[0]} | {cells[1]} | ") + r"(\w+):", TEXT
    )
    assert log_prob.grad is not None
    expected = {0: "none", 1: "up", -1: "down"}[int(log_prob.grad.sign())]
    assert pull == expected


def test_with_one_update_the_ratio_is_1() -> None:
    says("With one update per batch, our default, ρ is always 1")
    assert METHOD_SETTINGS["grpo"].updates == 1 and METHOD_SETTINGS["grpo"].clip == 0.2


# --- what it costs ---


def test_the_forward_passes_of_a_step() -> None:
    sft, dpo, grpo = (METHOD_SETTINGS[name] for name in ("sft", "dpo", "grpo"))
    samples, in_pairs = dpo.batch_size, 2 * (dpo.batch_size // dpo.group_size)
    total = samples + in_pairs + 3 * in_pairs
    n, length = grpo.batch_size, Continue(n_chars=5_000).max_tokens
    says(
        f"SFT on {sft.batch_size} answers costs 3 × {sft.batch_size} = {3 * sft.batch_size}",
        f"DPO samples {samples}, and compares the best and the worst of each {dpo.group_size}: "
        f"{samples}, {in_pairs} for the reference, 3 × {in_pairs} for the policy, {total} in all",
        f"{n} + {n} + 3 × {n} = {5 * n}",
        f"in {length} pieces: the prompt, then {length - 1} single tokens",
        f"with {n} answers side by side",
    )


# --- the runs in pictures/measured.json ---


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def at_end(name: str, column: str) -> float:
    """The median over the seeds at the end of the runs of a name."""
    return statistics.median(rows[-1][column] for rows in MEASURED[name].values())


def test_the_figures_of_the_runs() -> None:
    base = MEASURED["grpo"]["1"][0]
    dpo = {row["step"]: row for row in MEASURED["dpo"]["1"]}
    best, end = max(dpo.values(), key=lambda row: row["right"]), MEASURED["dpo"]["1"][-1]
    word, rhyme = MEASURED["word"]["1"][-1], MEASURED["rhyme"]["1"][-1]
    length = MEASURED["length"]["1"]
    says(
        f"{percent(base['right'])} of its answers to held-out prompts right, and "
        f"{base['distinct']:.0%} of its lines",
        f"five minutes, from {percent(base['right'])}, it went like that: "
        f"{percent(best['right'])} right after {best['step']:.0f} steps, {percent(end['right'])} "
        f"after {end['step']:.0f}, at a KL of {end['kl']:.2f}. Stop early",
        f"GRPO ends at {percent(at_end('grpo', 'right'))} right, at a KL of "
        f"{at_end('grpo', 'kl'):.3f}",
        f"rises from {base['val_loss']:.3f} to {at_end('grpo', 'val_loss'):.3f}. SFT ends at "
        f"{percent(at_end('sft', 'right'))}, but at a loss of {at_end('sft', 'val_loss'):.3f}",
        f'"sweet" for {word["step"]:.0f} steps leaves {percent(word["right"])} right, '
        f"of {percent(base['right'])}, at a KL of {word['kl']:.2f}; rhymes, in "
        f"{rhyme['step']:.0f}, {percent(rhyme['right'])}, at {rhyme['kl']:.2f}.",
        f"instructions, leaves {percent(length[-1]['right'])} of {percent(length[0]['right'])}.",
    )


def test_every_run_began_as_the_same_model() -> None:
    other = {
        *START,
        *REWARD_MODELS,
        "grpo-quiet",
    }  # they start from another model, or aren't language models
    first = [seeds for name, seeds in MEASURED.items() if name not in other]
    losses = {rows[0]["val_loss"] for seeds in first for rows in seeds.values()}
    assert max(losses) - min(losses) < 2e-4  # bfloat16 rounds differently on one thread


def test_how_long_the_commands_take() -> None:
    """In the README of the lesson: the median of the runs, for the default number of steps."""
    page = " ".join((FOLDER.parent / "README.md").read_text(encoding="utf-8").split())
    said = []
    for name in ("sft", "dpo", "grpo"):
        ends = [rows[-1] for rows in MEASURED[name].values()]
        per_step = statistics.median(row["seconds"] / row["step"] for row in ends)
        steps = METHOD_SETTINGS[name].max_steps
        said.append((f"{per_step * steps:.0f} s", f"({name.upper()}, {steps}"))
    (sft, a), (dpo, b), (grpo, c) = said
    times = f"about {sft} {a} steps), {dpo} {b}) and {grpo} {c})"
    assert f"{times} on the same two cores while other programs ran" in page

"""The numbers of theory.md that no code block prints, and the message that the README shows."""

import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from bigram import bigram_probabilities, cross_entropy, draw, encode, main
from utils import mock_corpus

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "theory.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
MATRIX = re.compile(r"([NP]) = \\begin\{bmatrix\}(.*?)\\end\{bmatrix\}")


@pytest.fixture(scope="module")
def play() -> tuple[Tensor, str, Tensor]:
    """ids, vocabulary and counted table of the lesson's text."""
    ids, vocabulary = encode(mock_corpus.generate(20_000))
    return ids, vocabulary, bigram_probabilities(ids, len(vocabulary))


def test_the_length_of_the_reference() -> None:
    n_lines = len((LESSON / "bigram.py").read_text(encoding="utf-8").splitlines())
    assert f"[bigram.py](bigram.py), {n_lines} lines" in WORDS


def test_the_size_of_the_play(play: tuple[Tensor, str, Tensor]) -> None:
    ids, vocabulary, _ = play
    assert f"{len(ids):,} characters, of which {len(vocabulary)} are different" in WORDS


def test_the_worked_example_is_right_to_every_digit() -> None:
    on_page = {
        name: torch.tensor([[float(cell) for cell in row.split("&")] for row in body.split(r"\\")])
        for name, body in MATRIX.findall(WORDS)
    }
    word = "abracadabra"
    ids, letters = encode(word)
    assert "in the order a, b, c, d, r" in WORDS and letters == "abcdr"
    pairs = ["".join(pair) for pair in pairwise(word)]
    assert f"T = {len(word)} characters, so {len(pairs)} pairs: {', '.join(pairs)}." in WORDS
    counts = Counter(pairwise(ids.tolist()))
    N = torch.tensor([[float(counts[i, j]) for j in range(5)] for i in range(5)])
    assert torch.equal(on_page["N"], N)
    assert torch.equal(on_page["P"], N / N.sum(1, keepdim=True))
    torch.testing.assert_close(bigram_probabilities(ids, 5), on_page["P"])
    assert word.count("a") == 5 and N[0].sum() == 4


def test_the_surprise_of_the_worked_example() -> None:
    ids, _ = encode("abracadabra")
    nats = cross_entropy(bigram_probabilities(ids, 5), ids).item()
    bits = nats / math.log(2)
    assert f"= {bits:.1f} \\text{{ bits}} = {nats:.3f} \\text{{ nats per character}}" in WORDS
    assert f"log₂ 5 = {math.log2(5):.3f} bits" in WORDS
    of_row_a = -(2 * math.log2(1 / 2) + 2 * math.log2(1 / 4)) / 4
    assert f"cost {math.log2(3):.3f} bits each, where {of_row_a:.1f} was the mean" in WORDS


def test_the_table_of_surprises() -> None:
    p = [1, 1 / 2, 1 / 4, 1 / 8, 1 / 56]
    bits = [f"{-math.log2(one):.3f}".rstrip("0").rstrip(".").replace("-0", "0") for one in p]
    nats = [f"{-math.log(one):.3f}" for one in p]
    assert f"| bits | {' | '.join(bits)} |" in PAGE
    assert f"| nats | 0 | {' | '.join(nats[1:])} |" in PAGE
    assert f"one bit is log 2 = {math.log(2):.3f} nats" in WORDS


def test_what_the_heat_map_shows(play: tuple[Tensor, str, Tensor]) -> None:
    _, vocabulary, table = play
    at = {character: i for i, character in enumerate(vocabulary)}
    assert table[at["q"], at["u"]] == 1
    assert table[at["."], at["\n"]] > 0.9
    two = sorted(vocabulary[i] for i in table[at["h"]].topk(2).indices.tolist())
    assert two == ["a", "e"]
    assert (table[at[" "]] > 0).sum() > 30


def test_where_u_falls_in_the_picture(play: tuple[Tensor, str, Tensor]) -> None:
    _, vocabulary, table = play
    drawn = [vocabulary[draw(table[vocabulary.index(c)], 0.6)] for c in "hvw"]
    assert drawn == ["e", "e", "h"]
    assert "rows of h, v and w" in WORDS and "u = 0.6 falls into e, e and h" in WORDS


def test_one_pair_makes_the_loss_infinite(play: tuple[Tensor, str, Tensor]) -> None:
    ids, vocabulary, _ = play
    seen = bigram_probabilities(ids[:20_000], len(vocabulary))
    new = ids[20_000:]
    never = int((seen[new[:-1], new[1:]] == 0).sum())
    assert never > 0
    assert "One pair that was never seen is enough" in WORDS


def test_the_gradient_on_paper() -> None:
    w, x, b, y = 2.0, 3.0, -1.0, 4.0
    assert (w * x + b, w * x + b - y) == (5, 1)
    assert "| a = w x + b | 5 |" in PAGE and "| e = a - y | 1 |" in PAGE
    nudged = 2.001 * x + b - y
    assert f"{nudged:.3f}² = {nudged**2:.3f}" in PAGE
    rate, dw, db = 0.05, 6, 2
    assert f"w - {rate} · {dw} = {w - rate * dw:.1f}" in WORDS
    assert f"-1 - {rate} · {db} = {b - rate * db:.1f}" in WORDS
    assert math.isclose((w - rate * dw) * x + b - rate * db, 4.0)


def test_the_gradient_of_a_row_of_logits() -> None:
    shares = torch.tensor([0, 0.5, 0.25, 0.25, 0])
    row = 0.4 * (0.2 - shares)
    assert ", ".join(f"{value:.2f}" for value in row.tolist()) in WORDS


def test_the_gradient_of_the_logits_is_what_the_page_says() -> None:
    ids = torch.randint(4, (60,))
    logits = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    model = torch.softmax(logits, -1)
    (gradient,) = torch.autograd.grad(cross_entropy(model, ids), logits)
    share = torch.bincount(ids[:-1], minlength=4)[:, None] / (len(ids) - 1)
    torch.testing.assert_close(gradient, share * (model - bigram_probabilities(ids, 4).double()))


def test_the_table_of_longer_contexts() -> None:
    text = mock_corpus.generate(20_000)
    new = mock_corpus.generate(20_000, seed=1)
    V = len(set(text))
    for n in (1, 2, 3, 5, 10):
        rows = Counter(text[i : i + n] for i in range(len(text) - n))
        pairs = Counter(text[i : i + n + 1] for i in range(len(text) - n))
        log_2 = sum(count * math.log2(count / rows[gram[:n]]) for gram, count in pairs.items())
        missing = sum(new[i : i + n] not in rows for i in range(len(new) - n)) / (len(new) - n)
        bits = -log_2 / pairs.total()
        assert f"| {n} | {V**n:,} | {bits:.3f} | {missing:.1%} |" in PAGE


def test_the_entropy_of_the_play(play: tuple[Tensor, str, Tensor]) -> None:
    ids, _, table = play
    bits = mock_corpus.entropy_rate().nats_per_char / math.log(2)
    assert f"its text: {bits:.3f} bits per character" in WORDS
    paid = cross_entropy(table, ids).item() / math.log(2)
    assert f"The table pays {paid:.3f} bits" in WORDS
    assert f"{1 / math.log(2):.2f} times too large" in PAGE


def test_the_example_contexts_occur_in_the_grammar() -> None:
    assert '"my happy "' in PAGE and '"this happy "' in PAGE
    text = mock_corpus.generate(400_000)
    assert "my happy " in text and "this happy " in text


def test_each_table_of_the_puzzle_follows_its_rule(draw: ModuleType) -> None:
    letters = torch.arange(6)
    for name, ids in draw.texts_of_the_rules().items():
        table = bigram_probabilities(ids, 6)
        likeliest = table.argmax(1)
        if name == "B":
            assert torch.equal(likeliest < 3, letters >= 3)
            assert (table[:3, 3:].sum(1) > 0.8).all() and (table[3:, :3].sum(1) > 0.8).all()
        else:
            assert torch.equal(likeliest, (letters + {"A": -1, "C": 0, "D": 1}[name]) % 6)
            assert (table.amax(1) > 0.7).all()


def test_the_readme_shows_what_the_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out.splitlines()
    readme = (LESSON / "README.md").read_text(encoding="utf-8").splitlines()
    (command,) = (line for line in readme if line.startswith(".venv/bin/python 00_setup/bigram.py"))
    at = readme.index(command) + 3
    assert readme[at : readme.index("```", at)] == printed


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = "return columns - rows[:, None]"
    shown = shown_to_learner("0.1", body)
    assert shown in (LESSON / "README.md").read_text(encoding="utf-8")

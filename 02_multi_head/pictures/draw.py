"""Draw every picture of this lesson, from real numbers.

    python 02_multi_head/pictures/draw.py

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import functools
import runpy
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from attention import causal_mask, scaled_dot_product_attention
from multi_head import MultiHeadAttention
from sparse_attention import block_map
from utils.errors import run_program
from utils.pictures import save_pictures
from utils.visualization import BLUE, GREEN, ORANGE, PURPLE, plot_attention_heads

HERE = Path(__file__).resolve().parent
SOLUTIONS = HERE.parent / "exercises" / "solutions.py"  # this file must not show a solution


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    torch.set_num_threads(1)
    pictures = {
        "two_places": two_places(),
        "split_and_merge": split_and_merge(),
        "which_head": which_head(),
        "induction": induction(),
        "sharing": sharing(),
        "blocks": blocks(),
    }
    save_pictures(pictures, HERE)


# --- a task that one head cannot do ---

N_LETTERS, LENGTH = 8, 10


class Reader(nn.Module):
    """One attention layer that says, at each position, which letters stood 1, 2, ... places before.

    `hidden` > 0 puts a network with one hidden layer behind the attention; else a matrix reads it.
    """

    def __init__(self, width: int, n_heads: int, n_places: int = 2, hidden: int = 0) -> None:
        super().__init__()
        self.width, self.n_places = width, n_places
        self.attention = MultiHeadAttention(width, n_heads)
        answers = n_places * N_LETTERS
        if hidden:
            layers = nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, answers)
            self.read = nn.Sequential(*layers)
        else:
            self.read = nn.Linear(width, answers)

    def look(self, letters: Tensor) -> Tensor:
        """(n, T) letters -> (n, T, width): which letter it is, and where it stands."""
        places = torch.eye(LENGTH).expand(len(letters), -1, -1)
        x = torch.cat([F.one_hot(letters, N_LETTERS).float(), places], dim=-1)
        return F.pad(x, (0, self.width - x.size(-1)))

    def forward(self, letters: Tensor) -> Tensor:
        """(n, T) letters -> (n, T, n_places, N_LETTERS) logits."""
        seen = self.attention(self.look(letters), causal_mask(LENGTH))
        return self.read(seen).unflatten(-1, (self.n_places, N_LETTERS))

    def weights(self, letters: Tensor) -> Tensor:
        """The attention weights (n, n_heads, T, T)."""
        kept: list[Tensor] = []
        attend = watched(kept)
        self.attention(self.look(letters), causal_mask(LENGTH), attend)
        return kept[0]


def watched(kept: list[Tensor]):
    """An attention function that also keeps its weights."""

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None):
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        kept.append(weights.detach())
        return output, weights

    return attend


@functools.cache
def train_reader(
    n_heads: int, width: int = 32, n_places: int = 2, hidden: int = 0, seed: int = 0
) -> tuple[Reader, list[float]]:
    """Train for 400 steps; returns the model and the share of right answers for each place."""
    torch.manual_seed(seed)
    model = Reader(width, n_heads, n_places, hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(400):
        logits, answers = answered(model, torch.randint(N_LETTERS, (64, LENGTH)))
        loss = F.cross_entropy(logits.flatten(0, -2), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits, answers = answered(model, torch.randint(N_LETTERS, (2000, LENGTH)))
    return model, (logits.argmax(-1) == answers).float().mean((0, 1)).tolist()


def answered(model: Reader, letters: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and answers at the positions that have all the places before them."""
    first, last = model.n_places, LENGTH
    places = [letters[:, first - 1 - place : last - 1 - place] for place in range(first)]
    return model(letters)[:, first:], torch.stack(places, dim=-1)


def two_places() -> Figure:
    """Where the trained heads look: the one head of one layer, and the two heads of another."""
    torch.manual_seed(1)
    letters = torch.randint(N_LETTERS, (1, LENGTH))
    one, two = (train_reader(n_heads)[0].weights(letters)[0] for n_heads in (1, 2))
    names = ["abcdefgh"[letter] for letter in letters[0].tolist()]
    titles = ["the only head", "head 0 of 2", "head 1 of 2"]
    title = "Asked for the letters one and two places back"
    return plot_attention_heads(torch.cat([one, two]), names, titles=titles, title=title)


# --- splitting and merging ---

HEAD_COLOURS = (BLUE, ORANGE, GREEN)


def split_and_merge() -> Figure:
    """Five tokens of six features, three heads: each colour is a head, each number a feature."""
    figure = Figure(figsize=(9, 2.25))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, 36), ylim=(11.1, 2.1), aspect="equal")
    x = 10 * torch.arange(4)[:, None] + torch.arange(6)
    features = torch.arange(6)
    draw_cells(axes, x, features // 2, (1, 4), "x, or merged", "(T, d_model) = (4, 6)")
    for head in range(3):
        corner = (13.0 + 3.6 * head, 4)
        name = f"head {head}"
        draw_cells(axes, x[:, 2 * head : 2 * head + 2], torch.tensor([head] * 2), corner, name, "")
    axes.text(17.6, 8.6, "(n_heads, T, d_head) = (3, 4, 2)", ha="center", va="top", fontsize=9)
    wrong = x.reshape(3, 4, 2)
    for head in range(3):
        corner = (25.6 + 3.4 * head, 4)
        draw_cells(axes, wrong[head], features // 2, corner, f"head {head}", "", wrong=True)
    axes.text(30, 8.6, "view straight to (3, 4, 2)", ha="center", va="top", fontsize=9)
    axes.text(30, 9.7, "the same shape, other numbers", ha="center", va="top", fontsize=9)
    for start, end, label, y in (
        ((7.6, 5.4), (12.6, 5.4), "split", 5.0),
        ((12.6, 6.7), (7.6, 6.7), "merge", 7.6),
    ):
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, lw=1.2))
        axes.text(10.1, y, label, ha="center", va="bottom", fontsize=9)
    axes.axvline(24.4, 0.08, 0.95, color="#999999", linewidth=0.8, linestyle=":")
    return figure


def draw_cells(
    axes: Axes,
    numbers: Tensor,
    colours: Tensor,
    corner: tuple[float, float],
    name: str,
    shape: str,
    *,
    wrong: bool = False,
) -> None:
    """A matrix of numbers; a cell's colour is the head that its feature belongs to."""
    left, top = corner
    rows, columns = numbers.shape
    for i in range(rows):
        for j in range(columns):
            number = int(numbers[i, j])
            head = number % 10 // 2 if wrong else int(colours[j])
            cell = Rectangle((left + j, top + i), 1, 1, facecolor=HEAD_COLOURS[head], alpha=0.35)
            axes.add_patch(cell)
            axes.add_patch(Rectangle((left + j, top + i), 1, 1, fill=False, linewidth=0.6))
            at = (left + j + 0.5, top + i + 0.53)
            axes.text(*at, str(number), ha="center", va="center", fontsize=9)
    middle = left + columns / 2
    axes.text(middle, top - 0.4, name, ha="center", va="bottom", fontsize=9)
    axes.text(middle, top + rows + 0.6, shape, ha="center", va="top", fontsize=9)


# --- what heads do ---


def which_head_maps() -> dict[str, Tensor]:
    """The maps of exercise 2.9 by letter: scores that favour one key per query, and some noise."""
    T, period = 12, 6
    i, j = torch.arange(T)[:, None], torch.arange(T)
    wanted = {
        "A": j == 0,  # the first token
        "B": (j == i - period + 1) & (i >= period),  # after the earlier copy
        "C": j == i - 1,  # the token before
        "D": (j == i - period) & (i >= period),  # the earlier copy itself
    }
    torch.manual_seed(2)
    maps = {}
    for letter, favoured in wanted.items():
        scores = torch.randn(T, T) + 5 * favoured  # as if from queries and keys of width 1
        identity = torch.eye(T)
        maps[letter] = scaled_dot_product_attention(
            scores * T**0.5, identity, identity, causal_mask(T)
        )[1]
    return maps


def which_head() -> Figure:
    """Four maps; the exercise asks what each head does."""
    maps = which_head_maps()
    tokens = list("dbface" * 2)
    title = "Which head does what?"
    return plot_attention_heads(
        torch.stack(list(maps.values())), tokens, titles=list(maps), title=title
    )


VOCABULARY, N_TOKENS = 16, 24


class TwoLayers(nn.Module):
    """Embeddings, two attention layers with a residual each, and nothing else."""

    def __init__(self, width: int = 32, n_heads: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(N_TOKENS, width)
        layers = [MultiHeadAttention(width, n_heads, bias=False) for _ in range(2)]
        self.layers = nn.ModuleList(layers)
        self.read = nn.Linear(width, VOCABULARY)

    def forward(self, tokens: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """(n, T) tokens -> logits (n, T, VOCABULARY); appends each layer's weights to `kept`."""
        attend = watched([] if kept is None else kept)
        x = self.tokens(tokens) + self.positions.weight
        for layer in self.layers:
            x = x + layer(F.layer_norm(x, x.shape[-1:]), causal_mask(N_TOKENS), attend)
        return self.read(F.layer_norm(x, x.shape[-1:]))


def repeated_texts(n: int, shortest: int = 6) -> tuple[Tensor, Tensor]:
    """Random tokens that repeat themselves: (n, T), and the period of each text (n, 1)."""
    period = torch.randint(shortest, 13, (n, 1))
    start = torch.randint(VOCABULARY, (n, 12))
    return start.gather(1, torch.arange(N_TOKENS) % period), period


@functools.cache
def train_two_layers(n_steps: int = 600, seed: int = 0) -> tuple[TwoLayers, list[float]]:
    """Train on texts that repeat themselves; returns the model and its loss at every 50th step."""
    torch.manual_seed(seed)
    model = TwoLayers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.98))
    losses = []
    for step in range(n_steps + 1):
        tokens, period = repeated_texts(64)
        known = torch.arange(N_TOKENS - 1) >= period  # seen before, so what came next is known
        loss = F.cross_entropy(model(tokens)[:, :-1][known], tokens[:, 1:][known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            losses.append(loss.item())
    return model, losses


def head_scores(model: TwoLayers, period: int = 12) -> tuple[Tensor, Tensor]:
    """For each layer and head: weight on the previous token, and the induction score (2, 2)."""
    score = runpy.run_path(str(SOLUTIONS))["induction_score"]
    torch.manual_seed(7)
    tokens = torch.randint(VOCABULARY, (200, period)).repeat(1, N_TOKENS // period)
    kept: list[Tensor] = []
    with torch.no_grad():
        model(tokens, kept)
    previous = torch.stack([layer.diagonal(-1, -2, -1).mean((0, 2)) for layer in kept])
    return previous, torch.stack([score(layer, period) for layer in kept])


def induction() -> Figure:
    """The four heads of the trained model on one text of twelve random tokens, twice."""
    model, _ = train_two_layers()
    previous, score = head_scores(model)
    torch.manual_seed(4)
    tokens = torch.randperm(VOCABULARY)[:12].repeat(2)[None]
    kept: list[Tensor] = []
    with torch.no_grad():
        model(tokens, kept)
    maps = torch.cat([layer[0] for layer in kept])
    titles = [
        f"layer {layer}, head {head}\nprevious {previous[layer, head]:.2f}, "
        f"induction {score[layer, head]:.2f}"
        for layer in range(2)
        for head in range(2)
    ]
    names = ["abcdefghijklmnop"[token] for token in tokens[0].tolist()]
    title = "Two layers that learned to copy"
    return plot_attention_heads(maps, names, titles=titles, title=title)


# --- who shares what ---


def sharing() -> Figure:
    """Which key-value head each of eight query heads reads: 8, 2 and 1 of them, and a latent."""
    figure = Figure(figsize=(9, 2.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(-4.6, 40), ylim=(12.9, 0.9), aspect="equal")
    kinds = {"multi-head": 8, "grouped-query": 2, "multi-query": 1}
    for number, (name, n_kv_heads) in enumerate(kinds.items()):
        left = 1.0 + 10 * number
        draw_sharing(axes, left, n_kv_heads)
        axes.text(left + 4, 2.4, name, ha="center", fontsize=10)
        numbers = f"{2 * n_kv_heads * 64:,} values cached per token"
        axes.text(left + 4, 12.3, numbers, ha="center", fontsize=9, color="#444444")
    draw_sharing(axes, 31.0, 8, latent=True)
    axes.text(35, 2.4, "latent", ha="center", fontsize=10)
    axes.text(35, 12.3, "as many as it is wide", ha="center", fontsize=9, color="#444444")
    for y, label in ((4.0, "queries"), (7.6, "keys and\nvalues"), (10.6, "latent")):
        axes.text(-2.0, y, label, ha="center", va="center", fontsize=9, color="#444444")
    return figure


def draw_sharing(axes: Axes, left: float, n_kv_heads: int, *, latent: bool = False) -> None:
    """Query heads above, the key-value heads they read below; what is cached is filled."""
    for head in range(8):
        axes.add_patch(Rectangle((left + head + 0.15, 3.4), 0.7, 1.2, facecolor=BLUE, alpha=0.6))
        kv = (head * n_kv_heads // 8 + 0.5) * 8 / n_kv_heads
        axes.plot([left + head + 0.5, left + kv], [4.6, 7.0], color="#666666", linewidth=0.8)
    for head in range(n_kv_heads):
        at = left + (head + 0.5) * 8 / n_kv_heads - 0.35
        style = {"fill": False, "linestyle": ":"} if latent else {"facecolor": ORANGE, "alpha": 0.7}
        axes.add_patch(Rectangle((at, 7.0), 0.7, 1.2, **style))
        if latent:
            axes.plot([at + 0.35, left + 4], [8.2, 10.0], color="#666666", linewidth=0.8)
    if latent:
        axes.add_patch(Rectangle((left + 2.8, 10.0), 2.4, 1.2, facecolor=PURPLE, alpha=0.8))


# --- sparse patterns ---


def patterns(T: int = 32, window: int = 6) -> dict[str, Tensor]:
    """Masks whose allowed pairs and blocks are drawn, (T, T) bool."""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    near = i - j < window
    return {
        "causal": j <= i,
        "window": (j <= i) & near,
        "window and sinks": (j <= i) & (near | (j < 2)),
        "strided": (j <= i) & ((i - j < 4) | (j % 8 == 7)),
    }


def blocks(block_size: int = 4) -> Figure:
    """Allowed pairs, and the blocks that are computed because they hold one."""
    figure = Figure(figsize=(9.2, 3.15), layout="constrained")
    named = patterns()
    for number, (name, mask) in enumerate(named.items()):
        axes = figure.add_subplot(1, len(named), number + 1)
        needed = block_map(mask, block_size)
        share = needed.float().mean().item()
        T = len(mask)
        coloured = torch.ones(T, T, 3)
        whole = needed.repeat_interleave(block_size, 0).repeat_interleave(block_size, 1)
        coloured[whole] = torch.tensor([0.72, 0.83, 0.91])  # computed, masked inside
        coloured[mask] = torch.tensor([0.0, 0.45, 0.70])  # allowed
        axes.imshow(coloured, interpolation="nearest")
        axes.set_xticks(torch.arange(0, T, block_size) - 0.5, [])
        axes.set_yticks(torch.arange(0, T, block_size) - 0.5, [])
        axes.grid(color="#bbbbbb", linewidth=0.5)
        axes.tick_params(length=0)
        axes.set_title(
            f"{name}\n{mask.float().mean():.0%} allowed, {share:.0%} computed", fontsize=9
        )
    figure.supxlabel("key", fontsize=9)
    figure.supylabel("query", fontsize=9)
    return figure


if __name__ == "__main__":
    run_program(main)

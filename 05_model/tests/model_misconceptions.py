"""Common wrong answers to the exercises of lesson 05; each diagnosis is shown to a learner.

Most exercises have one faulty implementation, `loss_with` and so on, which is right until a setting
makes one mistake. Settings combine, so two mistakes at once are recognized as well. What fits no
setting is a function or class of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists
them by the function or class that they imitate; a wrong class is built with the learner's weights.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask
from attention import scaled_dot_product_attention as right_attention
from encoder_decoder import DecoderBlock as RightBlock
from parts import Parts
from positional_embeddings import LearnedPositions
from token_embeddings import TokenEmbedding
from utils.config import ModelConfig
from utils.grader.mistakes import mistakes

# --- 5.1 predict_first_step ---


def first_step_with(
    *,
    logits: tuple[int, ...] = (8, 20, 50),
    weights: tuple[int, ...] = (8, 4, 20, 20),
    predictions: int = 152,
    loss: float = math.log(50),
) -> dict[str, Any]:
    """The prediction, with one entry changed."""
    return {"logits": logits, "weights": weights, "predictions": predictions, "loss": loss}


FIRST_STEP = mistakes(
    first_step_with,
    one_token_per_position=(
        "the model doesn't return tokens: at each position it gives a score for every token of the "
        "vocabulary",
        {"logits": (8, 20)},
    ),
    only_the_last_position=(
        "the model returns scores at every position, not only at the last one",
        {"logits": (8, 50)},
    ),
    features_for_logits=(
        "these are the features before the output matrix; it turns d_model features into a score "
        "per token of the vocabulary",
        {"logits": (8, 20, 24)},
    ),
    context_for_length=(
        "max_seq_len is the longest sequence that fits; this batch has 20 positions",
        {"logits": (8, 32, 50)},
    ),
    logits_flattened=(
        "the model keeps batch and positions apart; they are flattened for the loss only",
        {"logits": (160, 50)},
    ),
    vocabulary_before_positions=(
        "the scores are the last axis: (batch, positions, vocabulary)",
        {"logits": (8, 50, 20)},
    ),
    no_logits_for_the_last=(
        "the model returns scores at all 20 positions; it is the loss that leaves out the last",
        {"logits": (8, 19, 50)},
    ),
    positions_before_batch=(
        "the batch is the first axis, the positions come second",
        {"logits": (20, 8, 50)},
    ),
    weights_without_heads=(
        "each head has attention weights of its own: n_heads is an axis",
        {"weights": (8, 20, 20)},
    ),
    weights_without_batch=(
        "each sequence has attention weights of its own: the batch is an axis",
        {"weights": (4, 20, 20)},
    ),
    weights_of_the_context=(
        "a query attends to the 20 tokens that are there, not to max_seq_len positions",
        {"weights": (8, 4, 32, 32)},
    ),
    weights_of_features=(
        "that is the shape of queries, keys or values; there is a weight for each pair of a query "
        "and a key",
        {"weights": (8, 4, 20, 6)},
    ),
    weights_of_the_targets=(
        "all 20 positions are queries and keys; only the loss leaves out one",
        {"weights": (8, 4, 19, 19)},
    ),
    heads_last=(
        "the heads come right after the batch: (batch, heads, queries, keys)",
        {"weights": (8, 20, 20, 4)},
    ),
    every_position_predicts=(
        "each sequence of 20 tokens has 19 pairs of a token and its next one: the first token is "
        "predicted by nothing",
        {"predictions": 160},
    ),
    predictions_of_one_sequence=(
        "those are the predictions of one sequence; the batch has 8",
        {"predictions": 19},
    ),
    positions_of_one_sequence=(
        "those are the positions of one sequence; count predictions, in all 8 sequences",
        {"predictions": 20},
    ),
    one_prediction_per_sequence=(
        "a sequence trains more than its last token: every position predicts its next one",
        {"predictions": 8},
    ),
    one_less_in_all=(
        "one prediction is missing in each sequence, not one in the whole batch",
        {"predictions": 159},
    ),
    predictions_of_the_context=(
        "the sequences have 20 tokens; max_seq_len is only what would fit",
        {"predictions": 248},
    ),
    all_logits_counted=(
        "those are the logits; a prediction is one whole row of them",
        {"predictions": 8000},
    ),
    loss_in_bits=(
        "this is the logarithm to base 2, bits; the loss is in nats, the natural logarithm",
        {"loss": 5.64},
    ),
    loss_of_base_ten=(
        "this is the logarithm to base 10; the loss is in nats, the natural logarithm",
        {"loss": 1.7},
    ),
    loss_of_the_length=(
        "this is log 20, as if one of 20 positions were to be guessed; it is one of the tokens of "
        "the vocabulary",
        {"loss": 3.0},
    ),
    loss_of_the_features=(
        "this is log 24; the choice is among the tokens of the vocabulary, not the features",
        {"loss": 3.18},
    ),
    loss_is_the_probability=(
        "this is the probability of each token; the loss is the negative logarithm of it",
        {"loss": 0.02},
    ),
    loss_is_negative=(
        "the loss is the negative logarithm of a probability, so it is positive",
        {"loss": -3.91},
    ),
    loss_is_zero=(
        "logits of 0 are not a loss of 0: they make all 50 tokens equally likely",
        {"loss": 0.0},
    ),
    loss_is_the_sum=(
        "this is the sum over all predictions; the loss is their mean",
        {"loss": 594.63},
    ),
)

# --- 5.2 next_token_loss ---


def loss_with(
    logits: Tensor,
    tokens: Tensor,
    *,
    moved: str = "next",
    scores: str = "logits",
    order: str = "right",
    reduced: str = "mean",
    unit: str = "nats",
    sign: int = 1,
) -> Any:
    """The loss of the next token."""
    logits = logits.log_softmax(1) if scores == "over all positions" else logits
    predictions, targets = MOVES[moved](logits, tokens)
    predictions = SCORES[scores](predictions)
    rows, classes = ORDERS[order](predictions, targets)
    # Logarithms that were taken along another axis are not normed once more.
    given = F.nll_loss if "over" in scores else F.cross_entropy
    losses = sign * given(rows, classes, reduction="none")  # (B (T - 1),)
    losses = losses / UNITS[unit]
    return REDUCTIONS[reduced](losses, tokens)


MOVES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "next": lambda x, t: (x[:, :-1], t[:, 1:]),
    "previous": lambda x, t: (x[:, 1:], t[:, :-1]),
    "own": lambda x, t: (x, t),
    "own, without the last": lambda x, t: (x[:, :-1], t[:, :-1]),
    "own, without the first": lambda x, t: (x[:, 1:], t[:, 1:]),
    "second next": lambda x, t: (x[:, :-2], t[:, 2:]),
    "around": lambda x, t: (x, t.roll(-1, 1)),
    "around, previous": lambda x, t: (x, t.roll(1, 1)),
    "batch": lambda x, t: (x[:-1], t[1:]),
    "only the last": lambda x, t: (x[:, -2:-1], t[:, -1:]),
    "only the first": lambda x, t: (x[:, :1], t[:, 1:2]),
    "first sequence": lambda x, t: (x[:1, :-1], t[:1, 1:]),
    "across sequences": lambda x, t: (x.flatten(0, 1)[None, :-1], t.flatten()[None, 1:]),
}
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda x: x,
    "probabilities": lambda x: x.softmax(-1),
    "log of probabilities, over positions": lambda x: x.log_softmax(1),
    "over all positions": lambda x: x,  # taken already, before the cut
    "over batch": lambda x: x.log_softmax(0),
    "negated": lambda x: -x,
}
ORDERS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "right": lambda x, t: (x.flatten(0, 1), t.flatten()),
    "regrouped": lambda x, t: (x.mT.reshape(-1, x.size(-1)), t.flatten()),
    "targets by position": lambda x, t: (x.flatten(0, 1), t.T.flatten()),
    "scores by position": lambda x, t: (x.transpose(0, 1).flatten(0, 1), t.flatten()),
}
UNITS = {"nats": 1.0, "bits": math.log(2)}
REDUCTIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "mean": lambda losses, t: losses.mean(),
    "sum": lambda losses, t: losses.sum(),
    "mean of sums": lambda losses, t: losses.sum() / t.size(0),
    "sum of means": lambda losses, t: losses.sum() / (t.size(1) - 1),
    "all positions": lambda losses, t: losses.sum() / t.numel(),
    "none": lambda losses, t: losses,
    "per sequence": lambda losses, t: losses.view(t.size(0), -1).mean(-1),
    "perplexity": lambda losses, t: losses.mean().exp(),
    "number": lambda losses, t: losses.mean().item(),
}

LOSS = mistakes(
    loss_with,
    previous_token=(
        "position t is still asked for token t - 1, which it has already seen; it must be asked "
        "for the token that follows",
        {"moved": "previous"},
    ),
    own_token=(
        "nothing is moved: each position is asked for its own token, which is its input",
        {"moved": "own"},
    ),
    own_token_without_the_last=(
        "both are cut at the same end, so each position is asked for its own token",
        {"moved": "own, without the last"},
    ),
    own_token_without_the_first=(
        "both are cut at the same end, so each position is asked for its own token",
        {"moved": "own, without the first"},
    ),
    second_next_token=(
        "each position is asked for the token after the next; move by one",
        {"moved": "second next"},
    ),
    moved_around=(
        "roll moves the first token to the end, so the last position is asked for it; it has "
        "nothing to predict",
        {"moved": "around"},
    ),
    moved_around_the_wrong_way=(
        "roll(1) makes each position predict the token before it, and the first one the last",
        {"moved": "around, previous"},
    ),
    moved_along_the_batch=(
        "the slices cut the batch, the first axis; positions are the second",
        {"moved": "batch"},
    ),
    only_the_last_token=(
        "only the last token is predicted; every position has a next token to predict but the last",
        {"moved": "only the last"},
    ),
    only_the_first_prediction=(
        "only the first position is asked; all but the last are",
        {"moved": "only the first"},
    ),
    only_the_first_sequence=(
        "only the first sequence of the batch counts; all do",
        {"moved": "first sequence"},
    ),
    across_the_sequences=(
        "the batch is flattened before it is moved, so the end of one sequence is asked for the "
        "beginning of the next; cut each sequence by itself",
        {"moved": "across sequences"},
    ),
    softmax_twice=(
        "a softmax is taken first; cross_entropy takes logits, and has a softmax of its own",
        {"scores": "probabilities"},
    ),
    softmax_over_positions=(
        "the softmax runs over the positions; it belongs to the vocabulary, the last axis",
        {"scores": "log of probabilities, over positions"},
    ),
    softmax_over_all_positions=(
        "the softmax runs over the positions; it belongs to the vocabulary, the last axis",
        {"scores": "over all positions"},
    ),
    softmax_over_the_batch=(
        "the softmax runs over the batch; it belongs to the vocabulary, the last axis",
        {"scores": "over batch"},
    ),
    scores_negated=(
        "the scores are negated, so the least likely token is the best",
        {"scores": "negated"},
    ),
    scores_regrouped=(
        "a transposed tensor is flattened, which gives each prediction the scores of others; "
        "flatten the first two axes and leave the vocabulary last",
        {"order": "regrouped"},
    ),
    targets_in_another_order=(
        "the targets are flattened position by position, and the predictions sequence by sequence",
        {"order": "targets by position"},
    ),
    predictions_in_another_order=(
        "the predictions are flattened position by position, and the targets sequence by sequence",
        {"order": "scores by position"},
    ),
    summed=("the losses are summed; take the mean over all predictions", {"reduced": "sum"}),
    mean_over_sequences_only=(
        "the losses of a sequence are summed, and only then averaged over the batch; take the mean "
        "over all predictions",
        {"reduced": "mean of sums"},
    ),
    mean_over_positions_only=(
        "the sum is divided by T - 1 only; there are B (T - 1) predictions",
        {"reduced": "sum of means"},
    ),
    divided_by_all_positions=(
        "the sum is divided by B T; only B (T - 1) positions have something to predict",
        {"reduced": "all positions"},
    ),
    not_reduced=("the losses are not averaged; return their mean", {"reduced": "none"}),
    one_loss_per_sequence=(
        "there is a mean for each sequence; return one for all predictions",
        {"reduced": "per sequence"},
    ),
    perplexity=("this is the perplexity; the loss is its logarithm", {"reduced": "perplexity"}),
    a_plain_number=(
        "this is a plain number, through which no gradient can flow; return the tensor",
        {"reduced": "number"},
    ),
    in_bits=("the loss is in bits; nats are asked for", {"unit": "bits"}),
    wrong_sign=("the sign is wrong: a loss is positive, and small when all is well", {"sign": -1}),
)

# --- 5.3 TinyTransformerLM ---


class ModelWith(nn.Module):
    """The model."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        start: str = "both",
        positions: str = "from 0",
        masking: str = "causal",
        masked: str = "all blocks",
        stack: str = "all",
        norming: str = "last",
        table: str = "as configured",
        returned: str = "logits",
    ) -> None:
        super().__init__()
        parts = Parts.reference()
        self.token_embedding = TokenEmbedding(config.vocab_size, config.d_model)
        self.position_embedding = LearnedPositions(config.max_seq_len, config.d_model)
        self.blocks = nn.ModuleList(parts.build_block(config) for _ in range(config.n_layers))
        self.final_norm = parts.build_norm(config)
        self.unembedding = (
            None if config.tie_weights else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.config = config
        self.start = start
        self.positions = positions
        self.masking = masking
        self.masked = masked
        self.stack = stack
        self.norming = norming
        self.table = table
        self.returned = returned

    def forward(self, tokens: Tensor) -> Any:
        length = tokens.size(1)
        embedded = self.token_embedding(tokens)
        where = WHERE[self.positions](tokens, self.config)
        placed = 0.0 if where is None else self.position_embedding(where)
        if self.start == "multiplied":
            x = embedded * placed
        elif self.start == "scaled":
            x = embedded * math.sqrt(self.config.d_model) + placed
        elif self.start == "scaled together":
            x = (embedded + placed) * math.sqrt(self.config.d_model)
        else:
            x = embedded + placed
        x = self.final_norm(x) if self.norming == "first" else x
        x = self.run(x, MODEL_MASKS[self.masking](length, self.config))
        x = (
            self.final_norm(x)
            if self.norming in ("last", "every", "twice", "first and last")
            else x
        )
        x = self.final_norm(x) if self.norming == "twice" else x
        return RETURNS[self.returned](self.scores(x, embedded), x)

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        first = x
        blocks = STACKS[self.stack](list(self.blocks))
        given = mask
        for number, block in enumerate(blocks):
            mask = given if MASKED_BLOCKS[self.masked](number, len(blocks)) else None
            if self.stack == "in parallel":
                x = x + block(first, mask) - first
            elif self.stack == "each on the input":
                x = block(first, mask)
            elif self.stack == "added again":
                x = x + block(x, mask)
            elif self.stack == "input added":
                x = block(x, mask) + first
            else:
                x = block(x, mask)
            if self.norming == "every" and number < len(blocks) - 1:
                x = self.final_norm(x)
        return x

    def scores(self, x: Tensor, embedded: Tensor) -> Tensor:
        if self.table == "always tied" or (self.unembedding is None and self.table != "always own"):
            return x @ self.token_embedding.weight.T
        if self.table == "not transposed":
            return x @ self.token_embedding.weight
        return self.unembedding(x)  # pyright: ignore[reportOptionalCall]


WHERE: dict[str, Callable[[Tensor, ModelConfig], Tensor | None]] = {
    "from 0": lambda t, c: torch.arange(t.size(1)),
    "none": lambda t, c: None,
    "from 1": lambda t, c: torch.arange(1, t.size(1) + 1) % c.max_seq_len,
    "from 1, stopped": lambda t, c: torch.arange(1, t.size(1) + 1).clamp(max=c.max_seq_len - 1),
    "all 0": lambda t, c: torch.zeros(t.size(1), dtype=torch.long),
    "backward": lambda t, c: torch.arange(t.size(1)).flip(0),
    "at the end": lambda t, c: torch.arange(c.max_seq_len - t.size(1), c.max_seq_len),
    "all of the context": lambda t, c: torch.arange(c.max_seq_len),
    "of the batch": lambda t, c: torch.arange(t.size(0))[:, None].expand(-1, t.size(1)),
    "the tokens": lambda t, c: t % c.max_seq_len,
    "the length": lambda t, c: torch.full((t.size(1),), t.size(1) - 1),
}
MODEL_MASKS: dict[str, Callable[[int, ModelConfig], Tensor | None]] = {
    "causal": lambda T, c: causal_mask(T),
    "none": lambda T, c: None,
    "inverted": lambda T, c: ~causal_mask(T),
    "future": lambda T, c: causal_mask(T).T,
    "one ahead": lambda T, c: torch.ones(T, T, dtype=torch.bool).tril(1),
    "without itself": lambda T, c: torch.ones(T, T, dtype=torch.bool).tril(-1),
    "of the context": lambda T, c: causal_mask(c.max_seq_len),
    "added": lambda T, c: causal_mask(T).float(),
    "only itself": lambda T, c: torch.eye(T, dtype=torch.bool),
}
MASKED_BLOCKS: dict[str, Callable[[int, int], bool]] = {
    "all blocks": lambda number, n: True,
    "first only": lambda number, n: number == 0,
    "last only": lambda number, n: number == n - 1,
    "all but the first": lambda number, n: number > 0,
}
STACKS: dict[str, Callable[[list[nn.Module]], list[nn.Module]]] = {
    "first only": lambda blocks: blocks[:1],
    "none": lambda blocks: [],
    "all but the last": lambda blocks: blocks[:-1],
    "last only": lambda blocks: blocks[-1:],
    "backward": lambda blocks: blocks[::-1],
    "twice": lambda blocks: blocks + blocks,
    "first one repeated": lambda blocks: blocks[:1] * len(blocks),
    **{
        name: lambda blocks: blocks
        for name in ("all", "in parallel", "each on the input", "added again", "input added")
    },
}
RETURNS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "logits": lambda logits, x: logits,
    "features": lambda logits, x: x,
    "probabilities": lambda logits, x: logits.softmax(-1),
    "log-probabilities": lambda logits, x: logits.log_softmax(-1),
    "best tokens": lambda logits, x: logits.argmax(-1),
    "last": lambda logits, x: logits[:, -1],
    "last, with its axis": lambda logits, x: logits[:, -1:],
    "scaled": lambda logits, x: logits / math.sqrt(x.size(-1)),
    "pair": lambda logits, x: (logits, x),
    "flat": lambda logits, x: logits.flatten(0, 1),
    "turned": lambda logits, x: logits.mT,
}

MODEL = mistakes(
    ModelWith,
    NoPositions=(
        "the position embedding is not added: the model can't tell where a token is",
        {"positions": "none"},
    ),
    PositionsFromOne=("the positions start at 1; they start at 0", {"positions": "from 1"}),
    PositionsFromOneAndStopped=(
        "the positions start at 1, and the last is repeated where the table ends; they start at 0",
        {"positions": "from 1, stopped"},
    ),
    AllAtPositionZero=(
        "every token gets the embedding of position 0; use 0, 1, 2, ...",
        {"positions": "all 0"},
    ),
    PositionsBackward=(
        "the positions run backward; they are 0, 1, 2, ...",
        {"positions": "backward"},
    ),
    PositionsOfTheContext=(
        "there are max_seq_len positions, whatever the number of tokens; make one for each token",
        {"positions": "all of the context"},
    ),
    PositionsOfTheBatch=(
        "the rows of the batch are numbered, not the tokens; T is tokens.size(1)",
        {"positions": "of the batch"},
    ),
    TokensScaled=(
        "the token embedding is multiplied by the square root of d_model, as in the first "
        "transformer; this model doesn't do that",
        {"start": "scaled"},
    ),
    EmbeddingsScaledTogether=(
        "the sum of both embeddings is multiplied by the square root of d_model; this model "
        "doesn't scale",
        {"start": "scaled together"},
    ),
    WithoutItself=(
        "no position sees itself; it sees itself and what came before",
        {"masking": "without itself"},
    ),
    NoMask=("the blocks get no mask, so every position sees the future", {"masking": "none"}),
    MaskInTheFirstBlockOnly=(
        "only the first block gets the mask; each of them needs it",
        {"masked": "first only"},
    ),
    MaskInTheLastBlockOnly=(
        "only the last block gets the mask; each of them needs it",
        {"masked": "last only"},
    ),
    MaskInverted=(
        "the mask is inverted: True means that a query may attend to a key",
        {"masking": "inverted"},
    ),
    SeesTheFuture=(
        "the triangle is upside down: each position sees itself and the future",
        {"masking": "future"},
    ),
    OneStepAhead=("each position also sees the next one", {"masking": "one ahead"}),
    MaskOfTheContext=(
        "the mask has max_seq_len rows; make it for the T tokens that are there",
        {"masking": "of the context"},
    ),
    MaskOfNumbers=(
        "the mask holds the numbers 1 and 0, which are added to the scores and hide nothing; make "
        "it boolean",
        {"masking": "added"},
    ),
    OnlyTheFirstBlock=("only the first block is used; loop over all", {"stack": "first only"}),
    NoBlocks=("the blocks are not used", {"stack": "none"}),
    EachBlockOnTheInput=(
        "each block reads the embedding again, and only the last one's result is kept; each "
        "continues what the one before has left",
        {"stack": "each on the input"},
    ),
    BlocksAddedAgain=(
        "a block's output is added to x; the residual connections are inside the block already",
        {"stack": "added again"},
    ),
    NoFinalNorm=("the final norm is missing", {"norming": "none"}),
    NormAfterEveryBlock=(
        "the final norm is applied after every block; it comes once, after the last",
        {"norming": "every"},
    ),
    NormBeforeTheBlocks=(
        "the final norm is applied before the blocks; it comes after the last",
        {"norming": "first"},
    ),
    AlwaysTied=(
        "the token embedding is used as the output, although the model has an unembedding of its "
        "own",
        {"table": "always tied"},
    ),
    NeverTied=(
        "unembedding is None if weights are tied: then the token embedding is the output matrix",
        {"table": "always own"},
    ),
    Features=("these are the features; the logits are still missing", {"returned": "features"}),
    Probabilities=(
        "a softmax is taken; the model returns logits, and the loss takes the softmax",
        {"returned": "probabilities"},
    ),
    LogProbabilities=(
        "a log-softmax is taken; the model returns logits, and the loss takes the log-softmax",
        {"returned": "log-probabilities"},
    ),
    BestTokens=(
        "these are the tokens with the largest scores; return the scores",
        {"returned": "best tokens"},
    ),
    OnlyTheLastPosition=(
        "only the logits of the last position are returned; all positions are trained",
        {"returned": "last"},
    ),
    LogitsScaled=(
        "the logits are divided by the square root of d_model; that belongs to attention's scores",
        {"returned": "scaled"},
    ),
    PairReturned=("two values are returned; return the logits alone", {"returned": "pair"}),
)

# --- 5.4 prefix_mask ---

Device = torch.device | str | None


def prefix_with(
    T: int,
    n_prefix: int,
    device: Device = None,
    *,
    prompt: str = "keys",
    rest: str = "causal",
    joined: str = "or",
    offset: int = 0,
    inverted: bool = False,
    kind: str = "boolean",
    axes: int = 0,
    place: str = "as asked",
) -> Tensor:
    """The prefix mask."""
    at = None if place == "ignored" else device
    i, j = torch.arange(T, device=at)[:, None], torch.arange(T, device=at)
    n = n_prefix + offset
    known = PROMPTS[prompt](i, j, n, T)
    known = known.expand(T, T)
    allowed = JOINS[joined](RESTS[rest](i, j, n_prefix), known)
    allowed = ~allowed if inverted else allowed
    allowed = allowed[(None,) * axes]
    if kind == "additive":
        zeros = torch.zeros(allowed.shape, device=at)
        return zeros.masked_fill(~allowed, -math.inf)
    return allowed.to({"boolean": torch.bool, "numbers": torch.float32, "whole": torch.long}[kind])


PROMPTS: dict[str, Callable[[Tensor, Tensor, int, int], Tensor]] = {
    "keys": lambda i, j, n, T: j < n,
    "queries": lambda i, j, n, T: i < n,
    "either": lambda i, j, n, T: (i < n) | (j < n),
    "last keys": lambda i, j, n, T: j >= T - n,
    "answer keys": lambda i, j, n, T: j >= n,
    "answer block": lambda i, j, n, T: (j >= n) & (i >= n),
    "nothing": lambda i, j, n, T: j < 0,
    "everything": lambda i, j, n, T: j >= 0,
    "one key": lambda i, j, n, T: j == n,
    "all without": lambda i, j, n, T: j < (n or T),
}
RESTS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "causal": lambda i, j, n: j <= i,
    "strict": lambda i, j, n: j < i,
    "one ahead": lambda i, j, n: j <= i + 1,
    "future": lambda i, j, n: j >= i,
    "nothing": lambda i, j, n: (j < 0) & (i < 0),
    "only itself": lambda i, j, n: j == i,
    "moved": lambda i, j, n: j <= i + max(n - 1, 0),
    "moved by all": lambda i, j, n: j <= i + n,
}
JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
}

PREFIX = mistakes(
    prefix_with,
    queries_of_the_prompt_see_all=(
        "the first n_prefix queries see everything, the answer too; it's the keys of the prompt "
        "that all may see",
        {"prompt": "queries"},
    ),
    last_tokens_are_the_prompt=(
        "the last n_prefix keys are open to all; the prompt comes first",
        {"prompt": "last keys"},
    ),
    answer_is_the_prompt=(
        "the keys after the prompt are open to all; it's the prompt that is",
        {"prompt": "answer keys"},
    ),
    answer_sees_itself=(
        "the answer sees all of itself, the future too; it is the prompt that sees itself whole",
        {"prompt": "answer block"},
    ),
    only_causal=(
        "this is the causal mask: the prompt is still read from left to right",
        {"prompt": "nothing"},
    ),
    diagonal_moved=(
        "the diagonal is moved by the length of the prompt, so every query sees that much ahead; "
        "the prompt is open, and after it the mask is causal",
        {"prompt": "nothing", "rest": "moved"},
    ),
    diagonal_moved_by_n_prefix=(
        "the diagonal is moved by n_prefix, so every query sees that much ahead; the prompt is "
        "open, and after it the mask is causal",
        {"prompt": "nothing", "rest": "moved by all"},
    ),
    no_prompt_taken_for_all=(
        "n_prefix = 0 is taken for a prompt of all T tokens, so nothing is hidden; without a "
        "prompt the mask is causal (0 counts as False)",
        {"prompt": "all without"},
    ),
    nothing_is_hidden=("nothing is hidden: the answer sees its future", {"prompt": "everything"}),
    one_key_only=(
        "only the key at n_prefix is opened; all keys before it are the prompt",
        {"prompt": "one key"},
    ),
    prompt_one_too_long=(
        "the prompt is one token too long: the keys are 0 to n_prefix - 1",
        {"offset": 1},
    ),
    prompt_one_too_short=(
        "the prompt is one token too short: the keys are 0 to n_prefix - 1",
        {"offset": -1},
    ),
    without_itself=("a position of the answer doesn't see itself", {"rest": "strict"}),
    one_step_ahead=("a position of the answer sees one step ahead", {"rest": "one ahead"}),
    sees_the_future=("outside the prompt, each position sees the future", {"rest": "future"}),
    only_the_prompt=(
        "only the prompt can be seen; the answer should also see itself and what came before",
        {"rest": "nothing"},
    ),
    only_itself_beside_the_prompt=(
        "a position of the answer sees the prompt and itself only; it should see all of the answer "
        "so far",
        {"rest": "only itself"},
    ),
    both_conditions=(
        "both conditions must hold here; one of them is enough (|, not &)",
        {"joined": "and"},
    ),
    either_but_not_both=(
        "where both conditions hold the result is False: use |, not ^ or !=",
        {"joined": "xor"},
    ),
    true_means_forbidden=(
        "True and False are exchanged: True means that a query may attend",
        {"inverted": True},
    ),
    ones_and_zeros=(
        "the mask contains the numbers 1 and 0; make it boolean",
        {"kind": "numbers"},
    ),
    whole_numbers=(
        "the mask contains the whole numbers 1 and 0; make it boolean",
        {"kind": "whole"},
    ),
    additive=(
        "this is an additive mask of 0 and -inf; a boolean one is asked for",
        {"kind": "additive"},
    ),
    axes_in_front=(
        "the mask has axes of size 1 in front; (T, T) is asked for, and broadcasts all the same",
        {"axes": 2},
    ),
    one_axis_in_front=(
        "the mask has an axis of size 1 in front; (T, T) is asked for",
        {"axes": 1},
    ),
    device_ignored=(
        "the argument device is not used: hand it to the functions that make tensors",
        {"place": "ignored"},
    ),
)

# --- 5.5 read_patterns ---

RIGHT_LETTERS = {
    "encoder": "B",
    "encoder with padding": "F",
    "decoder": "A",
    "prefix LM": "D",
    "cross-attention": "C",
    "decoder with a leak": "E",
}


def patterns_with(**letters: str) -> dict[str, str]:
    """The reading, with some letters changed."""
    return RIGHT_LETTERS | {name.replace("_", " "): letter for name, letter in letters.items()}


def square_taken_for_cross_attention() -> dict[str, str]:
    """that panel is square, the same text on both sides; cross-attention has queries of one text
    and keys of another, as a rule of different length"""
    return RIGHT_LETTERS | {"encoder": "C", "cross-attention": "B"}


def leak_taken_for_the_decoder() -> dict[str, str]:
    """look at the first query: it sees two keys, its own and the next; a decoder's first query sees
    one"""
    return RIGHT_LETTERS | {"decoder": "E", "decoder with a leak": "A"}


def prefix_taken_for_the_decoder() -> dict[str, str]:
    """the first queries of that panel see three keys each, which a causal mask never allows"""
    return RIGHT_LETTERS | {"decoder": "D", "prefix LM": "A"}


def leak_taken_for_the_prefix() -> dict[str, str]:
    """in that panel each query sees exactly one key more than the one before; the first queries of
    a prefix LM all see the same keys"""
    return RIGHT_LETTERS | {"prefix LM": "E", "decoder with a leak": "D"}


def padding_taken_for_the_prefix() -> dict[str, str]:
    """in that panel the same keys are hidden from every query, which is padding; after its prompt a
    prefix LM sees one key more with each query"""
    return RIGHT_LETTERS | {"prefix LM": "F", "encoder with padding": "D"}


def padded_taken_for_the_encoder() -> dict[str, str]:
    """two columns of that panel are grey: keys that hold no token"""
    return RIGHT_LETTERS | {"encoder": "F", "encoder with padding": "B"}


def padding_taken_for_cross_attention() -> dict[str, str]:
    """grey columns are hidden keys of the same text; a panel of cross-attention isn't square"""
    return RIGHT_LETTERS | {"cross-attention": "F", "encoder with padding": "C"}


def causal_taken_for_the_encoder() -> dict[str, str]:
    """that is a triangle: an encoder hides nothing"""
    return RIGHT_LETTERS | {"encoder": "A", "decoder": "B"}


READ = (
    square_taken_for_cross_attention,
    leak_taken_for_the_decoder,
    prefix_taken_for_the_decoder,
    leak_taken_for_the_prefix,
    padding_taken_for_the_prefix,
    padded_taken_for_the_encoder,
    padding_taken_for_cross_attention,
    causal_taken_for_the_encoder,
)

# --- 5.6 tied_gradient ---


def tied_with(
    tokens: Tensor,
    grad_embedded: Tensor,
    features: Tensor,
    grad_logits: Tensor,
    vocab_size: int,
    *,
    ends: str = "both",
    rows: str = "tokens",
    repeated: str = "summed",
    product: str = "features",
    batch: str = "all",
    scale: str = "sum",
    shape: str = "rows",
    turned: str = "transposed",
    dtype: torch.dtype | None = None,
) -> Any:
    """The gradient of the table."""
    if batch == "first":
        tokens, grad_embedded = tokens[:1], grad_embedded[:1]
        features, grad_logits = features[:1], grad_logits[:1]
    if batch == "last position":
        features, grad_logits = features[:, -1:], grad_logits[:, -1:]
    if batch == "without the last position":
        features, grad_logits = features[:, :-1], grad_logits[:, :-1]
    left = {
        "features": features,
        "grad_embedded": grad_embedded[:, : features.size(1)],
        "probabilities": features,
        "largest": features,
    }[product]
    weights = grad_logits.softmax(-1) if product == "probabilities" else grad_logits
    if product == "largest":
        weights = F.one_hot(grad_logits.argmax(-1), vocab_size).to(features.dtype)
    if turned == "reshaped":
        flat = left.reshape(-1, left.size(-1))
        as_output = weights.reshape(vocab_size, -1) @ flat
    elif turned == "features reshaped":
        flat = left.reshape(left.size(-1), -1)
        as_output = (flat @ weights.reshape(-1, vocab_size)).T
    else:
        as_output = torch.einsum("btv,btd->vd", weights, left)
    places = {
        "tokens": tokens,
        "positions": torch.arange(tokens.size(1)).expand_as(tokens) % vocab_size,
    }[rows]
    incoming = features if product == "grad_embedded" else grad_embedded
    incoming = incoming[:, : tokens.size(1)]
    as_input = ADDED[repeated](places, incoming, vocab_size)
    result = ENDS[ends](as_input, as_output)
    result = SCALED[scale](result, tokens, vocab_size)
    result = result if dtype is None else result.to(dtype)
    return result.T if shape == "columns" else result


def summed(places: Tensor, values: Tensor, n: int) -> Tensor:
    zeros = values.new_zeros(n, values.size(-1))
    return zeros.index_add(0, places.flatten(), values.flatten(0, 1))


def last_one(places: Tensor, values: Tensor, n: int) -> Tensor:
    table = values.new_zeros(n, values.size(-1))
    for place, value in zip(places.flatten().tolist(), values.flatten(0, 1), strict=True):
        table[place] = value
    return table


def first_one(places: Tensor, values: Tensor, n: int) -> Tensor:
    return last_one(places.flip(0, 1), values.flip(0, 1), n)


def counts_of(places: Tensor, n: int) -> Tensor:
    return places.flatten().bincount(minlength=n).clamp(min=1)[:, None]


ADDED: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "summed": summed,
    "last one": last_one,
    "first one": first_one,
    "averaged": lambda p, v, n: summed(p, v, n) / counts_of(p, n),
    "last sequence": lambda p, v, n: last_of_the_batch(p, v, n),
}


def last_of_the_batch(places: Tensor, values: Tensor, n: int) -> Tensor:
    """Each sequence replaces what the one before has left."""
    table = values.new_zeros(n, values.size(-1))
    for row, value in zip(places, values, strict=True):
        own = summed(row, value[None], n)
        table[row] = own[row]
    return table


ENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "both": lambda a, b: a + b,
    "input": lambda a, b: a,
    "output": lambda a, b: b,
    "difference": lambda a, b: b - a,
    "other difference": lambda a, b: a - b,
    "average": lambda a, b: (a + b) / 2,
    "product": lambda a, b: a * b,
    "output where read": lambda a, b: a + b * (a != 0).any(-1, keepdim=True),
    "input twice": lambda a, b: 2 * a + b,
    "output twice": lambda a, b: a + 2 * b,
    "side by side": lambda a, b: torch.cat((a, b), -1),
    "in a row": lambda a, b: torch.cat((a, b)),
    "stacked": lambda a, b: torch.stack((a, b)),
}
SCALED: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "sum": lambda x, t, n: x,
    "mean over the batch": lambda x, t, n: x / t.size(0),
    "mean over positions": lambda x, t, n: x / t.size(1),
    "mean over tokens": lambda x, t, n: x / t.numel(),
    "mean over rows": lambda x, t, n: x / n,
    "negated": lambda x, t, n: -x,
}

TIED = mistakes(
    tied_with,
    only_the_input=(
        "only the use as embedding counts; the table is also used for the logits",
        {"ends": "input"},
    ),
    only_the_output=(
        "only the use for the logits counts; the table is also looked up for the input",
        {"ends": "output"},
    ),
    input_subtracted=(
        "the contribution of the input is subtracted; add both",
        {"ends": "difference"},
    ),
    output_subtracted=(
        "the contribution of the output is subtracted; add both",
        {"ends": "other difference"},
    ),
    ends_averaged=("the two contributions are averaged; add them", {"ends": "average"}),
    ends_multiplied=("the two contributions are multiplied; add them", {"ends": "product"}),
    output_only_for_tokens_that_occur=(
        "tokens that don't occur in the input get nothing; from the output every row gets a "
        "gradient",
        {"ends": "output where read"},
    ),
    input_counted_twice=("the contribution of the input is counted twice", {"ends": "input twice"}),
    output_counted_twice=(
        "the contribution of the output is counted twice",
        {"ends": "output twice"},
    ),
    ends_side_by_side=(
        "the two contributions are side by side; it is one table, so add them",
        {"ends": "side by side"},
    ),
    ends_in_a_row=(
        "the two contributions are put below each other; it is one table, so add them",
        {"ends": "in a row"},
    ),
    ends_stacked=(
        "both contributions are returned; it is one table, add them",
        {"ends": "stacked"},
    ),
    last_occurrence_only=(
        "a token that occurs more than once keeps only its last gradient: an assignment to rows "
        "that repeat overwrites; the gradients must add up (index_add_)",
        {"repeated": "last one"},
    ),
    first_occurrence_only=(
        "a token that occurs more than once keeps only its first gradient; they must add up",
        {"repeated": "first one"},
    ),
    occurrences_averaged=(
        "the gradients of a token that occurs more than once are averaged; they add up",
        {"repeated": "averaged"},
    ),
    last_sequence_only=(
        "each sequence overwrites what the one before gave to a row; all of the batch adds up",
        {"repeated": "last sequence"},
    ),
    rows_by_position=(
        "the gradients of the embedding go to the rows of positions; they belong to the rows of "
        "the tokens",
        {"rows": "positions"},
    ),
    features_and_gradient_exchanged=(
        "features and grad_embedded are exchanged: grad_embedded goes to the rows of the tokens, "
        "features are multiplied by grad_logits",
        {"product": "grad_embedded"},
    ),
    softmax_of_the_gradient=(
        "a softmax of grad_logits is taken; it is a gradient already",
        {"product": "probabilities"},
    ),
    largest_score_only=(
        "only the token with the largest entry of grad_logits counts; every row is a factor of its "
        "own logit",
        {"product": "largest"},
    ),
    first_sequence_only=("only the first sequence of the batch counts", {"batch": "first"}),
    last_position_only=(
        "only the last position's logits count; the table is used at every position",
        {"batch": "last position"},
    ),
    without_the_last_position=(
        "the last position's logits are left out; grad_logits says what they contribute",
        {"batch": "without the last position"},
    ),
    averaged_over_the_batch=(
        "the sum is divided by B; the gradients are those of the loss already, so they only add up",
        {"scale": "mean over the batch"},
    ),
    averaged_over_positions=(
        "the sum is divided by T; the gradients are those of the loss already, so they only add up",
        {"scale": "mean over positions"},
    ),
    averaged_over_tokens=(
        "the sum is divided by B T; the gradients are those of the loss already, so they only add "
        "up",
        {"scale": "mean over tokens"},
    ),
    reshaped_for_transposed=(
        "grad_logits is reshaped to (vocab_size, B T) where it should be transposed: reshape "
        "leaves the numbers in their order, so the rows no longer belong to the tokens",
        {"turned": "reshaped"},
    ),
    always_float32=(
        "the result is always float32; make it of the dtype of the gradients",
        {"dtype": torch.float32},
    ),
    negated=("the sign is wrong: this is the step down, not the gradient", {"scale": "negated"}),
    transposed=(
        "the result is transposed: (vocab_size, d_model) has a row for each token",
        {"shape": "columns"},
    ),
)

# --- 5.7 initial_weights ---


def weights_with(
    shapes: dict[str, tuple[int, ...]],
    seed: int,
    std: float = 0.02,
    *,
    order: str = "names",
    source: str = "own",
    rules: str = "right",
    scale: str = "std",
    law: str = "normal",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """The first weights."""
    generator = torch.Generator().manual_seed(0 if source == "seed 0" else seed)
    if source == "global, seeded":
        torch.manual_seed(seed)
    values = {}
    for name in WEIGHT_ORDERS[order](shapes):
        shape = shapes[name]
        if source in ("one per name", "one per name, numbered"):
            generator = torch.Generator().manual_seed(
                seed + (len(values) if "num" in source else 0)
            )
        kind = RULES[rules](name)
        if source == "drawn for all" and kind != "random":
            torch.randn(shape, generator=generator)
        if source == "drawn twice":
            torch.randn(shape, generator=generator)
        used = None if source in ("global", "global, seeded") else generator
        if kind == "random":
            numbers = LAWS[law](shape, used)
            values[name] = (WEIGHT_SCALES[scale](shape, std) * numbers).to(dtype)
        else:
            values[name] = (torch.zeros if kind == "zeros" else torch.ones)(shape, dtype=dtype)
    return values


def by_number(name: str) -> list[tuple[int, str]]:
    """The parts of a name, numbers by their size and before texts."""
    return [(int(part) if part.isdigit() else 10**9, part) for part in name.split(".")]


WEIGHT_ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "names": lambda shapes: sorted(shapes),
    "given": lambda shapes: list(shapes),
    "backward": lambda shapes: sorted(shapes, reverse=True),
    "shapes": lambda shapes: sorted(shapes, key=lambda name: (shapes[name], name)),
    "length": lambda shapes: sorted(shapes, key=lambda name: (len(name), name)),
    "numbers": lambda shapes: sorted(shapes, key=by_number),
    "last part": lambda shapes: sorted(shapes, key=lambda name: name.split(".")[::-1]),
}
ZEROS = ("bias", "out_proj.weight", "down_proj.weight", "unembedding.weight")


def rule(
    zeros: tuple[str, ...] = ZEROS, norm: str = "ones", first: str = "zeros"
) -> Callable[[str], str]:
    """Which values a name gets, by the endings of what is zero."""

    def kind(name: str) -> str:
        if first == "norm" and "norm" in name:
            return norm
        if name.endswith(zeros):
            return "zeros"
        return norm if "norm" in name else "random"

    return kind


RULES: dict[str, Callable[[str], str]] = {
    "right": rule(),
    "norm first": rule(first="norm"),
    "biases random": rule(ZEROS[1:]),
    "outputs random": rule(("bias",)),
    "out_proj random": rule(("bias", "down_proj.weight", "unembedding.weight")),
    "down_proj random": rule(("bias", "out_proj.weight", "unembedding.weight")),
    "unembedding random": rule(("bias", "out_proj.weight", "down_proj.weight")),
    "all projections zero": rule(("bias", "proj.weight", "unembedding.weight")),
    "embeddings zero": rule((*ZEROS, "embedding.weight")),
    "norms zero": rule(norm="zeros"),
    "norms random": rule(norm="random"),
    "up_proj zero": rule((*ZEROS, "up_proj.weight")),
}
WEIGHT_SCALES: dict[str, Callable[[tuple[int, ...], float], float]] = {
    "std": lambda shape, std: std,
    "none": lambda shape, std: 1.0,
    "fixed": lambda shape, std: 0.02,
    "variance": lambda shape, std: std**2,
    "root": lambda shape, std: math.sqrt(std),
    "by width": lambda shape, std: shape[-1] ** -0.5,
}
LAWS: dict[str, Callable[[tuple[int, ...], Any], Tensor]] = {
    "normal": lambda shape, source: torch.randn(shape, generator=source),
    "uniform": lambda shape, source: torch.rand(shape, generator=source),
    "uniform around 0": lambda shape, source: 2 * torch.rand(shape, generator=source) - 1,
    "transposed": lambda shape, source: torch.randn(shape[::-1], generator=source).T,
    "moved": lambda shape, source: torch.randn(shape, generator=source) + 1,
    "float64": lambda shape, source: torch.randn(shape, generator=source, dtype=torch.float64),
    "row by row": lambda shape, source: torch.stack(
        [torch.randn(shape[1:], generator=source) for _ in range(shape[0])]
    ),
}

WEIGHTS = mistakes(
    weights_with,
    in_the_order_given=(
        "the weights are drawn in the order in which the shapes come; draw them in the "
        "alphabetical order of the names",
        {"order": "given"},
    ),
    in_reverse_order=("the names are sorted backward", {"order": "backward"}),
    in_the_order_of_shapes=(
        "the weights are drawn in the order of their shapes; sort the names",
        {"order": "shapes"},
    ),
    pytorchs_generator=(
        "PyTorch's own random numbers are used, so the seed changes nothing; draw from a generator "
        "of your own with this seed",
        {"source": "global"},
    ),
    a_generator_per_name=(
        "a new generator is made for each name, so every matrix begins with the same numbers; make "
        "one for all",
        {"source": "one per name"},
    ),
    a_generator_per_name_numbered=(
        "a new generator is made for each name, with a seed of its own; make one for all",
        {"source": "one per name, numbered"},
    ),
    drawn_for_all=(
        "random numbers are drawn for zeros and ones too, which moves those of later names; draw "
        "only where they are used",
        {"source": "drawn for all"},
    ),
    numbers_sorted_as_numbers=(
        "the names are sorted with their numbers as numbers, block 2 before block 10; sorted() "
        "compares the texts, and puts 10 before 2",
        {"order": "numbers"},
    ),
    seed_ignored=("the seed is always 0; use the argument", {"source": "seed 0"}),
    biases_of_norms_are_ones=(
        'the biases of norms are ones: "norm" is looked for first; a bias is zero whatever layer '
        "it belongs to",
        {"rules": "norm first"},
    ),
    biases_random=("the biases are random; they are zero", {"rules": "biases random"}),
    outputs_random=(
        "the matrices that write to the stream or to the logits are random; they start at zero",
        {"rules": "outputs random"},
    ),
    out_proj_random=("out_proj.weight is random; it starts at zero", {"rules": "out_proj random"}),
    down_proj_random=(
        "down_proj.weight is random; it starts at zero",
        {"rules": "down_proj random"},
    ),
    unembedding_random=(
        "unembedding.weight is random; at zero, the first loss is exactly log V",
        {"rules": "unembedding random"},
    ),
    all_projections_zero=(
        "every projection is zero, queries and up_proj too; then no gradient ever moves them. Only "
        "out_proj and down_proj start at zero",
        {"rules": "all projections zero"},
    ),
    embeddings_zero=(
        "embedding.weight gets zeros, too; the name of the output matrix is unembedding.weight, "
        "and embeddings are random",
        {"rules": "embeddings zero"},
    ),
    up_proj_zero=(
        "up_proj.weight is zero; only out_proj and down_proj are",
        {"rules": "up_proj zero"},
    ),
    norms_zero=("the weights of norms are zero; they start at one", {"rules": "norms zero"}),
    norms_random=("the weights of norms are random; they start at one", {"rules": "norms random"}),
    not_scaled=("the random numbers are not multiplied by std", {"scale": "none"}),
    std_fixed=("std is always 0.02; use the argument", {"scale": "fixed"}),
    scaled_by_the_square=(
        "the random numbers are multiplied by the square of std",
        {"scale": "variance"},
    ),
    scaled_by_the_root=("the random numbers are multiplied by the root of std", {"scale": "root"}),
    scaled_by_width=(
        "the random numbers are divided by the root of the width; multiply them by std",
        {"scale": "by width"},
    ),
    uniform=("the random numbers are uniform; use torch.randn", {"law": "uniform"}),
    uniform_around_zero=(
        "the random numbers are uniform; use torch.randn",
        {"law": "uniform around 0"},
    ),
    drawn_transposed=(
        "the matrices are drawn in the transposed shape; use the shape that is given",
        {"law": "transposed"},
    ),
    not_around_zero=("the random numbers have a mean of 1; it should be 0", {"law": "moved"}),
)

# --- 5.8 count_parameters ---


def count_with(
    config: ModelConfig,
    *,
    kv: str = "grouped",
    attention: int = 4,
    attention_bias: str = "as configured",
    ff: str = "as configured",
    gate: str = "as configured",
    ff_bias: str = "as configured",
    norms: str = "two per block",
    norm_size: str = "as configured",
    final: str = "pre only",
    table: str = "as configured",
    positions: str = "learned only",
    vocabulary: str = "counted",
    layers: str = "all",
    unembedding_bias: str = "never",
    kind: str = "int",
) -> Any:
    """The number of parameters."""
    d, bias = config.d_model, int(config.bias)
    kv_width = KV_WIDTHS[kv](config)
    matrices = 2 * d * d + 2 * d * kv_width - (4 - attention) * d * d
    biases = {"as configured": bias, "always": 1, "never": 0}
    vectors = {"d each": 4 * d, "kv once": 2 * d + kv_width}.get(
        attention_bias, 2 * d + 2 * kv_width
    )
    matrices += biases.get(attention_bias, bias) * vectors
    gated = config.activation == "swiglu"
    width = {
        "as configured": config.ff_width,
        "always 4 d": 4 * d,
        "two thirds": 2 * config.ff_width // 3 if gated else config.ff_width,
        "default two thirds": 8 * d // 3 if gated and config.d_ff is None else config.ff_width,
    }[ff]
    n_up = {"as configured": 1 + (config.activation == "swiglu"), "never": 1, "always": 2}[gate]
    network = (n_up + 1) * d * width
    vectors = {"no gate": width + d, "d_ff only": n_up * width, "d_model only": d}.get(
        ff_bias, n_up * width + d
    )
    network += biases.get(ff_bias, bias) * vectors
    layer_norm = config.norm == "layernorm"
    norm = {
        "as configured": (2 if layer_norm and config.bias else 1) * d,
        "always 2 d": 2 * d,
        "always d": d,
        "2 d for layernorm": (2 if layer_norm else 1) * d,
        "2 d with bias": (1 + bias) * d,
    }[norm_size]
    n_norms = {"two per block": 2, "one per block": 1, "none": 0, "three per block": 3}[norms]
    n_layers = {"all": config.n_layers, "one": 1, "one more": config.n_layers + 1}[layers]
    total = n_layers * (matrices + network + n_norms * norm)
    pre = config.norm_placement == "pre"
    total += {"pre only": pre, "never": 0, "always": 1, "post only": not pre}[final] * norm
    tables = {
        "as configured": 1 if config.tie_weights else 2,
        "always once": 1,
        "always twice": 2,
        "turned around": 2 if config.tie_weights else 1,
    }[table]
    total += (tables if vocabulary == "counted" else 0) * config.vocab_size * d
    learned = config.position == "learned"
    tabled = config.position in ("learned", "sinusoidal")
    placed = {"learned only": learned, "always": 1, "never": 0, "tables": tabled}[positions]
    total += placed * config.max_seq_len * d
    has_bias = {"never": 0, "always": 1, "as configured": bias}[unembedding_bias]
    total += has_bias * (not config.tie_weights) * config.vocab_size
    if kind == "by kind":
        return {"all": total}
    return {"int": total, "millions": total / 1e6, "bytes": 4 * total, "text": f"{total:,}"}[kind]


KV_WIDTHS: dict[str, Callable[[ModelConfig], int]] = {
    "grouped": lambda c: c.kv_heads * c.d_head,
    "full": lambda c: c.d_model,
    "heads for width": lambda c: c.kv_heads,
    "one head": lambda c: c.d_head,
    "repeats": lambda c: c.d_model // c.kv_heads,
}

COUNT = mistakes(
    count_with,
    grouped_heads_ignored=(
        "keys and values are counted with n_heads heads; with grouped queries they have kv_heads "
        "of width d_head",
        {"kv": "full"},
    ),
    heads_for_width=(
        "keys and values are counted with kv_heads columns; each head has d_head of them",
        {"kv": "heads for width"},
    ),
    one_key_value_head=(
        "keys and values are counted with one head; there are kv_heads",
        {"kv": "one head"},
    ),
    output_projection_missing=(
        "attention has four matrices: the output projection is missing",
        {"attention": 3},
    ),
    biases_of_attention_missing=(
        "the biases of attention are missing: one per output feature of each matrix",
        {"attention_bias": "never"},
    ),
    biases_of_attention_always=(
        "the biases of attention are counted even if config.bias is False",
        {"attention_bias": "always"},
    ),
    biases_as_wide_as_the_model=(
        "the biases of keys and values are as wide as their output, kv_heads × d_head",
        {"attention_bias": "d each"},
    ),
    d_ff_ignored=(
        "the feed-forward network is always counted 4 d_model wide; use config.ff_width",
        {"ff": "always 4 d"},
    ),
    no_option_read=(
        "the classic block is counted, 12 d² + 13 d, whatever the configuration says; read its "
        "options: d_ff, bias, norm, activation and n_kv_heads change the number",
        {
            "kv": "full",
            "attention_bias": "always",
            "ff": "always 4 d",
            "gate": "never",
            "ff_bias": "always",
            "norm_size": "always 2 d",
            "final": "always",
        },
    ),
    swiglu_made_narrower=(
        "the width of a SwiGLU is multiplied by two thirds; config.ff_width is the width already",
        {"ff": "two thirds"},
    ),
    gate_missing=("a SwiGLU has a third matrix, the gate", {"gate": "never"}),
    gate_always=("only a SwiGLU has a gate; GELU and ReLU squared don't", {"gate": "always"}),
    biases_of_the_network_missing=(
        "the biases of the feed-forward network are missing: d_ff on the way up, d_model on the "
        "way down",
        {"ff_bias": "never"},
    ),
    biases_of_the_network_always=(
        "the biases of the feed-forward network are counted even if config.bias is False",
        {"ff_bias": "always"},
    ),
    bias_of_the_gate_missing=("the gate has a bias of d_ff entries, too", {"ff_bias": "no gate"}),
    bias_of_down_missing=(
        "the way down has a bias of d_model entries, too",
        {"ff_bias": "d_ff only"},
    ),
    one_norm_per_block=("each block has two norms", {"norms": "one per block"}),
    norms_always_with_bias=(
        "every norm is counted with a bias; RMSNorm has none, and LayerNorm only if config.bias",
        {"norm_size": "always 2 d"},
    ),
    norms_without_bias=("a LayerNorm has a bias, too, if config.bias", {"norm_size": "always d"}),
    layer_norm_bias_always=(
        "a LayerNorm has no bias if config.bias is False",
        {"norm_size": "2 d for layernorm"},
    ),
    rms_norm_with_bias=("RMSNorm never has a bias", {"norm_size": "2 d with bias"}),
    final_norm_missing=("the norm after the last block is missing", {"final": "never"}),
    final_norm_always=(
        "a post-norm model has no final norm: its blocks end with one",
        {"final": "always"},
    ),
    tied_counted_twice=(
        "tied weights are one table: count it once",
        {"table": "always twice"},
    ),
    untied_counted_once=(
        "without tying there are two tables of vocab_size × d_model",
        {"table": "always once"},
    ),
    tying_turned_around=(
        "the condition is turned around: tied weights are one table, untied ones are two",
        {"table": "turned around"},
    ),
    positions_always=(
        "only learned positions are parameters; rotary, sinusoidal and ALiBi have none",
        {"positions": "always"},
    ),
    positions_missing=(
        "learned positions are a table of max_seq_len × d_model",
        {"positions": "never"},
    ),
    sinusoids_counted=(
        "the table of sinusoids is computed, not learned: it has no parameters",
        {"positions": "tables"},
    ),
    token_embedding_missing=("the tables of the vocabulary are missing", {"vocabulary": "missing"}),
    one_block=("one block is counted; there are n_layers", {"layers": "one"}),
    unembedding_with_bias=("the unembedding has no bias", {"unembedding_bias": "always"}),
    unembedding_biased_like_the_rest=(
        "the unembedding has no bias, even if config.bias is True",
        {"unembedding_bias": "as configured"},
    ),
    in_bytes=("these are bytes; return the number of parameters", {"kind": "bytes"}),
)

# --- 5.9 forward_flops ---


def flops_with(
    config: ModelConfig,
    T: int,
    *,
    per_add: int = 2,
    kv: str = "grouped",
    attention: int = 4,
    gate: str = "as configured",
    ff: str = "as configured",
    logits: str = "all",
    products: str = "two",
    layers: str = "all",
    lookups: str = "free",
    length: str = "T",
    passes: int = 1,
    biases: bool = False,
    counted: str = "matrices",
) -> Any:
    """The number of operations."""
    d = config.d_model
    kv_width = KV_WIDTHS[kv](config)
    weights = 2 * d * d + 2 * d * kv_width - (4 - attention) * d * d
    width = {"as configured": config.ff_width, "always 4 d": 4 * d}[ff]
    n_matrices = {"as configured": 2 + (config.activation == "swiglu"), "never": 2, "always": 3}[
        gate
    ]
    weights += n_matrices * d * width
    n_layers = {"all": config.n_layers, "one": 1}[layers]
    table = config.vocab_size * d
    per_token = n_layers * weights
    per_token += {
        "all": table,
        "none": 0,
        "last": 0,
        "untied only": 0 if config.tie_weights else table,
    }[logits]
    per_token += {"free": 0, "tokens": table, "positions": config.max_seq_len * d}[lookups]
    per_token += biases * n_layers * (2 * d + 2 * kv_width + width + d) if config.bias else 0
    if counted == "parameters":
        per_token = count_with(config)
    if counted == "parameters but no tables":
        per_token = count_with(config, vocabulary="missing", positions="never") + table
    tokens = {"T": T, "one": 1, "context": config.max_seq_len, "squared": T * T}[length]
    pairs = {"T": T * T, "one": 1, "context": config.max_seq_len**2, "squared": T * T}[length]
    total = tokens * per_token + n_layers * PRODUCTS[products](config, pairs, T)
    total += table if logits == "last" else 0
    return passes * per_add * total


PRODUCTS: dict[str, Callable[[ModelConfig, int, int], int]] = {
    "two": lambda c, pairs, T: 2 * pairs * c.d_model,
    "none": lambda c, pairs, T: 0,
    "one": lambda c, pairs, T: pairs * c.d_model,
    "half": lambda c, pairs, T: T * (T + 1) * c.d_model,
    "per head": lambda c, pairs, T: 2 * pairs * c.d_model * c.n_heads,
    "one head": lambda c, pairs, T: 2 * pairs * c.d_head,
    "grouped": lambda c, pairs, T: 2 * pairs * c.kv_heads * c.d_head,
    "linear": lambda c, pairs, T: 2 * T * c.d_model,
    "without width": lambda c, pairs, T: 2 * pairs,
    "two per score": lambda c, pairs, T: 2 * pairs * c.n_heads,
    "of the context": lambda c, pairs, T: 2 * c.max_seq_len**2 * c.d_model,
    "width squared": lambda c, pairs, T: 2 * T * c.d_model**2,
}

FLOPS = mistakes(
    flops_with,
    multiply_adds=(
        "these are multiply-adds; each is two operations",
        {"per_add": 1},
    ),
    products_missing=(
        "attention's products are missing: queries times keys, and weights times values",
        {"products": "none"},
    ),
    one_product=(
        "attention's products are counted by half: there are two, queries times keys and weights "
        "times values, and a multiply-add is two operations here as well",
        {"products": "one"},
    ),
    half_of_the_pairs=(
        "only the pairs below the diagonal are counted; all T × T are computed",
        {"products": "half"},
    ),
    products_for_every_head=(
        "the heads share d_model features: all heads together cost what one of width d_model does",
        {"products": "per head"},
    ),
    products_of_one_head=(
        "the products of one head are counted; all heads together are d_model wide",
        {"products": "one head"},
    ),
    products_of_grouped_heads=(
        "grouped heads share keys and values, but every query head still computes its own products",
        {"products": "grouped"},
    ),
    products_not_squared=(
        "attention's products are counted once per token; there is one for each pair of tokens",
        {"products": "linear"},
    ),
    products_without_width=(
        "each score is a sum of products over the features of a head; the width is missing",
        {"products": "without width"},
    ),
    a_number_per_score=(
        "each score is a sum of d_head products, not one operation",
        {"products": "two per score"},
    ),
    products_of_the_context=(
        "attention's products are those of max_seq_len tokens; the sequence has T",
        {"products": "of the context"},
    ),
    logits_missing=(
        "the logits are missing: vocab_size × d_model multiply-adds per token",
        {"logits": "none"},
    ),
    logits_of_the_last_token=(
        "the logits of one position are counted; they are computed at all T",
        {"logits": "last"},
    ),
    tied_logits_free=(
        "tying saves parameters, not work: the logits are a product all the same",
        {"logits": "untied only"},
    ),
    lookup_counted=(
        "the token embedding is counted as a product; it is a lookup, and costs none",
        {"lookups": "tokens"},
    ),
    positions_counted=(
        "the positions are counted as a product; they are looked up and added",
        {"lookups": "positions"},
    ),
    grouped_heads_ignored=(
        "keys and values are counted with n_heads heads; their matrices have kv_heads × d_head "
        "columns",
        {"kv": "full"},
    ),
    heads_for_width=(
        "keys and values are counted with kv_heads columns; each head has d_head of them",
        {"kv": "heads for width"},
    ),
    output_projection_missing=(
        "attention has four matrices: the output projection is missing",
        {"attention": 3},
    ),
    gate_missing=("a SwiGLU has a third matrix, the gate", {"gate": "never"}),
    gate_always=("only a SwiGLU has a gate", {"gate": "always"}),
    d_ff_ignored=(
        "the feed-forward network is always counted 4 d_model wide; use config.ff_width",
        {"ff": "always 4 d"},
    ),
    one_block=("one block is counted; there are n_layers", {"layers": "one"}),
    one_token=("one token is counted; the sequence has T", {"length": "one"}),
    context_for_length=(
        "max_seq_len tokens are counted; the sequence has T",
        {"length": "context"},
    ),
    training_counted=(
        "this is the work of training; the forward pass is a third of it",
        {"passes": 3},
    ),
    all_parameters_counted=(
        "two operations per parameter and token are only a rule of thumb; positions, norms, biases "
        "and the lookup of the embedding need no products: count the matrices alone",
        {"counted": "parameters"},
    ),
    norms_and_biases_counted=(
        "the parameters of norms and biases are counted as products; only matrices are multiplied",
        {"counted": "parameters but no tables"},
    ),
    biases_counted=("biases are added, not multiplied; they are not counted", {"biases": True}),
)

# --- 5.10 mask_tokens ---


def masked_with(
    tokens: Tensor,
    chosen: Tensor,
    draws: Tensor,
    replacements: Tensor,
    mask_token: int,
    *,
    where: str = "chosen",
    first: float = 0.8,
    second: float = 0.9,
    borders: str = "below",
    order: str = "right",
    rest: str = "stays",
    returned: str = "all",
    dtype: str = "kept",
    taken: str = "own place",
) -> Any:
    """The corrupted tokens."""
    picked = {
        "chosen": chosen,
        "not chosen": ~chosen,
        "all": torch.ones_like(chosen),
        "none": torch.zeros_like(chosen),
    }[where]
    at_first, at_second = MASK_BORDERS[borders](draws, first, second)
    hidden, replaced = picked & at_first, picked & at_second & ~at_first
    if order == "replacement wins":
        replaced = picked & at_second
        hidden = hidden & ~replaced
    elif order == "exchanged":
        hidden, replaced = replaced, hidden
    elif order == "replaced without asking":
        replaced = at_second & ~at_first
    elif order == "hidden without asking":
        hidden = at_first
    elif order == "never replaced":
        replaced = torch.zeros_like(hidden)
    elif order == "kept before replaced":
        replaced = picked & ~at_second
    elif order == "nested":
        hidden = picked & at_first
        replaced = picked & ~at_first
    replacements = TAKEN[taken](replacements, replaced, chosen)
    result = torch.where(replaced, replacements, tokens)
    if rest == "hidden":
        hidden = hidden | ~chosen
    if rest == "zero":
        result = result * chosen
    if rest == "all random":
        result = torch.where(chosen, result, replacements)
    result = torch.where(hidden, mask_token, result)
    if order == "hidden but kept":
        result = torch.where(replaced, replacements, tokens)
    if dtype == "float":
        result = result.float()
    return {
        "all": result,
        "chosen only": result[chosen],
        "pair": (result, chosen),
        "labels": torch.where(chosen, tokens, -100),
        "originals": tokens.clone(),
    }[returned]


def in_turn(replacements: Tensor, where: Tensor) -> Tensor:
    """The first of the replacements for the first place, and so on."""
    return replacements.masked_scatter(where, replacements.flatten())


TAKEN: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "own place": lambda r, replaced, chosen: r,
    "in turn": lambda r, replaced, chosen: in_turn(r, replaced),
    "in turn, of the chosen": lambda r, replaced, chosen: in_turn(r, chosen),
    "first": lambda r, replaced, chosen: r.flatten()[:1].expand_as(r),
}
MASK_BORDERS: dict[str, Callable[[Tensor, float, float], tuple[Tensor, Tensor]]] = {
    "below": lambda x, a, b: (x < a, x < b),
    "up to": lambda x, a, b: (x <= a, x <= b),
    "first up to": lambda x, a, b: (x <= a, x < b),
    "second up to": lambda x, a, b: (x < a, x <= b),
    "gap": lambda x, a, b: (x < a, (x > a) & (x < b)),
    "above": lambda x, a, b: (x > 1 - a, x > 1 - b),
    "complement": lambda x, a, b: (x >= a, x >= b),
}

MASKED = mistakes(
    masked_with,
    all_corrupted=(
        "every token is corrupted; only those that were chosen are",
        {"where": "all"},
    ),
    the_others_corrupted=(
        "the tokens that were not chosen are corrupted; chosen is True where something happens",
        {"where": "not chosen"},
    ),
    nothing_corrupted=("nothing is corrupted", {"where": "none"}),
    always_hidden=(
        "all chosen tokens are hidden; of those with a draw of 0.8 or more, one half is replaced "
        "and one half stays",
        {"first": 1.1, "second": 1.2},
    ),
    the_rest_hidden=(
        "tokens that should stay as they are are replaced: from 0.9 on nothing happens",
        {"second": 1.1},
    ),
    ninety_percent_hidden=(
        "the first border is at 0.9; tokens are hidden below 0.8, and replaced from there to 0.9",
        {"first": 0.9, "second": 1.0},
    ),
    fifteen_percent=(
        "the draws are compared with 0.15, which is the share of the chosen tokens; that choice is "
        "made already",
        {"first": 0.15, "second": 0.9},
    ),
    ten_percent_hidden=(
        "tokens are hidden below 0.1; it should be below 0.8",
        {"first": 0.1, "second": 0.2},
    ),
    borders_included=(
        "the borders are on the wrong side: a draw of 0.8 is replaced, one of 0.9 stays",
        {"borders": "up to"},
    ),
    first_border_included=(
        "a draw of exactly 0.8 is hidden; it is replaced",
        {"borders": "first up to"},
    ),
    second_border_included=(
        "a draw of exactly 0.9 is replaced; that token stays",
        {"borders": "second up to"},
    ),
    first_border_forgotten=(
        "a draw of exactly 0.8 does nothing; that token is replaced",
        {"borders": "gap"},
    ),
    draws_from_above=(
        "large draws are hidden; it is the draws below 0.8",
        {"borders": "above"},
    ),
    comparison_turned_around=(
        "the comparison is turned around: tokens are hidden where the draw is below 0.8",
        {"borders": "complement"},
    ),
    replacement_overwrites_the_mask=(
        "all draws below 0.9 are replaced, those below 0.8 as well; these are hidden",
        {"order": "replacement wins"},
    ),
    hidden_and_replaced_exchanged=(
        "hidden and replaced are exchanged: 80% become mask_token, 10% a random token",
        {"order": "exchanged"},
    ),
    replaced_without_asking=(
        "tokens that were not chosen are replaced, too; both conditions need chosen",
        {"order": "replaced without asking"},
    ),
    hidden_without_asking=(
        "tokens that were not chosen are hidden, too; both conditions need chosen",
        {"order": "hidden without asking"},
    ),
    never_replaced=(
        "nothing is replaced: from 0.8 to 0.9 the token of replacements takes the place",
        {"order": "never replaced"},
    ),
    kept_and_replaced_exchanged=(
        "the last two fates are exchanged: from 0.8 to 0.9 a token is replaced, from 0.9 on it "
        "stays",
        {"order": "kept before replaced"},
    ),
    mask_token_not_used=(
        "mask_token is not used: below 0.8 it takes the place of the token",
        {"order": "hidden but kept"},
    ),
    others_become_zero=(
        "tokens that were not chosen become 0; they stay",
        {"rest": "zero"},
    ),
    others_hidden=(
        "tokens that were not chosen are hidden; they stay",
        {"rest": "hidden"},
    ),
    replacements_in_turn=(
        "the replacements are taken from the beginning, one after the other; each place has a "
        "replacement of its own, at the same position",
        {"taken": "in turn"},
    ),
    replacements_of_the_chosen_in_turn=(
        "the replacements are handed out to the chosen tokens one after the other; each place has "
        "a replacement of its own, at the same position",
        {"taken": "in turn, of the chosen"},
    ),
    one_replacement_for_all=(
        "the first of the replacements goes to every place; each place has one of its own",
        {"taken": "first"},
    ),
    others_become_random=(
        "tokens that were not chosen are replaced; they stay",
        {"rest": "all random"},
    ),
    only_the_chosen=(
        "only the chosen tokens are returned; return all of them, (B, T)",
        {"returned": "chosen only"},
    ),
    two_values=("two values are returned; return the corrupted tokens alone", {"returned": "pair"}),
    labels_returned=(
        "these are the labels of the loss; return the corrupted tokens",
        {"returned": "labels"},
    ),
    floats=("the tokens have become floats; they stay integers", {"dtype": "float"}),
)

# --- 5.11 corrupt_spans ---


def spans_with(
    tokens: Tensor,
    spans: list[tuple[int, int]],
    first_sentinel: int,
    *,
    second: str = "length",
    numbered: str = "up",
    per: str = "gap",
    in_source: str = "sentinel",
    in_target: str = "before",
    tail: str = "kept",
    end: str = "next",
    swapped: bool = False,
    made: str = "tensors",
    first_number: int = 0,
    start_at: int = 0,
    between: str = "kept",
    cut: str = "from the text",
) -> Any:
    """Source and target."""
    source: list[int] = []
    target: list[int] = []
    text = tokens.tolist()
    shrinking = list(text)
    read = 0
    for number, (start, length) in enumerate(spans):
        start = start + start_at
        stop = SPAN_ENDS[second](start, length)
        mark = first_sentinel + first_number + SENTINELS[numbered](number, len(spans))
        gap = (shrinking if cut == "both from what is left" else text)[start:stop]
        shrinking[start:stop] = [mark]
        source += text[read:start] if between == "kept" else []
        if in_source != "nothing":
            source += [mark] * (len(gap) if per == "token" else 1)
        if in_source == "gap as well":
            source += gap
        if in_target == "before":
            target += [mark, *gap]
        elif in_target == "behind":
            target += [*gap, mark]
        elif in_target == "each":
            target += [x for token in gap for x in (mark, token)]
        else:
            target += gap
        read = stop
    is_kept = tail == "kept" or (tail == "missing after a gap" and not spans)
    source += text[read:] if is_kept else []
    source = source if cut == "from the text" else shrinking
    last = first_sentinel + first_number
    target += {
        "next": [last + SENTINELS[numbered](len(spans), len(spans))],
        "none": [],
        "last again": [last + SENTINELS[numbered](max(len(spans) - 1, 0), len(spans))],
        "first": [last],
        "one further": [last + len(spans) + 1],
        "none without gaps": [last + len(spans)] if spans else [],
    }[end]
    if tail == "in the target":
        target += text[read:]
    if end == "next" and in_source == "sentinel at the end":
        source += [last + len(spans)]
    pair = (target, source) if swapped else (source, target)
    if made == "lists":
        return pair
    kind = {"tensors": tokens.dtype, "int64": torch.int64, "floats": torch.float32}[made]
    return tuple(torch.tensor(side, dtype=kind) for side in pair)


SPAN_ENDS: dict[str, Callable[[int, int], int]] = {
    "length": lambda start, length: start + length,
    "end": lambda start, length: length,
    "last": lambda start, length: length + 1,
    "one more": lambda start, length: start + length + 1,
    "one less": lambda start, length: start + length - 1,
}
SENTINELS: dict[str, Callable[[int, int], int]] = {
    "up": lambda number, n: number,
    "same": lambda number, n: 0,
    "down": lambda number, n: -number,
    "from the back": lambda number, n: n - 1 - number if number < n else n,
}

SPANS = mistakes(
    spans_with,
    length_taken_for_the_end=(
        "the second number of a span is taken for its end; it is its length",
        {"second": "end"},
    ),
    one_token_too_many=("each gap is one token too long", {"second": "one more"}),
    one_token_too_few=("each gap is one token too short", {"second": "one less"}),
    starts_counted_from_one=(
        "the gaps start one token too late: starts count from 0",
        {"start_at": 1},
    ),
    same_sentinel_for_all=(
        "all gaps have the same sentinel; each has its own, first_sentinel + n",
        {"numbered": "same"},
    ),
    sentinels_count_down=(
        "the sentinels count down; here they count up, first_sentinel + n",
        {"numbered": "down"},
    ),
    numbered_from_the_back=(
        "the gaps are numbered from the back; the first one has the number 0",
        {"numbered": "from the back"},
    ),
    starts_not_corrected=(
        "a sentinel is shorter than its gap, so what follows moves to the left, and the later "
        "starts, which count in the original text, miss their tokens in the source",
        {"cut": "source from what is left"},
    ),
    both_cut_from_what_is_left=(
        "the gaps are cut out of a text that has become shorter already; all starts count in the "
        "original text",
        {"cut": "both from what is left"},
    ),
    sentinels_from_one=(
        "the first gap has the sentinel first_sentinel + 1; gaps are numbered from 0",
        {"first_number": 1},
    ),
    a_sentinel_per_token=(
        "each token that was cut out leaves a sentinel; a gap leaves one, whatever its length",
        {"per": "token"},
    ),
    no_sentinel_in_the_source=(
        "the gaps leave nothing in the source; each leaves its sentinel",
        {"in_source": "nothing"},
    ),
    gap_still_in_the_source=(
        "the tokens of the gaps are still in the source; they move to the target",
        {"in_source": "gap as well"},
    ),
    source_ends_with_a_sentinel=(
        "the last sentinel ends the target only; the source ends with the text",
        {"in_source": "sentinel at the end"},
    ),
    no_sentinels_in_the_target=(
        "the target holds no sentinels: it must say which gap its tokens belong to",
        {"in_target": "without"},
    ),
    sentinel_behind_the_gap=(
        "in the target the sentinel comes after the tokens of its gap; it comes before",
        {"in_target": "behind"},
    ),
    sentinel_before_each_token=(
        "in the target each token has its sentinel; a gap has one, whatever its length",
        {"in_target": "each"},
    ),
    tail_missing=("what follows the last gap is missing from the source", {"tail": "missing"}),
    tail_missing_after_a_gap=(
        "what follows the last gap is missing from the source",
        {"tail": "missing after a gap"},
    ),
    tail_in_the_target=(
        "what follows the last gap is in the target; it belongs to the source",
        {"tail": "in the target"},
    ),
    no_sentinel_at_the_end=(
        "the target must end with one more sentinel, even if there is no gap",
        {"end": "none"},
    ),
    nothing_without_gaps=(
        "without gaps the target is empty; it holds the last sentinel all the same",
        {"end": "none without gaps"},
    ),
    last_sentinel_again=(
        "the target ends with the sentinel of the last gap; it ends with the next one",
        {"end": "last again"},
    ),
    first_sentinel_at_the_end=(
        "the target ends with the first sentinel; it ends with the next one, first_sentinel + the "
        "number of gaps",
        {"end": "first"},
    ),
    last_sentinel_one_too_far=(
        "the last sentinel is one too large: it is first_sentinel + the number of gaps",
        {"end": "one further"},
    ),
    source_and_target_exchanged=(
        "source and target are exchanged: the source comes first",
        {"swapped": True},
    ),
    text_between_the_gaps_missing=(
        "the text between the gaps is missing from the source",
        {"between": "missing"},
    ),
    lists_returned=("lists are returned; two tensors are asked for", {"made": "lists"}),
    always_int64=(
        "the results are always int64; keep the dtype of tokens",
        {"made": "int64"},
    ),
    floats_returned=(
        "the results are floats: an empty tensor or list is float by default; keep the dtype of "
        "tokens",
        {"made": "floats"},
    ),
)

# --- 5.12 DecoderBlock ---


class BlockWith(RightBlock):
    """The decoder block."""

    def __init__(
        self,
        attention: nn.Module,
        cross_attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        cross_attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        *,
        order: str = "scf",
        reads: str = "in turn",
        masks: str = "own",
        attends: str = "both",
        residual: str = "sc f",
        norms: str = "before",
        context_norm: str = "none",
        sides: str = "right",
        end: str = "stream",
    ) -> None:
        super().__init__(
            attention,
            cross_attention,
            feed_forward,
            attention_norm,
            cross_attention_norm,
            feed_forward_norm,
        )
        self.order = order
        self.reads = reads
        self.masks = masks
        self.attends = attends
        self.residual = residual
        self.norms = norms
        self.context_norm = context_norm
        self.sides = sides
        self.end = end

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        attend: AttentionFunction = right_attention,
    ) -> Any:
        mask, context_mask = BLOCK_MASKS[self.masks](mask, context_mask, x.size(1))
        own = attend if self.attends in ("both", "self only") else right_attention
        other = attend if self.attends in ("both", "cross only") else right_attention
        if self.context_norm == "cross":
            context = self.cross_attention_norm(context)
        if self.context_norm == "attention":
            context = self.attention_norm(context)
        norm = {
            "s": self.attention_norm,
            "c": self.cross_attention_norm,
            "f": self.feed_forward_norm,
        }
        if self.norms == "first for all":
            norm = dict.fromkeys("scf", self.attention_norm)
        if self.norms == "last two exchanged":
            norm |= {"c": self.feed_forward_norm, "f": self.cross_attention_norm}
        if self.norms == "first two exchanged":
            norm |= {"s": self.cross_attention_norm, "c": self.attention_norm}

        def sublayer(name: str, y: Tensor) -> Tensor:
            if name == "s":
                return self.attention(y, mask, own)
            if name == "f":
                return self.feed_forward(y)
            if self.sides == "x for both":
                return self.cross_attention(y, y, mask, other)
            if self.sides == "exchanged":
                return self.cross_attention(context, y, context_mask, other)
            if self.sides == "joined":
                both = torch.cat((context, y), 1)
                return self.cross_attention(y, both, None, other)
            return self.cross_attention(y, context, context_mask, other)

        start = x
        for name in self.order:
            read = start if self.reads == "all from the start" else x
            without = {"none": "scf", "without s": "s", "without c": "c", "without f": "f"}
            is_normed = name not in without.get(self.norms, "") and self.norms != "after"
            update = sublayer(name, norm[name](read) if is_normed else read)
            kept = read if self.reads == "normed stream" and is_normed else x
            if self.reads == "normed stream" and is_normed:
                kept = norm[name](read)
            x = kept + update if name in self.residual else update
            x = norm[name](x) if self.norms == "after" else x
        if self.end == "normed":
            x = self.feed_forward_norm(x)
        if self.end == "context added":
            x = x + context.mean(1, keepdim=True)
        return (x, context) if self.end == "pair" else x


BLOCK_MASKS: dict[str, Callable[[Any, Any, int], tuple[Any, Any]]] = {
    "own": lambda own, other, T: (own, other),
    "exchanged": lambda own, other, T: (other, own),
    "own for both": lambda own, other, T: (own, own),
    "context for both": lambda own, other, T: (other, other),
    "no own": lambda own, other, T: (None, other),
    "no context": lambda own, other, T: (own, None),
    "always causal": lambda own, other, T: (causal_mask(T), other),
    "none": lambda own, other, T: (None, None),
    "inverted": lambda own, other, T: (None if own is None else ~own, other),
}

BLOCK = mistakes(
    BlockWith,
    CrossAttentionFirst=(
        "cross-attention comes first; self-attention does",
        {"order": "csf"},
    ),
    FeedForwardInTheMiddle=(
        "the feed-forward network comes before cross-attention; it comes last",
        {"order": "sfc"},
    ),
    NoCrossAttention=("cross-attention is missing", {"order": "sf"}),
    AllReadTheInput=(
        "all three sublayers read the input; each reads what the ones before have left",
        {"reads": "all from the start"},
    ),
    UpdatesOnTheNormedStream=(
        "the updates are added to the normed stream; add them to x itself",
        {"reads": "normed stream"},
    ),
    MasksExchanged=(
        "the masks are exchanged: mask belongs to self-attention, context_mask to cross-attention",
        {"masks": "exchanged"},
    ),
    OwnMaskForBoth=(
        "cross-attention gets mask; it has its own, context_mask",
        {"masks": "own for both"},
    ),
    ContextMaskForBoth=(
        "self-attention gets context_mask; it has its own, mask",
        {"masks": "context for both"},
    ),
    NoMaskForSelfAttention=("self-attention gets no mask; hand it mask", {"masks": "no own"}),
    NoMaskForCrossAttention=(
        "cross-attention gets no mask; hand it context_mask",
        {"masks": "no context"},
    ),
    AlwaysCausal=(
        "self-attention is always causal; hand on the mask, or None, as it comes",
        {"masks": "always causal"},
    ),
    AttendOnlyForSelfAttention=(
        "cross-attention doesn't get attend; hand it to both",
        {"attends": "self only"},
    ),
    AttendOnlyForCrossAttention=(
        "self-attention doesn't get attend; hand it to both",
        {"attends": "cross only"},
    ),
    AttendNotUsed=("attend is not handed on; both attentions take it", {"attends": "none"}),
    NoResidualAroundCrossAttention=(
        "cross-attention replaces the stream; add its update",
        {"residual": "sf"},
    ),
    NoResidualAroundSelfAttention=(
        "self-attention replaces the stream; add its update",
        {"residual": "cf"},
    ),
    NoResidualAroundTheNetwork=(
        "the feed-forward network replaces the stream; add its update",
        {"residual": "sc"},
    ),
    NoResiduals=("the sublayers replace the stream; add their updates", {"residual": ""}),
    NormsAfter=(
        "the norms come after the additions; here they come before each sublayer, on the branch",
        {"norms": "after"},
    ),
    NoNorms=("the norms are missing, one before each sublayer", {"norms": "none"}),
    NoNormBeforeSelfAttention=("the norm before self-attention is missing", {"norms": "without s"}),
    NoNormBeforeCrossAttention=(
        "the norm before cross-attention is missing",
        {"norms": "without c"},
    ),
    NoNormBeforeTheNetwork=(
        "the norm before the feed-forward network is missing",
        {"norms": "without f"},
    ),
    OneNormForAll=(
        "attention_norm is used for all three; each sublayer has a norm of its own",
        {"norms": "first for all"},
    ),
    LastNormsExchanged=(
        "cross_attention_norm and feed_forward_norm are exchanged",
        {"norms": "last two exchanged"},
    ),
    FirstNormsExchanged=(
        "attention_norm and cross_attention_norm are exchanged",
        {"norms": "first two exchanged"},
    ),
    ContextNormed=(
        "the context goes through cross_attention_norm as well; the encoder has normed it already",
        {"context_norm": "cross"},
    ),
    ContextNotUsed=(
        "the context is not used: cross-attention reads x on both sides",
        {"sides": "x for both"},
    ),
    SidesExchanged=(
        "the sides of cross-attention are exchanged: queries come from x, keys and values from the "
        "context",
        {"sides": "exchanged"},
    ),
    OwnTokensAmongTheKeys=(
        "x is among the keys of cross-attention; they are those of the context alone",
        {"sides": "joined"},
    ),
    NormedAtTheEnd=(
        "the output is normed once more; the stream is returned as it is",
        {"end": "normed"},
    ),
)

# --- 5.13 linear_attention ---


def linear_with(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    feature: str = "elu + 1",
    on: str = "both",
    divided: str = "by its own sum",
    seen: str = "first n",
    scaled: str = "not",
    empty: str = "zeros",
    second: str = "none",
    values: str = "v",
) -> Any:
    """Linear attention, with all products of queries and keys."""
    phi = FEATURES[feature]
    queries = phi(q) if on in ("both", "queries") else q
    keys = phi(k) if on in ("both", "keys") else k
    mixed = {"v": v, "phi(v)": FEATURES["elu + 1"](v), "k": k}[values]
    weights = queries @ keys.mT
    if scaled == "by root":
        weights = weights / math.sqrt(q.size(-1)) if divided != "by its own sum" else weights
    allowed = SEEN[seen](mask, weights)
    if allowed is not None:
        weights = weights * allowed
    sums = weights.sum(-1, keepdim=True)
    if divided == "by its own sum":
        result = (weights / sums) @ mixed
        if empty != "nan":
            sees_nothing = sums == 0
            if empty == "zeros where no key is seen":
                every = torch.ones_like(weights, dtype=torch.bool)
                seen_keys = every if allowed is None else (every * allowed).bool()
                sees_nothing = ~seen_keys.any(-1, keepdim=True)
            result = torch.where(sees_nothing, 0.0, result)
    else:
        below = DIVISIONS[divided](weights, sums, keys, queries)
        result = (weights @ mixed) / below
    return {
        "none": (result, None),
        "weights": (result, weights),
        "alone": result,
        "exchanged": (None, result),
    }[second]


FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "elu + 1": lambda x: F.elu(x) + 1,
    "identity": lambda x: x,
    "elu": lambda x: F.elu(x),
    "relu": lambda x: torch.relu(x),
    "relu + 1": lambda x: torch.relu(x) + 1,
    "exp": lambda x: torch.exp(x),
    "softmax": lambda x: torch.softmax(x, -1),
    "softplus": lambda x: F.softplus(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "elu(x + 1)": lambda x: F.elu(x + 1),
    "square": lambda x: x.square(),
}
SEEN: dict[str, Callable[[Tensor | None, Tensor], Tensor | None]] = {
    "first n": lambda mask, w: mask,
    "always all": lambda mask, w: None,
    "always causal": lambda mask, w: torch.ones_like(w).tril(),
    "causal if masked": lambda mask, w: None if mask is None else torch.ones_like(w).tril(),
    "inverted": lambda mask, w: None if mask is None else ~mask,
    "strict": lambda mask, w: (
        None
        if mask is None
        else torch.arange(w.size(-1)) < (mask.sum(-1, keepdim=True) - 1).clamp(min=0)
    ),
    "one more": lambda mask, w: (
        None if mask is None else torch.arange(w.size(-1)) < mask.sum(-1, keepdim=True) + 1
    ),
    "one key": lambda mask, w: (
        None if mask is None else torch.arange(w.size(-1)) == mask.sum(-1, keepdim=True) - 1
    ),
    "transposed": lambda mask, w: (
        None if mask is None else mask.mT if mask.size(-1) == mask.size(-2) else mask
    ),
    "not expanded": lambda mask, w: (
        None if mask is None else torch.arange(w.size(-1)) < mask.sum(-1, keepdim=True)
    ),
    "first row": lambda mask, w: None if mask is None else mask[..., :1, :],
    "last row": lambda mask, w: None if mask is None else mask[..., -1:, :],
}
DIVISIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Any]] = {
    "not": lambda w, sums, k, q: 1.0,
    "by the number of keys": lambda w, sums, k, q: w.size(-1),
    "by the keys seen": lambda w, sums, k, q: (w != 0).sum(-1, keepdim=True).clamp(min=1),
    "by the sum of all": lambda w, sums, k, q: (q @ k.mT).sum(-1, keepdim=True),
    "by the root": lambda w, sums, k, q: math.sqrt(q.size(-1)),
    "by the queries": lambda w, sums, k, q: (
        w.sum(-2, keepdim=True).mT if w.size(-1) == w.size(-2) else 1.0
    ),
    "by the sum of the keys": lambda w, sums, k, q: k.sum((-2, -1), keepdim=True),
    "by everything": lambda w, sums, k, q: w.sum((-2, -1), keepdim=True).clamp(min=1e-9),
    "by a softmax": lambda w, sums, k, q: w.exp().sum(-1, keepdim=True),
    "with an epsilon": lambda w, sums, k, q: sums + 0.1,
}

LINEAR = mistakes(
    linear_with,
    no_feature_map=(
        "queries and keys are used as they are; phi(x) = elu(x) + 1 keeps the weights positive",
        {"feature": "identity"},
    ),
    elu_without_one=("phi is elu(x); the + 1 is missing", {"feature": "elu"}),
    relu_for_phi=("phi is a ReLU; it is elu(x) + 1", {"feature": "relu"}),
    relu_for_phi_and_nothing_left=(
        "phi is a ReLU; it is elu(x) + 1, which is never 0",
        {"feature": "relu", "empty": "zeros where no key is seen"},
    ),
    relu_plus_one=(
        "below 0 phi is 1 here; elu(x) + 1 is exp(x) there",
        {"feature": "relu + 1"},
    ),
    exponential_for_phi=("phi is the exponential; it is elu(x) + 1", {"feature": "exp"}),
    softmax_for_phi=(
        "phi is a softmax over the features; it is elu(x) + 1",
        {"feature": "softmax"},
    ),
    one_inside_elu=("the 1 is added inside elu; add it to the result", {"feature": "elu(x + 1)"}),
    only_the_queries=("only the queries go through phi; the keys do, too", {"on": "queries"}),
    only_the_keys=("only the keys go through phi; the queries do, too", {"on": "keys"}),
    values_through_phi=(
        "the values go through phi, too; they stay as they are",
        {"values": "phi(v)"},
    ),
    not_divided=(
        "the division is missing: by phi(q) times the sum of phi(k) over the keys that are seen",
        {"divided": "not"},
    ),
    divided_by_the_number_of_keys=(
        "the sum is divided by the number of keys; divide by the sum of the weights",
        {"divided": "by the number of keys"},
    ),
    divided_by_the_keys_seen=(
        "the sum is divided by the number of keys that are seen; divide by the sum of the weights",
        {"divided": "by the keys seen"},
    ),
    divided_by_the_sum_of_all=(
        "the sum is divided by the weights of all keys, hidden ones too; the denominator has the "
        "same mask",
        {"divided": "by the sum of all"},
    ),
    divided_by_the_keys_alone=(
        "the sum is divided by the sum of the keys; multiply that by the query first",
        {"divided": "by the sum of the keys"},
    ),
    divided_by_everything=(
        "the sum is divided by the weights of all queries together; each query has a sum of its "
        "own",
        {"divided": "by everything"},
    ),
    mask_not_used=(
        "the mask is not used: every query sees every key",
        {"seen": "always all"},
    ),
    always_causal=(
        "every call is causal; without a mask each query sees every key",
        {"seen": "always causal"},
    ),
    causal_whatever_the_mask=(
        "any mask is taken for the causal one; each query sees the first n keys, and n is in its "
        "row",
        {"seen": "causal if masked"},
    ),
    mask_inverted=(
        "the mask is inverted: True means that a query sees a key",
        {"seen": "inverted"},
    ),
    one_key_too_few=("each query sees one key too few", {"seen": "strict"}),
    one_key_too_many=("each query sees one key too many", {"seen": "one more"}),
    mask_not_expanded=(
        "the mask is summed as it is, so one with a last axis of size 1 counts as one key; it "
        "stands for all of them: expand it to (..., T_q, T_k) first",
        {"seen": "not expanded"},
    ),
    first_row_for_all=(
        "the first row of the mask is used for all queries; each has its own",
        {"seen": "first row"},
    ),
    last_row_for_all=(
        "the last row of the mask is used for all queries, so all see the same sum; under a mask "
        "each query has sums of its own",
        {"seen": "last row"},
    ),
    nan_for_nothing=(
        "a query that sees nothing gives nan, 0 / 0; it should give zeros",
        {"empty": "nan"},
    ),
)

MISCONCEPTIONS = {
    "predict_first_step": FIRST_STEP,
    "next_token_loss": LOSS,
    "TinyTransformerLM": MODEL,
    "prefix_mask": PREFIX,
    "read_patterns": READ,
    "tied_gradient": TIED,
    "initial_weights": WEIGHTS,
    "count_parameters": COUNT,
    "forward_flops": FLOPS,
    "mask_tokens": MASKED,
    "corrupt_spans": SPANS,
    "DecoderBlock": BLOCK,
    "linear_attention": LINEAR,
}

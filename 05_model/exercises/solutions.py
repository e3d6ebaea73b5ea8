"""Solutions of lesson 05. Read one after you have solved its exercise: make solution EX=5.3."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask, scaled_dot_product_attention
from layer_norm import LayerNorm
from parts import Parts
from positional_embeddings import LearnedPositions
from token_embeddings import TokenEmbedding
from utils.config import ModelConfig


def predict_first_step() -> dict[str, tuple[int, ...] | int | float]:
    """Exercise 5.1, a prediction: what comes out of a model that has learned nothing?

    A model with vocab_size 50, max_seq_len 32, d_model 24, two layers and n_heads 4 reads a batch
    of 8 sequences of 20 tokens. Its output matrix is not tied, and still zero. It is trained to
    predict each token from those before it, and the sequences hold the targets too: there is no
    21st token.

    Returns {"logits": the shape of what the model returns, "weights": the shape of the attention
    weights of one layer, "predictions": how many predictions the loss averages over, "loss": their
    mean cross-entropy in nats, to two decimals or better}, computed by hand.
    """
    return {
        "logits": (8, 20, 50),  # a score for each token of the vocabulary, at every position
        "weights": (8, 4, 20, 20),  # not 32: only the tokens that are there
        "predictions": 8 * 19,  # the first token of a sequence has nothing before it
        "loss": math.log(50),  # logits of zero: each token has probability 1/50
    }


def next_token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Exercise 5.2, a repair: the mean cross-entropy of each token, given those before it.

    logits (B, T, V) of a model that read tokens (B, T), T at least 2: the scores at position t are
    for what comes after token t. B (T - 1) predictions count, because the first token has nothing
    before it, and nothing is known to follow the last. Returns the mean in nats, a tensor without
    axes.

    The code below the raise has one mistake. A model trained with it reaches a loss of almost 0,
    and then repeats the last tokens of its prompt. Delete the raise line, find the mistake,
    repair it.
    """
    # The two slices were exchanged: position t was asked for token t - 1, which it can see. A model
    # learns to look there at once, and what it has learned is worth nothing.
    predictions = logits[:, :-1]  # all but the last position ...
    targets = tokens[:, 1:]  # ... predict all but the first token
    return F.cross_entropy(predictions.flatten(0, 1), targets.flatten())


class TinyTransformerLM(nn.Module):
    """Exercise 5.3: the whole model, from tokens to a score for every possible next token.

    The constructor is complete, with the names of the course's checkpoints: write forward. (The
    course's own model can do more: other positions, post-norm, a cache.)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        parts = Parts.reference()
        self.token_embedding = TokenEmbedding(config.vocab_size, config.d_model)
        self.position_embedding = LearnedPositions(config.max_seq_len, config.d_model)
        self.blocks = nn.ModuleList(parts.build_block(config) for _ in range(config.n_layers))
        self.final_norm = LayerNorm(config.d_model, config.bias)
        # None if the token embedding does this job too
        self.unembedding = (
            None if config.tie_weights else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) integers -> logits (B, T, vocab_size).

        position_embedding takes positions (T,), which start at 0; a block takes x and a mask, under
        which no position sees a later one. After the blocks come the final norm and the
        unembedding; if that is None, the logits are the dot products of the features with the rows
        of the token embedding's weight (vocab_size, d_model). Gradients reach each weight from all
        its uses.
        """
        T = tokens.size(1)
        positions = torch.arange(T, device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # (B, T, d_model)
        mask = causal_mask(T, tokens.device)  # of the tokens that are there, not of max_seq_len
        for block in self.blocks:
            x = block(x, mask)
        x = self.final_norm(x)  # a pre-norm stack leaves a stream that nothing has rescaled
        if self.unembedding is not None:
            return self.unembedding(x)
        # F.linear(x, weight) is the same: nn.Linear stores its matrix as (out, in), too.
        return x @ self.token_embedding.weight.T


def prefix_mask(T: int, n_prefix: int, device: torch.device | str | None = None) -> Tensor:
    """Exercise 5.4: who may see whom, if the first n_prefix tokens are a prompt?

    Every position may attend to the whole prompt; besides, the mask is causal. 0 <= n_prefix <= T.

    Returns (T, T) bool on the device, True where query i may attend to key j.
    """
    # A row that says which keys are prompt, broadcast over all queries. In-place works as well:
    # mask = causal_mask(T, device); mask[:, :n_prefix] = True.
    is_prompt = torch.arange(T, device=device) < n_prefix
    return causal_mask(T, device) | is_prompt


def read_patterns() -> dict[str, str]:
    """Exercise 5.5, reading: which attention weights belong to which model?

    The picture 05_model/pictures/which_pattern.png (it is in theory.md too) shows the attention
    weights of six heads; a cell is grey where the weight is exactly 0. Queries are rows, keys are
    columns.

    Returns the letter of each: {"encoder": ..., "encoder with padding": ..., "decoder": ...,
    "prefix LM": ..., "cross-attention": ..., "decoder with a leak": ...}, each "A" to "F".
    """
    # C is the only one that isn't square: queries of one text, keys of another. B sees everything,
    # F everything but its last columns, which hold no tokens. A is the causal triangle; E has the
    # same triangle with one diagonal more, so each position sees the answer to its own question.
    # D is a triangle with a full block on the left.
    return {
        "encoder": "B",
        "encoder with padding": "F",
        "decoder": "A",
        "prefix LM": "D",
        "cross-attention": "C",
        "decoder with a leak": "E",
    }


def tied_gradient(
    tokens: Tensor, grad_embedded: Tensor, features: Tensor, grad_logits: Tensor, vocab_size: int
) -> Tensor:
    """Exercise 5.6: the gradient of a table that is used at both ends.

    embedded = table[tokens] goes into the model, and logits = features @ table.T come out.

    tokens (B, T) integers; grad_embedded (B, T, d_model), the gradient of the loss with respect to
    embedded; features (B, T, d_model); grad_logits (B, T, vocab_size), the gradient with respect to
    the logits. Returns the gradient with respect to the table, (vocab_size, d_model), without
    autograd: the sum of what both uses contribute, of the dtype of the gradients.
    """
    # As output projection: logits[b, t, v] = features[b, t] . table[v], so row v collects the
    # features of every position, weighted by what the loss says about the score of v.
    as_output = torch.einsum("btv,btd->vd", grad_logits, features)
    # As embedding: row v collects the gradients of all the places where token v stood. A token may
    # occur more than once, hence index_add: table.grad[tokens] += ... would keep the last one only.
    # one_hot(tokens).T @ grad_embedded is the same sum.
    as_input = torch.zeros_like(as_output)
    as_input.index_add_(0, tokens.flatten(), grad_embedded.flatten(0, 1))
    return as_input + as_output


def initial_weights(
    shapes: dict[str, tuple[int, ...]], seed: int, std: float = 0.02
) -> dict[str, Tensor]:
    """Exercise 5.7: the first weights of a model, from its seed alone.

    shapes: the shape of every parameter by its name, in any order. A name that ends in "bias",
    "out_proj.weight", "down_proj.weight" or "unembedding.weight" gets zeros; any other with "norm"
    in it gets ones; all others are normal random numbers with standard deviation std.

    Draw the random ones one after the other, as sorted() orders their names, each with one call of
    torch.randn, from a generator of your own with this seed. So equal seeds give equal weights,
    whatever the order of `shapes` and whatever was drawn before, and PyTorch's own random numbers
    are neither used nor changed. Returns the values by name.
    """
    # One generator for all: a new one per name would give every matrix the same first numbers.
    generator = torch.Generator().manual_seed(seed)
    zeros = ("bias", "out_proj.weight", "down_proj.weight", "unembedding.weight")
    values = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith(zeros):
            values[name] = torch.zeros(shape)
        elif "norm" in name:
            values[name] = torch.ones(shape)
        else:
            values[name] = std * torch.randn(shape, generator=generator)
    return values


def count_parameters(config: ModelConfig) -> int:
    """Exercise 5.8: how many parameters does a model have?

    From the configuration alone, without building the model. config.kv_heads, config.d_head and
    config.ff_width are filled in where n_kv_heads and d_ff are None. A LayerNorm has a bias if
    config.bias, an RMSNorm never; a SwiGLU has three matrices, with biases like the others; a
    post-norm model has no final norm; qk_norm has no parameters, and of the positions only learned
    ones do; there is an unembedding, without a bias, only if weights are not tied.

    Returns the number of parameters of the course's TinyTransformerLM.
    """
    d_model, d_ff = config.d_model, config.ff_width
    kv_width = config.kv_heads * config.d_head  # what grouped queries save
    bias = int(config.bias)
    attention = 2 * d_model * d_model + 2 * d_model * kv_width  # q and out; k and v
    attention += bias * (2 * d_model + 2 * kv_width)  # one per feature that comes out
    n_up = 2 if config.activation == "swiglu" else 1
    feed_forward = (n_up + 1) * d_model * d_ff + bias * (n_up * d_ff + d_model)
    norm = 2 * d_model if config.norm == "layernorm" and config.bias else d_model
    total = config.n_layers * (attention + feed_forward + 2 * norm)
    total += norm if config.norm_placement == "pre" else 0
    total += config.vocab_size * d_model * (1 if config.tie_weights else 2)
    return total + (config.max_seq_len * d_model if config.position == "learned" else 0)


def forward_flops(config: ModelConfig, T: int) -> int:
    """Exercise 5.9: how much arithmetic does the model do for one sequence of T tokens?

    Count the matrix products: those of the blocks, the logits, and in each layer the products of
    attention, queries times keys and weights times values, for all T x T pairs. A multiply-add is
    two operations. Biases, lookups, norms, activations and the softmax are not counted.

    Returns the number of floating-point operations.
    """
    kv_width = config.kv_heads * config.d_head
    n_matrices = 3 if config.activation == "swiglu" else 2
    per_layer = 2 * config.d_model * (config.d_model + kv_width)
    per_layer += n_matrices * config.d_model * config.ff_width
    # The table costs nothing as an embedding (a lookup), and V d_model per token at the output,
    # tied or not: here parameters and arithmetic part company.
    weights = config.n_layers * per_layer + config.vocab_size * config.d_model
    # Shared keys and values don't make these cheaper: every query head still does its products.
    products = config.n_layers * 2 * T * T * config.d_model
    return 2 * (T * weights + products)


def mask_tokens(
    tokens: Tensor, chosen: Tensor, draws: Tensor, replacements: Tensor, mask_token: int
) -> Tensor:
    """Exercise 5.10: hide tokens for an encoder to fill in, by BERT's rule of 80, 10 and 10%.

    tokens (B, T) integers; chosen (B, T) bool, the tokens that are to be predicted; draws (B, T)
    random numbers in [0, 1), which decide what happens to them: below 0.8, mask_token takes the
    place; from 0.8 up to, not including, 0.9, the token of `replacements` (B, T) does; for the rest
    the token stays as it is.

    Returns the corrupted tokens, new, (B, T); tokens that were not chosen stay.
    """
    hidden = chosen & (draws < 0.8)
    replaced = chosen & (draws >= 0.8) & (draws < 0.9)
    corrupted = torch.where(replaced, replacements, tokens)
    return corrupted.masked_fill(hidden, mask_token)  # a new tensor each time


def corrupt_spans(
    tokens: Tensor, spans: list[tuple[int, int]], first_sentinel: int
) -> tuple[Tensor, Tensor]:
    """Exercise 5.11: cut spans out of a text, as in T5.

    tokens (T,) integers; spans: (start, length) of each gap, in ascending order, with at least one
    token between two of them; lengths are at least 1.

    Returns (source, target), new tensors of the dtype of tokens. In the source, gap number n is one
    token, first_sentinel + n. The target lists each sentinel, followed by the tokens that were cut
    out there; one more sentinel ends it. Without spans, the source is the text and the target one
    sentinel alone.
    """
    source, target = [], []
    read = 0  # tokens before this one are done
    for number, (start, length) in enumerate(spans):
        sentinel = tokens.new_tensor([first_sentinel + number])  # of the dtype of tokens
        source += [tokens[read:start], sentinel]
        target += [sentinel, tokens[start : start + length]]
        read = start + length
    source.append(tokens[read:])  # what follows the last gap
    target.append(tokens.new_tensor([first_sentinel + len(spans)]))
    # Lists of Python numbers, and one torch.tensor(..., dtype=tokens.dtype) at the end, do as well.
    return torch.cat(source), torch.cat(target)


class DecoderBlock(nn.Module):
    """Exercise 5.12, a challenge: the block of a decoder that also reads another text.

    Three sublayers, each with a norm before it and a residual around it: self-attention,
    cross-attention, feed-forward network. The constructor is complete: write forward.
    """

    def __init__(
        self,
        attention: nn.Module,
        cross_attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        cross_attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.cross_attention_norm = cross_attention_norm
        self.feed_forward_norm = feed_forward_norm

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T_t, d_model), context (B, T_s, d_model) -> (B, T_t, d_model).

        self.attention takes (..., mask, attend), self.cross_attention takes (..., context,
        context_mask, attend). The context is the output of an encoder, which has normed it already.
        x and the context stay as they are.
        """
        x = x + self.attention(self.attention_norm(x), mask, attend)
        # The queries are normed, the context is not: all decoder blocks read the same memory, so it
        # was normed once, by the encoder's last norm.
        x = x + self.cross_attention(self.cross_attention_norm(x), context, context_mask, attend)
        return x + self.feed_forward(self.feed_forward_norm(x))


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Exercise 5.13, a challenge: attention without the softmax, in linear time.

    With phi(x) = elu(x) + 1, the weight of key j for query i is phi(q_i) . phi(k_j), divided by the
    sum of these products over the keys that query i sees. q (..., T_q, d_k), k (..., T_k, d_k),
    v (..., T_k, d_v), with equal leading axes.

    mask is None (all see everything) or boolean and broadcasts to (..., T_q, T_k), so it may be
    (T_q, 1); each query sees the first n keys and no others, for an n of its own. A query that sees
    nothing gives zeros, and finite gradients. Queries and keys are moderate in size: phi(x) doesn't
    round to 0.

    Never compute T_q x T_k products: use sums over the keys that don't depend on the query. Returns
    (output (..., T_q, d_v), None), an attention function for the model.
    """
    q, k = F.elu(q) + 1, F.elu(k) + 1
    products = k[..., :, None] * v[..., None, :]  # phi(k_j) v_j^T: (..., T_k, d_k, d_v)
    if mask is None:
        states, norms = products.sum(-3, keepdim=True), k.sum(-2, keepdim=True)
    else:
        # expand makes a view: the mask may have axes of size 1, the last one included.
        seen = mask.expand(*q.shape[:-1], k.size(-2)).sum(-1)  # n of each query: (..., T_q)
        # Running sums, with a zero in front: entry n is the sum over the first n keys.
        states = F.pad(products.cumsum(-3), (0, 0, 0, 0, 1, 0))  # (..., T_k + 1, d_k, d_v)
        norms = F.pad(k.cumsum(-2), (0, 0, 1, 0))  # (..., T_k + 1, d_k)
        states = torch.take_along_dim(states, seen[..., None, None], -3)  # (..., T_q, d_k, d_v)
        norms = torch.take_along_dim(norms, seen[..., None], -2)  # (..., T_q, d_k)
    numerator = (q[..., None, :] @ states).squeeze(-2)  # (..., T_q, d_v)
    denominator = (q * norms).sum(-1, keepdim=True)
    # A loop over the tokens that adds to one state is right too: that is how such a model
    # generates.
    return numerator / denominator.masked_fill(denominator == 0, 1.0), None

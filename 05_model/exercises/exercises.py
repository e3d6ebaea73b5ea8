"""Exercises of lesson 05: the model. Replace each `raise` with your own code.

    python 05_model/exercises/exercises.py   check them all
    make watch                               check on every save, one after the other
    make hint EX=5.3                         one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md and architectures.md why. Later exercises may use earlier ones.
"""

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
from utils.grader.check import check_file


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
    raise NotImplementedError("Exercise 5.1: predict_first_step")  # TODO: return your prediction


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
    raise NotImplementedError("Exercise 5.2: next_token_loss")  # TODO: delete, then repair
    predictions = logits[:, 1:]
    targets = tokens[:, :-1]
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
        raise NotImplementedError("Exercise 5.3: TinyTransformerLM.forward")  # TODO: your code here


def prefix_mask(T: int, n_prefix: int, device: torch.device | str | None = None) -> Tensor:
    """Exercise 5.4: who may see whom, if the first n_prefix tokens are a prompt?

    Every position may attend to the whole prompt; besides, the mask is causal. 0 <= n_prefix <= T.

    Returns (T, T) bool on the device, True where query i may attend to key j.
    """
    raise NotImplementedError("Exercise 5.4: prefix_mask")  # TODO: your code here


def read_patterns() -> dict[str, str]:
    """Exercise 5.5, reading: which attention weights belong to which model?

    The picture 05_model/pictures/which_pattern.png (it is in theory.md too) shows the attention
    weights of six heads; a cell is grey where the weight is exactly 0. Queries are rows, keys are
    columns.

    Returns the letter of each: {"encoder": ..., "encoder with padding": ..., "decoder": ...,
    "prefix LM": ..., "cross-attention": ..., "decoder with a leak": ...}, each "A" to "F".
    """
    raise NotImplementedError("Exercise 5.5: read_patterns")  # TODO: return your answer


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
    raise NotImplementedError("Exercise 5.6: tied_gradient")  # TODO: your code here


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
    raise NotImplementedError("Exercise 5.7: initial_weights")  # TODO: your code here


def count_parameters(config: ModelConfig) -> int:
    """Exercise 5.8: how many parameters does a model have?

    From the configuration alone, without building the model. config.kv_heads, config.d_head and
    config.ff_width are filled in where n_kv_heads and d_ff are None. A LayerNorm has a bias if
    config.bias, an RMSNorm never; a SwiGLU has three matrices, with biases like the others; a
    post-norm model has no final norm; qk_norm has no parameters, and of the positions only learned
    ones do; there is an unembedding, without a bias, only if weights are not tied.

    Returns the number of parameters of the course's TinyTransformerLM.
    """
    raise NotImplementedError("Exercise 5.8: count_parameters")  # TODO: your code here


def forward_flops(config: ModelConfig, T: int) -> int:
    """Exercise 5.9: how much arithmetic does the model do for one sequence of T tokens?

    Count the matrix products: those of the blocks, the logits, and in each layer the products of
    attention, queries times keys and weights times values, for all T x T pairs. A multiply-add is
    two operations. Biases, lookups, norms, activations and the softmax are not counted.

    Returns the number of floating-point operations.
    """
    raise NotImplementedError("Exercise 5.9: forward_flops")  # TODO: your code here


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
    raise NotImplementedError("Exercise 5.10: mask_tokens")  # TODO: your code here


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
    raise NotImplementedError("Exercise 5.11: corrupt_spans")  # TODO: your code here


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
        raise NotImplementedError("Exercise 5.12: DecoderBlock.forward")  # TODO: your code here


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
    raise NotImplementedError("Exercise 5.13: linear_attention")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)

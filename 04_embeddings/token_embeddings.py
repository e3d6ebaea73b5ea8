"""Token embeddings: a table with one learned vector for each token of the vocabulary.

    embedding(token) = weight[token] = one_hot(token) @ weight

The lookup gives the same row as the product with a one-hot vector, without the multiplications. A
tied table also scores the tokens at the output, Vaswani et al. 2017, section 3.4. Their factor
sqrt(d_model) is in scaled_lookup; TokenEmbedding leaves it to the model.

Dimensions: B batch, T positions, vocab_size tokens, d_model features.
"""

import math

import torch
from torch import Tensor, nn

from utils.errors import run_program
from utils.shape_checker import check_shape


class TokenEmbedding(nn.Module):
    """Look up a row of `weight` (vocab_size, d_model) for each token."""

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.weight = nn.Parameter(torch.randn(vocab_size, d_model))  # row t: the vector of token t

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) integers in [0, vocab_size) -> (B, T, d_model)."""
        check_shape(tokens, ("B", "T"))
        # Indexing with a tensor takes one row per token; its gradient adds up in the rows used.
        return self.weight[tokens]  # (B, T, d_model)


def one_hot(tokens: Tensor, vocab_size: int) -> Tensor:
    """A row of zeros with a single 1 for each token: (...) -> (..., vocab_size) float32."""
    return (tokens[..., None] == torch.arange(vocab_size, device=tokens.device)).float()


def embedding_gradient(tokens: Tensor, grad_output: Tensor, vocab_size: int) -> Tensor:
    """The gradient of the table (vocab_size, d_model): each use of a token adds to its row.

    tokens (...), grad_output (..., d_model): the gradient at the vectors that were looked up.
    """
    rows = grad_output.reshape(-1, grad_output.size(-1))
    # one_hot(tokens).T @ rows, without the multiplications by 0.
    return rows.new_zeros(vocab_size, rows.size(-1)).index_add(0, tokens.flatten(), rows)


def scaled_lookup(tokens: Tensor, weight: Tensor) -> Tensor:
    """Rows of a tied table, times sqrt(d_model): tokens (...) -> (..., d_model).

    A table that also scores the output has small rows, of length about 1; the factor brings their
    features to a size of about 1, so that positions of that size don't drown them.
    """
    return weight[tokens] * math.sqrt(weight.size(-1))


def tied_logits(x: Tensor, weight: Tensor) -> Tensor:
    """Score every token with its own row: x (..., d_model) -> (..., vocab_size)."""
    return x @ weight.T  # the dot product of x with each row


def main() -> None:
    """Print that looking up rows equals the product with a one-hot matrix."""
    torch.manual_seed(0)
    embedding = TokenEmbedding(vocab_size=5, d_model=3)
    tokens = torch.tensor([[2, 0, 2]])
    product = one_hot(tokens, 5) @ embedding.weight
    print(f"tokens {tokens.tolist()} -> embeddings {tuple(embedding(tokens).shape)}")
    print(f"equal to the product with a one-hot matrix: {torch.equal(embedding(tokens), product)}")


if __name__ == "__main__":
    run_program(main)

"""Token embeddings: a table with one learned vector for each token of the vocabulary.

    embedding(token) = weight[token] = one_hot(token) @ weight

The lookup gives the same row as the product with a one-hot vector, without the multiplications.
Vaswani et al. 2017, section 3.4; their extra factor sqrt(d_model) is left out here.

Dimensions: B batch, T positions, vocab_size tokens, d_model features.
"""

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


def main() -> None:
    """Print that looking up rows equals the product with a one-hot matrix."""
    torch.manual_seed(0)
    embedding = TokenEmbedding(vocab_size=5, d_model=3)
    tokens = torch.tensor([[2, 0, 2]])
    one_hot = torch.nn.functional.one_hot(tokens, 5).float()  # (B, T, vocab_size)
    product = one_hot @ embedding.weight
    print(f"tokens {tokens.tolist()} -> embeddings {tuple(embedding(tokens).shape)}")
    print(f"equal to the product with a one-hot matrix: {torch.equal(embedding(tokens), product)}")


if __name__ == "__main__":
    run_program(main)

"""Token embeddings: a table with one learned row of features for each token of the vocabulary.

    embedding(token) = weight[token]

That row is one_hot(token) @ weight too, found without the product.

Dimensions: B batch, T positions, d_model features.
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
        self.weight = nn.Parameter(torch.randn(vocab_size, d_model))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) integers in [0, vocab_size) -> (B, T, d_model)."""
        check_shape(tokens, ("B", "T"))
        return self.weight[tokens]


def main() -> None:
    """Show that looking up rows is the product with a one-hot matrix."""
    torch.manual_seed(0)
    embedding = TokenEmbedding(vocab_size=5, d_model=3)
    tokens = torch.tensor([[2, 0, 2]])
    one_hot = torch.nn.functional.one_hot(tokens, 5).float()
    print(f"tokens {tokens.tolist()} -> embeddings {tuple(embedding(tokens).shape)}")
    print("equal to the product with a one-hot matrix:", end=" ")
    print(torch.equal(embedding(tokens), one_hot @ embedding.weight))


if __name__ == "__main__":
    run_program(main)

"""Token embeddings against F.embedding and the product with a one-hot matrix."""

import pytest
import torch
import torch.nn.functional as F

from token_embeddings import (
    TokenEmbedding,
    embedding_gradient,
    one_hot,
    scaled_lookup,
    tied_logits,
)
from utils.shape_checker import ShapeError

TOKENS = torch.tensor([[2, 0, 2, 6, 5], [1, 1, 1, 1, 1], [6, 5, 4, 3, 2]])  # (B, T) = (3, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_and_gradients_equal_pytorch(dtype):
    embedding = TokenEmbedding(vocab_size=7, d_model=4).to(dtype)
    ours, theirs = embedding(TOKENS), F.embedding(TOKENS, embedding.weight)
    assert torch.equal(ours, theirs)
    weight = torch.randn_like(ours)
    (our_gradient,) = torch.autograd.grad((ours * weight).sum(), embedding.weight)
    (their_gradient,) = torch.autograd.grad((theirs * weight).sum(), embedding.weight)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_lookup_equals_the_product_with_a_one_hot_matrix():
    embedding = TokenEmbedding(vocab_size=7, d_model=4)
    one_hot = F.one_hot(TOKENS, 7).float()
    torch.testing.assert_close(embedding(TOKENS), one_hot @ embedding.weight)


def test_tokens_that_do_not_occur_get_zero_gradient():
    embedding = TokenEmbedding(vocab_size=7, d_model=4)
    embedding(TOKENS[1:2]).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.any(dim=1).tolist() == [False, True] + 5 * [False]


def test_a_token_outside_the_vocabulary_raises():
    with pytest.raises(IndexError):
        TokenEmbedding(vocab_size=6, d_model=4)(TOKENS)


@pytest.mark.parametrize("tokens", [TOKENS[0], TOKENS[None]])
def test_tokens_must_have_shape_batch_by_time(tokens):
    with pytest.raises(ShapeError, match=r"expected \(B, T\)"):
        TokenEmbedding(vocab_size=7, d_model=4)(tokens)


def test_the_one_hot_product_and_its_transpose_are_lookup_and_gradient():
    weight, grad = torch.randn(7, 4, dtype=torch.float64), torch.randn(3, 5, 4, dtype=torch.float64)
    rows = one_hot(TOKENS, 7).double()
    torch.testing.assert_close(rows @ weight, weight[TOKENS])
    expected = rows.flatten(0, 1).T @ grad.flatten(0, 1)
    torch.testing.assert_close(embedding_gradient(TOKENS, grad, 7), expected)


def test_a_tied_table_is_scaled_on_the_way_in_only():
    weight = torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(scaled_lookup(TOKENS, weight), 2 * F.embedding(TOKENS, weight))
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(tied_logits(x, weight), F.linear(x, weight))

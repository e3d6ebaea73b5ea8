"""Cross-entropy against PyTorch's, value and gradient, and against properties that must hold."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from loss_functions import bits_per_char, cross_entropy, perplexity
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import CourseError


def example(*shape: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits (*shape) in float64 that require a gradient, and targets for them."""
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(shape[-1], shape[:-1], generator=generator)
    return logits.requires_grad_(), targets


def torch_loss(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    flat = logits.reshape(-1, logits.size(-1))
    return F.cross_entropy(flat, targets.reshape(-1), ignore_index=ignore_index)


def assert_same_with_gradient(ours: Tensor, theirs: Tensor, logits: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    (our_gradient,) = torch.autograd.grad(ours, logits)
    (their_gradient,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 5, 65), (2, 3, 4, 1)])
@pytest.mark.parametrize("scale", [1e-3, 3.0, 1e4])
def test_loss_and_gradient_equal_pytorch(shape, scale):
    logits, targets = example(*shape, scale=scale)
    assert_same_with_gradient(cross_entropy(logits, targets), torch_loss(logits, targets), logits)


@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_ignored_targets_count_neither_in_the_mean_nor_in_the_gradient(ignore_index):
    logits, targets = example(3, 5, 7)
    targets[:, 1] = ignore_index
    ours = cross_entropy(logits, targets, ignore_index=ignore_index)
    assert_same_with_gradient(ours, torch_loss(logits, targets, ignore_index), logits)
    assert not torch.autograd.grad(cross_entropy(logits, targets, ignore_index), logits)[0][
        :, 1
    ].any()


def test_without_ignore_index_every_target_counts():
    logits, targets = example(4, 7)
    each = [cross_entropy(logits[i], targets[i]) for i in range(4)]
    torch.testing.assert_close(cross_entropy(logits, targets), torch.stack(each).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_give_finite_losses_and_gradients(dtype):
    logits = torch.tensor([[1e30, 0.0, -1e30], [1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    torch.testing.assert_close(loss.item(), math.log(2) / 2)
    expected = torch.tensor([[0, 0, 0], [0.25, -0.25, 0]], dtype=dtype)
    torch.testing.assert_close(logits.grad, expected)


def test_adding_a_constant_to_all_logits_changes_nothing():
    logits, targets = example(5, 7)
    expected = cross_entropy(logits, targets)
    torch.testing.assert_close(cross_entropy(logits + 50, targets), expected)


def test_a_token_with_logit_minus_infinity_has_no_effect():
    logits, targets = example(5, 7)
    masked = torch.cat([logits, torch.full((5, 1), -math.inf)], dim=-1)
    torch.testing.assert_close(cross_entropy(masked, targets), cross_entropy(logits, targets))


def test_the_inputs_are_not_modified():
    logits, targets = example(5, 7)
    before = logits.detach().clone(), targets.clone()
    cross_entropy(logits, targets, ignore_index=2)
    assert torch.equal(logits, before[0])
    assert torch.equal(targets, before[1])


def test_only_ignored_targets_are_refused():
    with pytest.raises(CourseError, match=r"no targets are left .*-100"):
        cross_entropy(torch.zeros(3, 7), torch.full((3,), -100), ignore_index=-100)


@pytest.mark.parametrize("targets_shape", [(3,), (5, 3), (1, 5), (3, 5, 1)])
def test_targets_of_another_shape_than_the_logits_are_refused(targets_shape):
    with pytest.raises(CourseError, match="targets has shape"):
        cross_entropy(torch.zeros(3, 5, 7), torch.zeros(targets_shape, dtype=torch.int64))


@pytest.mark.parametrize("vocab_size", [1, 2, 65])
def test_a_uniform_choice_has_the_number_of_tokens_as_its_perplexity(vocab_size):
    loss = cross_entropy(torch.zeros(4, vocab_size), torch.zeros(4, dtype=torch.int64)).item()
    assert perplexity(loss) == pytest.approx(vocab_size, rel=1e-6)
    assert bits_per_char(loss) == pytest.approx(math.log2(vocab_size), rel=1e-6)


def test_the_perplexity_of_a_diverged_run_is_infinite():
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_bits_per_character_divide_by_the_characters_per_token():
    assert bits_per_char(math.log(16), chars_per_token=2) == pytest.approx(2)


def test_an_untrained_model_with_a_zero_output_layer_has_loss_log_v():
    model = TinyTransformerLM(ModelConfig(16, d_model=32, n_layers=2, tie_weights=False))
    tokens = torch.randint(16, (2, 20), generator=torch.Generator().manual_seed(0))
    loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).item()
    assert loss == pytest.approx(math.log(16), rel=1e-6)
    assert f"{perplexity(1.5):.2f}" == "4.48"  # as the README says

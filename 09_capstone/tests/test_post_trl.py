"""The losses of post-training, compared with those of trl, where it is installed.

It is no requirement of the course. Its losses are methods of trainers, so a trainer is simulated
that has nothing but the settings which the loss reads.
"""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from post_training.dpo import dpo_loss
from post_training.grpo import grpo_loss
from post_training.reward_model import bradley_terry_loss
from post_training.rollouts import gather_log_probs

pytest.importorskip("trl", reason="needs trl, which is no requirement: pip install trl")

ANSWERED = torch.tensor(  # answers of 1, 3 and 4 tokens
    [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 1]], dtype=torch.bool
)


def log_probs(*shape: int, seed: int) -> Tensor:
    """Log-probabilities between -3 and 0."""
    generator = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(*shape, dtype=torch.float64, generator=generator)


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_trl_has_the_same_log_probabilities() -> None:
    utils = pytest.importorskip("trl.trainer.utils")
    logits, tokens = normal(3, 5, 7, seed=0), torch.randint(7, (3, 5))
    expected = utils.selective_log_softmax(logits, tokens)
    torch.testing.assert_close(gather_log_probs(logits, tokens), expected)


@pytest.mark.parametrize(("clip", "beta"), [(0.2, 0.04), (0.1, 0.0)])
def test_trl_has_the_same_grpo_loss(clip: float, beta: float) -> None:
    """Its loss type "bnpo" takes the mean over all tokens of the batch, as ours does."""
    grpo_trainer = pytest.importorskip("trl.trainer.grpo_trainer")
    old, ref, advantages = log_probs(3, 5, seed=1), log_probs(3, 5, seed=3), normal(3, seed=4)
    new = old + 0.3 * normal(3, 5, seed=2)
    trainer = MagicMock()
    trainer.configure_mock(
        loss_type="bnpo",
        beta=beta,
        epsilon_low=clip,
        epsilon_high=clip,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
    )
    trainer._get_per_token_logps_and_entropies.return_value = (new, torch.zeros_like(new), None)
    trainer.accelerator.gather = lambda x: x
    ids = torch.zeros(3, 5, dtype=torch.long)
    inputs = {
        "prompt_ids": ids,
        "prompt_mask": ids,
        "completion_ids": ids,
        "completion_mask": ANSWERED.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
    }
    expected = grpo_trainer.GRPOTrainer._compute_loss(trainer, None, inputs)
    torch.testing.assert_close(grpo_loss(new, old, ref, advantages, ANSWERED, clip, beta), expected)


def test_trl_has_the_same_dpo_loss() -> None:
    dpo_trainer = pytest.importorskip("trl.trainer.dpo_trainer")
    given = [log_probs(4, seed=seed) for seed in range(4)]
    chosen, rejected, ref_chosen, ref_rejected = given
    trainer = MagicMock()
    trainer.configure_mock(
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        beta=0.1,
        use_weighting=False,
    )
    trainer.accelerator.device = torch.device("cpu")
    trainer.accelerator.gather_for_metrics = trainer.accelerator.gather = lambda x: x
    outputs = MagicMock(log_probs=torch.cat([chosen, rejected])[:, None])  # one token each
    outputs.entropy = outputs.mean_logits = torch.zeros(8, 1)
    outputs.is_top1 = torch.zeros(8, 1, dtype=torch.bool)
    ids = torch.zeros(8, 2, dtype=torch.long)
    mask = torch.tensor([[0, 1]] * 8)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "completion_mask": mask,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    model = MagicMock(return_value=outputs)
    expected = dpo_trainer.DPOTrainer._compute_loss(trainer, model, inputs, False)
    torch.testing.assert_close(dpo_loss(*given, beta=0.1), expected)


def test_trl_has_the_same_loss_of_a_reward_model() -> None:
    reward_trainer = pytest.importorskip("trl.trainer.reward_trainer")
    chosen, rejected = normal(4, seed=1), normal(4, seed=2)
    trainer = MagicMock()
    trainer.args.center_rewards_coefficient = None
    trainer.accelerator.gather_for_metrics = trainer.accelerator.gather = lambda x: x
    outputs = SimpleNamespace(logits=torch.cat([chosen, rejected])[:, None])
    inputs = {"attention_mask": torch.ones(8, 2)}
    trainer._tp_size = 1
    trainer._total_train_tokens = 0
    expected = reward_trainer.RewardTrainer.compute_loss(
        trainer, MagicMock(return_value=outputs), inputs
    )
    torch.testing.assert_close(bradley_terry_loss(chosen, rejected), expected)

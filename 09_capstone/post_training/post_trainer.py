"""PostTrainer: the training loop of lesson 06, with another step.

    SFT     true answers            -> answer_loss
    DPO     pairs of the reference  -> dpo_loss
    GRPO    samples of the policy   -> rewards -> group_advantages -> grpo_loss

A batch depends on (seed, step) and on the weights alone, so a resumed run continues exactly.
Everything else is inherited; `evaluate` measures the loss on the plays, which shows what the model
forgets. An evaluation also judges answers, so `--max-minutes` relies on what the newest one took.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from any_tokenizer import Tokenizer
from post_training.dpo import dpo_loss
from post_training.grpo import group_advantages, grpo_loss, kl_k3
from post_training.post_config import PostTrainConfig
from post_training.preferences import collate_pairs, exact_scores, make_pairs
from post_training.rewards import REWARDS
from post_training.rollouts import (
    Rollout,
    answer_sum,
    collate,
    sample_answers,
    token_log_probs,
    token_mean,
)
from post_training.sft import answer_loss
from post_training.tasks import Prompt, Task
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.device import autocast


class PostTrainer(Trainer):
    """Train a policy on a task; `reference` is the model it started from."""

    def __init__(
        self,
        *arguments: Any,
        reference: TinyTransformerLM,
        tokenizer: Tokenizer,
        task: Task,
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        assert isinstance(self.model, TinyTransformerLM)
        self.policy: TinyTransformerLM = self.model  # what the papers call the model that learns
        assert isinstance(self.config, PostTrainConfig)
        self.settings: PostTrainConfig = self.config
        self.reference = reference.to(self.device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.task = task
        self.losses = {"sft": self.sft, "dpo": self.dpo, "grpo": self.grpo}[self.settings.method]
        self.measured: Mapping[str, float] = {}  # in the last step
        self.costs: dict[str, float] = {}  # seconds of the newest evaluation, by its parts

    def state_dict(self) -> dict[str, Any]:
        """What was measured belongs to the last step, whose evaluation may still be due."""
        own = {"measured": dict(self.measured), "costs": self.costs}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of another run with this configuration."""
        super().load_state_dict(state)
        self.measured = state["measured"]
        self.costs = dict(state["costs"])
        self.evaluation_seconds = sum(self.costs.values()) or None

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Time a part of an evaluation: the budget sets its seconds aside for each one to come."""
        start = time.perf_counter()
        yield
        self.costs[part] = time.perf_counter() - start
        self.evaluation_seconds = sum(self.costs.values())

    def evaluate(self) -> float:
        """The loss on the plays, and how long it takes."""
        with self.timing("loss"):
            return super().evaluate()

    @property
    def tokens_per_step(self) -> int:
        """The answers' tokens at most."""
        return self.config.batch_size * self.task.max_tokens

    def train_step(self) -> tuple[float, float, float]:
        """One batch of answers, and one optimizer step for each of its losses."""
        self.model.train()
        loss_value, norm, ratio = 0.0, 0.0, 0.0
        for loss in self.losses():
            loss.backward()
            loss_value = loss.item()
            norm, ratio = self.update(loss_value)
        self.step += 1
        return loss_value, norm, ratio

    # --- the three methods: each yields losses, and continues after the optimizer's step ----------

    def sft(self) -> Iterator[Tensor]:
        """Imitate true answers."""
        prompts = self.task.prompts(self.config.batch_size, self.rng())
        answers = [prompt.answer for prompt in prompts]
        batch = collate(prompts, answers, self.tokenizer).to(self.device)
        with autocast(self.device, self.dtype):
            logits = self.model(batch.tokens)
        yield answer_loss(logits.float(), batch.tokens, batch.is_answer)

    def dpo(self) -> Iterator[Tensor]:
        """Prefer the better of two answers of the reference."""
        rollout = self.sample(self.reference)
        pairs = make_pairs(rollout, exact_scores(self.task, rollout), self.settings.group_size)
        if not pairs:  # all answers of every group are equally good
            return
        batch = collate_pairs(pairs, self.tokenizer).to(self.device)
        is_answer = batch.is_answer[:, 1:]
        log_probs = answer_sum(self.log_probs(self.policy, batch), is_answer)
        with torch.no_grad():
            ref_log_probs = answer_sum(self.log_probs(self.reference, batch), is_answer)
        chosen, rejected = log_probs.chunk(2)
        ref_chosen, ref_rejected = ref_log_probs.chunk(2)
        self.measured = {
            "chosen": (chosen - ref_chosen).mean().item(),
            "rejected": (rejected - ref_rejected).mean().item(),
        }
        yield dpo_loss(chosen, rejected, ref_chosen, ref_rejected, self.settings.kl_weight)

    def grpo(self) -> Iterator[Tensor]:
        """Make an answer likelier the better it is than the others to the same prompt."""
        rollout = self.sample(self.policy)
        rewards = self.rewards(rollout)
        advantages = group_advantages(rewards.view(-1, self.settings.group_size)).flatten()
        is_answer = self.judged_part(rollout)[:, 1:]
        with torch.no_grad():
            ref_log_probs = self.log_probs(self.reference, rollout)
        old_log_probs = None
        for _ in range(self.settings.updates):
            log_probs = self.log_probs(self.policy, rollout)
            if old_log_probs is None:  # before the first update, the policy is what sampled
                old_log_probs = log_probs.detach()
                kl = token_mean(kl_k3(old_log_probs, ref_log_probs), is_answer)
                self.measured = {"reward": rewards.mean().item(), "kl": kl.item()}
            yield grpo_loss(
                log_probs,
                old_log_probs,
                ref_log_probs,
                advantages,
                is_answer,
                self.settings.clip,
                self.settings.kl_weight,
            )

    # --- what they share --------------------------------------------------------------------------

    def rng(self) -> random.Random:
        """The source of this step's prompts."""
        return random.Random(f"{self.config.seed} {self.step}")

    def sample(self, model: TinyTransformerLM) -> Rollout:
        """A batch of answers of a model: groups of `group_size` to the same prompt."""
        size = self.settings.group_size
        drawn = self.task.prompts(self.config.batch_size // size, self.rng())
        prompts: list[Prompt] = [prompt for prompt in drawn for _ in range(size)]
        generator = torch.Generator().manual_seed(self.rng().getrandbits(63))
        rollout = sample_answers(model, self.tokenizer, self.task, prompts, generator)
        return rollout.to(self.device)

    def rewards(self, rollout: Rollout) -> Tensor:
        """The reward of each answer (B,)."""
        reward = REWARDS[self.settings.reward]
        answered = zip(rollout.prompts, rollout.answers, strict=True)
        values = [reward(self.task, prompt, answer) for prompt, answer in answered]
        return torch.tensor(values, device=self.device)

    def judged_part(self, rollout: Rollout) -> Tensor:
        """is_answer (B, T) up to each answer's first mistake, where the verifier stops reading.

        What comes later has changed nothing in the reward, so it deserves neither praise nor blame.
        """
        judged = rollout.is_answer.clone()
        if self.settings.reward == "exact":
            for row, (prompt, answer) in enumerate(
                zip(rollout.prompts, rollout.answers, strict=True)
            ):
                read = self.task.judge(prompt, answer).accepted + 1
                judged[row, len(prompt.text) + read :] = False
        return judged

    def log_probs(self, model: TinyTransformerLM, rollout: Rollout) -> Tensor:
        """log pi of every token but the first (B, T - 1)."""
        with autocast(self.device, self.dtype):
            return token_log_probs(model, rollout.tokens)

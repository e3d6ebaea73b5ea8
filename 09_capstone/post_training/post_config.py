"""The configuration of a post-training run: that of training, and what the methods add."""

from dataclasses import dataclass

from post_training.rewards import REWARDS
from utils.config import TrainConfig, check_range, option
from utils.errors import UsageError

METHODS = ("sft", "dpo", "grpo")
TASKS = ("continue", "follow")


@dataclass(frozen=True)
class PostTrainConfig(TrainConfig):
    """One post-training run."""

    batch_size: int = option(128, "answers per step; dpo and grpo sample them in groups")
    method: str = option("grpo", "how to learn", METHODS)
    task: str = option("continue", "continue a scene, or follow an instruction", TASKS)
    reward: str = option(
        "tokens",
        "grpo: tokens blames the first mistake; the others reward a whole answer, in groups of 8 "
        "and at half the learning rates unless you say otherwise, and all but exact can be cheated",
        ("tokens", *REWARDS),
    )
    group_size: int = option(8, "dpo, grpo: answers per prompt, which are compared with each other")
    kl_weight: float = option(0.02, "dpo, grpo: beta, the price of a nat of KL divergence")
    clip: float = option(0.2, "grpo: how far a probability may move in one step, as a ratio")
    updates: int = option(1, "grpo: optimizer steps per batch of samples")
    judged_answers: int = option(256, "held-out answers that each evaluation samples and judges")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("group_size", "updates", "judged_answers"):
            check_range(self, name, at_least=1)
        check_range(self, "kl_weight", at_least=0.0)
        check_range(self, "clip", above=0.0)
        if self.method != "sft" and self.batch_size % self.group_size:
            raise UsageError(
                f"batch_size {self.batch_size} is not a multiple of group_size {self.group_size}; "
                f"try --batch-size {self.group_size * max(1, self.batch_size // self.group_size)}"
            )
        if self.method != "sft" and self.group_size == 1:
            raise UsageError("group_size 1: answers are compared with each other; use 2 or more")
        if self.reward == "length" and self.task == "continue":
            raise UsageError("reward length needs --task follow: continuations are equally long")

"""How far a training run has come, what its last step reported, and both as JSON.

A checkpoint holds two kinds of things: tensors (the weights and the optimizers' averages) and a few
plain values (the step count, the seconds spent, the last losses). `RunProgress` is the second kind.
A resumed run that loads both continues exactly where the interrupted one stopped.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from time_budget import TimeBudget
from utils.config import TrainConfig
from utils.errors import run_program
from utils.terminal import labelled


@dataclass(frozen=True)
class StepReport:
    """What happened in one step; losses are means in nats per token."""

    step: int  # steps completed, including this one
    train_loss: float
    learning_rate: float  # as a fraction of the peak
    grad_norm: float  # before clipping
    tokens: int  # seen since the run began
    seconds: float  # of training, without evaluation and callbacks
    val_loss: float | None = None  # if this step was evaluated


class RunProgress:
    """The state of a run apart from its tensors; `Trainer` inherits it."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.step = 0  # steps completed
        self.max_steps = config.max_steps
        self.seconds = 0.0  # of training, without evaluation and callbacks
        self.budget = TimeBudget(config.max_minutes)  # may lower max_steps, once
        self.report: StepReport | None = None  # of the last step
        self.evaluation_due = False  # the last step's evaluation was interrupted
        self.evaluation_seconds: float | None = None  # None: estimated from the tokens

    def state_dict(self) -> dict[str, Any]:
        """Everything but tensors that a resumed run needs, ready for JSON."""
        return {
            "step": self.step,
            "max_steps": self.max_steps,
            "seconds": self.seconds,
            "evaluation_due": self.evaluation_due,
            "report": asdict(self.report) if self.report else None,
            "budget": self.budget.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of another run with this configuration."""
        self.step = state["step"]
        self.max_steps = state["max_steps"]
        self.seconds = state["seconds"]
        self.evaluation_due = state["evaluation_due"]
        self.report = StepReport(**state["report"]) if state["report"] else None
        self.budget.load_state_dict(state["budget"])


def main() -> None:
    """Show the state of a run after its third step, and a new run that continues from it."""
    run = RunProgress(TrainConfig())
    run.step = 3
    run.seconds = 1.5
    run.report = StepReport(3, 4.1, learning_rate=0.03, grad_norm=0.9, tokens=6144, seconds=1.5)
    for name, value in run.state_dict().items():
        print(labelled(name, value, column=16))
    resumed = RunProgress(TrainConfig())
    resumed.load_state_dict(run.state_dict())
    print(f"the new run has completed {resumed.step} steps; its last loss was", end=" ")
    print(resumed.report.train_loss if resumed.report else "none")


if __name__ == "__main__":
    run_program(main)

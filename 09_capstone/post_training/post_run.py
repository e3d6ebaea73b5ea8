"""A post-training run: what train.py's `Run` is for pretraining, with a task and a reference."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from callbacks import RunRecorder
from checkpointing import Checkpoint
from engine import build_model
from logging_utils import CsvLogger, read_csv
from post_training.measures import AnswerReport, measure
from post_training.post_config import PostTrainConfig
from post_training.post_trainer import PostTrainer
from post_training.tasks import HELD_OUT, TRAINING, Continue, Follow, Task
from run_checkpoints import RunCheckpoints
from run_metrics import last_row_of
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Callback, StepReport, Trainer
from training_run import Run, Training
from utils.files import atomic_write_text, complete_lines

ANSWERS_FILE = "answers.csv"
ANSWER_COLUMNS = (
    *("step", "right", "share", "followed", "kl", "distinct"),
    *("reward", "val_loss", "seconds"),
)


def make_task(config: PostTrainConfig, plays: int) -> Task:
    """The task of a configuration, on the plays for training or on the held-out ones."""
    return Continue(plays=plays) if config.task == "continue" else Follow()


@dataclass(frozen=True)
class PostRun(Run):
    """A run that changes a trained model."""

    initial: Checkpoint

    @property
    def settings(self) -> PostTrainConfig:
        """The configuration, by its own type."""
        assert isinstance(self.config, PostTrainConfig)
        return self.config

    @property
    def at_start(self) -> bool:
        """Whether no step was taken yet, so that the model is to be judged as it was given."""
        return self.state is None or self.state.step == 0

    @classmethod
    def of(
        cls, training: Training, folder: Path, published: Path, initial: Checkpoint
    ) -> "PostRun":
        """A training run, with what post-training needs besides."""
        return cls(**vars(training), folder=folder, checkpoint_dir=published, initial=initial)

    def make_trainer(self, callbacks: Sequence[Callback] = ()) -> PostTrainer:
        """The training loop of lesson 06 with a step of this folder."""
        return PostTrainer(
            self.model,
            self.data.train,
            self.data.val,
            self.config,
            self.engine.device,
            self.engine.dtype,
            callbacks,
            reference=self.make_reference(),
            tokenizer=self.data.tokenizer,
            task=make_task(self.settings, TRAINING),
        )

    def make_reference(self) -> TinyTransformerLM:
        """The model that the run started from."""
        reference = build_model(self.config.model, self.engine, self.config.seed)
        reference.load_state_dict(self.initial.weights)
        return reference.eval()


class NewestCheckpoints(RunCheckpoints):
    """best.safetensors is the newest model: the loss on the plays is not what the run improves."""

    def on_evaluation(self, step: int, val_loss: float) -> None:
        """Save the model."""
        self.best = float("inf")
        super().on_evaluation(step, val_loss)


class PostRecorder(RunRecorder):
    """Writes what train.py writes, and answers.csv with what the held-out answers are like."""

    make_checkpoints = NewestCheckpoints

    def __init__(self, run: PostRun, run_id: str) -> None:
        super().__init__(
            run.folder, run.config, run.data, run.model, run.engine.device, run.state, run_id
        )
        self.settings = run.settings
        self.held_out = make_task(run.settings, HELD_OUT)
        truncate(run.folder / ANSWERS_FILE, -1 if run.at_start else last_row_of(run.state))
        self.answers = CsvLogger(run.folder / ANSWERS_FILE, ANSWER_COLUMNS)
        self.newest: AnswerReport | None = None

    def measure(self, trainer: PostTrainer) -> AnswerReport:
        """Answers to held-out prompts, judged; the random state of the run stays as it was."""
        was_training = trainer.model.training
        with trainer.timing("answers"):
            report = measure(
                trainer.policy,
                trainer.reference,
                trainer.tokenizer,
                self.held_out,
                self.settings.judged_answers,
            )
        trainer.model.train(was_training)
        return report

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Judge answers whenever the loss is evaluated, before the state that relies on it."""
        assert isinstance(trainer, PostTrainer)
        if report.val_loss is not None:
            self.newest = self.measure(trainer)
            reward = trainer.measured.get("reward")  # of the step's own samples
            self.write_answers(report.step, self.newest, report.val_loss, report.seconds, reward)
            self.log.write(f"step {report.step}: {described(self.newest)}")
        super().on_step(trainer, report)

    def write_answers(
        self,
        step: int,
        answers: AnswerReport,
        val_loss: float,
        seconds: float,
        reward: float | None = None,
    ) -> None:
        """Add a row to answers.csv."""
        row: dict[str, Any] = {"step": step, **asdict(answers), "reward": reward}
        self.answers.append(row | {"val_loss": val_loss, "seconds": round(seconds, 3)})
        self.answers.sync()

    def close(self) -> None:
        """Close the files that are still open."""
        self.answers.close()
        super().close()


def described(answers: AnswerReport) -> str:
    """What was measured, in a line."""
    followed = "" if answers.followed is None else f"{answers.followed:.1%} followed, "
    return (
        f"{answers.right:.1%} right, {followed}{answers.share:.1%} before the first mistake, "
        f"KL {answers.kl:.3f}, distinct lines {answers.distinct:.0%}"
    )


def truncate(path: Path, last: int) -> None:
    """Drop the rows after the step `last`, which a resumed run writes again."""
    if not path.exists():
        return
    lines, rows = complete_lines(path), read_csv(path)
    n_header = len(lines) - len(rows)  # 0 if the file was lost with the machine's power
    numbered = zip(lines[n_header:], rows, strict=True)
    kept = [line for line, row in numbered if (row["step"] or 0) <= last]
    atomic_write_text(path, "".join(f"{line}\n" for line in lines[:n_header] + kept))

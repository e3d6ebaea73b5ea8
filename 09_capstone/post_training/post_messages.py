"""What post_train.py prints: the start, its progress, answers before and after, the end."""

from pathlib import Path

from tqdm import tqdm

from post_training.measures import AnswerReport, first_answers
from post_training.post_run import ANSWERS_FILE, PostRecorder, PostRun, described
from post_training.post_trainer import PostTrainer
from post_training.tasks import Prompt
from progress_bar import ProgressBar
from run_places import default_checkpoints
from strategies import side_by_side, wrapped
from training_loop import StepReport, Trainer
from utils.files import atomic_write_text, quoted, shown
from utils.terminal import WIDEST

BEFORE_AFTER_FILE = "before_after.txt"
SHOWN = 3  # prompts, with the answers before and after
LEGEND = "> ends the prompt; # stands before the first wrong character"


class PostProgressBar(ProgressBar):
    """A line per evaluation that says how right the answers are."""

    recorder: PostRecorder | None = None

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Move the bar; print a line if answers were judged."""
        assert isinstance(trainer, PostTrainer)
        self.bar.total = trainer.max_steps
        self.bar.set_description_str(measured(trainer), refresh=False)
        self.bar.update()
        if report.val_loss is not None and self.recorder and self.recorder.newest:
            line = evaluated(report.step, self.recorder.newest, report.val_loss)
            tqdm.write(f"{line}  {report.seconds:3.0f} s")


def evaluated(step: int, answers: AnswerReport, val_loss: float) -> str:
    """What an evaluation found, in a line of less than 80 characters."""
    followed = "" if answers.followed is None else f"  follow {answers.followed:4.0%}"
    return (
        f"step {step:>4}  right {answers.right:6.1%}{followed}  KL {answers.kl:.3f}  "
        f"distinct {answers.distinct:4.0%}  loss {val_loss:.3f}"
    )


def measured(trainer: PostTrainer) -> str:
    """What the last step measured, for the bar."""
    return ", ".join(f"{name} {value:.3f}" for name, value in trainer.measured.items()) or "loss"


def describe_start(trainer: PostTrainer, recorder: PostRecorder) -> None:
    """Print and record what the model does before the first step.

    After a stop meanwhile, the loss is that of a part: --resume measures again.
    """
    answers, loss = recorder.measure(trainer), trainer.evaluate()
    trainer.budget.spend(sum(trainer.costs.values()))
    if trainer.stop:
        return
    recorder.write_answers(0, answers, loss, 0.0)
    recorder.log.write(f"before: {described(answers)}")
    print(evaluated(0, answers, loss), flush=True)


def describe_end(run: PostRun, trainer: PostTrainer, recorder: PostRecorder) -> None:
    """Print the same prompts with an answer of each model, and keep them in a file."""
    answers = [
        first_answers(model, trainer.tokenizer, recorder.held_out, SHOWN)
        for model in (trainer.reference, trainer.policy)
    ]
    rows = [[["before"], ["after"]]]  # a row per prompt: its answers begin at the same height
    rows += [[block(recorder, *each) for each in pair] for pair in zip(*answers, strict=True)]
    lines = [line for row in rows for line in side_by_side(row, (WIDEST - 3) // 2)]
    text = "\n".join([*lines, "", LEGEND])
    atomic_write_text(run.folder / BEFORE_AFTER_FILE, text + "\n")
    print(f"\n{text}\n")


def block(recorder: PostRecorder, prompt: Prompt, answer: str) -> list[str]:
    """A prompt and an answer, with the verdict; `#` stands before the first wrong character."""
    verdict = recorder.held_out.judge(prompt, answer)
    n = verdict.accepted
    marked = answer if verdict.is_right else f"{answer[:n]}#{answer[n:]}"
    end = "right" if verdict.is_right else f"wrong at character {n + 1}"
    width = (WIDEST - 3) // 2
    return ["-" * width, *wrapped(f"{prompt.text}>{marked}", width), f"({end})"]


def describe_interruption(
    run: PostRun, trainer: PostTrainer, published: Path | None, finished: bool
) -> None:
    """Print where the model is, or how to resume."""
    if not finished:
        print(f"interrupted at step {trainer.step} of {trainer.max_steps}; the state is saved")
        print(f"resume  python 09_capstone/post_train.py --resume --out-dir {quoted(run.folder)}")
        return
    assert published is not None
    is_default = published.parent == default_checkpoints()
    option = "" if is_default else f" --checkpoint {quoted(published)}"
    print(f"answers {shown(run.folder / ANSWERS_FILE)}")
    if run.settings.task == "follow":
        option += ' --prompt "[Fool greets Nurse]" --stop "|"'  # short: the line fits 80 columns
    print(f"sample  python 09_capstone/sample.py{option}")

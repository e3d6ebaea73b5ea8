"""The progress bar of a training run."""

from tqdm import tqdm

from loss_functions import bits_per_char
from training_loop import Callback, StepReport, Trainer
from utils.terminal import NARROW, bar_options

WIDE_FORMAT = "{percentage:3.0f}% |{bar}| {desc}, {remaining} left"
NARROW_FORMAT = "{percentage:3.0f}% {desc}, {remaining} left"
TIMED_STEP = 20  # the first ones are slower
MANY_SECONDS = 15 * 60  # the presets for a laptop take less, unless other programs are busy


class ProgressBar(Callback):
    """One line that moves on a terminal, and one printed line per evaluation."""

    def __init__(self, max_steps: int, done: int = 0, chars_per_token: float = 1.0) -> None:
        self.chars_per_token = chars_per_token
        options = bar_options()
        self.is_narrow = options["ncols"] < NARROW
        self.bar = tqdm(
            total=max_steps,
            initial=done,
            desc="starting",
            leave=False,
            bar_format=NARROW_FORMAT if self.is_narrow else WIDE_FORMAT,
            **options,
        )

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Move the bar; print a line if the model was evaluated."""
        self.bar.total = trainer.max_steps
        self.bar.set_description_str(self._description(report), refresh=False)
        self.bar.update()
        if report.step == TIMED_STEP and (minutes := surprising_minutes(trainer, report)):
            tqdm.write(
                f"note    about {minutes} minutes at this speed; if other programs are busy, see\n"
                f"        00_setup/troubleshooting.md: OMP_NUM_THREADS=1 can be faster then"
            )
        if report.val_loss is not None:
            bits = bits_per_char(report.val_loss, self.chars_per_token)
            tqdm.write(
                f"step {report.step:>5} of {trainer.max_steps}   train {report.train_loss:.4f}   "
                f"validation {report.val_loss:.4f} ({bits:.3f} bits/char) {report.seconds:6.1f} s"
            )

    def _description(self, report: StepReport) -> str:
        if self.is_narrow:
            return f"loss {report.train_loss:.3f}"
        speed = report.tokens / report.seconds
        return f"loss {report.train_loss:.3f}, {speed / 1000:.1f}k tokens/s"

    def close(self) -> None:
        """Remove the bar; the lines of the evaluations stay."""
        self.bar.close()


def surprising_minutes(trainer: Trainer, report: StepReport) -> int:
    """The minutes that a run on the CPU will take, if they are many and were not asked for."""
    seconds = report.seconds / report.step * trainer.max_steps
    was_asked_for = trainer.config.max_minutes is not None
    if trainer.device.type != "cpu" or was_asked_for or seconds <= MANY_SECONDS:
        return 0
    return round(seconds / 60)

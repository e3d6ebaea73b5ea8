"""The rules of the leaderboard, each checked on the runs of one entry.

What a rule reads may be missing or damaged; then it is not met, and the verdict says why.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from experiment_tracking import REPOSITORY, run_quietly
from run_folder import UNREADABLE, is_finished
from tools.benchmarks.leaderboard_runs import EntryRun
from utils.config import to_dict

LONGEST = 300.0  # seconds of training
MOST_THREADS = 2
TOO_MANY_PARAMETERS = 5_000_000
FEWEST_SEEDS = 3
TOLERANCE = 0.001  # nats: between the recorded loss and the one computed again in float32
CORPUS = "shakespeare"

Rule = Callable[[EntryRun], str | None]  # what is wrong with a run; None if nothing is
Summary = Callable[[Sequence[EntryRun]], str]  # what was found in runs that meet a rule


@dataclass(frozen=True)
class Check:
    """What was checked, and what was found."""

    name: str
    ok: bool
    found: str

    def __str__(self) -> str:
        return f"{'[OK]' if self.ok else '[FAIL]':<7}{self.name}: {self.found}"


def all_checks(runs: Sequence[EntryRun]) -> Iterator[Check]:
    """Every check, the cheap ones first; the last one evaluates each model."""
    yield check_each("finished", runs, unfinished, "every run reached its last step")
    yield check_each("training time", runs, too_long, seconds_of)
    yield check_each("processor", runs, too_many_threads, f"CPU, at most {MOST_THREADS} threads")
    yield check_each("parameters", runs, too_large, parameters_of)
    yield check_each("data", runs, other_data, "the first nine tenths of Tiny Shakespeare")
    yield check_each("weights", runs, not_from_scratch, "trained from scratch")
    yield check_each("code", runs, unknown_code, "a commit without changes on top")
    yield check_each("command", runs, unrepeatable, "can be typed again")
    yield check_seeds(runs)
    yield check_same(runs)
    yield check_each("evaluation", runs, other_losses, losses_of)


def check_each(name: str, runs: Sequence[EntryRun], rule: Rule, met: str | Summary) -> Check:
    """One check for all runs: what is wrong, by run, or what holds for all of them."""
    problems = [f"{run.name}: {wrong}" for run in runs if (wrong := applied(rule, run))]
    if problems:
        return Check(name, False, "; ".join(problems))
    return Check(name, True, met if isinstance(met, str) else met(runs))


def seconds_of(runs: Sequence[EntryRun]) -> str:
    """The training time of each run."""
    return f"{', '.join(f'{run.seconds:.0f}' for run in runs)} s, at most {LONGEST:.0f}"


def parameters_of(runs: Sequence[EntryRun]) -> str:
    """The size of the models."""
    sizes = dict.fromkeys(f"{run.parameters:,}" for run in runs)
    return f"{', '.join(sizes)}, fewer than {TOO_MANY_PARAMETERS:,}"


def losses_of(runs: Sequence[EntryRun]) -> str:
    """Both losses of each run."""
    own, equal = (", ".join(f"{run.losses[i]:.4f}" for run in runs) for i in (0, 1))
    return f"computed again, {own} at its own context, {equal} at equal evaluation"


def applied(rule: Rule, run: EntryRun) -> str | None:
    """What the rule says, or that a file which it needs cannot be read."""
    try:
        return rule(run)
    except UNREADABLE as error:  # a CourseError is a ValueError
        if isinstance(error, KeyError):
            return f"the run has not recorded {error}; it may be from an older version"
        return " ".join(str(error).split())


# --- rules for one run ---


def unfinished(run: EntryRun) -> str | None:
    """A run that reached its last step, in one go."""
    if not is_finished(run.folder):
        return "not finished"
    if run.was_resumed:  # the commit and the seconds are those of its beginning only
        return "it was resumed; only an uninterrupted run counts"
    return None


def too_long(run: EntryRun) -> str | None:
    """At most five minutes."""
    return None if run.seconds <= LONGEST else f"{run.seconds:.1f} s, more than {LONGEST:.0f}"


def too_many_threads(run: EntryRun) -> str | None:
    """Two cores, and nothing else."""
    device = run.position["place"]["device"]
    if device != "cpu":
        return f"trained on {device}"
    if run.threads > MOST_THREADS:
        return f"{run.threads} threads; OMP_NUM_THREADS={MOST_THREADS} limits them"
    return None


def too_large(run: EntryRun) -> str | None:
    """Fewer than five million parameters."""
    return None if run.parameters < TOO_MANY_PARAMETERS else f"{run.parameters:,} parameters"


def other_data(run: EntryRun) -> str | None:
    """Tiny Shakespeare, whose last tenth the model has not seen.

    The fingerprint covers the tokens of both splits; `load_training_data` has compared the file
    with its SHA-256.
    """
    if run.config.data != CORPUS:
        return f"trained on {run.config.data}"
    if run.checkpoint.info.get("corpus") != CORPUS:
        return f"trained on {run.checkpoint.info.get('corpus')}, in place of {CORPUS}"
    if run.data.name != CORPUS:
        return f"this machine has no Tiny Shakespeare: {run.data.origin}"
    if run.position["place"]["data"] != run.data.fingerprint:
        return "its text or its split is another one"
    return None


def not_from_scratch(run: EntryRun) -> str | None:
    """No weights from elsewhere, which may have seen the last tenth."""
    return None if run.config.init_from is None else f"started from {run.config.init_from}"


def unknown_code(run: EntryRun) -> str | None:
    """A commit that others can check out, without changes on top."""
    git = run.environment["git"]
    if git is None:
        return "no git commit was recorded"
    return f"uncommitted changes on top of {git['commit'][:12]}" if git["dirty"] else None


def unrepeatable(run: EntryRun) -> str | None:
    """A command of train.py that needs no file outside the commit."""
    program, *words = run.environment["command"]
    if Path(program).name != "train.py":
        return f"started by {program}"
    for flag, _, value in (pair(words, i) for i in range(len(words))):
        if flag == "--config" and not is_tracked(value):
            return f"{value} is not part of the commit; type its fields as flags"
    return None


def pair(words: Sequence[str], i: int) -> tuple[str, str, str]:
    """A flag and its value, which is behind "=" or the next word."""
    flag, equals, value = words[i].partition("=")
    return flag, equals, value if equals else next(iter(words[i + 1 : i + 2]), "")


def is_tracked(file: str) -> bool:
    """Whether git tracks a file of the repository."""
    command = ("git", "-C", str(REPOSITORY), "ls-files", "--error-unmatch", file)
    return run_quietly(*command) is not None


def other_losses(run: EntryRun) -> str | None:
    """Both losses, computed again."""
    names = ("its own context", "equal evaluation")
    for name, now, then in zip(names, run.losses, run.recorded_losses, strict=True):
        if not abs(now - then) <= TOLERANCE:  # also if either is nan
            return f"{now:.4f} at {name}, but the run recorded {then:.4f}"
    return None


# --- rules for all runs together ---


def check_seeds(runs: Sequence[EntryRun]) -> Check:
    """At least three runs, each with another seed."""
    try:
        seeds = [run.config.seed for run in runs]
    except UNREADABLE as error:
        return Check("seeds", False, " ".join(str(error).split()))
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    shown = ", ".join(map(str, sorted(seeds)))
    if twice:
        return Check("seeds", False, f"{shown}: every run needs another seed")
    if (missing := FEWEST_SEEDS - len(seeds)) > 0:
        other = [n for n in range(FEWEST_SEEDS + len(seeds)) if n not in seeds][:missing]
        flags = " and ".join(f"--seed {n}" for n in other)
        found = f"{shown}; at least {FEWEST_SEEDS} are needed: train again with {flags}"
        return Check("seeds", False, found)
    return Check("seeds", True, shown)


def check_same(runs: Sequence[EntryRun]) -> Check:
    """Seeds of one entry differ in nothing else: configuration, or commit."""
    name = "same settings"
    try:
        settings = [settings_of(run) for run in runs]
    except UNREADABLE as error:
        return Check(name, False, " ".join(str(error).split()))
    differing = [key for key in settings[0] if len({str(each[key]) for each in settings}) > 1]
    if differing:
        shown = [f"{key} is {' or '.join(values_of(key, settings))}" for key in differing]
        return Check(name, False, "; ".join(shown))
    return Check(name, True, "one configuration and one commit, apart from the seed")


def settings_of(run: EntryRun) -> dict[str, object]:
    """Everything that all seeds of an entry have in common, by name."""
    config = replace(run.config, seed=0)
    model = asdict(config.model)
    fields = {name: value for name, value in to_dict(config).items() if name != "model"}
    git = run.environment["git"] or {}
    return {**model, **fields, "commit": git.get("commit")}


def values_of(key: str, settings: Sequence[dict[str, object]]) -> list[str]:
    """The different values of a setting, in the order of the runs."""
    return list(dict.fromkeys(str(each[key]) for each in settings))

"""A gallery: samples for several prompts and settings in one Markdown file.

Each sample is under the command that prints it again, with its prompt, settings, seed and
checkpoint.
"""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from generator import TextGenerator
from sample_args import given_flags
from strategies import DRAWN
from utils.config import SampleConfig
from utils.errors import UsageError
from utils.files import atomic_write_text, quoted
from utils.terminal import bar_options

N_SAMPLES = 24
PROMPTS = ("", "ROMEO:", "My lord, ", "To be, or not to be")  # those that the model knows
SHAPING = ("temperature", "top_k", "top_p", "min_p", "beams")  # flags that replace DRAWN


@dataclass(frozen=True)
class GallerySource:
    """What the commands of a gallery name besides the settings of a sample."""

    checkpoint: Path
    given: frozenset[str]  # the settings that were typed; the gallery varies the others
    more_flags: str = ""

    @classmethod
    def from_args(cls, args: argparse.Namespace, checkpoint: Path) -> "GallerySource":
        """From the command line of sample.py, and the checkpoint that was found."""
        draft = ""
        if args.draft is not None:
            draft = f" --draft {quoted(args.draft)} --draft-tokens {args.draft_tokens}"
        return cls(checkpoint, frozenset(given_flags(args)), draft)


@dataclass(frozen=True)
class Sample:
    """One text of the gallery, with everything that it came from."""

    sampling: SampleConfig  # with its own prompt and seed
    text: str  # with the prompt


def check_output(path: Path) -> None:
    """Raise UsageError if the gallery can't be written there, before any text is generated."""
    if path.is_dir():
        raise UsageError(f"--output {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")


def write_gallery(
    path: Path, generator: TextGenerator, sampling: SampleConfig, source: GallerySource
) -> None:
    """Generate the samples and write the file, in one step at the end; an old file is replaced."""
    planned = list(plan(generator, sampling, source.given))
    samples = []
    for own in tqdm(planned, desc="samples", unit="", **bar_options()):
        (text,) = generator.generate([own.prompt], own)
        samples.append(Sample(own, (own.prompt + text).strip("\n") or "(only empty lines)"))
    atomic_write_text(path, page(samples, source))
    print(f"{counted(samples)} in {path}")


def plan(
    generator: TextGenerator, sampling: SampleConfig, given: frozenset[str]
) -> Iterator[SampleConfig]:
    """The settings of each sample: every prompt with every strategy, then again with other seeds.

    A typed prompt is the only one, and typed settings are the only strategy.
    """
    prompts = [sampling.prompt] if "prompt" in given else known_prompts(generator)
    strategies: list[dict[str, Any]] = [{}] if given.intersection(SHAPING) else [*DRAWN.values()]
    n_samples = sampling.num_samples if "num_samples" in given else N_SAMPLES
    if sampling.beams is not None:  # the same text every time
        n_samples = len(prompts)
    for i in range(n_samples):
        which_prompt, which_strategy = i % len(prompts), i // len(prompts) % len(strategies)
        yield replace(
            sampling,
            **strategies[which_strategy],
            prompt=prompts[which_prompt],
            seed=(sampling.seed + i) % 2**63,
            num_samples=1,
        )


def known_prompts(generator: TextGenerator) -> list[str]:
    """The prompts whose characters are all in the vocabulary."""
    known = []
    for prompt in PROMPTS:
        try:
            generator.encode(prompt)
        except UsageError:
            continue
        known.append(prompt)
    return known


def page(samples: list[Sample], source: GallerySource) -> str:
    """The gallery as Markdown."""
    lines = [
        "# A gallery of samples",
        "",
        f"{counted(samples)} from `{source.checkpoint.name}`. Each command prints its text again, "
        "as long as that file is the same.",
    ]
    for number, sample in enumerate(samples, start=1):
        runs = re.findall("`+", sample.text + sample.sampling.prompt)
        fence = "`" * max([3, *(len(run) + 1 for run in runs)])
        lines += ["", f"## {number}. {described(sample.sampling)}", "", fence + "sh"]
        lines += [command(sample.sampling, source), fence, ""]
        lines += [fence + "text", sample.text, fence]
    return "\n".join(lines) + "\n"


def counted(samples: list[Sample]) -> str:
    """ "1 sample", "24 samples"."""
    return f"{len(samples)} sample{'s' * (len(samples) != 1)}"


def changed(sampling: SampleConfig) -> dict[str, Any]:
    """The settings that are not the defaults, and those that every sample names."""
    always = ("seed",) if sampling.beams is not None else ("temperature", "seed")
    values = {f.name: (getattr(sampling, f.name), f.default) for f in fields(sampling)}
    return {name: x for name, (x, default) in values.items() if x != default or name in always}


def described(sampling: SampleConfig) -> str:
    """The prompt and the settings, for a heading."""
    settings = changed(sampling)
    settings.pop("prompt", None)
    prompt = repr(sampling.prompt) if sampling.prompt else "no prompt"
    return ", ".join([prompt, *(f"{name} {value}" for name, value in settings.items())])


def command(sampling: SampleConfig, source: GallerySource) -> str:
    """The command that prints this sample again."""
    flags = [f"--checkpoint {quoted(source.checkpoint)}{source.more_flags}"]
    for name, value in changed(sampling).items():
        flag = f"--{name.replace('_', '-')}"
        if name == "seed" and sampling.beams is not None:
            continue  # refused with beams, which draw nothing
        for each in value if isinstance(value, tuple) else [value]:
            typed = str(each).replace("\\", "\\\\").replace("\n", "\\n") if name == "stop" else each
            flags.append(f"{flag} {shlex.quote(str(typed))}")
    return f"python 09_capstone/sample.py {' '.join(flags)}"

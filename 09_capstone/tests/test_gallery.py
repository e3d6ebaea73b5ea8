"""gallery.py: what the file holds, and that each of its commands prints its sample again."""

import re
import shlex
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import gallery
import sample
from checkpointing import save_checkpoint
from strategies import DRAWN
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import ModelConfig, SampleConfig

Call = Callable[..., Any]
TEXT = "ROMEO:\nTo be, or not to be, my lord?\n`````\n"


def write_model(path: Path, text: str = TEXT, seed: int = 0) -> Path:
    """A model with random weights, for which many characters are likely."""
    tokenizer = CharTokenizer.train(text)
    shape: dict[str, Any] = {"d_model": 16, "n_layers": 1, "n_heads": 2, "tie_weights": False}
    model = TinyTransformerLM(ModelConfig(tokenizer.vocab_size, max_seq_len=32, **shape))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=generator)
    save_checkpoint(path, model, tokenizer)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_model(tmp_path / "a model.safetensors")


@pytest.fixture
def call(call_program: Call) -> Call:
    """Run sample.py with these arguments."""
    return partial(call_program, sample.main)


def samples_of(page: str) -> list[tuple[str, list[str], str]]:
    """The heading, the arguments of the command and the text of each sample."""
    found = re.findall(
        r"^## \d+\. ([^\n]*)\n\n(`{3,})sh\n(.*?)\n\2\n\n\2text\n(.*?)\n\2$", page, re.M | re.S
    )
    return [(heading, shlex.split(typed)[2:], text) for heading, _, typed, text in found]


def config_of(typed: list[str]) -> SampleConfig:
    """The settings in the arguments of a command."""
    parser = OneLineParser()
    parser.add_argument("--checkpoint")
    add_config_flags(parser, SampleConfig)
    return config_from_args(parser.parse_args(typed), SampleConfig())


def make(call: Call, checkpoint: Path, output: Path, *arguments: object) -> str:
    """Write a gallery of short samples and read it."""
    done = call(
        *("--checkpoint", checkpoint, "--batch", "--output", output, "--max-tokens", 25),
        *arguments,
    )
    assert (done.code, done.err) == (0, f"model   {checkpoint.stem}: no loss recorded\n")
    page = output.read_text(encoding="utf-8")
    n = len(samples_of(page))
    assert done.out == f"{n} sample{'s' * (n > 1)} in {output}\n"
    return page


def test_a_gallery_has_every_prompt_with_every_setting_and_seeds_of_its_own(
    call: Call, checkpoint: Path, tmp_path: Path
) -> None:
    samples = samples_of(make(call, checkpoint, tmp_path / "gallery.md", "--seed", 5))
    assert len(samples) >= 20
    headings = [heading.rsplit(", seed ", 1) for heading, _, _ in samples]
    assert len({settings for settings, _ in headings}) == len(samples)
    assert [int(seed) for _, seed in headings] == list(range(5, 5 + len(samples)))
    configs = [config_of(typed) for _, typed, _ in samples]
    for prompt, changes in product(gallery.PROMPTS, DRAWN.values()):
        settings = {"temperature": 1.0, "top_k": None, "top_p": None, "min_p": None, **changes}
        wanted = {"prompt": prompt, **settings}
        found = [config for config in configs if {n: getattr(config, n) for n in wanted} == wanted]
        assert len(found) == 1, wanted


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--prompt", "ROMEO:\nTo `be`", "--num-samples", 7],
        ["--temperature", "0.7", "--top-k", "3", "--stop", r"\n", "--stop", "be"],
        ["--repetition-penalty", "1.5", "--min-p", "0.01", "--num-samples", 3],
        ["--beams", 3, "--length-penalty", "0.5", "--stop", r"\n"],
    ],
)
def test_each_command_prints_its_sample_again(
    call: Call, checkpoint: Path, tmp_path: Path, arguments: list[object]
) -> None:
    samples = samples_of(make(call, checkpoint, tmp_path / "gallery.md", *arguments))
    for _, typed, text in samples[:: max(1, len(samples) // 5)]:
        done = call(*typed)
        assert done.code == 0 and done.err.startswith("model   ")
        shown = done.out.removesuffix("\n\n").strip("\n")
        assert shown == text or (not shown.strip("\n") and text == "(only empty lines)")


def test_with_a_draft_as_well(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    draft = write_model(tmp_path / "draft.safetensors", seed=1)
    flags = ("--draft", draft, "--draft-tokens", 2, "--num-samples", 2)
    for _, typed, text in samples_of(make(call, checkpoint, tmp_path / "gallery.md", *flags)):
        assert "--draft" in typed
        assert call(*typed).out.strip("\n") == text


def test_typed_settings_are_the_only_ones(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    page = make(call, checkpoint, tmp_path / "g.md", "--prompt", "be", "--top-p", "0.5")
    samples = samples_of(page)
    assert len(samples) == 24
    assert all(h.startswith("'be', ") and "top_p 0.5" in h for h, _, _ in samples)
    assert len({text for _, _, text in samples}) > 12
    assert all(text.startswith("be") for _, _, text in samples)


@pytest.mark.parametrize("n", [1, 5, 30])
def test_num_samples_is_the_number_of_samples(
    call: Call, checkpoint: Path, tmp_path: Path, n: int
) -> None:
    page = make(call, checkpoint, tmp_path / "g.md", "--num-samples", n, "--max-tokens", 3)
    assert len(samples_of(page)) == n
    assert f"{n} sample{'s' * (n > 1)} from `a model.safetensors`" in page


def test_prompts_with_unknown_characters_are_left_out(call: Call, tmp_path: Path) -> None:
    only_a = write_model(tmp_path / "a.safetensors", "a\n" * 20)
    samples = samples_of(make(call, only_a, tmp_path / "g.md", "--num-samples", 6))
    assert all(heading.startswith("no prompt") for heading, _, _ in samples)


def test_an_unknown_character_in_a_typed_prompt_is_refused_and_the_file_stays(
    call: Call, checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "g.md"
    output.write_text("old", encoding="utf-8")
    done = call(
        "--checkpoint",
        checkpoint,
        "--batch",
        "--output",
        output,
        "--prompt",
        "€",
        "--max-tokens",
        3,
    )
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "unknown character '€'" in done.err
    assert output.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_an_old_gallery_is_replaced_in_one_step(
    call: Call, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "g.md"
    make(call, checkpoint, output, "--num-samples", 2)
    assert "2 samples" in output.read_text(encoding="utf-8")

    def full_disk(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(gallery, "atomic_write_text", full_disk)
    done = call(
        *("--checkpoint", checkpoint, "--batch", "--output", output),
        *("--num-samples", 3, "--max-tokens", 3),
    )
    assert done.code == 1
    assert done.err.endswith(f"\nerror: No space left on device: {output}\n")
    assert "2 samples" in output.read_text(encoding="utf-8")


def test_texts_in_any_script_are_written_as_utf_8(call: Call, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.safetensors", "Жук 漢字 🙂\n" * 9)
    page = make(call, path, tmp_path / "g.md", "--prompt", "Жук 🙂", "--num-samples", 2)
    assert "'Жук 🙂', " in page
    assert (tmp_path / "g.md").read_bytes().decode("utf-8") == page

"""sample.py: what it prints, from which checkpoint, and what it refuses."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import sample
from any_tokenizer import Tokenizer
from bpe_tokenizer import train_bpe
from checkpointing import load_checkpoint, save_checkpoint
from special_tokens import SPECIAL_TOKENS
from strategies import COLUMN_WIDTH, COLUMNS, GAP, STRATEGIES
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Trainer
from utils.config import ModelConfig, TrainConfig

PROGRAM = Path(__file__).parents[1] / "sample.py"
TEXT = "ROMEO:\nShall I hear more, or shall I speak at this?\n" * 20


Call = Callable[..., Any]


def write_checkpoint(path: Path, text: str, steps: int, tokenizer: Tokenizer | None = None) -> Path:
    """Train a small model on the text and save it."""
    tokenizer = tokenizer or CharTokenizer.train(text)
    shape = ModelConfig(tokenizer.vocab_size, max_seq_len=32, d_model=32, n_layers=2, n_heads=2)
    config = TrainConfig(shape, max_steps=steps, warmup_steps=1, lr=1e-2, batch_size=8)
    model, tokens = TinyTransformerLM(shape), tokenizer.encode_array(text)
    Trainer(model, tokens, tokens[:100], config).fit()
    save_checkpoint(path, model, tokenizer)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A barely trained model, so that many tokens are likely under every strategy."""
    return write_checkpoint(tmp_path_factory.mktemp("trained") / "romeo.safetensors", TEXT, 10)


@pytest.fixture
def call(call_program: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run sample.py with these arguments, without the repository's own checkpoints."""
    monkeypatch.setattr(sample, "HERE", tmp_path)
    return partial(call_program, sample.main)


@pytest.fixture
def text_of(call: Call, checkpoint: Path) -> Callable[..., str]:
    """The output of the trained model with these flags; 60 characters by default."""

    def text_of(*arguments: object) -> str:
        done = call("--checkpoint", checkpoint, "--max-tokens", 60, *arguments)
        assert (done.code, done.err) == (0, "model   romeo: no loss recorded\n")
        return done.out

    return text_of


# --- output -------------------------------------------------------------------------------------


def test_greedy_takes_the_likeliest_character_of_a_fresh_pass_each_time(
    text_of: Callable[..., str], checkpoint: Path
) -> None:
    loaded = load_checkpoint(checkpoint)
    model, tokens = loaded.build_model().eval(), loaded.tokenizer.encode("ROMEO:")
    for _ in range(20):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    expected = loaded.tokenizer.decode(tokens)
    assert (
        text_of("--prompt", "ROMEO:", "--temperature", 0, "--max-tokens", 20) == f"{expected}\n\n"
    )


def test_at_temperature_zero_the_seed_does_not_matter(text_of: Callable[..., str]) -> None:
    assert text_of("--temperature", 0, "--seed", 1) == text_of("--temperature", 0, "--seed", 2)


def test_with_a_single_candidate_token_the_seed_does_not_matter(
    text_of: Callable[..., str],
) -> None:
    greedy = text_of("--temperature", 0)
    for only_one in (("--top-k", 1), ("--top-p", 1e-9), ("--min-p", 1), ("--temperature", 1e-9)):
        assert text_of(*only_one) == greedy


def test_equal_seeds_give_equal_texts_and_others_differ(
    text_of: Callable[..., str],
) -> None:
    assert text_of("--seed", 1) == text_of("--seed", 1) != text_of("--seed", 2)


def test_max_tokens_counts_the_characters_after_the_prompt(text_of: Callable[..., str]) -> None:
    assert text_of("--prompt", "ROMEO:", "--max-tokens", 0) == "ROMEO:\n\n"
    assert len(text_of("--prompt", "ROMEO:", "--max-tokens", 77)) == len("ROMEO:") + 77 + len(
        "\n\n"
    )


def test_an_empty_prompt_starts_from_a_newline(text_of: Callable[..., str]) -> None:
    assert text_of("--prompt", "") == text_of() == text_of("--prompt", "\n")


def test_empty_lines_at_the_start_of_a_text_without_a_prompt_are_not_shown() -> None:
    assert "".join(sample.from_first_line(iter("\n\nTo\n\nbe"))) == "To\n\nbe"
    assert list(sample.from_first_line(iter("\n\n"))) == []


def test_a_prompt_longer_than_the_context_is_kept_whole(text_of: Callable[..., str]) -> None:
    prompt = "Shall I hear more, or shall I speak at this? " * 3
    assert text_of("--prompt", prompt, "--max-tokens", 9).startswith(prompt)


def test_each_sample_has_a_heading_and_a_seed_of_its_own(text_of: Callable[..., str]) -> None:
    text = text_of("--num-samples", 2, "--seed", 5)
    head, first, second = text.split("--- sample ")
    assert head == ""
    assert first == f"1 of 2 ---\n{text_of('--seed', 5)}"
    assert second == f"2 of 2 ---\n{text_of('--seed', 6)}"


def test_the_largest_seed_has_a_successor(text_of: Callable[..., str]) -> None:
    assert "2 of 2" in text_of("--seed", 2**63 - 1, "--num-samples", 2, "--max-tokens", 3)


def test_a_stop_text_ends_the_sample_and_is_not_shown(text_of: Callable[..., str]) -> None:
    whole = text_of("--temperature", 0).removesuffix("\n\n")
    stop = whole[20:22]
    assert text_of("--temperature", 0, "--stop", stop) == whole[: whole.index(stop)] + "\n\n"


def test_a_newline_can_be_typed_as_the_stop_text(text_of: Callable[..., str]) -> None:
    options = ("--temperature", 2, "--prompt", "ROMEO:", "--max-tokens", 300)
    whole = text_of(*options).removesuffix("\n\n")
    assert "\n" in whole
    assert text_of(*options, "--stop", r"\n") == whole[: whole.index("\n")] + "\n\n"


def test_a_prompt_with_windows_line_endings_is_the_same_prompt(text_of: Callable[..., str]) -> None:
    assert text_of("--prompt", "ROMEO:\r\nShall") == text_of("--prompt", "ROMEO:\nShall")


def test_of_several_stop_texts_the_first_in_the_text_ends_it(text_of: Callable[..., str]) -> None:
    whole = text_of("--temperature", 0).removesuffix("\n\n")
    first, second = whole[20:23], whole[30:33]
    stops = ("--stop", second, "--stop", first, "--stop", "nowhere")
    cut = min(whole.index(first), whole.index(second))
    assert text_of("--temperature", 0, *stops) == whole[:cut] + "\n\n"


def columns_of(compared: str) -> dict[str, str]:
    """The text under each heading, joined from the cells of its column."""
    found, step = {}, COLUMN_WIDTH + len(GAP)
    for block in compared.removesuffix("\n\n").split("\n\n"):
        lines = block.split("\n")
        for start in range(0, COLUMNS * step, step):
            heading, _, *cells = (line[start : start + COLUMN_WIDTH].rstrip() for line in lines)
            found[heading] = "\n".join(cells).rstrip("\n")
    return found


def test_compare_shows_the_text_of_each_strategy_in_eighty_columns(
    text_of: Callable[..., str],
) -> None:
    prompt = ("--prompt", "ROMEO:", "--max-tokens", 12)  # short: a line is never broken
    compared = text_of("--compare", *prompt)
    assert max(map(len, compared.splitlines())) <= 80
    shown = columns_of(compared)
    assert list(shown) == list(STRATEGIES)
    for name, changes in STRATEGIES.items():
        flags = (f"--{field.replace('_', '-')}={value}" for field, value in changes.items())
        lines = [line.rstrip() for line in text_of(*prompt, *flags).strip("\n").split("\n")]
        assert shown[name].split("\n") == lines, name


# --- beams and drafts ---------------------------------------------------------------------------


def test_one_beam_is_greedy(text_of: Callable[..., str]) -> None:
    for prompt in ("ROMEO:", ""):
        assert text_of("--beams", 1, "--prompt", prompt) == text_of(
            "--temperature", 0, "--prompt", prompt
        )


def test_the_best_texts_of_a_search_are_numbered(text_of: Callable[..., str]) -> None:
    options = ("--beams", 3, "--prompt", "ROMEO:")
    text = text_of(*options, "--num-samples", 2)
    head, first, second = text.split("--- text ")
    assert head == ""
    assert first == f"1 of 2 ---\n{text_of(*options)}"
    assert second.startswith("2 of 2 ---\nROMEO:") and second[11:] != first[11:]


def test_with_a_draft_the_greedy_text_is_the_same(
    text_of: Callable[..., str], checkpoint: Path, tmp_path: Path
) -> None:
    draft = write_checkpoint(tmp_path / "draft.safetensors", TEXT, steps=3)
    options = ("--prompt", "ROMEO:", "--temperature", 0)
    for n in (1, 6):
        drafted = text_of(*options, "--draft", draft, "--draft-tokens", n)
        assert drafted == text_of(*options)
    sampled = text_of("--draft", checkpoint, "--seed", 3)
    assert sampled == text_of("--draft", checkpoint, "--seed", 3)
    assert sampled != text_of("--draft", checkpoint, "--seed", 4)


def test_a_draft_with_other_tokens_is_refused(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    draft = write_checkpoint(tmp_path / "draft.safetensors", "abc" * 99, steps=1)
    done = call("--checkpoint", checkpoint, "--draft", draft)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"the draft {draft} has other tokens than {checkpoint}" in done.err
    done = call("--checkpoint", checkpoint, "--draft", tmp_path / "none")
    assert (done.code, done.err) == (1, f"error: no checkpoint at {tmp_path / 'none'}\n")


def test_a_vocabulary_of_one_character_works(call: Call, tmp_path: Path) -> None:
    only_a = write_checkpoint(tmp_path / "a.safetensors", "a" * 200, steps=1)
    assert call("--checkpoint", only_a, "--max-tokens", 5).out == "aaaaa\n\n"


# --- which checkpoint ---------------------------------------------------------------------------


def test_the_newest_checkpoint_is_taken(call: Call, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for age, letter in enumerate("abc"):
        path = tmp_path / "checkpoints" / f"{letter}.safetensors"
        write_checkpoint(path, letter * 200, steps=1)
        os.utime(path, (1e9 - age, 1e9 - age))
    assert call("--max-tokens", 3).out == "aaa\n\n"


@pytest.mark.parametrize(
    ("info", "line"),
    [
        ({"val_loss": 1.58949, "step": 1400}, "model   romeo: validation loss 1.589, step 1400\n"),
        ({"step": 7}, "model   romeo: no loss recorded, step 7\n"),
        ({"val_loss": "low", "step": None}, "model   romeo: no loss recorded\n"),
    ],
)
def test_it_says_which_checkpoint_it_took_and_its_loss(
    call: Call, checkpoint: Path, tmp_path: Path, info: dict[str, Any], line: str
) -> None:
    loaded = load_checkpoint(checkpoint)
    path = tmp_path / "romeo.safetensors"
    save_checkpoint(path, loaded.build_model(), loaded.tokenizer, info)
    modes = ([], ["--compare"], ["--beams", 2], ["--batch", "--output", tmp_path / "gallery.md"])
    for mode in modes:
        done = call("--checkpoint", path, "--max-tokens", 3, *mode)
        assert (done.code, done.err) == (0, line)
        assert line not in done.out


def test_a_long_name_breaks_the_line_before_the_step(checkpoint: Path) -> None:
    info = {"val_loss": 1.5, "step": 1302}
    name = "20261130-052853-shakespeare-4d3b4663715c"
    loaded = replace(load_checkpoint(checkpoint), info=info, name=f"there/{name}.safetensors")
    assert sample.model_line(loaded) == (
        f"model   {name}: validation loss 1.500,\n        step 1302"
    )


def test_the_loss_of_a_model_with_learned_tokens_is_one_per_token(
    call: Call, learned: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(learned)
    path = tmp_path / "learned.safetensors"
    save_checkpoint(path, loaded.build_model(), loaded.tokenizer, {"val_loss": 2.5, "step": 10})
    done = call("--checkpoint", path, "--max-tokens", 3)
    assert done.err == "model   learned: validation loss 2.500 nats per token, step 10\n"


def test_without_any_checkpoint_the_error_says_how_to_get_one(call: Call, tmp_path: Path) -> None:
    done = call()
    assert (done.code, done.out) == (1, "")
    assert f"no checkpoint in {tmp_path / 'checkpoints'}; train a model first" in done.err


def damaged(checkpoint: Path, how: str) -> bytes:
    data = checkpoint.read_bytes()
    return {
        "half": data[: len(data) // 2],
        "empty": b"",
        "text": b"ROMEO:" * 99,
        "foreign": data.replace(b"tiny-transformer-1", b"huge-transformer-9"),
    }[how]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("half", "truncated"),
        ("empty", "truncated"),
        ("text", "not a checkpoint"),
        ("foreign", "is not a checkpoint of this course: its format is 'huge-transformer-9'"),
        ("missing", "no checkpoint at"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_gives_one_line(
    call: Call, checkpoint: Path, tmp_path: Path, name: str, words: str
) -> None:
    if name != "missing":
        (tmp_path / name).write_bytes(damaged(checkpoint, name))
    done = call("--checkpoint", tmp_path / name)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert words in done.err and str(tmp_path / name) in done.err


# --- refused ------------------------------------------------------------------------------------

REFUSED = {
    "unknown character": (["--prompt", "to h€"], "'€' (U+20AC) at index 4"),
    "in several samples": (["--prompt", "€", "--num-samples", "2"], "'€' (U+20AC) at index 0"),
    "compared": (["--prompt", "€", "--compare"], "'€' (U+20AC) at index 0"),
    "negative temperature": (["--temperature", "-1"], "temperature -1.0 is out of range"),
    "infinite temperature": (["--temperature", "inf"], "temperature inf is out of range"),
    "top-p 0": (["--top-p", "0"], "top_p 0.0 is out of range"),
    "top-p above 1": (["--top-p", "1.5"], "it must be above 0 and at most 1"),
    "min-p above 1": (["--min-p", "1.5"], "min_p 1.5 is out of range"),
    "top-k 0": (["--top-k", "0"], "top_k 0 is out of range"),
    "tokens below 0": (["--max-tokens", "-1"], "max_tokens -1 is out of range"),
    "no samples": (["--num-samples", "0"], "num_samples 0 is out of range"),
    "no number": (["--temperature", "hot"], "temperature 'hot' is not a number"),
    "typing error": (["--tempreature", "1"], "did you mean '--temperature'?"),
    "device": (["--device", "abacus"], "unknown device 'abacus'"),
    "absent device": (["--device", "cuda:7"], "'cuda:7' is not available"),
    "two modes": (["--compare", "--interactive"], "not allowed with"),
    "three modes": (["--compare", "--batch", "--output", "x"], "not allowed with"),
    "no beams": (["--beams", "0"], "beams 0 is out of range"),
    "many texts": (["--beams", "2", "--num-samples", "3"], "num_samples 3 is more than the 2"),
    "beams and draft": (["--beams", "2", "--draft", "x"], "--draft has no effect with --beams"),
    "compared drafts": (["--compare", "--draft", "x"], "--draft has no effect with --compare"),
    "compared samples": (["--compare", "--num-samples", "2"], "--num-samples has no effect with"),
    "length penalty": (["--length-penalty", "0"], "--length-penalty has no effect without --beams"),
    "draft tokens": (["--draft-tokens", "3"], "--draft-tokens has no effect without --draft"),
    "no draft": (["--draft", "x", "--draft-tokens", "0"], "--draft-tokens '0' is not a whole"),
    "half a draft": (["--draft", "x", "--draft-tokens", "1.5"], "'1.5' is not a whole number"),
    "no repetition": (["--repetition-penalty", "0"], "repetition_penalty 0.0 is out of range"),
    "endless presence": (["--presence-penalty", "inf"], "presence_penalty inf is out of range"),
    "no output": (["--batch"], "--batch needs --output FILE"),
    "no batch": (["--output", "x.md"], "--output has no effect without --batch"),
    "no folder": (["--batch", "--output", "no/x.md"], "there is no folder no"),
    "a folder": (["--batch", "--output", "."], "--output . is a folder"),
    "batch of beams": (
        ["--batch", "--output", "x.md", "--beams", "2", "--num-samples", "2"],
        "--num-samples has no effect with --batch and --beams",
    ),
    **{
        f"{mode} and {name}": ([*flags, f"--{name}", "1"], f"--{name} has no effect with {mode}")
        for mode, flags in (("--beams", ["--beams", "3"]), ("--compare", ["--compare"]))
        for name in ("temperature", "top-k", "top-p", "min-p", "repetition-penalty")
    },
    "a prompt and a loop": (
        ["--interactive", "--prompt", "x"],
        "--prompt has no effect in the prompt",
    ),
    "samples in a loop": (
        ["--interactive", "--num-samples", "2"],
        "--num-samples has no effect in the prompt loop",
    ),
    "beams and seed": (["--beams", "3", "--seed", "1"], "--seed has no effect with --beams"),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_wrong_usage_gives_one_line_before_any_output(
    call: Call, checkpoint: Path, arguments: list[str], words: str
) -> None:
    done = call("--checkpoint", checkpoint, *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("error: ") and words in done.err


# --- as a program -------------------------------------------------------------------------------


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start sample.py in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGINT to a process")
def test_ctrl_c_ends_a_sample_without_a_traceback(checkpoint: Path) -> None:
    process = start("--checkpoint", checkpoint, "--prompt", "ROMEO:", "--max-tokens", 10**9)
    assert process.stdout
    assert process.stdout.read(10).startswith("ROMEO:")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "model   romeo: no loss recorded\ninterrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells of a closed pipe otherwise")
def test_a_closed_pipe_is_not_an_error(checkpoint: Path) -> None:
    process = start("--checkpoint", checkpoint, "--prompt", "ROMEO:\n", "--max-tokens", 10**9)
    assert process.stdout and process.stderr
    assert process.stdout.readline() == "ROMEO:\n"
    process.stdout.close()  # as `| head -1` does
    assert process.stderr.read() == "model   romeo: no loss recorded\n"
    process.stderr.close()
    assert process.wait(timeout=60) == 0


# --- learned tokens -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A barely trained model whose tokens were learned."""
    path = tmp_path_factory.mktemp("learned") / "learned.safetensors"
    return write_checkpoint(path, TEXT, 10, train_bpe(TEXT, 290, SPECIAL_TOKENS))


@pytest.mark.parametrize("prompt", ["ROMEO:", "Жук 🙂", "e\u0301", ""])
def test_learned_tokens_continue_any_prompt_as_a_fresh_pass_does(
    call: Call, learned: Path, prompt: str
) -> None:
    loaded = load_checkpoint(learned)
    model, tokens = loaded.build_model().eval(), loaded.tokenizer.encode(prompt or "\n")
    n_prompt = len(tokens)
    for _ in range(20):
        window = tokens if len(tokens) <= 32 else tokens[-32:]
        tokens.append(int(model(torch.tensor([window]))[0, -1].argmax()))
    expected = loaded.tokenizer.decode(tokens[n_prompt:])
    done = call(
        *("--checkpoint", learned, "--prompt", prompt, "--temperature", 0, "--max-tokens", 20)
    )
    assert done.code == 0
    assert done.out == f"{prompt}{expected if prompt else expected.lstrip(chr(10))}\n\n"


def test_a_stop_string_may_end_within_a_token(call: Call, learned: Path) -> None:
    flags = ("--checkpoint", learned, "--prompt", "ROMEO:", "--temperature", 0, "--max-tokens", 30)
    text = call(*flags).out.removeprefix("ROMEO:").rstrip("\n")
    stop = next(token for token in text.split() if len(token) > 2)[:2]
    done = call(*flags, "--stop", stop)
    assert done.out == f"ROMEO:{text[: text.index(stop)]}\n\n"


def test_half_of_a_surrogate_pair_is_the_only_unknown_character(call: Call, learned: Path) -> None:
    done = call("--checkpoint", learned, "--prompt", "caf\udce9")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: lone surrogate U+DCE9 at index 3")


def test_strategies_and_the_prompt_loop_work_with_learned_tokens(
    call: Call, learned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = call("--checkpoint", learned, "--compare", "--max-tokens", 5)
    assert compared.code == 0 and all(name in compared.out for name in STRATEGIES)
    lines = iter(["ROMEO 🙂", "/stop \\n", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    done = call("--checkpoint", learned, "--interactive", "--max-tokens", 5)
    assert done.code == 0
    assert "ROMEO 🙂" in done.out

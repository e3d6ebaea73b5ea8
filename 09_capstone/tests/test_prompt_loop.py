"""The prompt loop: what each line does, and that only leaving it ends the program."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields

import pytest

from generator import TextGenerator
from prompt_loop import HIDDEN, next_seed, prompt_loop, unescape
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig, SampleConfig

SAMPLING = SampleConfig(max_tokens=12, temperature=1.0)
Talk = Callable[..., list[str]]


@pytest.fixture(scope="module")
def generator() -> TextGenerator:
    """An untrained model, for which every character is equally likely."""
    tokenizer = CharTokenizer.train("abcdefgh \n")
    config = ModelConfig(tokenizer.vocab_size, max_seq_len=16, d_model=16, n_layers=1, n_heads=2)
    return TextGenerator(TinyTransformerLM(config), config, tokenizer)


@pytest.fixture
def talk(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Talk:
    """The output for each of these lines, after the greeting; an exception is raised instead."""

    def talk(*lines: str | BaseException, sampling: SampleConfig = SAMPLING) -> list[str]:
        waiting = iter(lines)

        def read(prompt: str) -> str:
            print("<answer>", end="")
            line = next(waiting, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", read)
        prompt_loop(generator, sampling)
        _, *answers = capsys.readouterr().out.split("<answer>")
        assert next(waiting, None) is None, "the loop ended early"
        return answers[: len(lines)]

    return talk


def test_a_line_is_continued_by_the_generator(talk: Talk, generator: TextGenerator) -> None:
    (expected,) = generator.generate(["abc"], SAMPLING)
    assert talk("abc") == [f"abc{expected}\n"]


def test_an_empty_line_is_an_empty_prompt(talk: Talk, generator: TextGenerator) -> None:
    (expected,) = generator.generate([""], SAMPLING)
    assert talk("") == [f"{expected}\n"]


def test_the_same_line_again_is_continued_by_another_seed(
    talk: Talk, generator: TextGenerator
) -> None:
    first, second = talk("abc", "abc")
    assert first != second
    assert second == f"abc{generator.generate(['abc'], next_seed(SAMPLING))[0]}\n"


def test_a_changed_setting_stays_changed(talk: Talk, generator: TextGenerator) -> None:
    answers = talk("/max-tokens 3", "/temperature 0", "/show", "abc")
    assert answers[:2] == ["max_tokens 3\n", "temperature 0.0\n"]
    assert "max_tokens 3  temperature 0.0  top_k None" in answers[2]
    assert max(map(len, answers[2].splitlines())) <= 80
    (greedy,) = generator.generate(["abc"], SampleConfig(max_tokens=3, temperature=0))
    assert answers[3] == f"abc{greedy}\n"


def test_none_resets_a_setting(talk: Talk) -> None:
    assert talk("/top_k 3", "/top_k none") == ["top_k 3\n", "top_k None\n"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/tempreature 1", "unknown setting 'tempreature' (did you mean 'temperature'?)"),
        ("/temperature hot", "temperature 'hot' is not a number"),
        ("/temperature", "temperature '' is not a number"),
        ("/temperature -1", "temperature -1.0 is out of range"),
        ("/top-p 0", "top_p 0.0 is out of range"),
        ("/", "unknown setting ''"),
        ("/prompt abc", "unknown setting 'prompt'"),
        ("abc€", "unknown character '€' (U+20AC) at index 3"),
    ],
)
def test_a_mistake_gives_one_line_and_changes_nothing(talk: Talk, line: str, words: str) -> None:
    before, error, after = talk("/show", line, "/show")
    assert error.startswith("error: ") and error.count("\n") == 1
    assert words in error
    assert after == before


@pytest.mark.parametrize("line", ["/quit", "/exit", " /quit ", EOFError(), KeyboardInterrupt()])
def test_the_loop_can_be_exited(talk: Talk, line: str | BaseException) -> None:
    assert talk(line) == [""] if isinstance(line, str) else ["\n"]


def test_ctrl_c_stops_the_generation_and_not_the_program(
    talk: Talk, generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(sampling: SampleConfig) -> Iterator[str]:
        yield from "de"
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "stream", interrupted)
    assert talk("abc", "/max-tokens 5") == ["abcde\n", "max_tokens 5\n"]


def test_lines_of_a_windows_text_are_read_without_their_carriage_returns(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.TextIOWrapper(io.BytesIO(b"ab\r\n/seed 3\r\n/quit\r\n"), "utf-8", newline="\n")
    monkeypatch.setattr(sys, "stdin", typed)
    prompt_loop(generator, SAMPLING)
    printed = capsys.readouterr().out
    assert "error" not in printed and "\r" not in printed
    assert "> ab" in printed and "> seed 3\n" in printed


@pytest.mark.parametrize(
    ("typed", "meaning"),
    [
        (r"\n", "\n"),
        (r"\n\n", "\n\n"),
        (r"a\tb\r", "a\tb\r"),
        (r"\\n", r"\n"),
        ("\\d \\", "\\d \\"),
        ("\n", "\n"),
        ("", ""),
    ],
)
def test_escapes_typed_in_a_shell_are_understood(typed: str, meaning: str) -> None:
    assert unescape(typed) == meaning


def test_an_escape_may_be_the_stop_text(talk: Talk) -> None:
    assert talk(r"/stop \n") == ["stop '\\n'\n"]


def test_stop_texts_are_added_one_by_one_and_removed_together(
    talk: Talk, generator: TextGenerator
) -> None:
    answers = talk("/temperature 0", "/stop a", "/stop b c", "abc", "/stop none", "/show")
    assert answers[1:3] == ["stop 'a'\n", "stop 'a' 'b c'\n"]
    assert answers[4] == "stop None\n" and "stop None" in answers[5]
    sampling = SampleConfig(max_tokens=12, temperature=0, stop=("a", "b c"))
    assert answers[3] == f"abc{generator.generate(['abc'], sampling)[0]}\n"


def test_help_explains_every_setting_and_command_in_eighty_columns(talk: Talk) -> None:
    (shown,) = talk("/help")
    words = " ".join(shown.split())
    for f in fields(SampleConfig):
        assert (f"/{f.name} " in words) == (f.name not in HIDDEN)
        assert f.name in HIDDEN or f.metadata["help"] in words
    for command in ("/show", "/help", "/quit"):
        assert command in words
    assert max(map(len, shown.splitlines())) <= 80


def test_help_changes_nothing_and_its_mistyping_is_suggested(talk: Talk) -> None:
    before, _, mistake, after = talk("/show", "/help", "/hepl", "/show")
    assert before == after
    assert "did you mean 'help'?" in mistake


def test_beams_continue_a_text_and_a_setting_without_effect_says_so(
    talk: Talk, generator: TextGenerator
) -> None:
    answers = talk("/beams 3", "abc", "/temperature 0.5", "/max_tokens 4", "/beams none")
    (expected,) = generator.generate(["abc"], SampleConfig(max_tokens=12, beams=3))
    assert answers[0] == "beams 3\n"
    assert answers[1] == f"abc{expected}\n"
    assert answers[2].splitlines() == [
        "temperature 0.5",
        "temperature has no effect while there are beams; /beams none turns them off",
    ]
    assert answers[3:] == ["max_tokens 4\n", "beams None\n"]


def test_bytes_that_are_not_utf_8_are_an_unknown_character(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.TextIOWrapper(io.BytesIO(b"ab\xff\n/seed 3\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", typed)
    prompt_loop(generator, SAMPLING)
    printed = capsys.readouterr().out
    assert "unknown character '\ufffd' (U+FFFD) at index 2" in printed
    assert "seed 3" in printed


def test_the_greeting_names_every_setting(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("/quit\n"))
    prompt_loop(generator, SAMPLING)
    printed = capsys.readouterr().out
    for f in fields(SampleConfig):
        assert (f"/{f.name}" in printed) == (f.name not in HIDDEN)
    assert "/help" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_seeds_wrap_around_after_the_largest() -> None:
    assert next_seed(SampleConfig(seed=2**63 - 1)).seed == 0
    assert next_seed(SampleConfig(seed=7), 5).seed == 12

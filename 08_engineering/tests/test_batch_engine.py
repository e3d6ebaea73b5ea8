"""batch_engine.py and text_job.py: order, limits, cancelling, draining, and whose text is whose."""

import time
from collections.abc import Callable, Iterator

import pytest
import torch

from batch_engine import BatchEngine
from bpe_tokenizer import BPETokenizer
from generator import TextGenerator
from parts import Parts
from slot_batch import SlotBatch
from small_model import load_small_model
from special_tokens import SPECIAL_TOKENS
from text_job import DrainingError, QueueFullError, TextJob
from tokenizer import CharTokenizer
from utils.config import SampleConfig

MODEL, TOKENIZER = load_small_model(Parts.fused())
LONG = 5000  # tokens: longer than any test waits


@pytest.fixture
def make_engine() -> Iterator[Callable[..., BatchEngine]]:
    """Starts engines, and closes them at the end."""
    engines: list[BatchEngine] = []

    def make(n_slots: int = 4, max_waiting: int = 64) -> BatchEngine:
        engines.append(BatchEngine(SlotBatch(MODEL, MODEL.config, n_slots), max_waiting).start())
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def job(
    seed: int = 0, max_tokens: int = 20, seconds: float = 60, prompt: str = "Nurse:\n", **settings
) -> TextJob:
    """A text of the small model."""
    sampling = SampleConfig(seed=seed, max_tokens=max_tokens, **settings)
    return TextJob(TOKENIZER.encode(prompt), sampling, TOKENIZER, seconds)


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that the engine's thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def text_of(one: TextJob) -> str:
    """The text when it is complete."""
    wait_until(lambda: one.finish_reason)
    return one.take()


def test_a_seed_gives_the_same_text_alone_and_in_company(make_engine) -> None:
    def jobs() -> list[TextJob]:
        settings = [{}, {"temperature": 0.5}, {"top_p": 0.7}, {"frequency_penalty": 0.3}]
        prompts = ["Nurse:\n", "\n\n", "KING ALDRIC:\nWell met, " * 9]  # one beyond the context
        return [job(i, 30 + 17 * i, prompt=prompts[i % 3], **settings[i % 4]) for i in range(12)]

    alone, together = make_engine(1), make_engine(5)
    expected = []
    for one in jobs():
        alone.submit([one])
        expected.append(text_of(one))
    crowd = jobs()
    for one in crowd:
        together.submit([one])
        time.sleep(0.005)
    assert [text_of(one) for one in crowd] == expected
    assert len(set(expected)) == len(expected)


def test_the_text_is_that_of_lesson_07(make_engine) -> None:
    generator = TextGenerator(MODEL, MODEL.config, TOKENIZER)
    engine = make_engine()
    for seed in range(3):
        sampling = SampleConfig(prompt="ROMEO:\n", max_tokens=40, seed=seed)
        one = TextJob(TOKENIZER.encode(sampling.prompt), sampling, TOKENIZER)
        engine.submit([one])
        assert text_of(one) == "".join(generator.stream(sampling))


def test_texts_take_slots_in_order_of_arrival_and_as_soon_as_one_is_free(make_engine) -> None:
    engine = make_engine(2)
    first, second, third, fourth = jobs = [job(i, n) for i, n in enumerate((10, 60, 10, 10))]
    engine.submit(jobs)
    wait_until(lambda: all(one.finish_reason for one in jobs))
    started = [one.started_at for one in jobs]
    assert started == sorted(started)
    assert fourth.finished_at and second.finished_at
    assert fourth.finished_at < second.finished_at  # static batching would make it wait
    assert engine.batch.n_steps == 60  # and the three short ones cost no step of their own
    assert engine.n_tokens == 90 and engine.n_finished == 4
    assert first.finish_reason == third.finish_reason == "length"


def test_a_full_queue_refuses_all_texts_of_a_request_or_none(make_engine) -> None:
    engine = make_engine(n_slots=1, max_waiting=2)
    engine.submit([job(max_tokens=LONG), job()])
    with pytest.raises(QueueFullError, match="try again in") as refused:
        engine.submit([job(), job()])
    assert 1 <= refused.value.retry_after <= 60
    assert engine.n_unfinished == 2
    engine.submit([job()])


def test_a_cancelled_text_frees_its_slot_and_one_that_waits_never_takes_one(make_engine) -> None:
    engine = make_engine(n_slots=1)
    running, waiting, last = job(max_tokens=LONG), job(max_tokens=LONG), job(max_tokens=5)
    engine.submit([running, waiting, last])
    wait_until(lambda: running.n_tokens > 3)
    engine.cancel(waiting)
    engine.cancel(running)
    assert len(text_of(last)) == 5
    assert (running.finish_reason, waiting.finish_reason) == ("cancelled", "cancelled")
    assert waiting.n_tokens == 0
    assert engine.batch.occupied() == []


def test_the_time_limit_ends_a_text_with_what_is_there(make_engine) -> None:
    engine = make_engine(n_slots=1)
    running, waiting = job(max_tokens=LONG, seconds=0.3), job(seconds=0.1)
    engine.submit([running, waiting])
    assert len(text_of(running)) == running.n_tokens > 0
    assert running.finish_reason == waiting.finish_reason == "timeout"
    assert text_of(waiting) == ""


def test_draining_finishes_short_texts_ends_long_ones_and_accepts_none(make_engine) -> None:
    engine = make_engine(n_slots=2)
    short, long, waiting = job(max_tokens=30), job(max_tokens=LONG), job(max_tokens=5)
    engine.submit([short, long, waiting])
    engine.drain(0.5)
    with pytest.raises(DrainingError, match="shutting down"):
        engine.submit([job()])
    assert len(text_of(short)) == 30 and len(text_of(waiting)) == 5
    text_of(long)
    assert long.finish_reason == "timeout"
    assert long.finished_at and long.finished_at - long.created < 5


def test_closing_ends_everything_and_the_thread(make_engine) -> None:
    engine = make_engine(n_slots=1)
    jobs = [job(max_tokens=LONG), job(max_tokens=LONG)]
    engine.submit(jobs)
    wait_until(lambda: jobs[0].n_tokens)
    engine.close()
    assert [one.finish_reason for one in jobs] == ["cancelled", "cancelled"]
    assert not engine.alive


def test_a_step_that_fails_ends_its_texts_and_the_engine_continues(
    make_engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    step = engine.batch.decode_step

    def failing_step(tokens: torch.Tensor) -> torch.Tensor:
        engine.batch.decode_step = step
        raise RuntimeError("out of memory")

    engine.batch.decode_step = failing_step
    broken = job()
    engine.submit([broken])
    assert text_of(broken) == ""
    assert broken.finish_reason == "error"
    assert "out of memory" in caplog.text
    fine = job()
    engine.submit([fine])
    assert len(text_of(fine)) == 20


def test_long_prompts_join_over_several_steps(make_engine, monkeypatch) -> None:
    monkeypatch.setattr("batch_engine.PREFILL_BUDGET", 100)
    engine = make_engine(n_slots=4)
    prompts = [job(i, 10, prompt="the " * 30) for i in range(4)]
    engine.submit(prompts)
    wait_until(lambda: all(one.finish_reason for one in prompts))
    assert 10 < engine.batch.n_steps <= 13
    assert len({one.take() for one in prompts}) == 4


def feed(one: TextJob, text: str) -> str:
    """Add the text's characters until the job has ended; returns what it shows."""
    for token in TOKENIZER.encode(text):
        if one.finish_reason is None:
            one.add(token)
    return one.take()


def test_a_text_ends_before_its_stop_string() -> None:
    one = job(max_tokens=50, stop=("Nurse", "\n\n"))
    assert feed(one, "Ay, my lord.\n\nNurse") == "Ay, my lord."
    assert (one.finish_reason, one.n_tokens) == ("stop", 14)


def test_what_might_begin_a_stop_string_is_shown_when_the_text_ends() -> None:
    one = job(max_tokens=4, stop=("abcde",))
    assert feed(one, "abcdefg") == "abcd"
    assert one.finish_reason == "length"


def test_a_character_of_several_tokens_comes_whole_or_as_a_replacement() -> None:
    tokenizer = BPETokenizer([])  # bytes
    for max_tokens, text in ((3, "é!"), (1, "\ufffd")):
        one = TextJob([0], SampleConfig(max_tokens=max_tokens), tokenizer)
        shown = []
        for token in "é!".encode()[:max_tokens]:
            one.add(token)
            shown.append(one.take())
        assert "".join(shown) == text and len(shown) == max_tokens


def test_the_token_that_ends_a_document_ends_the_text() -> None:
    tokenizer = BPETokenizer([], SPECIAL_TOKENS)
    one = TextJob([0], SampleConfig(max_tokens=9), tokenizer)
    one.add(ord("a"))
    one.add(tokenizer.special_ids["<|eos|>"])
    assert (one.take(), one.finish_reason) == ("a", "stop")


def test_stop_strings_are_matched_in_the_vocabulary_s_unicode_form() -> None:
    tokenizer = CharTokenizer.train("e\u0301a")  # é as a base and an accent
    one = TextJob([0], SampleConfig(max_tokens=9, stop=("\u00e9",)), tokenizer)
    for token in tokenizer.encode("ae\u0301"):
        one.add(token)
    assert (one.take(), one.finish_reason) == ("a", "stop")

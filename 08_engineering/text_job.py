"""One text in the making: what a request asked for, and what has been generated of it so far.

The engine's thread adds tokens; the server's thread takes the text. A reader looks at
`finish_reason` first and takes the text afterwards: once there is a reason, the text is complete.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from any_tokenizer import Tokenizer
from generator import match_vocabulary
from row_sampling import RowSampler
from special_tokens import EOS
from stop_string import StopStrings
from utils.config import SampleConfig
from utils.errors import CourseError, run_program

STOP, LENGTH = "stop", "length"  # the reasons of a text that is complete
TIMEOUT, CANCELLED, FAILED = "timeout", "cancelled", "error"


class QueueFullError(CourseError):
    """There is no room for these texts now; `retry_after` estimates in how many seconds."""

    def __init__(self, n_waiting: int, retry_after: int) -> None:
        super().__init__(f"{n_waiting} texts are waiting already; try again in {retry_after} s")
        self.retry_after = retry_after


class DrainingError(CourseError):
    """The engine finishes what it has and accepts nothing new."""


class TextJob:
    """A prompt to continue, until a stop string, `max_tokens`, or the deadline."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: SampleConfig,
        tokenizer: Tokenizer,
        seconds: float = 60.0,
        on_change: Callable[["TextJob"], None] = lambda job: None,
    ) -> None:
        """`on_change` is called in the engine's thread after new text and at the end."""
        self.prompt = list(prompt)
        self.sampling = sampling
        self.on_change = on_change
        self.sampler = RowSampler(sampling, prompt, tokenizer.vocab_size)
        self.created = time.monotonic()
        self.deadline = self.created + seconds
        self.started_at = self.created  # when it took a slot
        self.first_token_at: float | None = None
        self.finished_at: float | None = None
        self.cancelled = False  # set by the server: no one waits for this text any more
        self.finish_reason: str | None = None
        self.n_tokens = 0
        self._stops = StopStrings([match_vocabulary(stop, tokenizer) for stop in sampling.stop])
        self._stream = tokenizer.stream_decoder()
        self._end = end_token(tokenizer)
        self._pieces: deque[str] = deque()

    def add(self, token: int) -> None:
        """Add a generated token; afterwards `finish_reason` says whether the text is complete."""
        self.first_token_at = self.first_token_at or time.monotonic()
        self.n_tokens += 1
        if token == self._end:
            self.finish(STOP)
            return
        self._pieces.append(self._stops.feed(self._stream.feed(token)))
        if self._stops.finished:
            self.finish(STOP)
        elif self.n_tokens >= self.sampling.max_tokens:
            self.finish(LENGTH)

    def finish(self, reason: str) -> None:
        """End the text: half a character and what might have been a stop string come with it."""
        if reason != FAILED:
            self._pieces.append(self._stops.feed(self._stream.flush()) + self._stops.flush())
        if self._stops.finished and reason == LENGTH:
            reason = STOP  # the flushed character completed a stop string
        self.finished_at = time.monotonic()
        self.finish_reason = reason  # last: from now on, a reader takes the text as complete

    def take(self) -> str:
        """The text since the last call."""
        pieces = []
        while self._pieces:
            pieces.append(self._pieces.popleft())
        return "".join(pieces)


def end_token(tokenizer: Tokenizer) -> int | None:
    """The id that ends a document, if the tokenizer has one."""
    special_ids: dict[str, int] = getattr(tokenizer, "special_ids", {})
    return special_ids.get(EOS)


def main() -> None:
    """Feed a job the characters of a text that contains its stop string."""
    from tokenizer import CharTokenizer

    tokenizer = CharTokenizer.train("To be\n\nor not")
    job = TextJob([0], SampleConfig(max_tokens=20, stop=("\n\n",)), tokenizer)
    for token in tokenizer.encode("To be\n\nor not"):
        if job.finish_reason is None:
            job.add(token)
            print(f"{job.take()!r:<5}", end="")
    print(f" finish_reason {job.finish_reason!r} after {job.n_tokens} tokens")


if __name__ == "__main__":
    run_program(main)

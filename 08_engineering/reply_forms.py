"""The JSON objects that the two endpoints answer with, whole or in chunks.

completion    choices[i].text               chunks: text is what is new
chat          choices[i].message.content    chunks: delta.content, after a first delta of the role
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from text_job import STOP, TextJob
from utils.errors import run_program
from utils.terminal import labelled


@dataclass(frozen=True)
class ReplyForm:
    """What all objects of one answer have in common."""

    model: str
    chat: bool
    n_prompt_tokens: int
    include_usage: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: Sequence[str], jobs: Sequence[TextJob]) -> dict[str, Any]:
        """The answer to a request that doesn't stream."""
        choices = [
            self._choice(i, {"message": self._message(text)} if self.chat else {"text": text}, job)
            for i, (text, job) in enumerate(zip(texts, jobs, strict=True))
        ]
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": choices, "usage": self.usage(jobs)}

    def opening(self, n: int) -> list[dict[str, Any]]:
        """The chunks before any text: a chat's name their role."""
        delta = {"role": "assistant", "content": ""}
        return [self._chunk(self._choice(i, {"delta": delta})) for i in range(n) if self.chat]

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A chunk with new text."""
        content = {"delta": {"content": text}} if self.chat else {"text": text}
        return self._chunk(self._choice(index, content))

    def ending(self, index: int, job: TextJob) -> dict[str, Any]:
        """The last chunk of one text, with the reason why it ended."""
        content: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return self._chunk(self._choice(index, content, job))

    def final_usage(self, jobs: Sequence[TextJob]) -> list[dict[str, Any]]:
        """The chunk with the counts, if the request asked for it."""
        if not self.include_usage:
            return []
        return [{**self._head(self._chunk_kind), "choices": [], "usage": self.usage(jobs)}]

    def usage(self, jobs: Sequence[TextJob]) -> dict[str, int]:
        """How many tokens were read and generated."""
        generated = sum(job.n_tokens for job in jobs)
        return {
            "prompt_tokens": self.n_prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": self.n_prompt_tokens + generated,
        }

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        name = f"{prefix}-{self.id}"
        return {"id": name, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        usage = {"usage": None} if self.include_usage else {}
        return {**self._head(self._chunk_kind), "choices": [choice], **usage}

    def _choice(
        self, index: int, content: dict[str, Any], ended: TextJob | None = None
    ) -> dict[str, Any]:
        """One choice; the text of a job that was cut short by a limit has the reason "length"."""
        reason = None if ended is None else "stop" if ended.finish_reason == STOP else "length"
        return {"index": index, **content, "logprobs": None, "finish_reason": reason}

    def _message(self, text: str) -> dict[str, Any]:
        return {"role": "assistant", "content": text, "refusal": None}


def main() -> None:
    """Print the chunks of a chat of one piece."""
    form = ReplyForm("tiny", chat=True, n_prompt_tokens=3, id="1", created=0)
    for chunk in (*form.opening(1), form.piece(0, "Ay.")):
        print(labelled(chunk["object"], chunk["choices"], column=22))


if __name__ == "__main__":
    run_program(main)

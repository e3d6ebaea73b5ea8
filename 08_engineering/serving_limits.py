"""The limits of the server: what keeps one client from taking it away from all others."""

from dataclasses import dataclass

MAX_STOPS = 4
LONGEST_STOP = 64  # characters
SLOTS = 16  # texts that are generated together
QUEUE = 64  # texts that may wait for a slot
DRAIN_SECONDS = 20.0  # to finish them after a signal


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, so that the server stays there for the others."""

    max_prompt_tokens: int = 4096
    max_tokens: int = 2048  # of one text
    default_tokens: int = 256  # of a chat reply; completions have 16, as at OpenAI
    max_texts: int = 16  # prompts times n
    max_body: int = 131_072  # bytes
    seconds: float = 60.0  # from the request to the end of its texts
    seconds_to_read: float = 20.0  # a body must be here by then
    seconds_to_send: float = 20.0  # and each piece of the answer must be accepted
    stream_interval: float = 0.02  # seconds between two pieces of a stream

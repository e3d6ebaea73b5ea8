"""How the messages of a chat become a prompt that a base model can continue.

A model trained on plays has never seen a chat, but it has seen dialogue. So each message becomes a
speech, and the prompt ends where the other speaker is about to begin:

    {"role": "system", "content": "Verona. A street."}        Verona. A street.
    {"role": "user", "content": "Good morrow."}
                                                              ROMEO:
                                                              Good morrow.

                                                              Nurse:

The model writes the next speech, and an empty line ends it. A message may have a `name` of its own.
This is not instruction following: the model continues a play, and that is all it can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from request_fields import kind_of
from serving_errors import invalid
from utils.errors import run_program

SPEECH_END = "\n\n"
SYSTEM = ("system", "developer")  # two names of one role


@dataclass(frozen=True)
class Speakers:
    """The names that the two sides of a chat have in the play."""

    user: str = "ROMEO"
    assistant: str = "Nurse"


def play_prompt(messages: Sequence[Any], speakers: Speakers) -> str:
    """The prompt for the next speech of the assistant. Raises ApiError for a malformed message."""
    if not messages:
        raise invalid("messages must hold at least one message", "messages")
    speeches = [speech(message, f"messages[{i}]", speakers) for i, message in enumerate(messages)]
    return SPEECH_END.join([*speeches, f"{speakers.assistant}:\n"])


def speech(message: Any, where: str, speakers: Speakers) -> str:
    """One message as a speech, or as a stage direction if it comes from the system."""
    if not isinstance(message, dict):
        raise invalid(f"{where} must be an object, not {kind_of(message)}", where)
    names = {"user": speakers.user, "assistant": speakers.assistant, **dict.fromkeys(SYSTEM, "")}
    role, name = message.get("role"), message.get("name")
    if not isinstance(role, str) or role not in names:
        raise invalid(f"{where}.role must be one of: {', '.join(names)}", f"{where}.role")
    if name is not None and not isinstance(name, str):
        raise invalid(f"{where}.name must be a string, not {kind_of(name)}", f"{where}.name")
    content = content_of(message, where)
    return content if role in SYSTEM else f"{name or names[role]}:\n{content}"


def content_of(message: dict[str, Any], where: str) -> str:
    """The text of a message: a string, or an array of parts of type "text"."""
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        shown = kind_of(content)
        raise invalid(f"{where}.content must be a string, not {shown}", f"{where}.content")
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    types = [part.get("type") if isinstance(part, dict) else None for part in parts]
    if not all(kind == "text" for kind in types) or not all(isinstance(t, str) for t in texts):
        raise invalid(f"{where}.content may only have parts of type 'text'", f"{where}.content")
    return "".join(str(text) for text in texts).replace("\r\n", "\n").strip("\n")


def main() -> None:
    """Print the prompt of a short chat."""
    messages = [
        {"role": "system", "content": "Verona. A street."},
        {"role": "user", "content": "Good morrow."},
    ]
    print(play_prompt(messages, Speakers()), end="")


if __name__ == "__main__":
    run_program(main)

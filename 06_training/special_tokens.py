"""Special tokens: ids that no text produces.

BOS begins a document, EOS ends it, and PAD fills the rest of a row whose text is shorter than its
batch; a program may add others, such as the roles of a chat. They belong to no word, and no
merge produces one: the program puts their ids where they belong.

In a text, "<|eos|>" is seven ordinary characters. Otherwise a stranger's text could end a document
early. A text that is trusted, such as one's own training data, may contain them: `split_at`.
"""

import re
from collections.abc import Sequence

from utils.errors import CourseError, UsageError, run_program

# Written as in GPT-2's <|endoftext|>: brackets that hardly any text contains by accident.
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
SPECIAL_TOKENS = (BOS, EOS, PAD)


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """Raise CourseError for a token that is not a string, is empty, repeated, or has white space.

    White space is refused because a text is cut there when it is read in pieces.
    """
    for i, token in enumerate(special_tokens):
        # `split` cuts at white space of any kind: only a token without any comes back whole.
        if not isinstance(token, str) or not token or token.split() != [token]:
            raise CourseError(
                f"the special token {token!r:.40} must be a string with no white space in it, "
                "and not empty"
            )
        refuse_lone_surrogates(token)  # decoding shows its bytes, so it must have some
        if token in special_tokens[:i]:  # of two ids, encoding would never use the first
            raise CourseError(f"the special token {token!r} occurs twice; each must be unique")


def split_at(special_tokens: Sequence[str], text: str) -> list[str]:
    """Cut a text before and after each special token; of two that begin together, the longer."""
    if not special_tokens:  # an empty pattern would split between any two characters
        return [text]
    # An alternation takes the first that fits: "<|user|><|name|>" must not lose to "<|user|>".
    longest_first = sorted(special_tokens, key=len, reverse=True)
    # `escape`, because the "|" of "<|eos|>" would mean "or".
    pattern = "|".join(map(re.escape, longest_first))
    # The parentheses make `split` keep what it splits at: text, token, text, ..., text. Where two
    # tokens touch, the text between them is empty.
    return re.split(f"({pattern})", text)


def lone_surrogate(text: str) -> int | None:
    """The index of the first character that UTF-8 can't encode: half of a surrogate pair."""
    try:
        text.encode("utf-8")  # the codec is far faster than a loop over the characters
    except UnicodeEncodeError as error:
        return error.start
    return None


def refuse_lone_surrogates(text: str) -> None:
    """Raise UsageError, with index and code point, if the text can't be written in UTF-8."""
    position = lone_surrogate(text)
    if position is not None:
        raise UsageError(
            f"lone surrogate U+{ord(text[position]):04X} at index {position}: "
            "it is half of a character, and UTF-8 has no bytes for it"
        )


def main() -> None:
    """Cut a text of two documents at its special tokens."""
    print(split_at(SPECIAL_TOKENS, f"{BOS}To be{EOS}{BOS}or not{EOS}"))


if __name__ == "__main__":
    run_program(main)

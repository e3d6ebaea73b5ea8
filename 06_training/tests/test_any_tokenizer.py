"""What the two kinds of tokenizers share."""

import pytest

from any_tokenizer import Tokenizer, tokenizer_from_dict, tokenizer_kind
from bpe_tokenizer import train_bpe
from tokenizer import CharTokenizer
from utils.errors import CourseError

TEXT = "To be, or not to be: that is the question. Naïve? " * 5
KINDS = {"char": CharTokenizer.train(TEXT), "bpe": train_bpe(TEXT, 300)}
BOTH = pytest.mark.parametrize("kind", KINDS)


@BOTH
def test_a_stored_tokenizer_is_read_as_its_kind(kind: str) -> None:
    tokenizer: Tokenizer = KINDS[kind]
    assert tokenizer_kind(tokenizer) == kind
    assert tokenizer_from_dict(tokenizer.to_dict()) == tokenizer


@BOTH
def test_an_array_has_the_ids_of_encode_and_decodes_to_the_text(kind: str) -> None:
    tokenizer = KINDS[kind]
    assert tokenizer.encode_array(TEXT).tolist() == tokenizer.encode(TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


@BOTH
def test_a_stream_shows_the_text_of_decode(kind: str) -> None:
    tokenizer = KINDS[kind]
    stream = tokenizer.stream_decoder()
    pieces = [stream.feed(i) for i in tokenizer.encode(TEXT)]
    assert "".join(pieces) + stream.flush() == TEXT


def test_a_character_is_accepted_if_it_has_an_id() -> None:
    assert KINDS["char"].accepts("To be") and KINDS["char"].accepts("")
    assert not KINDS["char"].accepts("Zoo")
    assert KINDS["bpe"].accepts("Zoo 🙂")


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ({"kind": "bpq"}, r"unknown tokenizer kind 'bpq'.*bpe"),
        ({}, "unknown tokenizer kind 'None'"),
        ([1], r"must be a dictionary, not \[1\]"),
        ({"kind": "char"}, "characters must be a string, not None"),
        ({"kind": "bpe"}, "merges must be pairs of ids, not None"),
    ],
)
def test_what_is_no_tokenizer_is_refused(stored, problem: str) -> None:
    with pytest.raises(CourseError, match=problem):
        tokenizer_from_dict(stored)

"""The character tokenizer against Python's own characters, code points and JSON."""

import json
import random

import numpy as np
import pytest
import torch

from tokenizer import CharTokenizer, shorten
from utils.errors import CourseError, UsageError

SAMPLES = [
    "a",
    "hello world",
    "line one\nline two\r\n\ttabbed",
    "caf\u00e9 na\u00efve \u4f60\u597d \U0001f600\U0001f600",
    "\ufeffbyte order mark, \u2028 separator, \x00 zero",
    "a lone surrogate \udc80 and another \udfff",
]


def random_text(n: int, seed: int) -> str:
    return "".join(map(chr, random.Random(seed).choices(range(0x110000), k=n)))


@pytest.mark.parametrize("text", [*SAMPLES, random_text(2000, seed=0)])
def test_decoding_the_encoded_text_returns_the_text(text):
    tokenizer = CharTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode_array(text)) == text


@pytest.mark.parametrize("text", [*SAMPLES, random_text(2000, seed=1)])
def test_encode_and_encode_array_agree(text):
    tokenizer = CharTokenizer.train(text)
    assert tokenizer.encode_array(text).tolist() == tokenizer.encode(text)


def test_ids_number_the_distinct_characters_in_unicode_order():
    tokenizer = CharTokenizer.train("banana bread")
    assert tokenizer.characters == " abdenr"
    assert tokenizer.vocab_size == 7
    assert tokenizer.encode("bad bean") == [2, 1, 3, 0, 2, 4, 1, 5]


def test_the_order_of_the_training_text_does_not_matter():
    assert CharTokenizer.train("cabbage") == CharTokenizer.train("egabbac")


def test_an_empty_text_has_no_ids():
    tokenizer = CharTokenizer.train("abc")
    assert tokenizer.encode("") == []
    assert tokenizer.encode_array("").shape == (0,)
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_an_array_has_the_smallest_dtype_that_holds_every_id(vocab_size, dtype):
    text = "".join(map(chr, range(vocab_size)))
    ids = CharTokenizer.train(text).encode_array(text)
    assert ids.dtype == dtype
    assert np.array_equal(ids, np.arange(vocab_size))


def test_a_large_vocabulary_and_a_very_long_line_work():
    alphabet = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))
    line = "".join(random.Random(2).choices(alphabet, k=100_000))
    tokenizer = CharTokenizer.train(alphabet)
    assert tokenizer.decode(tokenizer.encode_array(line)) == line


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda ids: map(torch.tensor, ids)])
def test_decode_accepts_lists_arrays_and_tensors(kind):
    assert CharTokenizer.train("abc").decode(kind([2, 0, 1])) == "cab"


@pytest.mark.parametrize("token_id", [-1, 3, 10**9])
def test_an_id_outside_the_vocabulary_is_refused_by_name(token_id):
    with pytest.raises(UsageError, match=rf"id {token_id}; ids run from 0 to 2"):
        CharTokenizer.train("abc").decode([0, token_id])


@pytest.mark.parametrize("encode", ["encode", "encode_array"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "abxc",
            r"unknown character 'x' (U+0078) at index 2; the vocabulary has 4 characters: '\nabc'",
        ),
        ("ab\nc\u00e9", r"'é' (U+00E9) at index 4 (line 2, column 2);"),
        ("\n\n#", r"'#' (U+0023) at index 2 (line 3, column 1);"),
        ("a\t", r"'\t' (U+0009) at index 1;"),
        ("\ud800", r"'\ud800' (U+D800) at index 0;"),
        ("a\U0001f600", "'\U0001f600' (U+1F600) at index 1;"),
    ],
)
def test_an_unknown_character_is_named_with_its_position(encode, text, expected):
    tokenizer = CharTokenizer.train("\nabc")
    with pytest.raises(UsageError) as caught:
        getattr(tokenizer, encode)(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", SAMPLES)
def test_a_tokenizer_survives_json(text):
    tokenizer = CharTokenizer.train(text)
    assert CharTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict()))) == tokenizer


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([], r"must be a dictionary, not \[\]"),
        ({}, "unknown tokenizer kind 'None'; choose one of: char"),
        ({"kind": "chat", "characters": "ab"}, "did you mean 'char'"),
        ({"kind": "char"}, "must be a string, not None"),
        ({"kind": "char", "characters": ["a", "b"]}, "must be a string, not"),
        ({"kind": "char", "characters": ""}, "at least one character"),
        ({"kind": "char", "characters": "abca"}, "'a' 2 times; every character must be unique"),
    ],
)
def test_an_invalid_stored_tokenizer_is_refused(stored, message):
    with pytest.raises(CourseError, match=message):
        CharTokenizer.from_dict(stored)


def test_an_empty_training_text_is_refused():
    with pytest.raises(CourseError, match="at least one character"):
        CharTokenizer.train("")


@pytest.mark.parametrize(
    ("characters", "line"),
    [("abcdxz", "'a-dxz'"), ("abc", "'abc'"), ("\nA", r"'\nA'"), ("acegikmoqsuwy", "'acegi...")],
)
def test_a_vocabulary_is_shown_in_one_short_line(characters, line):
    assert shorten(characters, limit=9) == line

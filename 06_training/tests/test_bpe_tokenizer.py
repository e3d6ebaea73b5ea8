"""The BPE tokenizer: every text comes back, half characters never show, mistakes are named."""

import json
import random
import re
import sys

import numpy as np
import pytest
import torch

from bpe_tokenizer import BPETokenizer, count_words, train_bpe, train_on_words
from special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS
from utils.errors import CourseError, UsageError
from utils.mock_corpus import generate

TEXT = generate(50_000)
MIXED = "Naïve café, 10 µm — 一二三 あいう Жук 🙂👩‍👩‍👧 e\u0301 \x00\x1b\u2028" * 20


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return train_bpe(TEXT + MIXED, 700, SPECIAL_TOKENS)


def random_unicode(generator: random.Random, length: int) -> str:
    """Characters of all planes and lengths in UTF-8; no surrogates."""
    limits = (0x80, 0x800, 0xD800, sys.maxunicode + 1)
    found = (generator.randrange(generator.choice(limits)) for _ in range(length))
    return "".join(chr(i) for i in found if not 0xD800 <= i < 0xE000)


# --- round trips --------------------------------------------------------------------------------


def test_any_unicode_text_comes_back(tokenizer: BPETokenizer) -> None:
    generator = random.Random(0)
    texts = [random_unicode(generator, generator.randrange(60)) for _ in range(300)]
    for text in ["", " ", "\n", MIXED, TEXT, "a" * 1000, f"{EOS} is text", *texts]:
        for allow_special in (False, True):
            assert tokenizer.decode(tokenizer.encode(text, allow_special)) == text


def test_characters_of_every_plane_come_back() -> None:
    plain = BPETokenizer([])
    code_points = [*range(0xD800), *range(0xE000, sys.maxunicode + 1, 97)]
    text = "".join(map(chr, code_points))
    assert plain.decode(plain.encode_array(text).tolist()) == text


def test_without_merges_the_ids_are_the_bytes() -> None:
    assert BPETokenizer([]).encode("é!") == [0xC3, 0xA9, 0x21]
    assert BPETokenizer([]).vocab_size == 256


def test_the_order_of_ids_is_bytes_then_merges_then_special_tokens() -> None:
    tokenizer = BPETokenizer([(97, 98), (256, 99)], (BOS, EOS))
    assert tokenizer.vocab_size == 260
    assert tokenizer.tokens[97] == b"a"
    assert tokenizer.tokens[256:] == (b"ab", b"abc", b"<|bos|>", b"<|eos|>")
    assert tokenizer.special_ids == {BOS: 258, EOS: 259}
    assert tokenizer.encode("abcab ab") == [257, 256, 32, 256]


def test_no_token_crosses_the_end_of_a_word(tokenizer: BPETokenizer) -> None:
    separate = tokenizer.encode("good") + tokenizer.encode(" night") + tokenizer.encode("!")
    assert tokenizer.encode("good night!") == separate


def test_the_ids_of_a_corpus_are_those_of_encode(tokenizer: BPETokenizer) -> None:
    text = f"{TEXT}{EOS}{MIXED}"
    for allow_special in (False, True):
        ids = tokenizer.encode_array(text, allow_special)
        assert ids.dtype == np.uint16
        assert ids.tolist() == tokenizer.encode(text, allow_special)
    assert tokenizer.encode_array("").shape == (0,)


def test_a_large_vocabulary_has_wider_ids() -> None:
    merges = [(a, b) for a in range(256) for b in range(256)]
    assert BPETokenizer(merges).encode_array("ab").dtype == np.uint32


def test_a_text_of_its_own_kind_needs_fewer_tokens_than_characters(tokenizer) -> None:
    assert len(tokenizer.encode(TEXT)) < 0.5 * len(TEXT)


# --- decoding -----------------------------------------------------------------------------------


def test_ids_may_be_an_array_or_a_tensor(tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode("To be")
    assert tokenizer.decode(np.array(ids, np.uint16)) == tokenizer.decode(torch.tensor(ids))


@pytest.mark.parametrize("token_id", [-1, 259])
def test_an_id_that_does_not_exist_is_named(token_id: int) -> None:
    tokenizer = BPETokenizer([(97, 98)], (BOS, EOS))
    with pytest.raises(UsageError, match=f"no token has id {token_id}; ids run from 0 to 258"):
        tokenizer.decode([token_id])


def test_a_float_is_not_an_id(tokenizer: BPETokenizer) -> None:
    with pytest.raises(TypeError):
        tokenizer.decode([1.0])


def test_bytes_that_are_no_character_become_a_replacement() -> None:
    plain = BPETokenizer([])
    assert plain.decode([0x61, 0xC3]) == "a\ufffd"  # cut off
    assert plain.decode([0xA9, 0x61]) == "\ufffda"  # begins within a character
    assert plain.decode([0xFF, 0x61, 0xC3, 0xA9]) == "\ufffdaé"


def test_a_stream_shows_the_text_of_decode_and_never_half_a_character(
    tokenizer: BPETokenizer,
) -> None:
    generator = random.Random(1)
    known = [tokenizer.encode(MIXED), BPETokenizer([]).encode(MIXED)]
    noise = [[generator.randrange(tokenizer.vocab_size) for _ in range(50)] for _ in range(300)]
    for ids in [*known, *noise]:
        stream = tokenizer.stream_decoder()
        pieces = [stream.feed(i) for i in ids]
        assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)
    stream = tokenizer.stream_decoder()
    assert [stream.feed(byte) for byte in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]
    assert stream.flush() == ""


# --- special tokens -----------------------------------------------------------------------------


def test_a_special_token_in_a_text_is_text_unless_it_is_allowed(tokenizer: BPETokenizer) -> None:
    text = f"{BOS}To be{EOS}"
    bos, eos = tokenizer.special_ids[BOS], tokenizer.special_ids[EOS]
    assert not {bos, eos} & set(tokenizer.encode(text))
    assert tokenizer.encode(text, allow_special=True) == [bos, *tokenizer.encode("To be"), eos]
    assert tokenizer.decode([bos, eos]) == BOS + EOS


def test_of_two_special_tokens_the_longer_one_is_taken() -> None:
    tokenizer = BPETokenizer([], ("<a", "<a>", "."))
    assert tokenizer.encode("<a><a.", allow_special=True) == [257, 256, 258]


def test_special_tokens_separate_the_training_text_and_are_not_learned() -> None:
    with_tokens = train_bpe(f"ab{EOS}" * 50, 300, (EOS,))
    assert with_tokens.merges == ((97, 98),)
    assert with_tokens.merges == train_bpe("ab\n" * 50, 257).merges


# --- training -----------------------------------------------------------------------------------


def test_the_vocabulary_has_the_size_asked_for(tokenizer: BPETokenizer) -> None:
    assert tokenizer.vocab_size == 700
    assert train_bpe("abc", 256).merges == ()
    assert train_bpe("", 300).vocab_size == 256


def test_a_text_that_repeats_too_little_gives_a_smaller_vocabulary() -> None:
    tokenizer = train_bpe("abab", 300, SPECIAL_TOKENS)
    assert tokenizer.merges == ((97, 98),)
    assert tokenizer.vocab_size == 260


@pytest.mark.parametrize(("vocab_size", "special"), [(255, ()), (0, ()), (258, SPECIAL_TOKENS)])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(vocab_size, special) -> None:
    with pytest.raises(UsageError) as raised:
        train_bpe("To be", vocab_size, special)
    assert str(raised.value) == (
        f"vocab_size {vocab_size} is too small: 256 bytes and {len(special)} special tokens need "
        f"at least {256 + len(special)}"
    )


def test_words_counted_in_pieces_give_the_same_tokenizer() -> None:
    cut = TEXT.index(" ", 1000)
    counts = count_words([TEXT[:cut], TEXT[cut:]])
    assert train_on_words(counts, 300) == train_bpe(TEXT, 300)


# --- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize("surrogate", ["\ud800", "\udfff"])
def test_a_lone_surrogate_is_named_with_its_place(tokenizer: BPETokenizer, surrogate: str) -> None:
    text = f"to{surrogate}be"
    code_point = f"U+{ord(surrogate):04X}"
    for refuse in (
        tokenizer.encode,
        tokenizer.encode_array,
        lambda text: train_bpe(text, 300),
    ):
        with pytest.raises(UsageError, match=f"lone surrogate {re.escape(code_point)} at index 2"):
            refuse(text)
    assert not tokenizer.accepts(text)
    assert tokenizer.accepts(MIXED)


@pytest.mark.parametrize(
    ("special", "problem"),
    [
        (("",), "special token '' must be"),
        (("a b",), "special token 'a b' must be"),
        ((7,), "special token 7 must be"),
        ((BOS, BOS), "occurs twice"),
        (("\ud800",), "lone surrogate"),
    ],
)
def test_special_tokens_that_cannot_be_are_refused(special, problem: str) -> None:
    with pytest.raises(CourseError, match=problem):
        BPETokenizer([], special)


# --- what a checkpoint stores -------------------------------------------------------------------


def test_it_survives_json(tokenizer: BPETokenizer) -> None:
    stored = json.loads(json.dumps(tokenizer.to_dict()))
    again = BPETokenizer.from_dict(stored)
    assert again == tokenizer
    assert again.to_dict() == stored
    assert stored["special_tokens"] == [BOS, EOS, PAD]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"merges": None}, "merges must be pairs of ids, not None"),
        ({"merges": [[1, 2, 3]]}, r"merges must be pairs of ids, not \[\[1, 2, 3\]\]"),
        ({"merges": [["a", "b"]]}, "merges must be pairs of ids"),
        ({"merges": [[1, True]]}, "merges must be pairs of ids"),
        ({"merges": [[1, 300]]}, "merge 0 joins 1 and 300; ids up to 255 exist there"),
        ({"special_tokens": "ab"}, "special tokens must be a list, not 'ab'"),
        ({"special_tokens": [7]}, "special token 7 must be"),
    ],
)
def test_what_is_no_tokenizer_is_refused(change, problem: str) -> None:
    stored = {"kind": "bpe", "merges": [[97, 98]], "special_tokens": [], **change}
    with pytest.raises(CourseError, match=problem):
        BPETokenizer.from_dict(stored)

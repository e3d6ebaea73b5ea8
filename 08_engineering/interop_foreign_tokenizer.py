"""Reading tokenizer.json: a tokenizer of ours, and which of their ids each of our ids was.

    their ids    ! " # ... a b c ...      sorted by spelling, special tokens often first
    our ids      the 256 bytes, the merges in order, the special tokens

The ids are a convention. The rows of the embedding move to the new ids, and the model is the same.
What our tokenizers can't do is refused by the name of the field: another pre-tokenizer would cut
words elsewhere, and a normalizer would change the text, so the model would be given ids that it was
not trained on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer
from interop_fields import Allowed, check_theirs, written
from interop_tokenizer import BYTE_LEVEL, CHARACTERS, byte_letters, to_tokenizer_json
from tokenizer import CharTokenizer
from utils.errors import CourseError, run_program

BPE_MODEL: Allowed = {
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (None, False),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}
PLAIN: Allowed = {"single_word": (False,), "lstrip": (False,), "rstrip": (False,)}


def from_tokenizer_json(stored: Mapping[str, Any]) -> tuple[Tokenizer, list[int]]:
    """A tokenizer of ours, and `order`: its id i is their id order[i].

    Raises CourseError, naming the field, for a tokenizer that is not one of our two kinds.
    """
    try:
        model = stored["model"]
        kind = model.get("type", "BPE" if "merges" in model else None)  # old files leave it out
        check_theirs({"model.type": kind}, {"model.type": ("WordLevel", "BPE")})
        return read_characters(stored) if kind == "WordLevel" else read_byte_pairs(stored)
    except CourseError as error:
        raise CourseError(f"tokenizer.json: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CourseError(f"tokenizer.json is damaged: {error!r}") from None


def read_characters(stored: Mapping[str, Any]) -> tuple[CharTokenizer, list[int]]:
    """A character tokenizer: its ids stay as they are."""
    check_theirs(stored, {name: (value,) for name, value in CHARACTERS.items()})
    check_theirs(stored, {"post_processor": (None,), "added_tokens": ([],)})
    vocab = stored["model"]["vocab"]
    characters = sorted(vocab, key=vocab.__getitem__)
    for character in characters:
        if len(character) != 1:
            raise CourseError(f"the word {written(character)} is not one character")
    return CharTokenizer("".join(characters)), permutation(vocab[c] for c in characters)


def read_byte_pairs(stored: Mapping[str, Any]) -> tuple[BPETokenizer, list[int]]:
    """A byte-pair tokenizer as GPT-2's; its ids are sorted into our order."""
    check_pipeline(stored)
    model = stored["model"]
    vocab, added = model["vocab"], sorted(stored["added_tokens"], key=lambda token: token["id"])
    for token in added:
        check_theirs(token, PLAIN)
    special = {token["content"]: token["id"] for token in added}
    # Their merges are pairs of texts. Ours are pairs of ids, which grow with the list.
    ids = {letter: b for b, letter in enumerate(byte_letters())}
    merges = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left not in ids or right not in ids or left + right in ids:
            raise CourseError(
                f"merge {written(merge)} doesn't join two earlier tokens to a new one"
            )
        merges.append((ids[left], ids[right]))
        ids[left + right] = len(ids)
    if unknown := [token for token in vocab if token not in ids and token not in special]:
        raise CourseError(f"the token {written(unknown[0])} is neither a byte nor made by a merge")
    order = [*(vocab[token] for token in ids), *special.values()]
    return BPETokenizer(merges, tuple(special)), permutation(order)


def check_pipeline(stored: Mapping[str, Any]) -> None:
    """Raise CourseError unless a text is cut into words as in GPT-2, and nothing is added to it."""
    check_theirs(stored, {"normalizer": (None,)})
    found = {"trim_offsets": True, "use_regex": True, **(stored["pre_tokenizer"] or {})}
    found["trim_offsets"] = True  # it changes positions in the text, which we don't have
    check_theirs({"pre_tokenizer": found}, {"pre_tokenizer": (BYTE_LEVEL["pre_tokenizer"],)})
    if not adds_nothing(stored.get("post_processor") or {"type": "ByteLevel"}):
        check_theirs(stored, {"post_processor": (None,)})
    check_theirs({"decoder": stored["decoder"]["type"]}, {"decoder": ("ByteLevel",)})
    check_theirs(stored["model"], BPE_MODEL)


def adds_nothing(post_processor: Mapping[str, Any]) -> bool:
    """Whether the ids of a text stay as they are; a template may put special tokens around them."""
    kind = post_processor["type"]
    return kind == "ByteLevel" or (
        kind == "TemplateProcessing" and not post_processor["special_tokens"]
    )


def permutation(order: Iterable[int]) -> list[int]:
    """The list of their ids. Raises CourseError unless each from 0 to V - 1 is there once."""
    order = list(order)
    if sorted(order) != list(range(len(order))):
        raise CourseError(f"the ids of its {len(order)} tokens are not 0 to {len(order) - 1}")
    return order


def main() -> None:
    """Read a file whose ids are in another order, and show where they went."""
    stored = to_tokenizer_json(BPETokenizer([(116, 111), (256, 32)]))
    vocab = stored["model"]["vocab"]
    stored["model"]["vocab"] = {token: 257 - i for token, i in vocab.items()}
    tokenizer, order = from_tokenizer_json(stored)
    ids = tokenizer.encode("to be")
    print(f"ours {ids}, theirs {[order[i] for i in ids]}")


if __name__ == "__main__":
    run_program(main)

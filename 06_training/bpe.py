"""Byte-pair encoding: build the vocabulary of a language model out of its text.

Start with the smallest units, the 256 bytes. Find the pair of neighbours that occurs most often,
give it an id of its own, and write that id wherever the pair occurs. Do it again, and again:

    l o w   l o w e r   l o w e s t
    (l, o) occurs 3 times  ->  lo w   lo w e r   lo w e s t
    (lo, w) occurs 3 times ->  low   low e r   low e s t

The list of merges, in order, is all that is learned. Encoding applies the same merges in the same
order, so frequent words become one token, and rare ones a few pieces. Any text can be encoded,
because in the worst case it is written in bytes.

Here are the algorithms, on integers; bpe_tokenizer.py connects them with text. Merging never
crosses the end of a word (split_pattern.py), so a text is a table {word: how often it occurs}, and
a word that occurs a thousand times is merged once.

Sources: Gage 1994, "A new algorithm for data compression"; Sennrich et al. 2016, algorithm 1;
Radford et al. 2019, section 2.2, for bytes.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from utils.errors import CourseError, run_program

Pair = tuple[int, int]
Words = Mapping[tuple[int, ...], int]  # the ids of a word -> how often it occurs

FIRST_MERGED = 256  # ids below it are the bytes
LARGEST_VOCABULARY = 2**27  # bytes of all tokens: a damaged file must not fill the memory


def count_pairs(words: Words) -> Counter[Pair]:
    """How often each pair of neighbours occurs in the text, overlapping ones included."""
    counts: Counter[Pair] = Counter()
    for ids, frequency in words.items():
        for pair in pairwise(ids):
            counts[pair] += frequency  # once per occurrence of the word in the text
    return counts


def merge_pair(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Write `new_id` wherever the pair occurs, from left to right; returns a new list.

    Merges don't overlap: in (7, 7, 7), the pair (7, 7) is merged once, and a 7 is left.
    """
    left, right = pair
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if ids[i] == left and i + 1 < len(ids) and ids[i + 1] == right:
            merged.append(new_id)
            i += 2  # both are used up
        else:
            merged.append(ids[i])
            i += 1
    return merged


def learn_merges(words: Words, n_merges: int, first_id: int = FIRST_MERGED) -> list[Pair]:
    """The pairs to merge, in order: merge i makes the id `first_id` + i.

    Each is the pair with the highest count; among equal counts, the smallest pair of ids. There are
    fewer than `n_merges` if no pair occurs twice: a merge that is used once saves nothing.
    """
    counts = PairCounts(words)
    merges: list[Pair] = []
    while len(merges) < n_merges:
        pair = counts.most_frequent()
        if pair is None:
            break
        counts.merge(pair, first_id + len(merges))  # the new id may be part of the next pair
        merges.append(pair)
    return merges


class PairCounts:
    """The counts of all pairs, kept up to date while pairs are merged.

    Counting again after each merge would go through all words every time. A merge changes only the
    words that contain its pair, and most pairs are in few words.
    """

    def __init__(self, words: Words) -> None:
        self.spellings = [list(ids) for ids in words]  # word i, as it is cut now
        self.frequencies = list(words.values())
        self.counts = count_pairs(words)
        self.found_in: dict[Pair, set[int]] = defaultdict(set)  # pair -> indices of its words
        for i, ids in enumerate(self.spellings):
            for pair in pairwise(ids):
                self.found_in[pair].add(i)
        # A heap hands out its smallest entry. Of two entries with equal counts, that is the one
        # with the smaller pair: the rule for ties costs nothing.
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self) -> Pair | None:
        """The pair with the highest count; None if no pair occurs at least twice."""
        while self.heap:
            count, pair = -self.heap[0][0], self.heap[0][1]
            if count == self.counts[pair]:
                return pair if count >= 2 else None
            heapq.heappop(self.heap)  # an outdated count: the present one has its own entry
        return None

    def merge(self, pair: Pair, new_id: int) -> None:
        """Merge a pair in all words that contain it, and count the pairs that this changes."""
        changed: set[Pair] = set()
        for i in self.found_in.pop(pair):
            old = self.spellings[i]
            new = merge_pair(old, pair, new_id)
            # All pairs of the word are taken out, and those of its new spelling put in. To adjust
            # only the merge's neighbours would be faster, and hard to get right where merges touch.
            for old_pair in pairwise(old):
                self.counts[old_pair] -= self.frequencies[i]
            for new_pair in pairwise(new):
                self.counts[new_pair] += self.frequencies[i]
                self.found_in[new_pair].add(i)
            changed.update(pairwise(old), pairwise(new))
            self.spellings[i] = new
        # A heap can't change an entry. The old ones stay, and `most_frequent` recognizes them.
        for each in changed:
            heapq.heappush(self.heap, (-self.counts[each], each))


def apply_merges(ids: Sequence[int], new_ids: Mapping[Pair, int]) -> list[int]:
    """Encode one word, given the id that each merge makes: the earliest merge goes first.

    That repeats what happened to the word in training, so a word of the training text gets the
    tokens that it had there.
    """
    ids = list(ids)
    never = math.inf  # the rank of a pair that is not a merge
    while len(ids) > 1:
        earliest = min(pairwise(ids), key=lambda pair: new_ids.get(pair, never))
        if earliest not in new_ids:
            break  # none of its pairs was ever merged
        ids = merge_pair(ids, earliest, new_ids[earliest])
    return ids


def is_pair(value: object) -> bool:
    """Whether a value from a file is two whole numbers."""
    return isinstance(value, list | tuple) and len(value) == 2 and {*map(type, value)} == {int}


def check_merges(merges: Sequence[Pair]) -> None:
    """Raise CourseError unless each merge joins two earlier ids, and no pair is merged twice."""
    lengths = [1] * FIRST_MERGED  # bytes of each token
    total = 0
    for i, (left, right) in enumerate(merges):
        if not (0 <= left < len(lengths) and 0 <= right < len(lengths)):
            last = len(lengths) - 1
            raise CourseError(f"merge {i} joins {left} and {right}; ids up to {last} exist there")
        lengths.append(lengths[left] + lengths[right])
        total += lengths[-1]
        if total > LARGEST_VOCABULARY:
            raise CourseError(f"merge {i} makes a token of {lengths[-1]:,} bytes: too much memory")
    if len(set(merges)) < len(merges):
        ((pair, times),) = Counter(merges).most_common(1)
        raise CourseError(f"the pair {pair} is merged {times} times; each must be unique")


def main() -> None:
    """Learn four merges from three words, and show the words after each."""
    words = {tuple(b"low"): 5, tuple(b"lower"): 2, tuple(b"newest"): 6}
    names = {i: chr(i) for i in range(256)}
    for i, (left, right) in enumerate(learn_merges(words, n_merges=4)):
        count = count_pairs(words)[left, right]
        new_id = FIRST_MERGED + i
        names[new_id] = names[left] + names[right]
        words = {tuple(merge_pair(w, (left, right), new_id)): n for w, n in words.items()}
        shown = "   ".join(" ".join(names[i] for i in word) for word in words)
        print(f"{new_id} = {names[left]} + {names[right]}, {count} times:   {shown}")


if __name__ == "__main__":
    run_program(main)

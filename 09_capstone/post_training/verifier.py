"""The verifier: how much of a text the grammar of the plays accepts.

    reader = Verifier()
    state, n = reader.advance(reader.start(), "Enter LADY ROSAMUND and ")    # n = 24: all of it
    reader.advance(state, "the moon.")                                       # (None, 0): no speaker

A text is right if it can be continued to a play that the grammar writes. So whether a model's text
is right is a fact, found without a judge. The verifier reads from left to right and remembers what
it still expects: reading a continuation costs the characters of the continuation, however long the
scene before it is.

Its state is a stack. Because no way of writing a symbol begins like another (utils/grammar.py), the
next characters decide each choice, and one stack is enough.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from typing import Any, NamedTuple

from utils.grammar import Grammar
from utils.mock_corpus import generate, play_grammar

Stack = tuple[Any, Any] | None  # (next part, the rest of the stack); shared, never changed


class State(NamedTuple):
    """What has been read, as far as it matters for what may follow."""

    expected: Stack  # plain texts and symbols that are still to come in this scene
    unread: str  # the beginning of the first of them, which has been seen


class Verifier:
    """Reads text against a grammar, piece by piece."""

    def __init__(self, grammar: Grammar | None = None) -> None:
        self.grammar = grammar or play_grammar()
        self._ways: dict[int, list[tuple[int, dict[str, int]]]] = {}

    def start(self, symbol: str | None = None) -> State:
        """The state before the first character of a symbol, by default of a scene.

        Raises KeyError for a symbol that the grammar does not have.
        """
        return State((self.grammar.symbol(symbol), None), "")

    def advance(self, state: State, text: str) -> tuple[State | None, int]:
        """Read a text; returns (state after it, number of characters accepted).

        The state is None if a character is wrong; the number is then that of the characters before.
        After the end of one scene the next one begins.
        """
        stack, text, n_seen = state.expected, state.unread + text, len(state.unread)
        position = 0
        while position < len(text):
            if stack is None:
                stack = (self.grammar.symbol(), None)
            part, rest = stack
            if isinstance(part, str):
                n, stack_after = self._read_text(part, text, position), rest
            else:
                n, stack_after = self._choose_way(part, text, position, rest)
            if n is None:  # the text ends, or goes wrong, within this part
                return self._stop(part, stack, text, position, n_seen)
            position, stack = position + n, stack_after
        return State(stack, ""), len(text) - n_seen

    def _read_text(self, part: str, text: str, position: int) -> int | None:
        return len(part) if text.startswith(part, position) else None

    def _choose_way(
        self, symbol: int, text: str, position: int, rest: Stack
    ) -> tuple[int | None, Stack]:
        """Replace a symbol by the parts of the way that the text takes; reads no character."""
        for length, ways in self._ways_of(symbol):
            way = ways.get(text[position : position + length])
            if way is not None:
                for part in reversed(self.grammar.parts(symbol, way)):
                    rest = (part, rest)
                return 0, rest
        return None, rest

    def _stop(
        self, part: str | int, stack: Stack, text: str, position: int, n_seen: int
    ) -> tuple[State | None, int]:
        """The end of a text within a part: it may go on, or it has gone wrong."""
        tail = text[position:]
        begins = [part] if isinstance(part, str) else self._openings(part)
        n = max(common_length(begin, tail) for begin in begins)
        after = State(stack, tail) if n == len(tail) else None
        return after, position + n - n_seen

    def _openings(self, symbol: int) -> list[str]:
        return [opening for _, ways in self._ways_of(symbol) for opening in ways]

    def _ways_of(self, symbol: int) -> list[tuple[int, dict[str, int]]]:
        """The openings of a symbol's ways, by their length: a look-up for each length finds one."""
        if symbol not in self._ways:
            by_length: dict[int, dict[str, int]] = {}
            for opening, way in self.grammar.openings_of(symbol):
                by_length.setdefault(len(opening), {})[opening] = way
            self._ways[symbol] = sorted(by_length.items())
        return self._ways[symbol]


def common_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    differing = (i for i, (a, b) in enumerate(pairs) if a != b)
    return next(differing, min(len(one), len(other)))


def main() -> None:
    """Read a true scene, then the same with one wrong character."""
    import time

    text, reader = generate(300_000), Verifier()
    reader.advance(reader.start(), text)  # builds the tables
    start = time.perf_counter()
    _, n = reader.advance(reader.start(), text)
    seconds = time.perf_counter() - start
    print(f"a true text: {n:,} of {len(text):,} characters accepted")
    wrong = f"{text[:1000]}#{text[1001:]}"
    print(f"character 1,000 replaced: {reader.advance(reader.start(), wrong)[1]:,} accepted")
    print(f"{n / seconds / 1e6:.1f} million characters per second")


if __name__ == "__main__":
    run_program(main)

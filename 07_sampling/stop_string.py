"""Stop strings: end a sample where one of them appears, although text arrives in pieces.

A stream shows text as it arrives, but must show no part of a stop string. So any text that could be
the beginning of a stop string is held back until later pieces decide whether it is.
"""

from collections.abc import Sequence

from utils.errors import run_program


class StopStrings:
    """Passes pieces of text through until a stop string appears; without any it never stops.

    The text ends before the stop string that is complete first; of several that end together,
    before the longest. So it makes no difference how the text is split into pieces. Empty strings
    never stop.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        # A single string is a sequence too, of its characters: each would stop the text.
        stops = [stops] if isinstance(stops, str) else stops
        self.stops = tuple(stop for stop in stops if stop)
        self.held_back = ""  # the end of the text, as long as it may begin a stop string
        self.finished = False

    def feed(self, piece: str) -> str:
        """Add a piece; returns the text that can be shown now."""
        if self.finished:
            return ""
        if not self.stops:
            return piece
        self.held_back += piece
        # (end, start) of each stop string that is there
        starts = {stop: self.held_back.find(stop) for stop in self.stops}
        found = [(start + len(stop), start) for stop, start in starts.items() if start >= 0]
        if found:
            self.finished = True
            # The earliest end, then the earliest start. By the start alone the pieces would matter:
            # a longer stop string may begin before a shorter one and end after it.
            _, start = min(found)
            return self.held_back[:start]
        n_safe = 0  # characters before the longest suffix that could begin a stop string
        while not self._could_begin(self.held_back[n_safe:]):  # the empty text always could
            n_safe += 1
        safe, self.held_back = self.held_back[:n_safe], self.held_back[n_safe:]
        return safe

    def _could_begin(self, text: str) -> bool:
        return any(stop.startswith(text) for stop in self.stops)

    def flush(self) -> str:
        """Return the text still held back, when no more pieces will come."""
        return "" if self.finished else self.held_back  # it was not a stop string after all


def main() -> None:
    """Feed pieces to a stop string that is an empty line."""
    stop = StopStrings(["\n\n"])
    # The first newline is shown late, with what follows it; the second begins the end.
    for piece in ["To ", "be", "\n", "or", "\n", "\n", "HAMLET"]:
        print(f"piece {piece!r:<10} shown {stop.feed(piece)!r}")
    print(f"finished: {stop.finished}")


if __name__ == "__main__":
    run_program(main)

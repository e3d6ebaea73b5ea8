"""Stop strings: end a sample where a given string appears, although text arrives in pieces.

A stream shows text as it arrives, but must show no part of the stop string. So any text that could
be the beginning of the stop string is held back until later pieces decide whether it is.
"""

from utils.errors import run_program


class StopString:
    """Passes pieces of text through until the stop string appears; None or "" never stops."""

    def __init__(self, stop: str | None) -> None:
        self.stop = stop
        self.held_back = ""
        self.finished = False

    def feed(self, piece: str) -> str:
        """Add a piece; returns the text that can be shown now."""
        if self.finished:
            return ""
        if not self.stop:
            return piece
        self.held_back += piece
        if self.stop in self.held_back:
            self.finished = True
            return self.held_back[: self.held_back.index(self.stop)]
        n_safe = 0  # characters before the longest suffix that could begin the stop string
        while not self.stop.startswith(self.held_back[n_safe:]):
            n_safe += 1
        safe, self.held_back = self.held_back[:n_safe], self.held_back[n_safe:]
        return safe

    def flush(self) -> str:
        """Return the text still held back, when no more pieces will come."""
        return "" if self.finished else self.held_back


def main() -> None:
    """Feed pieces to a stop string that is an empty line."""
    stop = StopString("\n\n")
    for piece in ["To ", "be", "\n", "or", "\n", "\n", "HAMLET"]:
        print(f"piece {piece!r:<10} shown {stop.feed(piece)!r}")
    print(f"finished: {stop.finished}")


if __name__ == "__main__":
    run_program(main)

"""Stop texts: end a sample where a given text appears, though it arrives in pieces.

Streaming shows text as it comes, but the stop text itself must not be shown, not even its first
half. So what could be its beginning is held back until the next pieces say what it was.
"""

from utils.errors import run_program


class StopText:
    """Passes text on until the stop text appears; holds back what could be the beginning of it."""

    def __init__(self, stop: str | None) -> None:
        self.stop = stop
        self.held = ""
        self.ended = False

    def show(self, piece: str) -> str:
        """What may be shown now that `piece` has come."""
        if self.ended:
            return ""
        if not self.stop:
            return piece
        self.held += piece
        if self.stop in self.held:
            self.ended = True
            return self.held[: self.held.index(self.stop)]
        sure = 0  # characters before the longest tail that could begin the stop text
        while not self.stop.startswith(self.held[sure:]):
            sure += 1
        shown, self.held = self.held[:sure], self.held[sure:]
        return shown

    def rest(self) -> str:
        """What was held back for nothing."""
        return "" if self.ended else self.held


def main() -> None:
    """Show what is passed on, piece by piece, when the stop text is an empty line."""
    stop = StopText("\n\n")
    for piece in ["To ", "be", "\n", "or", "\n", "\n", "HAMLET"]:
        print(f"came {piece!r:<10} shown {stop.show(piece)!r}")
    print(f"ended: {stop.ended}")


if __name__ == "__main__":
    run_program(main)

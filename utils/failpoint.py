"""Failpoints: named places where a test can kill the program, as a power cut would.

    TINY_TRANSFORMER_FAILPOINT="state: renamed@3" python 09_capstone/train.py ...

ends the process the third time it reaches `failpoint("state: renamed")`: no cleanup, no flush, no
exception. Without the variable a failpoint does nothing.
"""

import os

VARIABLE = "TINY_TRANSFORMER_FAILPOINT"
EXIT_CODE = 86
_passed = 0


def failpoint(name: str) -> None:
    """End the process here if the environment names this place; `name@3`: the third time."""
    target, _, times = os.environ.get(VARIABLE, "").partition("@")
    if target != name:
        return
    global _passed
    _passed += 1
    if _passed >= int(times or 1):
        os._exit(EXIT_CODE)

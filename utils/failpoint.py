"""Places where a test can make the program die, as it would in a power cut.

    TINY_TRANSFORMER_FAILPOINT="state: renamed@3" python 09_capstone/train.py ...

ends the process at once, the third time it comes to `failpoint("state: renamed")`: no clean-up, no
flush, no exception. Without the variable a failpoint does nothing.
"""

import os

VARIABLE = "TINY_TRANSFORMER_FAILPOINT"
EXIT_CODE = 86
_passed = 0


def failpoint(name: str) -> None:
    """Die here if the environment says so; `name@3` means the third time."""
    asked, _, times = os.environ.get(VARIABLE, "").partition("@")
    if asked != name:
        return
    global _passed
    _passed += 1
    if _passed >= int(times or 1):
        os._exit(EXIT_CODE)

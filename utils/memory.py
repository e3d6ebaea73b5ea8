"""Memory that a process frees and soon needs again: keep it, and do not give it back.

A training step frees what the step before it took. The C library of Linux gives large pieces back
to the system, which has to find, clear and map every page anew at the next step. Told to keep them,
it does not; the process then holds, to its end, at least what it needed at its peak.
"""

import ctypes
import platform
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; whether that was possible (glibc on Linux only)."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
    return {mallopt(name, value) for name, value in settings.items()} == {1}

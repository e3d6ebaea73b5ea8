"""Let a process keep the memory it frees, because the next training step needs it again.

Every training step allocates and frees the same large tensors. On Linux, glibc returns large blocks
to the operating system, which then has to find, clear and map every page again for the next step.
With these settings glibc keeps them. The cost: the process holds its peak memory until it ends.
"""

import ctypes
import platform
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # from malloc.h


def keep_freed_memory() -> bool:
    """Make this process keep freed memory; returns whether that worked (glibc on Linux only)."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
    return {mallopt(name, value) for name, value in settings.items()} == {1}

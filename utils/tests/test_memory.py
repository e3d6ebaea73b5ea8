"""memory.py: freed pages are not requested from the system again."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from utils.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():
    pieces = [np.ones(2**17) for _ in range(64)]  # 1 MB each, all freed at the end

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, the C library of Linux")
def test_repeated_steps_cause_no_new_page_faults():
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, how], capture_output=True, check=True
            ).stdout
        )
        for how in ("keep", "give back")
    ]
    assert counts[1] > 100 + 10 * counts[0]


def test_without_glibc_it_does_nothing(monkeypatch):
    from utils import memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: 1 / 0)
    assert memory.keep_freed_memory() is False

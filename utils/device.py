"""Choose device and precision, by what the machine has and by measurement."""

import platform
import random
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from utils.errors import UsageError


def pick_device(name: str = "auto") -> torch.device:
    """The device with this name; "auto" is CUDA, else MPS, else the CPU.

    Raises UsageError if the name is unknown or the device is not available.
    """
    present = available_devices()
    if name == "auto":
        return torch.device(present[0])
    kind, _, index = name.partition(":")
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", name):
        raise UsageError(f"unknown device {name!r}; choose one of: auto, cpu, cuda, cuda:N, mps")
    if kind not in present:
        raise UsageError(f"device {name!r} is not available; available: {', '.join(present)}")
    if index and int(index) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} is not available; CUDA devices: {torch.cuda.device_count()}"
        )
    return torch.device(kind, int(index)) if index else torch.device(kind)


def available_devices() -> list[str]:
    """The kinds of device on this machine, the fastest first."""
    present = ["cuda"] if torch.cuda.is_available() else []
    present += ["mps"] if torch.backends.mps.is_available() else []
    return [*present, "cpu"]


def describe_device(device: torch.device) -> str:
    """One line for logs: "cpu (x86_64, 2 threads)" or the name of the GPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "mps (Apple GPU)"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def seed_everything(seed: int) -> None:
    """Seed the global random generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """A context that runs matrix products in `dtype` and keeps the rest in float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def synchronize(device: torch.device) -> None:
    """Wait until all queued work on the device is done, so that timings include it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def fastest(
    candidates: dict[str, Callable[[], None]],
    device: torch.device,
    *,
    margin: float = 1.1,
    rounds: int = 3,
) -> str:
    """Time each candidate in several interleaved rounds; returns the name of the fastest.

    Each counts with its best round. The first candidate is the default: another must be faster by a
    factor of `margin`, so that noise does not decide.
    """
    best = dict.fromkeys(candidates, float("inf"))
    for step in range(rounds + 1):  # the first round is a warm-up and does not count
        for name, run in candidates.items():
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            if step > 0:
                best[name] = min(best[name], time.perf_counter() - start)
    default, *_ = candidates
    winner = min(best, key=lambda name: best[name])
    return winner if best[winner] * margin < best[default] else default

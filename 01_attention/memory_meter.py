"""Peak memory of a computation in PyTorch, counted tensor by tensor.

Every operation passes through PyTorch's dispatcher, so a dispatch mode sees each tensor when it is
created; a finalizer on its storage tells when it is freed. Unlike the numbers of the operating
system, the count does not depend on the allocator or on other programs. Temporary buffers inside an
operation are not seen.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from utils.errors import run_program


class MemoryMeter(TorchDispatchMode):
    """Counts the bytes of all live tensors created inside the `with` block, and their peak."""

    alive = 0
    peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for storage in storages(result) - storages((args, kwargs)):  # a view allocates nothing
            self.count(storage.nbytes())
            # A weak reference: the meter must not keep alive what it measures.
            weakref.finalize(storage, self.count, -storage.nbytes())
        return result

    def count(self, n_bytes: int) -> None:
        self.alive += n_bytes
        self.peak = max(self.peak, self.alive)


def storages(tree: Any) -> set[torch.UntypedStorage]:
    """The memory blocks behind the tensors in nested tuples, lists and dictionaries."""
    # A set of storages, not of tensors: views of one block are counted once.
    return {x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor)}


def forward_and_backward(
    attend: Callable[..., Tensor], *inputs: Tensor
) -> tuple[list[Tensor], int]:
    """Output and input gradients (of the sum of squares), and the peak memory in bytes."""
    with MemoryMeter() as meter:
        output = attend(*inputs)
        gradients = torch.autograd.grad(output.square().sum(), inputs)
    return [output, *gradients], meter.peak


def main() -> None:
    """Print live and peak bytes while tensors come and go."""
    with MemoryMeter() as meter:
        a = torch.zeros(1000)  # float32: 4000 bytes
        print(f"a = zeros(1000)    alive {meter.alive:6,}   peak {meter.peak:6,} bytes")
        b = 2 * a + 1  # 2 * a is a temporary: it counts towards the peak, then it is freed
        print(f"b = 2 * a + 1      alive {meter.alive:6,}   peak {meter.peak:6,} bytes")
        del a
        print(f"del a              alive {meter.alive:6,}   peak {meter.peak:6,} bytes")
        b = b[:10]  # a view keeps the whole storage alive
        print(f"b = b[:10]         alive {meter.alive:6,}   peak {meter.peak:6,} bytes")


if __name__ == "__main__":
    run_program(main)

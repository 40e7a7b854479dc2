"""Memory that was freed, back to the operating system."""

import ctypes
import gc
import sys


def give_back_memory() -> None:
    """After memory ran out: cycles that hold tensors are broken up, and what the allocator keeps for later
    is returned. A limit on the process's memory counts that too, and smaller tensors may not fit into it.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and keeps nothing
        if trim is not None:
            trim(0)

"""Memory that was freed, back to the operating system."""

import ctypes
import gc
import sys

_M_MMAP_THRESHOLD = -3
_BLOCK = 1 << 20


def give_back_at_once() -> None:
    """From here on blocks of a mebibyte and more go back to the operating system when they are freed. Left
    to itself the allocator keeps those of up to 32 MiB: as many as the weights of a model, beside the ones
    that a runtime has made of them.
    """
    if sys.platform == "linux":
        option = getattr(ctypes.CDLL(None), "mallopt", None)
        if option is not None:
            option(_M_MMAP_THRESHOLD, _BLOCK)


def give_back_memory() -> None:
    """After memory ran out, or before much is needed anew: cycles that hold tensors are broken up, and what
    the allocator keeps for later is returned. A limit on the process's memory counts that too, and other
    tensors may not fit into it.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and keeps nothing
        if trim is not None:
            trim(0)

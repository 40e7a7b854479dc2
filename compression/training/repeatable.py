"""Surroundings in which a training repeats: threads, algorithms, random state; as before afterwards."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic


@contextmanager
def repeatable(threads: int) -> Iterator[None]:
    """On a CPU the same seed and threads give the same bytes inside."""
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*deterministic")
        try:
            _set(threads, True, True, False)
            yield
        finally:
            _set(*before)


def _set(threads: int, enabled: bool, warn_only: bool, fill: bool) -> None:
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]

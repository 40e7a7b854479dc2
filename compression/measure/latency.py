"""Latency of two models, measured interleaved so that whatever disturbs one disturbs the other."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from compression.dataset import Array
from compression.measurement import Latency, Ratio

Run = Callable[[dict[str, Array]], object]
Opened = Callable[[int], Run]
"""Opens the original (0) or the candidate (1) once more."""
Times = np.ndarray[Any, np.dtype[np.float64]]

SECONDS = 4.0
"""Budget of the timed rounds; at least `LEAST` are made unless that takes more than `MOST_SECONDS`."""
MOST_SECONDS = 60.0
LEAST, MOST = 50, 3000
SITTINGS = 4
_WARM_UP_SECONDS, _WARM_UP = 0.1, 10
_RESAMPLES = 2000


def interleaved(opened: Opened, feeds: Sequence[dict[str, Array]], seed: int) -> tuple[Times, Times]:
    """Milliseconds of each round; in a round both take the same sample, in random order.

    Both are opened afresh `SITTINGS` times, in turns first: where a model happens to lie in memory is worth a few
    per cent, which more rounds with the same two would never average out.
    """
    order = random.Random(seed)  # noqa: S311  no secret
    times: tuple[list[float], list[float]] = ([], [])
    for sitting in range(SITTINGS):
        runs = {index: opened(index) for index in ((0, 1), (1, 0))[sitting % 2]}
        for index in runs:
            _warm_up(runs[index], feeds)
        _sit(runs, cycle(feeds), order, times)
    return np.asarray(times[0]), np.asarray(times[1])


def _sit(
    runs: dict[int, Run],
    feeds: Iterator[dict[str, Array]],
    order: random.Random,
    times: tuple[list[float], list[float]],
) -> None:
    start = time.perf_counter()
    for rounds, sample in enumerate(feeds):
        if _enough(rounds * SITTINGS, (time.perf_counter() - start) * SITTINGS):
            return
        for index in order.sample((0, 1), 2):
            times[index].append(_time(runs[index], sample))


def _warm_up(run: Run, feeds: Sequence[dict[str, Array]]) -> None:
    start = time.perf_counter()
    for count, sample in enumerate(cycle(feeds), 1):
        run(sample)
        if count >= _WARM_UP or time.perf_counter() - start > _WARM_UP_SECONDS:
            return


def _time(run: Run, sample: dict[str, Array]) -> float:
    start = time.perf_counter_ns()
    run(sample)
    return (time.perf_counter_ns() - start) / 1e6


def _enough(rounds: int, seconds: float) -> bool:
    return rounds >= MOST or seconds > MOST_SECONDS or (rounds >= LEAST and seconds > SECONDS)


def summary(times: Times) -> Latency:
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    return Latency(p50=float(p50), p90=float(p90), p99=float(p99), n=len(times))


def ratio(original: Times, candidate: Times, seed: int) -> Ratio:
    """Ratio of the medians with a 95 % interval of the moving-block bootstrap over rounds.

    Blocks of sqrt(n) rounds keep what neighbouring rounds have in common (frequency, other load), which resampling
    single rounds would average away: Künsch, "The jackknife and the bootstrap for general stationary observations", 1989.
    """
    n = len(original)
    length = max(1, round(n**0.5))
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, n - length + 1, (_RESAMPLES, -(-n // length)))
    picks = (starts[:, :, None] + np.arange(length)).reshape(_RESAMPLES, -1)[:, :n]
    ratios = np.median(original[picks], axis=1) / np.median(candidate[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(value=float(np.median(original) / np.median(candidate)), ci95=(float(low), float(high)))

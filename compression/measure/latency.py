"""Latency of several models, measured interleaved so that whatever disturbs one disturbs the others."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from compression.dataset import Array
from compression.measurement import Latency, Ratio
from compression.memory import give_back_memory

Run = Callable[[dict[str, Array]], object]
Opened = Callable[[int], Run]
"""Opens the original (0) or a candidate (1, 2, …) once more."""
Times = np.ndarray[Any, np.dtype[np.float64]]
"""Milliseconds, [sittings, rounds]."""

SECONDS = 2.0
"""Budget of a model's timed rounds; at least `LEAST` are made unless that takes more than `MOST_SECONDS`."""
MOST_SECONDS = 30.0
LEAST, MOST = 50, 3000
SITTINGS = 4, 12
"""Least and most; as many as opening the models allows within about `OPENING_SECONDS`."""
OPENING_SECONDS = 3.0
_WARM_UP_SECONDS, _WARM_UP = 0.1, 10
_RESAMPLES = 1000


def interleaved(opened: Opened, models: int, feeds: Sequence[dict[str, Array]], seed: int) -> list[Times]:
    """In a round all take the same sample, in random order.

    All are opened afresh for each sitting, in turns first: where a model happens to lie in memory is worth a
    few per cent, which more rounds with the same ones would never average out.
    """
    order = random.Random(seed)  # noqa: S311  no secret
    start = time.perf_counter()
    runs = {index: opened(index) for index in range(models)}
    sittings = int(np.clip(OPENING_SECONDS / (time.perf_counter() - start), *SITTINGS))
    taken = []
    for sitting in range(sittings):
        if sitting:
            first = sitting % models
            runs = {index: opened(index) for index in (*range(first, models), *range(first))}
        for run in runs.values():
            _warm_up(run, feeds)
        taken.append(_sit(runs, cycle(feeds), order, sittings))
    rounds = min(times.shape[1] for times in taken)
    return list(np.stack([times[:, :rounds] for times in taken], axis=1))


def in_turns(opened: Opened, models: int, feeds: Sequence[dict[str, Array]], seed: int) -> list[Times]:
    """As `interleaved`, of models so large that only one of them is open at a time: sitting after sitting,
    each of them takes its own. What disturbs one for longer than a sitting disturbs the others.
    """
    order = random.Random(seed)  # noqa: S311  no secret
    taken = []
    for _ in range(SITTINGS[0]):
        sitting: dict[int, Times] = {}
        for index in order.sample(range(models), models):
            run = opened(index)
            _warm_up(run, feeds)
            sitting[index] = _sit({0: run}, cycle(feeds), order, SITTINGS[0])[0]
            del run  # before the next is opened
            give_back_memory()
        taken.append([sitting[index] for index in range(models)])
    rounds = min(len(times) for sitting in taken for times in sitting)
    return list(np.stack([[times[:rounds] for times in sitting] for sitting in taken], axis=1))


def _sit(
    runs: dict[int, Run], feeds: Iterator[dict[str, Array]], order: random.Random, sittings: int
) -> Times:
    """[model, round]; the budget is that of all sittings."""
    times: list[list[float]] = [[] for _ in runs]
    start = time.perf_counter()
    for rounds, sample in enumerate(feeds):
        spent = (time.perf_counter() - start) * sittings / len(runs)
        if _enough(rounds * sittings, spent):
            break
        for index in order.sample(range(len(runs)), len(runs)):
            times[index].append(_time(runs[index], sample))
    return np.asarray(times)


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
    return Latency(p50=float(p50), p90=float(p90), p99=float(p99), n=times.size)


def ratio(original: Times, candidate: Times, seed: int) -> Ratio:
    """Ratio of the medians with a 95 % bootstrap interval: sittings are drawn, and in each blocks of rounds.

    Blocks of sqrt(n) rounds keep what neighbouring rounds have in common (frequency, other load), which
    single rounds would average away (Künsch 1989); sittings keep what a session has by the chance of where it
    lies in memory.
    """
    sittings, rounds = original.shape
    length = max(1, round(rounds**0.5))
    generator = np.random.default_rng(seed)
    sitting = generator.integers(0, sittings, (_RESAMPLES, sittings, 1))
    starts = generator.integers(0, rounds - length + 1, (_RESAMPLES, sittings, -(-rounds // length), 1))
    picks = (starts + np.arange(length)).reshape(_RESAMPLES, sittings, -1)[:, :, :rounds]
    medians = [
        np.median(times[sitting, picks].reshape(_RESAMPLES, -1), axis=1) for times in (original, candidate)
    ]
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return Ratio(value=float(np.median(original) / np.median(candidate)), ci95=(float(low), float(high)))

"""A look at a few samples before hours are spent: do the model and the data set belong together?"""

import time
from pathlib import Path

import numpy as np

from compression import runtime, samples
from compression.dataset import Dataset, Split
from compression.measure import doubts, question
from compression.measurement import WantedTask
from compression.model import Model

_SAMPLES = 512
_BYTES = 64 << 20
"""Of their inputs: these are copied."""
_SECONDS = 20.0


def glance(original: Path, data: Path, *, seed: int = 0, task: WantedTask = "auto") -> tuple[str, ...]:
    """What the decisions of a normalised model say of a normalised data set, each in a sentence with a way
    out; nothing where they fit, or where too little is known. At most 512 samples of the test split or what
    comes nearest to one, and 20 seconds.

    Errors: CompressionError E_MODEL_RUN, `dataset_misfit`.
    """
    model, until = Model.open(original), time.monotonic() + _SECONDS
    split = _some(samples.held_out(model, Dataset.open(data), seed).split, seed)
    session = runtime.session(model.outline)
    asked = question.ask(model, split, task, session)
    if asked.question is None or asked.task not in doubts.TASKS:
        return ()
    score, done = asked.question.score(), 0
    for outputs in runtime.run_split(session, split, model.inputs, size=asked.batch):
        values = outputs[asked.question.output]
        score.add(values, asked.question.labels[done : done + len(values)])
        done += len(values)
        if time.monotonic() > until:
            break
    return doubts.of(score)


def _some(split: Split, seed: int) -> Split:
    """In random order: the rows of many data sets are sorted by class, and time may end the look."""
    each = sum(array.nbytes for array in split.arrays.values()) // split.n
    count = min(split.n, _SAMPLES, max(1, _BYTES // max(1, each)))
    rows = np.random.default_rng(seed).permutation(split.n)[:count]
    labels = None if split.labels is None else split.labels[rows]
    return Split({name: array[rows] for name, array in split.arrays.items()}, labels)

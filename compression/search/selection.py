"""What a search may see of a data set: its own split to choose by, cut out of what calibrates or is trained
on. The test split is not in the file, so nothing can look at it.
"""

from pathlib import Path

import numpy as np

from compression.dataset import Array, Dataset, Split
from compression.errors import CompressionError
from compression.intake import splits
from compression.preprocessing import Fractions
from compression.search.budget import CALIBRATION, ENOUGH, MOST, chosen_from
from compression.validation import npz

_OF_TRAIN = 10
_PAIR = 2
"""Rows 2i and 2i + 1 may belong together."""


def carve(data: Path, into: Path, most: int = MOST) -> None:
    """Writes a normalised data set whose `test` split are calibration samples, all but 512, where there are
    enough; else a tenth of the train split, or half of the calibration split where nothing else is there. At
    most `most` samples; each class has its share.

    Errors: CompressionError `too_few_samples`.
    """
    whole = Dataset.open(data)
    labelled = {name for name, split in whole.splits.items() if split.labels is not None}
    source = chosen_from({name: split.n for name, split in whole.splits.items()}, labelled)
    if source is None:
        raise CompressionError(
            "too_few_samples",
            "a search chooses by samples that are no test: the data set has a test split only",
        )
    split = whole.splits[source]
    taken, left = _divided(split, min(_wanted(source, split.n), most))
    parts: dict[str, npz.Part] = {}
    for member, array in whole.arrays.items():
        of, name = member.split("/", 1)
        if of == source:
            parts[member] = npz.Part(array, left)
            parts[f"test/{name}"] = npz.Part(array, taken)
        elif of != "test":
            parts[member] = npz.Part(array)
    npz.write({name: parts[name] for name in sorted(parts)}, into)


def _wanted(source: str, n: int) -> int:
    if source == "train":
        return n // _OF_TRAIN
    return n - CALIBRATION if n >= ENOUGH else n // 2


def _divided(split: Split, wanted: int) -> tuple[Array, Array]:
    """Rows to choose by and rows to learn from, both ascending. Pairs stay together."""
    pairs = split.n // _PAIR
    share = min(wanted // _PAIR, pairs - 1)
    if share < 1:
        raise CompressionError(
            "too_few_samples",
            f"a search takes some of the samples to choose by, and there are {split.n}: send more",
        )
    fractions = Fractions(train=1 - share / pairs, calibration=0, test=share / pairs)
    labels = None if split.labels is None else split.labels[: pairs * _PAIR : _PAIR]
    # of small strata rounding may leave none: any will do then
    chosen = splits.stratified(pairs, labels, fractions, seed=0).get("test", np.arange(share))
    taken = (chosen[:, None] * _PAIR + np.arange(_PAIR)).ravel()
    return taken, np.setdiff1d(np.arange(split.n), taken)

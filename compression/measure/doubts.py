"""What an original model's decisions say of the data set: that it is not what the model was trained on."""

import numpy as np

from compression.dataset import Array
from compression.measure.sums import wilson

_FEW = 50
"""Samples from which nothing can be told."""
_ELSEWHERE = 0.25
"""A model that knows its classes under other numbers is right on so many more samples under the best ones."""


def doubts(confusion: Array) -> tuple[str, ...]:
    """Of [labels, decisions], counted."""
    n, classes = int(confusion.sum()), len(confusion)
    if n < _FEW:
        return ()
    correct, commonest = int(confusion.trace()), confusion.argmax(0)
    elsewhere = int(confusion.max(0).sum())
    if (elsewhere - correct) / n > _ELSEWHERE:
        wrong = np.flatnonzero((commonest != np.arange(classes)) & (confusion.sum(0) > 0))[0]
        said = (
            f"the original would be right on {elsewhere / n:.0%} of the samples instead of {correct / n:.0%} "
            f"were classes numbered otherwise: where it says {wrong} the label is mostly {commonest[wrong]}; "
            "give the data set the model's order of classes (options.classes)"
        )
        return (said,)
    if wilson(correct, n)[0] <= 1 / classes:
        said = (
            f"the original is right on {correct / n:.1%} of the samples, no more often than by guessing: "
            "look at the preprocessing of the data set and at the order of its classes"
        )
        return (said,)
    return ()

"""What an original model's decisions say of the data set: that it is not what the model was trained on."""

import numpy as np

from compression.dataset import Array
from compression.measure.classification import Classification
from compression.measure.regression import Regression
from compression.measure.score import Score
from compression.measure.sums import wilson
from compression.measurement import Metric, Task

TASKS: tuple[Task, ...] = ("classification", "regression")
"""In which a model can be told from one that guesses."""

_FEW = 50
"""Samples from which nothing can be told."""
_ELSEWHERE = 0.25
"""A model that knows its classes under other numbers is right on so many more samples under the best ones."""


def of(score: Score) -> tuple[str, ...]:
    """Of the original's score on some samples."""
    if isinstance(score, Classification) and score.confusion is not None:
        return doubts(score.confusion)
    told = {metric.name: metric for metric in score.metrics()}
    if isinstance(score, Classification) and "accuracy" in told:
        right = told["accuracy"]
        return _of_guesses(round(right.value * right.n), right.n, score.classes)
    return _of_numbers(told["r2"]) if isinstance(score, Regression) and "r2" in told else ()


def _of_numbers(r2: Metric) -> tuple[str, ...]:
    if r2.n < _FEW or r2.ci95[1] > 0:
        return ()
    said = (
        f"the original is no nearer to the labels than their mean (R2 {r2.value:.2f}): look at the "
        "preprocessing of the data set, and at the unit and the order of its labels"
    )
    return (said,)


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
    return _of_guesses(correct, n, classes)


def _of_guesses(correct: int, n: int, classes: int) -> tuple[str, ...]:
    if n < _FEW or wilson(correct, n)[0] > 1 / classes:
        return ()
    said = (
        f"the original is right on {correct / n:.1%} of the samples, no more often than by guessing: "
        "look at the preprocessing of the data set and at the order of its classes"
    )
    return (said,)

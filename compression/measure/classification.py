"""Classes that exclude each other, of samples and of positions."""

import numpy as np

from compression.dataset import Array
from compression.measure.paired import Answers, Replicates
from compression.measure.sums import Sums, wilson
from compression.measurement import Metric

_TOP = 5
_CONFUSABLE = 256
"""Classes at most whose confusions are counted."""


def f1(counts: Array) -> Array:
    """Of [..., 3, C]: hits, labels and decisions of each class. NaN where a class is in neither."""
    hits, labelled, decided = np.moveaxis(counts, -2, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * hits / (labelled + decided))


def macro_f1(counts: Array) -> Array:
    """Mean over the classes that occur."""
    scores = f1(counts)
    present = ~np.isnan(scores)
    return np.asarray(np.nan_to_num(scores).sum(-1) / np.maximum(present.sum(-1), 1))


class Classification:
    """Accuracy, accuracy within the best five where there are more classes, and macro F1.

    Negative labels count for nothing. Where two classes tie the first is decided.
    """

    def __init__(self) -> None:
        self.among = 0
        self.right: list[Array] = []
        """One byte a sample that counts."""
        self.counts = Sums()
        self.classes = 0
        self.confusion: Array | None = None
        """[labels, decisions]; None where there are many classes."""

    def add(self, output: Array, labels: Array) -> None:
        """[N, C] and [N]."""
        known = labels >= 0
        if not known.all():
            output, labels = output[known], labels[known]
        self.classes = output.shape[1]
        decided, every = output.argmax(1), np.arange(self.classes)
        self.right.append(decided == labels)
        if self.classes > _TOP:
            self.among += int(_ranked(output, labels, _TOP).sum())
        if self.classes <= _CONFUSABLE:
            own = np.zeros((self.classes, self.classes), np.int64)
            inside = labels < self.classes
            np.add.at(own, (labels[inside], decided[inside]), 1)
            self.confusion = own if self.confusion is None else self.confusion + own
        labelled, decisions = labels[:, None] == every, decided[:, None] == every
        self.counts.add(np.stack([labelled & decisions, labelled, decisions], axis=1))

    def metrics(self) -> tuple[Metric, ...]:
        n = self.counts.n
        if not n:
            return ()
        shares = {"accuracy": int(self.evidence().right.sum())}
        if self.classes > _TOP:
            shares["top5_accuracy"] = self.among
        proportions = (
            Metric(name=name, value=count / n, ci95=wilson(count, n), n=n) for name, count in shares.items()
        )
        value, interval = float(macro_f1(self.counts.total)), self.counts.interval(macro_f1, 0, 1)
        return *proportions, Metric(name="macro_f1", value=value, ci95=interval, n=n)

    def evidence(self) -> Answers:
        return Answers(np.concatenate(self.right))


def _ranked(output: Array, labels: Array, top: int) -> Array:
    """Whether a label is among the `top` largest of its row; of equal ones the first are taken, as argmax
    does.
    """
    rows, classes = np.arange(len(labels)), output.shape[1]
    own = output[rows, np.minimum(labels, classes - 1)][:, None]
    before = np.arange(classes) < labels[:, None]
    return np.asarray((((output > own) | (output == own) & before).sum(1) < top) & (labels < classes))


def right(sums: Array) -> Array:
    """Of [..., 2]: those right, and those counted."""
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


class Positions:
    """Share of labelled positions decided right; negative labels count for nothing.

    Positions of one sample are not independent: the interval is that of a ratio of sums over samples.
    """

    def __init__(self, axis: int) -> None:
        self.axis, self.sums = axis, Sums()

    def add(self, output: Array, labels: Array) -> None:
        """Classes along `axis`; labels [N, ...] of what is left."""
        axes = tuple(range(1, labels.ndim))
        counted = labels >= 0
        correct = ((output.argmax(self.axis) == labels) & counted).sum(axes)
        self.sums.add(np.stack([correct, counted.sum(axes)], axis=1))

    def metrics(self) -> tuple[Metric, ...]:
        if not self.sums.total[1]:
            return ()
        value, interval = float(right(self.sums.total)), self.sums.interval(right, 0, 1)
        return (Metric(name="token_accuracy", value=value, ci95=interval, n=self.sums.n),)

    def evidence(self) -> Replicates:
        return Replicates(self.sums.without(right))

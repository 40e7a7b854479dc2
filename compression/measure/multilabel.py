"""Yes-or-no questions that do not exclude each other."""

import numpy as np

from compression.dataset import Array
from compression.measure.classification import f1, macro_f1
from compression.measure.paired import Answers, Evidence, Replicates
from compression.measure.sums import Sums, wilson
from compression.measurement import Metric


def _micro_f1(counts: Array) -> Array:
    """Of all labels together; 0 where there is none and none was found."""
    return np.nan_to_num(f1(counts.sum(-1, keepdims=True))[..., 0])


class MultiLabel:
    """Micro F1, and macro F1 where outputs are [N, L]; accuracy and the F1 of yes with one question each."""

    def __init__(self, threshold: float) -> None:
        """Above `threshold` an output says yes."""
        self.threshold, self.counts = threshold, Sums()
        self.questions = 0
        self.right: list[Array] = []
        """Of a single question, one byte a sample."""
        self.separate = False

    def add(self, output: Array, labels: Array) -> None:
        """As many numbers in each."""
        self.separate = output.ndim == 2 and output.shape[1] > 1
        truth = labels.reshape(len(labels), -1) > 0
        said = output.reshape(truth.shape) > self.threshold
        self.questions = truth.shape[1]
        if self.questions == 1:
            self.right.append((truth == said)[:, 0])
        counts = np.stack([truth & said, truth, said], axis=1)
        self.counts.add(counts if self.separate else counts.sum(-1, keepdims=True))

    def metrics(self) -> tuple[Metric, ...]:
        total, n = self.counts.total, self.counts.n
        single = self.questions == 1
        micro, interval = float(_micro_f1(total)), self.counts.interval(_micro_f1, 0, 1)
        found = [Metric(name="f1" if single else "micro_f1", value=micro, ci95=interval, n=n)]
        if single:
            correct = int(np.concatenate(self.right).sum())
            found.insert(0, Metric(name="accuracy", value=correct / n, ci95=wilson(correct, n), n=n))
        if self.separate:
            macro, interval = float(macro_f1(total)), self.counts.interval(macro_f1, 0, 1)
            found.append(Metric(name="macro_f1", value=macro, ci95=interval, n=n))
        return tuple(found)

    def evidence(self) -> Evidence:
        if self.questions == 1:
            return Answers(np.concatenate(self.right))
        return Replicates(self.counts.without(_micro_f1))

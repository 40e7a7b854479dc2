"""Language models: how well the next token is foreseen."""

import numpy as np

from compression.dataset import Array
from compression.measure.classification import right
from compression.measure.fidelity import probabilities
from compression.measure.paired import Replicates
from compression.measure.sums import Sums
from compression.measurement import Metric

_AT_ONCE = 1 << 20
"""Numbers whose probabilities are made in one go, in double precision."""
_SMALLEST = 1e-300
_LARGEST = 700.0
"""Exponents beyond which there are no floats."""


def _surprise(sums: Array) -> Array:
    """Mean nats of a token; of [..., 3]: right ones, counted ones, nats."""
    return np.asarray(sums[..., 2] / np.maximum(sums[..., 1], 1))


class LanguageModel:
    """Perplexity of the labelled tokens, and the share of them foreseen right.

    Negative labels, and positions that the mask does not count, count for nothing.
    """

    def __init__(self, ahead: int, mask: Array | None) -> None:
        """Outputs are about the label `ahead` positions later. `mask` is [N, T], of all samples in order."""
        self.ahead, self.mask, self.seen = ahead, mask, 0
        self.sums = Sums()

    def add(self, output: Array, labels: Array) -> None:
        """[N, T, V] and [N, T]."""
        counted = labels >= 0
        if self.mask is not None:
            counted &= self.mask[self.seen : self.seen + len(labels)] > 0
        self.seen += len(labels)
        steps = labels.shape[1] - self.ahead
        sample, position = np.nonzero(counted[:, self.ahead :])
        tokens = labels[sample, position + self.ahead]
        foreseen, nats = self._told(output[:, :steps], sample, position, tokens)
        rows = np.zeros((len(labels), 3))
        for column, values in enumerate((foreseen, np.ones(len(tokens)), nats)):
            rows[:, column] = np.bincount(sample, values, len(labels))
        self.sums.add(rows)

    @staticmethod
    def _told(output: Array, sample: Array, position: Array, tokens: Array) -> tuple[Array, Array]:
        """Of each token: whether it is the likeliest, and nats."""
        foreseen, nats = np.zeros(len(tokens)), np.zeros(len(tokens))
        size = max(1, _AT_ONCE // output.shape[2])
        for start in range(0, len(tokens), size):
            part = slice(start, start + size)
            scores, own = output[sample[part], position[part]], tokens[part]
            foreseen[part] = scores.argmax(1) == own
            known = own < output.shape[2]
            likely = probabilities(scores)[np.arange(len(own)), np.where(known, own, 0)]
            nats[part] = -np.log(np.maximum(likely * known, _SMALLEST))
        return foreseen, nats

    def metrics(self) -> tuple[Metric, ...]:
        total, n = self.sums.total, self.sums.n
        if not total[1]:
            return ()
        logarithms = float(_surprise(total)), *self.sums.interval(_surprise, 0)
        value, low, high = (float(np.exp(min(one, _LARGEST))) for one in logarithms)
        perplexity = Metric(
            name="perplexity", value=value, ci95=(low, high), n=n, higher_is_better=False, relative=True
        )
        share, interval = float(right(total)), self.sums.interval(right, 0, 1)
        return perplexity, Metric(name="token_accuracy", value=share, ci95=interval, n=n)

    def evidence(self) -> Replicates:
        return Replicates(np.exp(np.minimum(self.sums.without(_surprise), _LARGEST)))

"""Numbers predicted."""

import numpy as np

from compression.dataset import Array
from compression.measure.paired import Replicates
from compression.measure.sums import Sums
from compression.measurement import Metric

_MOST_OUTPUTS = 4096
"""Numbers of a sample whose means are kept; more are images and signals, of which R2 says little."""


def _rmse(sums: Array) -> Array:
    return np.asarray(np.sqrt(sums[..., 1] / sums[..., 0]))


def _mae(sums: Array) -> Array:
    return np.asarray(sums[..., 2] / sums[..., 0])


def _spread(sums: Array) -> Array:
    """Squares of the labels about the mean of each output."""
    return np.asarray(sums[..., 3] - (sums[..., 4:] ** 2).mean(-1) / sums[..., 0])


def _r2(sums: Array) -> Array:
    return np.asarray(1 - sums[..., 1] / np.maximum(_spread(sums), 1e-300))


class Regression:
    """RMSE over all values; MAE; and R2, where the labels are not all the same.

    RMSE comes first: the squared error is what a regression is trained by, and it shows the few values that
    rounding leads far astray.
    """

    def __init__(self) -> None:
        self.sums = Sums()
        self.origin: Array | None = None

    def add(self, output: Array, labels: Array) -> None:
        """As many numbers in each."""
        wanted = labels.reshape(len(labels), -1).astype(float)
        error = output.reshape(wanted.shape).astype(float) - wanted
        parts = [np.ones(len(wanted)), (error**2).mean(1), np.abs(error).mean(1)]
        if wanted.shape[1] <= _MOST_OUTPUTS:
            if self.origin is None:  # sums of squares lose all digits where labels are far from 0
                self.origin = wanted.mean(0)
            moved = wanted - self.origin
            parts += [(moved**2).mean(1), *moved.T]
        self.sums.add(np.stack(parts, axis=1))

    def metrics(self) -> tuple[Metric, ...]:
        total, n = self.sums.total, self.sums.n
        errors = tuple(
            Metric(
                name=name,
                value=float(statistic(total)),
                ci95=self.sums.interval(statistic, 0),
                n=n,
                higher_is_better=False,
                relative=True,
            )
            for name, statistic in (("rmse", _rmse), ("mae", _mae))
        )
        if self.origin is None or _spread(total) <= 1e-12 * total[3]:
            return errors
        return *errors, Metric(name="r2", value=float(_r2(total)), ci95=self.sums.interval(_r2, most=1), n=n)

    def evidence(self) -> Replicates:
        return Replicates(self.sums.without(_rmse))

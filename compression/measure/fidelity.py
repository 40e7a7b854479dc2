"""How near the compressed model's outputs are to the original's. Sums only."""

from collections.abc import Iterator, Mapping

import numpy as np

from compression.dataset import Array
from compression.errors import CompressionError, ErrorKind, Suggestion

CEILING_DB = 200.0
"""What equal outputs are given: JSON knows no infinity."""
AGREES_DB = 20.0
"""An output that is no decision between classes agrees where its error is below a tenth of its size."""
_AT_ONCE = 1 << 20
"""Numbers that are looked at in one go, in double precision."""


def decibels(signal: float, noise: float) -> float:
    if noise <= 0:
        return CEILING_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -CEILING_DB, CEILING_DB))


def is_decision(output: Array) -> bool:
    """[N, C] and [N, T, C] with floating values are taken as scores of classes."""
    return output.dtype.kind == "f" and output.ndim in (2, 3) and output.shape[-1] > 1


class Fidelity:
    """Add batch after batch, then read.

    `decision` is the output that agreement and KL are about: scores of classes along `axis`; with `axis` None
    yes-or-no answers, yes above `threshold`, or else numbers. Without a `decision` it is the first output, as
    it looks.
    """

    def __init__(
        self, decision: str | None = None, axis: int | None = -1, threshold: float | None = None
    ) -> None:
        self.decision, self.axis, self.threshold = decision, axis, threshold
        self.energy: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        self.n = self.agreed = self.decisions = 0
        self.divergence = 0.0
        self.compared = False
        self.broken_original = False

    def add(self, original: Mapping[str, Array], compressed: Mapping[str, Array]) -> None:
        """Errors: CompressionError E_NUMERIC where only the compressed model gives NaN or infinity."""
        for name, reference in original.items():
            if reference.dtype.kind == "f":
                self._add_energy(name, reference, compressed[name])
        name = self.decision or next(iter(original))
        reference, output = original[name], compressed[name]
        self.n += len(reference) if reference.ndim else 1
        self._add_decision(reference, output)

    def _add_energy(self, name: str, reference: Array, output: Array) -> None:
        sound = np.isfinite(reference)
        if not sound.all():
            self.broken_original = True
            reference, output = reference[sound], output[sound]
        if not np.isfinite(output).all():
            raise _not_finite(name)
        sums = self.energy.setdefault(name, np.zeros(2))
        for start in range(0, reference.size, _AT_ONCE):
            signal, other = (one.reshape(-1)[start : start + _AT_ONCE] for one in (reference, output))
            signal = signal.astype(np.float64)
            noise = other - signal
            sums += float(signal @ signal), float(noise @ noise)

    def _add_decision(self, reference: Array, output: Array) -> None:
        if self.axis is not None and (self.decision is not None or is_decision(reference)):
            self.compared = True
            for part in _parts(reference, output, self.axis):
                self._add_classes(*part)
            return
        if self.threshold is None:
            agreed = _close(reference, output)
        else:
            agreed = (reference > self.threshold) == (output > self.threshold)
        self.decisions += agreed.size
        self.agreed += int(agreed.sum())

    def _add_classes(self, reference: Array, output: Array) -> None:
        """Classes along the last axis."""
        agreed = reference.argmax(-1) == output.argmax(-1)
        self.divergence += _divergence(probabilities(reference), probabilities(output))
        self.decisions += agreed.size
        self.agreed += int(agreed.sum())

    @property
    def agreement(self) -> float:
        return self.agreed / self.decisions

    @property
    def kl(self) -> float | None:
        return self.divergence / self.decisions if self.compared else None

    @property
    def sqnr_db(self) -> float | None:
        """Over all outputs, each weighted alike: the mean of their noise-to-signal ratios, in dB."""
        if not self.energy:
            return None
        ratios = [noise / max(signal, 1e-300) for signal, noise in self.energy.values()]
        return decibels(1.0, float(np.mean(ratios)))


def _close(reference: Array, output: Array) -> Array:
    if reference.dtype.kind != "f":
        return np.atleast_1d((reference == output).reshape(max(1, len(np.atleast_1d(reference))), -1).all(1))
    rows = max(1, len(np.atleast_1d(reference)))
    signal = np.nan_to_num(reference.reshape(rows, -1).astype(float))
    noise = np.nan_to_num(output.reshape(rows, -1).astype(float)) - signal
    return np.asarray((noise**2).sum(1) * 10 ** (AGREES_DB / 10) <= (signal**2).sum(1))


def _parts(reference: Array, output: Array, axis: int) -> Iterator[tuple[Array, Array]]:
    """[positions, classes] of both, some positions at a time: vocabularies are large."""
    classes = reference.shape[axis]
    both = [np.moveaxis(one, axis, -1).reshape(-1, classes) for one in (reference, output)]
    size = max(1, _AT_ONCE // classes)
    for start in range(0, len(both[0]), size):
        yield both[0][start : start + size], both[1][start : start + size]


def probabilities(scores: Array) -> Array:
    """Of the classes along the last axis: as they are if they sum to one, else by softmax."""
    values = np.nan_to_num(scores.astype(np.float64), posinf=1e30, neginf=-1e30)
    if values.min() >= 0 and np.allclose(values.sum(-1), 1, atol=1e-3):
        return values
    values -= values.max(-1, keepdims=True)
    np.exp(values, out=values)
    return np.asarray(values / values.sum(-1, keepdims=True))


def _divergence(p: Array, q: Array) -> float:
    return float((p * (np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(q, 1e-12)))).sum())


def _not_finite(name: str) -> CompressionError:
    return CompressionError(
        "E_NUMERIC",
        f"output {name!r} of the compressed model is NaN or infinite where the original's is not",
        ErrorKind.UNSUPPORTED,
        suggestions=(
            Suggestion("take a technique with a wider range, such as half_precision with type bfloat16"),
        ),
    )

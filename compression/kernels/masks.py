"""Masks: which weights stay when a share of them becomes zero. True stays.

A weight comes as a view [..., outputs, inputs], whose last axis its layer sums over. Its scores are float32
and never negative.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Shape = tuple[int, int]
_PIECE = 1 << 20
"""Scores that are counted, or sorted, at once."""
_HALF = 1 << 16


def magnitudes(weight: Floats) -> Scores:
    """|w|, the criterion of torch.nn.utils.prune.l1_unstructured and of TFMOT."""
    return np.ascontiguousarray(np.abs(weight, dtype=np.float32))


def lamp(scores: Scores) -> Scores:
    """w^2 / sum of v^2 over all |v| >= |w| of the layer (Lee et al. 2021, arXiv:2010.07611): magnitudes made
    comparable between layers. In the order of the magnitudes; the largest of every layer scores 1, and only
    zeros score 0.
    """
    flat = scores.reshape(-1)
    order = flat.argsort(kind="stable")
    shares = np.square(flat[order], dtype=np.float64)
    energy = shares[::-1].cumsum()[::-1]
    positive = shares > 0
    np.divide(shares, energy, out=shares, where=positive)
    np.maximum(shares, np.finfo(np.float32).tiny, out=shares, where=positive)
    found = np.empty_like(flat)
    found[order] = shares
    return found.reshape(scores.shape)


def random(weight: Floats, seed: Sequence[int]) -> Scores:
    """Uniform in (0, 1], the same for the same seed; what is zero already scores 0. Masks of growing sparsity
    by the same seed contain each other.
    """
    drawn = 1 - np.random.default_rng(seed).random(weight.shape, np.float32)
    return np.where(weight == 0, np.float32(0), drawn)


def block_means(scores: Scores, block: Shape) -> Scores:
    """Means over blocks of outputs x inputs; those at the far edges may be smaller (TFMOT's average pooling
    with `SAME` padding).
    """
    for axis, length in zip((-2, -1), block, strict=True):
        starts = np.arange(0, scores.shape[axis], length)
        sizes = np.minimum(length, scores.shape[axis] - starts).astype(np.float32)
        sums = np.add.reduceat(scores, starts, axis)
        scores = sums / (sizes if axis == -1 else sizes[:, None])
    return scores


def of_blocks(mask: Mask, block: Shape, shape: tuple[int, ...]) -> Mask:
    """A mask of blocks as one of the weights [..., outputs, inputs]."""
    rows, columns = block
    return mask.repeat(rows, -2).repeat(columns, -1)[..., : shape[-2], : shape[-1]]


def n_of_m(scores: Scores, n: int, m: int) -> Mask:
    """The n largest of every m neighbours along the last axis, of equal ones the last. A rest of r < m
    neighbours keeps at most n, as NVIDIA's ASP pads it with zeros.
    """
    length = scores.shape[-1]
    fill = [(0, 0)] * (scores.ndim - 1) + [(0, -length % m)]
    groups = np.pad(scores, fill, constant_values=-1).reshape(-1, m)
    mask = np.ones(groups.shape, np.bool_)
    for start in range(0, len(groups), _PIECE):
        part = slice(start, start + _PIECE)
        order = groups[part].argsort(-1, kind="stable")
        np.put_along_axis(mask[part], order[:, : m - n], values=False, axis=-1)
    return mask.reshape(*scores.shape[:-1], -1)[..., :length]


def largest(scores: Sequence[Scores], sparsity: float) -> Iterator[Mask]:
    """Masks that together drop exactly round(sparsity x number of scores), the smallest; of equal ones the
    first. One score at least stays.
    """
    total = sum(score.size for score in scores)
    dropped = min(round(sparsity * total), total - 1)
    if dropped <= 0:
        yield from (np.ones(score.shape, np.bool_) for score in scores)
        return
    edge = threshold(scores, dropped - 1)
    equal = dropped - sum(int(np.count_nonzero(score < edge)) for score in scores)
    for score in scores:
        mask = score >= edge
        at_edge = np.flatnonzero(score == edge)[:equal]
        mask.reshape(-1)[at_edge] = False
        equal -= len(at_edge)
        yield mask


def threshold(scores: Sequence[Scores], rank: int) -> np.float32:
    """The score of that rank, from 0, among all.

    Floats that are not negative are ordered as their bits are: the upper 16 are found by counting, then the
    lower ones among those that share them. No copy of the scores is made, nor are they sorted.
    """
    upper, rank = _locate((bits >> 16 for bits in _pieces(scores)), rank)
    lower, _ = _locate((bits[bits >> 16 == upper] % _HALF for bits in _pieces(scores)), rank)
    return np.uint32(upper * _HALF + lower).view(np.float32)


def _pieces(scores: Sequence[Scores]) -> Iterator[npt.NDArray[np.uint32]]:
    for score in scores:
        bits = score.reshape(-1).view(np.uint32)
        yield from (bits[start : start + _PIECE] for start in range(0, bits.size, _PIECE))


def _locate(pieces: Iterator[npt.NDArray[Any]], rank: int) -> tuple[int, int]:
    """The value of that rank, and its rank among its equals."""
    counts = np.zeros(_HALF, np.int64)
    for piece in pieces:
        counts += np.bincount(piece, minlength=_HALF)
    upto = counts.cumsum()
    value = int(upto.searchsorted(rank, side="right"))
    return value, rank - int(upto[value] - counts[value])

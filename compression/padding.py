"""Padding: positions that a mask among a model's inputs says are none of a text's."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from compression import runtime
from compression.measure.task import MASK
from compression.measurement import WantedTask


def rows(values: runtime.Array, feeds: Mapping[str, runtime.Array]) -> runtime.Array:
    """Of [N, T, C] those that are no padding, [positions, C]; other values, or without a mask [N, T] among
    the inputs that were fed, as they are. If there is nothing else, padding is what there is.
    """
    mask = feeds.get(MASK)
    if mask is None or not _masked(values.shape, mask) or not mask.any():
        return values
    return np.asarray(values[mask != 0])


def judged(output: Tensor, feeds: Mapping[str, runtime.Array], task: WantedTask) -> Tensor:
    """What counts of an output: of [N, T, C] with a mask [N, T] all but the padding, which becomes 0; where
    texts are compared (`similarity`), the mean over what is left at length 1, [N, C], as sentence encoders
    are used (Reimers and Gurevych 2019, arXiv:1908.10084). Other outputs as they are.
    """
    mask = feeds.get(MASK)
    if mask is None or not _masked(output.shape, mask):
        return output
    counts = torch.from_numpy(mask != 0).to(output.dtype)[:, :, None]
    kept = output * counts
    return functional.normalize(kept.sum(1), dim=-1) if task == "similarity" else kept


def _masked(shape: Sequence[int], mask: runtime.Array) -> bool:
    return len(shape) == 3 and tuple(shape[:2]) == mask.shape

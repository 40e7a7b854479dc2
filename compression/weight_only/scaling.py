"""Scales of AWQ on a graph: into what makes a tensor where that can take them, else into a Mul."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compression.graph import order, smoothing
from compression.graph.index import Index
from compression.kernels import activation_scaling
from compression.weight_only.matrices import padded
from compression.weight_only.options import Options

Doubles = npt.NDArray[np.float64]
PAYS_MUL = 0.8
"""Share of the error that may be left for a Mul to be worth it."""


def scale(
    graph: onnx.GraphProto, names: Collection[str], moments: dict[str, Doubles], options: Options
) -> list[dict[str, Any]]:
    """In place, what the named nodes read, and its second moments; what was done. Nodes without a name, and
    weights that others read too, are left.
    """
    done = []
    index = Index(graph)
    for group in smoothing.groups(graph, set(names) - {""}):
        weight = np.ascontiguousarray(group.weight(index).T)
        moment = moments[group.tensor]
        more = -len(moment) % options.block_size
        found = activation_scaling.best(
            padded(weight, options.block_size), np.pad(moment, (0, more)), options.bits, options.block_size
        )
        absorber = smoothing.absorber(group, index)
        if found.left >= (1 if absorber else PAYS_MUL):
            continue
        by = found.factors[: len(moment)]
        smoothing.divide(group, by, absorber, index)
        moments[group.readers[0].input[0]] = moment / np.outer(by, by)
        gained = round(-10 * float(np.log10(max(found.left, 1e-30))), 2)
        folded = absorber is not None
        done.append({"tensor": group.tensor, "alpha": found.alpha, "gained_db": gained, "folded": folded})
    order.sort(graph)
    return done

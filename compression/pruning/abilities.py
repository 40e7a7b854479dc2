"""What could be cut out of a model at most, within the default limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from compression import samples
from compression.engine import fold_batchnorm, normalise
from compression.graph import channels, walk
from compression.model import Model
from compression.pruning.selection import Limits, smallest


def prunable(model: Model) -> Mapping[str, Any]:
    """Groups with their sizes, the shares (0-1) of multiply-accumulates and parameters that can go, and the
    number of depthwise convolutions.

    Errors: CompressionError E_MODEL_RUN, `engine_unsupported`.
    """
    ready = fold_batchnorm(normalise(model))
    feeds = next(samples.first(samples.made_up(ready, 0).split, ready.inputs, 1))
    looked = channels.find(ready.proto, feeds)
    ranges = {group.name: Limits().range(group.size, group.size) for group in looked.groups}
    least = smallest({group.name: np.zeros(group.size) for group in looked.groups}, ranges)
    shares = {
        f"prunable_{name}": round(1 - after / before, 4) if before and after is not None else None
        for name, before, after in zip(
            ("macs", "params"), channels.cost(looked, {}), channels.cost(looked, least), strict=True
        )
    }
    groups = {group.name: group.size for group in looked.groups}
    return {"groups": groups, **shares, "depthwise": _depthwise(ready.proto.graph)}


def _depthwise(graph: onnx.GraphProto) -> int:
    single = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 2 and tensor.dims[1] == 1}
    return sum(
        node.op_type == "Conv" and node.input[1] in single and walk.attribute(node, "group", 1) != 1
        for node in graph.node
    )

"""Second moments of what matrices read, summed up batch by batch: no activation is kept."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import onnx

from compression import runtime
from compression.dataset import Split
from compression.errors import CompressionError
from compression.graph import tensors

Doubles = npt.NDArray[np.float64]
BATCH = 8


def observe(
    model: onnx.ModelProto, names: Sequence[str], split: Split, samples: int, threads: int
) -> dict[str, Doubles]:
    """Sum of x x' [inputs, inputs] of each named tensor [..., inputs]. Memory: 8 bytes for each of their
    entries, and one batch of the tensors.

    Errors: CompressionError E_NUMERIC, E_MODEL_RUN.
    """
    opened = onnx.ModelProto()
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = runtime.session(model.SerializeToString() + opened.SerializeToString(), threads=threads)
    inputs = tensors.inputs(model.graph)
    fed = {spec.name for spec in inputs}
    size = split.batch_size(inputs, BATCH)
    found: dict[str, Doubles] = {}
    for feeds in islice(split.batches(inputs, size), -(-samples // size)):
        wanted = [name for name in names if name not in fed]
        values = feeds | runtime.run(session, feeds, wanted)
        for name in names:
            rows = np.asarray(values[name], np.float32).reshape(-1, values[name].shape[-1])
            found[name] = found.get(name, 0) + (rows.T @ rows).astype(np.float64)
    if not all(np.isfinite(moment).all() for moment in found.values()):
        raise CompressionError("E_NUMERIC", "the model computes NaN or infinity on the calibration samples")
    return found

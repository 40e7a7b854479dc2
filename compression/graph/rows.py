"""What layers read, row by row: some rows of each tensor over calibration samples, and its extremes."""

from collections.abc import Mapping
from itertools import islice

import numpy as np
import numpy.typing as npt
import onnx

from compression import runtime
from compression.dataset import Split
from compression.graph import calibration, tensors
from compression.graph.calibration import Machine
from compression.graph.smoothing import Seen

Floats = npt.NDArray[np.float32]
ROWS = 512
"""Of a tensor."""
BYTES = 64 << 20
"""Of all rows together."""
BATCH = 4


def observe(
    model: onnx.ModelProto, widths: Mapping[str, int], split: Split, samples: int, using: Machine
) -> dict[str, Seen]:
    """Of the named tensors [..., width], over at most so many samples; evenly spaced rows.

    Errors: CompressionError E_MODEL_RUN.
    """
    added = onnx.ModelProto()
    given = {value.name for value in (*model.graph.output, *model.graph.input)}
    added.graph.output.extend(onnx.ValueInfoProto(name=name) for name in widths if name not in given)
    session = calibration.session(model, added, using)
    inputs = tensors.inputs(model.graph)
    size = split.batch_size(inputs, BATCH)
    runs = -(-min(samples, split.n) // size)
    kept = min(ROWS, max(1, BYTES // (4 * sum(widths.values()))))
    rows: dict[str, list[Floats]] = {name: [] for name in widths}
    peaks = {name: np.zeros(width, np.float32) for name, width in widths.items()}
    names = [name for name in widths if name in {value.name for value in session.get_outputs()}]
    for feeds in islice(calibration.batches(split, inputs, size), runs):
        found = {**feeds, **runtime.run(session, feeds, names)}
        for name, width in widths.items():
            flat = found[name].reshape(-1, width)
            peaks[name] = np.maximum(peaks[name], np.abs(flat).max(0))
            rows[name].append(flat[_spaced(len(flat), -(-kept // runs))])
    return {name: Seen(np.concatenate(rows[name])[:kept], peaks[name]) for name in widths}


def _spaced(count: int, wanted: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)

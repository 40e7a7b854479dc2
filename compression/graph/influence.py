"""How much a block turns what it is given: one minus the cosine between what goes in and what comes out (Men
et al. 2024, arXiv:2403.03853).
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from compression import runtime
from compression.graph import tensors


def influence(
    model: onnx.ModelProto, spans: Mapping[str, str], samples: Iterable[Mapping[str, runtime.Array]]
) -> dict[str, float]:
    """By output, 0 to 2; a mean over the samples. `spans` are outputs with the inputs they are compared to,
    of one shape.

    Errors: CompressionError E_MODEL_RUN.
    """
    fed = {spec.name for spec in tensors.inputs(model.graph)}
    opened = onnx.ModelProto()
    names = sorted({*spans, *spans.values()} - fed)
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = runtime.session(model.SerializeToString() + opened.SerializeToString(), optimise=False)
    turned, count = dict.fromkeys(spans, 0.0), 0
    for feeds in samples:
        values = {**feeds, **runtime.run(session, feeds, names)}
        for name, source in spans.items():
            turned[name] += 1 - _cosine(values[source], values[name])
        count += 1
    return {name: total / max(count, 1) for name, total in turned.items()}


def _cosine(one: runtime.Array, other: runtime.Array) -> float:
    flat = [value.ravel().astype(np.float64) for value in (one, other)]
    lengths = float(np.linalg.norm(flat[0]) * np.linalg.norm(flat[1]))
    return float(flat[0] @ flat[1]) / lengths if lengths else 1.0

"""What could be rewritten in a model, told from shapes alone."""

from collections.abc import Mapping
from typing import Any

from onnx import TensorProto

from compression import samples
from compression.engine import fold_batchnorm, normalise
from compression.factorization import layers
from compression.factorization.chains import whole
from compression.graph import macs
from compression.graph.channels import recording
from compression.graph.shapes import Shape
from compression.model import Model
from compression.rewriting.forms import Form, cost, dense, fits


def rewritable(model: Model, form: Form) -> Mapping[str, Any]:
    """How many layers are expected to run faster in this form, their share (0-1) of the multiply-accumulates,
    and the share that goes if all of them are rewritten; of one sample, whose open axes are made up.

    Errors: CompressionError E_MODEL_RUN, `engine_unsupported`.
    """
    ready = fold_batchnorm(normalise(model))
    feeds = next(samples.first(samples.made_up(ready, 0).split, ready.inputs, 1))
    shapes = recording.shapes(ready.proto, feeds)
    found = [
        layer
        for layer in layers.find(ready.proto, shapes)
        if dense(layer) and fits(layer, form) and cost(layer, form).beats(whole(layer))
    ]
    kinds = {tensor.name: tensor.data_type for tensor in ready.proto.graph.initializer}
    known = {name: Shape(kinds.get(name, TensorProto.FLOAT), dims) for name, dims in shapes.items()}
    total = macs.count(ready.proto.graph.node, known)
    before = sum(whole(layer).macs for layer in found)
    after = sum(cost(layer, form).macs for layer in found)
    share, saving = (round(one / total, 4) if total else None for one in (before, before - after))
    return {"layers": len(found), "macs_share": share, "macs_saving": saving}

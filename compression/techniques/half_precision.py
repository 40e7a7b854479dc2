import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from compression.mapped import Store
    from compression.model import Model

_BFLOAT16_OPSET = 13
_LEAST = 256
"""Elements from which on a weight is worth a Cast node."""
_AT_ONCE = 1 << 22
"""Elements converted in one go: the converter takes 30 bytes for each."""


class HalfPrecision(Technique):
    """Stores weights, or computes everything, in 16-bit floating point. Inputs and outputs keep their types.

    With `scope: weights` each float32 weight is stored in 16 bits and cast back once, when a runtime loads
    the model: half the size at the old speed, on any hardware. Weights that float16 cannot hold (beyond
    65504) stay as they are. With `scope: all` activations are float16 too, for hardware that computes in it.
    """

    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SMALLER})
    adds: ClassVar[frozenset[Trait]] = frozenset({Trait.HALF_PRECISION})
    stage: ClassVar[Stage] = Stage.PRECISION
    guidance: ClassVar[str] = (
        "Half the download at almost no loss. Speed comes with `scope: all` on a GPU only: processors "
        "compute in float32 and would convert at every layer. Last in a recipe, after quantization."
    )

    technique: Literal["half_precision"] = "half_precision"
    type: Literal["float16", "bfloat16"] = Field(
        default="float16",
        description="float16 is finer (11 bits), bfloat16 has the range of float32 (8 bits)",
    )
    scope: Literal["weights", "all"] = Field(default="weights", description="what is kept in 16 bits")

    @model_validator(mode="after")
    def _runs_somewhere(self) -> "HalfPrecision":
        if self.scope == "all" and self.type == "bfloat16":
            raise ValueError("bfloat16 is for weights: ONNX Runtime computes few operators in it")
        return self

    def check(self, model: ModelInspection) -> str | None:
        if self.type == "bfloat16" and model.opset < _BFLOAT16_OPSET:
            return f"bfloat16 needs opset {_BFLOAT16_OPSET}, the model is opset {model.opset}; take float16"
        if self.scope == "all" and model.traits:
            return (
                "the model is quantized or half precision already; only its weights can be stored in 16 bits"
            )
        return super().check(model)

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:  # noqa: ARG003
        """Weights alone: what computes in it is another hardware."""
        if model.traits or not model.params:
            return
        why = "weights in 16 bits: half the file for no more than rounding, no data needed, and no faster"
        yield Proposal(cls(), smaller=2.0, faster=1.0, drop=0.0, confidence="high", why=why)

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.mapped import Store
        from compression.model import Model
        from compression.samples import made_up

        details: dict[str, Any]
        store = Store(context.scratch / "half")
        if self.scope == "all":
            half, details = Model(_convert(model, store)), {"scope": "all"}
        else:
            proto, details = self._store(model, store)
            half = Model(proto)
        made_up(half, context.seed)  # runs it
        return Applied(half, details)

    def _store(self, model: "Model", store: "Store") -> "tuple[onnx.ModelProto, dict[str, Any]]":
        from onnx import TensorProto, helper

        from compression.graph import order, weights

        proto = model.copy_outline()
        stored, kept = [], []
        outputs = {value.name for value in proto.graph.output}
        wanted = {tensor.name for tensor in weights.weights(proto.graph)} - outputs
        for tensor in proto.graph.initializer:
            if (
                tensor.name not in wanted
                or tensor.data_type != TensorProto.FLOAT
                or math.prod(tensor.dims) < _LEAST
            ):
                continue
            name = tensor.name
            if not self._shrink(tensor, store):
                kept.append(name)
                continue
            stored.append(
                helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=TensorProto.FLOAT)
            )
        stored.extend(proto.graph.node)
        proto.graph.ClearField("node")
        proto.graph.node.extend(stored)
        order.sort(proto.graph)
        return proto, {"scope": "weights", "kept_float32": kept}

    def _shrink(self, tensor: "onnx.TensorProto", store: "Store") -> bool:
        """Whether the values survive in the type."""
        import numpy as np
        from onnx import helper

        from compression import mapped

        values = mapped.array(tensor)
        half = helper.tensor_dtype_to_np_dtype(_onnx_type(self.type))
        with np.errstate(over="ignore"):
            small = values.astype(half)
        if not np.array_equal(np.isfinite(small.astype(np.float32)), np.isfinite(values)):
            return False
        tensor.CopyFrom(store.instead(tensor, small, f"{tensor.name}_{self.type}"))
        return True


def _onnx_type(name: str) -> int:
    from onnx import TensorProto

    return int({"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[name])


def _convert(model: "Model", store: "Store") -> "onnx.ModelProto":
    """The converter reads every float32 initializer: of mapped ones it is shown a stand-in."""
    import numpy as np
    from onnx import TensorProto, numpy_helper, shape_inference
    from onnxruntime.transformers import float16

    from compression import mapped
    from compression.graph import interface
    from compression.quiet import quiet

    typed = shape_inference.infer_shapes(model.copy_outline())
    large = [tensor for tensor in typed.graph.initializer if mapped.is_mapped(tensor)]
    wide = {tensor.name: TensorProto.FromString(tensor.SerializeToString()) for tensor in large}
    for tensor in large:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), tensor.name))
    with quiet():
        half: onnx.ModelProto = float16.convert_float_to_float16(
            typed, keep_io_types=True, disable_shape_infer=True
        )
    half.graph.ClearField("value_info")
    interface.restore(half, model.outline)
    for tensor in half.graph.initializer:
        if tensor.name in wide:
            narrow = tensor.data_type == TensorProto.FLOAT16
            tensor.CopyFrom(wide[tensor.name])
            if narrow:
                tensor.CopyFrom(store.instead(tensor, _narrowed(tensor), tensor.name))
    return half


def _narrowed(tensor: "onnx.TensorProto") -> "np.ndarray[Any, np.dtype[Any]]":
    """As the converter does it, some values at a time."""
    import numpy as np
    from onnxruntime.transformers import float16

    from compression import mapped

    values = mapped.array(tensor).reshape(-1)
    pieces = [values[at : at + _AT_ONCE] for at in range(0, values.size, _AT_ONCE)]
    return np.concatenate([float16.convert_np_to_float16(piece) for piece in pieces]).reshape(tensor.dims)

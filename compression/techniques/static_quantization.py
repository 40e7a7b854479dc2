"""Static quantization: int8 (and fewer bits) weights and activations as QDQ."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compression.architecture import Architecture, architecture, small
from compression.errors import CompressionError
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Confidence, Context, Need, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    import onnx

    from compression.dataset import Split
    from compression.model import Model

_EXPECTED: Mapping[Architecture, tuple[float, float, float]] = {
    Architecture.CONVOLUTIONAL: (3.9, 2.8, 0.001),
    Architecture.MOBILE: (3.2, 1.6, 0.006),
    Architecture.TRANSFORMER: (3.9, 2.0, 0.02),
    Architecture.RECURRENT: (1.6, 1.1, 0.01),
    Architecture.DENSE: (4.0, 1.6, 0.001),
}
"""Download and time as factors, and drop. Measured (docs/benchmarks.md): a residual CNN; a direction
classifier, a text detector and MobileNetV2. Of MiniLM: its size, and that it comes as near to the original as
dynamic quantization (14 and 13 dB). Those of LSTMs are guesses.
"""
_CONFIDENCE: Mapping[Architecture, Confidence] = {
    Architecture.CONVOLUTIONAL: "high",
    Architecture.MOBILE: "medium",
    Architecture.DENSE: "medium",
}
_REASONS: Mapping[Architecture, str] = {
    Architecture.TRANSFORMER: "int8 matrix products and tables of embeddings; outliers in an encoder's "
    "activations cost precision, which smooth_quantization brings back",
    Architecture.RECURRENT: "int8 layers around the recurrent ones, which stay in floats",
    Architecture.MOBILE: "int8 throughout, where it is faster: depthwise layers gain less and lose more than "
    "others",
}
_OVERHEAD = 1.1
Operator = Literal[
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "Relu", "Clip", "LeakyRelu", "Sigmoid",
    "GlobalAveragePool", "AveragePool", "MaxPool", "Resize",
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze",
]  # fmt: skip


class StaticQuantization(Technique):
    """Weights and activations become 8-bit integers, their scales measured on calibration samples (QDQ)."""

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    adds: ClassVar = frozenset({Trait.QUANTIZED})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; quantize the float32 original instead",
    }
    stage: ClassVar[Stage] = Stage.PRECISION
    guidance: ClassVar[str] = (
        "The first thing to try for convolutional networks on a CPU: about four times smaller and two to "
        "three times faster at a loss of a tenth of a point. Needs some hundred unlabelled samples like "
        "those of production. Networks that int8 slows down keep computing in floats and get smaller only."
    )
    version: ClassVar[int] = 4

    technique: Literal["static_quantization"] = "static_quantization"
    weight_bits: int = Field(default=8, ge=2, le=8, description="bits of a weight")
    activation_bits: int = Field(default=8, ge=2, le=8, description="bits of an activation")
    per_channel: bool = Field(
        default=True, description="a scale for each output channel of a weight, not one for all"
    )
    symmetric_activations: bool = Field(default=False, description="zero point in the middle of the range")
    ranges: Literal["auto", "minmax", "percentile", "entropy", "mse"] = Field(
        default="auto",
        description="how the range of an activation is found; auto: per tensor, by least error",
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="share of values inside the range, per cent"
    )
    equalization: bool = Field(
        default=True, description="cross-layer equalisation, where it lowers the expected noise"
    )
    bias_correction: bool = Field(default=True, description="take back the shift that rounded weights cause")
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="names of nodes, or of their outputs, that stay float"
    )
    operators: tuple[Operator, ...] | None = Field(
        default=None,
        description="operators to quantize; null: layers, and what it pays to round between them",
    )
    keep: Literal["auto", "none"] = Field(
        default="auto",
        description="auto: layers that int8 does not make faster, as measured here, compute in floats "
        "from 8-bit weights. Another machine may choose others: `kept_float` of the details, given as "
        "`exclude` with `keep` none, repeats a choice byte for byte",
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many calibration samples are used"
    )

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.graph import preparation, qdq, shares

        with TemporaryDirectory() as scratch:
            if model.is_large:  # folding it would take longer than anybody waits
                prepared = model.copy_outline()
                preparation.add_types(prepared)
            else:
                prepared = preparation.prepare(model.proto, Path(scratch))
            nodes = [node for node in qdq.quantizable(prepared.graph) if node.op_type in qdq.WEIGHTED]
            return {"layers": len(nodes), "macs_share": shares.of_macs(prepared, model.inputs, nodes)}

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:  # noqa: ARG003
        """int8 with the defaults."""
        kind = architecture(model)
        if kind not in _EXPECTED:
            return
        smaller, faster, drop = _EXPECTED[kind]
        yield Proposal(
            cls(),
            smaller=smaller,
            faster=_OVERHEAD if small(model) else faster,
            drop=drop,
            confidence=_CONFIDENCE.get(kind, "low"),
            why=_REASONS.get(
                kind,
                "int8 weights and activations: a quarter of the size, calibrated without labels in seconds",
            ),
        )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.graph import qdq, quantization
        from compression.model import Model

        scheme = qdq.Scheme(
            self.weight_bits, self.activation_bits, self.per_channel, self.symmetric_activations
        )
        options = quantization.Options(
            scheme=scheme,
            ranges=self.ranges,
            percentile=self.percentile,
            equalization=self.equalization,
            bias_correction=self.bias_correction,
            exclude=self.exclude,
            operators=self.operators,
            keep=self.keep,
            samples=self.samples,
        )
        using = quantization.Resources(
            _calibration(context), context.scratch, context.threads, context.report
        )
        written, details = quantization.quantize(_source(model), options, using)
        return Applied(Model(written), details)


def _source(model: "Model") -> "onnx.ModelProto":
    """With all weights in memory while they fit: of an outline ONNX Runtime spells out more attributes."""
    return model.outline if model.is_large else model.proto


def _calibration(context: Context) -> "Split":
    split = context.data.split("calibration") if context.data is not None else None
    if split is None:
        raise CompressionError("no_calibration", "static_quantization needs calibration samples")
    return split

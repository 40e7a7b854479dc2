from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compression.architecture import Architecture, architecture, small
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = ("MatMul", "Gemm", "LSTM", "Attention")
_EXPECTED: Mapping[Architecture, tuple[float, float, float]] = {
    Architecture.TRANSFORMER: (1.6, 2.3, 0.015),
    Architecture.RECURRENT: (1.6, 1.05, 0.005),
    Architecture.DENSE: (4.0, 1.5, 0.002),
}
"""Download and time as factors, and drop. Measured: MiniLM, half of whose weights are a table that stays; a
voice detector with one LSTM behind convolutions, drop not known; a dense network too small to be much faster.
"""
_OVERHEAD = 1.05


class DynamicQuantization(Technique):
    """Stores the weights of matrix products and LSTMs as int8 and quantizes their inputs while running.

    Needs no data. Scale of a weight: max |w| / 127, for each output channel or for the whole matrix; inputs
    are uint8 with the range of each single input. Convolutions stay as they are.
    """

    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SMALLER})
    adds: ClassVar[frozenset[Trait]] = frozenset({Trait.QUANTIZED})
    refuses: ClassVar[Mapping[Trait, str]] = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point form",
        Trait.HALF_PRECISION: "it is in half precision; quantize first, or start from the float32 form",
    }
    stage: ClassVar[Stage] = Stage.PRECISION
    guidance: ClassVar[str] = (
        "For transformers and recurrent networks, where no calibration data is at hand: their matrices get "
        "four times smaller, and large ones faster. Small matrices may run slower, as each input is "
        "quantized anew. For convolutional networks take static_quantization."
    )

    technique: Literal["dynamic_quantization"] = "dynamic_quantization"
    per_channel: bool = Field(
        default=True, description="one scale for each output channel instead of one for a matrix"
    )
    reduce_range: bool = Field(
        default=False,
        description="7-bit weights: keeps accuracy on x86 processors without VNNI, where sums saturate",
    )

    def check(self, model: ModelInspection) -> str | None:
        if not set(_LAYERS) & set(model.operators):
            return f"the model has none of {', '.join(_LAYERS)}; convolutions are for static_quantization"
        return super().check(model)

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:  # noqa: ARG003
        """For matrices and LSTMs."""
        kind = architecture(model)
        if model.traits or kind not in _EXPECTED:
            return
        smaller, faster, drop = _EXPECTED[kind]
        yield Proposal(
            cls(),
            smaller=smaller,
            faster=_OVERHEAD if small(model) else faster,
            drop=drop,
            confidence="low" if kind is Architecture.RECURRENT else "medium",
            why="int8 matrices whose inputs are quantized while running: needs no data; tables of embeddings "
            "and convolutions stay as they are",
        )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.errors import CompressionError, ErrorKind
        from compression.graph import dynamic_quantization
        from compression.model import Model

        options = dynamic_quantization.Options(_LAYERS, self.per_channel, self.reduce_range)
        quantized = Model(dynamic_quantization.quantize(model.outline, options, context.scratch))
        before, after = model.inspect().operators, quantized.inspect().operators
        layers = {name: after[name] - before.get(name, 0) for name in _QUANTIZED if after.get(name, 0)}
        if not layers:
            raise CompressionError(
                "nothing_to_quantize",
                "no matrix product has a constant weight to quantize",
                ErrorKind.UNSUPPORTED,
            )
        return Applied(quantized, {"layers": layers})


_QUANTIZED = ("MatMulInteger", "DynamicQuantizeLSTM", "QAttention")

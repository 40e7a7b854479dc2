from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compression.inspection import ModelInspection, Trait
from compression.technique import Applied, Context, Promise, Technique

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = ("MatMul", "Gemm", "LSTM", "Attention")


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

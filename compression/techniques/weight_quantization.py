"""Weight-only quantization: matrices of 4 or 8 bits in blocks; activations stay floats."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from compression.architecture import Architecture, architecture
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    from compression.model import Model
    from compression.weight_only.options import Options


class WeightQuantization(Technique):
    """Stores the matrices of dense layers in 4 or 8 bits, a scale and a zero point for each block of inputs.

    Written as MatMulNBits of ONNX Runtime (domain com.microsoft), which OpenVINO reads too, or as standard
    DequantizeLinear of blocks. Tables that are looked up become int8, with a scale for each row; one that is
    the output head too is stored once, in blocks (GatherBlockQuantized, which OpenVINO does not read: take
    `format` qdq there).
    Convolutions, recurrent layers, and what has fewer than 1,024 elements stay as they are.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER})
    adds: ClassVar = frozenset({Trait.QUANTIZED})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; quantize the float32 original instead",
    }
    stage: ClassVar[Stage] = Stage.PRECISION
    version: ClassVar[int] = 2
    guidance: ClassVar[str] = (
        "For language models and other networks of large matrices, whose time goes into reading weights: 4 "
        "bits make matrices some six times smaller. gptq rounds best and needs some calibration samples; rtn "
        "and hqq need none. For convolutional networks take static_quantization."
    )

    technique: Literal["weight_quantization"] = "weight_quantization"
    bits: Literal[4, 8] = Field(default=4, description="of a weight")
    block_size: Literal[16, 32, 64, 128, 256] = Field(
        default=32, description="inputs that share a scale and a zero point"
    )
    average_bits: float | None = Field(
        default=None,
        ge=4,
        le=8,
        description="with 4 bits: matrices whose outputs get most noise from them have 8 instead, up to this "
        "mean over the elements of all (tables apart)",
    )
    method: Literal["rtn", "hqq", "gptq", "awq"] = Field(
        default="gptq",
        description="rtn: round to nearest; hqq: zero points by a robust norm of the error; gptq: later "
        "weights take up the error of earlier ones, as calibration samples want it; awq: weights of large "
        "inputs are scaled up before they are rounded",
    )
    format: Literal["matmul_nbits", "qdq"] = Field(
        default="matmul_nbits",
        description="matmul_nbits: an operator of ONNX Runtime; qdq: standard operators of opset 21, which "
        "ONNX Runtime fuses to the same when it loads the model, but not a layer of rank 2 with a bias and a "
        "Relu; a table that is the output head too is then stored twice",
    )
    embeddings: bool = Field(
        default=True,
        description="whether tables that rows are looked up in become int8, or blocks if they are the output "
        "head too",
    )
    table_bits: Literal[4, 8] = Field(
        default=8, description="of tables that are the output head too; never fewer than `bits`"
    )
    accuracy_level: Literal[0, 1, 4] = Field(
        default=4,
        description="of matmul_nbits: 4 rounds what matrices read to 8 bits, and is the fast one; "
        "1: float32; 0: the kernel's choice, of 4 bits alone (what has 8 takes 4)",
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="names of nodes, of their outputs, or of weights that stay floats",
    )
    samples: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="of gptq and awq: at most so many calibration samples are used",
    )

    @model_validator(mode="after")
    def _is_no_trap(self) -> "WeightQuantization":
        if self.bits == 8 and self.accuracy_level == 0:
            raise ValueError("accuracy_level 0 with 8 bits runs at a fraction of the float speed: take 4")
        return self

    @model_validator(mode="after")
    def _is_mixed_from_four(self) -> "WeightQuantization":
        if self.average_bits is not None and self.bits != 4:
            raise ValueError("average_bits goes with 4 bits: some matrices get 8 instead")
        return self

    def required(self) -> frozenset[Need]:
        return self.needs if self.method in {"gptq", "awq"} else frozenset()

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """4 bits, for transformers."""
        if architecture(model) is Architecture.TRANSFORMER:
            yield Proposal(
                cls(method="hqq" if data is None else "gptq"),
                smaller=4.0,
                faster=1.0,
                drop=0.03,
                confidence="low",
                why="matrices in 4 bits: by far the smallest file that ONNX Runtime computes from",
            )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.model import Model
        from compression.weight_only import quantization

        split = context.data.split("calibration") if context.data is not None else None
        using = quantization.Using(split, context.threads, context.report)
        made, details = quantization.quantize(model.proto, self._options, using)
        return Applied(Model(made), details)

    @property
    def _options(self) -> "Options":
        from compression.weight_only.options import Options

        return Options(
            bits=self.bits,
            average_bits=self.average_bits,
            block_size=self.block_size,
            method=self.method,
            format=self.format,
            accuracy_level=self.accuracy_level,
            embeddings=self.embeddings,
            table_bits=self.table_bits,
            excluded=frozenset(self.exclude),
            samples=self.samples,
        )

"""Weight-only quantization: matrices of 4 or 8 bits in blocks; activations stay floats."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from compression.architecture import Architecture, architecture
from compression.errors import CompressionError, ErrorKind
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from compression.kernels.blocks import Blocks
    from compression.model import Model
    from compression.weight_only.matrices import Matrix


class WeightQuantization(Technique):
    """Stores the matrices of dense layers in 4 or 8 bits, a scale and a zero point for each block of inputs.

    Written as MatMulNBits of ONNX Runtime (domain com.microsoft), which OpenVINO reads too, and LiteRT
    does not. Tables that are looked up become int8, with a scale for each row. Convolutions, recurrent
    layers, and what has fewer than 1,024 elements stay as they are.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER})
    adds: ClassVar = frozenset({Trait.QUANTIZED})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; quantize the float32 original instead",
    }
    stage: ClassVar[Stage] = Stage.PRECISION
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
    method: Literal["rtn", "hqq", "gptq"] = Field(
        default="gptq",
        description="rtn: round to nearest; hqq: zero points by a robust norm of the error; gptq: later "
        "weights take up the error of earlier ones, as calibration samples want it",
    )
    embeddings: bool = Field(
        default=True, description="whether tables that rows are looked up in become int8"
    )
    accuracy_level: Literal[0, 1, 4] = Field(
        default=4,
        description="of ONNX Runtime's kernel: 4 rounds what matrices read to 8 bits, and is the fast one; "
        "1: float32; 0: the kernel's choice, of 4 bits alone",
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="names of nodes, of their outputs, or of weights that stay floats",
    )
    samples: int = Field(
        default=128, ge=1, le=100_000, description="of gptq: at most so many calibration samples are used"
    )

    @model_validator(mode="after")
    def _is_no_trap(self) -> "WeightQuantization":
        if self.bits == 8 and self.accuracy_level == 0:
            raise ValueError("accuracy_level 0 with 8 bits runs at a fraction of the float speed: take 4")
        return self

    def required(self) -> frozenset[Need]:
        return self.needs if self.method == "gptq" else frozenset()

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
        from compression.weight_only import matrices, tables

        proto = model.copy()
        excluded = set(self.exclude)
        found = [one for one in matrices.matrices(proto.graph) if excluded.isdisjoint(one.names)]
        if not found:
            raise CompressionError(
                "nothing_to_quantize",
                f"no constant float32 matrix of {matrices.FEWEST} elements or more is left to quantize",
                ErrorKind.UNSUPPORTED,
            )
        hessians = self._hessians(model, found, context) if self.method == "gptq" else {}
        errors = {}
        for count, matrix in enumerate(found):
            context.report(0.3 + 0.7 * count / len(found), "rounding", {"matrices": count})
            blocks = self._blocks(matrix, hessians.get(matrix.source))
            errors[matrix.node.output[0]] = _error(matrix.weight, blocks.restored)
            matrices.replace(proto.graph, matrix, blocks, self.bits, self.accuracy_level)
        looked_up = tables.quantize(proto.graph, excluded) if self.embeddings else []
        matrices.clean(proto)
        details = {"matrices": len(found), "embeddings": looked_up, "layer_error": errors}
        return Applied(Model(proto), details)

    def _blocks(self, matrix: "Matrix", hessian: "npt.NDArray[np.float64] | None") -> "Blocks":
        import numpy as np

        from compression.kernels import blocks
        from compression.weight_only.matrices import padded

        weight = padded(matrix.weight, self.block_size)
        match self.method:
            case "rtn":
                return blocks.nearest(weight, self.bits, self.block_size)
            case "hqq":
                return blocks.half_quadratic(weight, self.bits, self.block_size)
            case "gptq":
                assert hessian is not None  # noqa: S101  of every source
                more = weight.shape[1] - len(hessian)
                return blocks.second_order(weight, np.pad(hessian, (0, more)), self.bits, self.block_size)

    def _hessians(
        self, model: "Model", found: "list[Matrix]", context: Context
    ) -> "dict[str, npt.NDArray[np.float64]]":
        from compression.weight_only.hessians import observe

        split = context.data.split("calibration") if context.data is not None else None
        if split is None:
            raise CompressionError("no_calibration", "gptq needs calibration samples; rtn and hqq do not")
        context.report(0.0, "calibrating", {})
        names = list(dict.fromkeys(matrix.source for matrix in found))
        return observe(model.proto, names, split, self.samples, context.threads)


def _error(weight: "npt.NDArray[np.float32]", restored: "npt.NDArray[np.float32]") -> float:
    """Squared, over the sum of squares."""
    import numpy as np

    difference = restored[:, : weight.shape[1]] - weight
    return float(np.square(difference).sum() / max(float(np.square(weight).sum()), 1e-30))

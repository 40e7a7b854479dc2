"""Mixed precision: as few bits as each layer bears."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compression.architecture import Architecture, architecture
from compression.errors import CompressionError
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
SQNR_DB = 20.0


class MixedPrecision(Technique):
    """Each layer gets 4, 8, 16 or 32 bits, so that the model is smallest within a limit of noise, or loses
    least within a limit of bytes.

    What a layer loses is measured on it alone, as sensitivity_analysis does; the choice is made for all
    together, and the model that comes of it is measured as a whole and corrected until the limit holds.
    Layers of 8 bits compute in int8, those of 4 have weights of 4 bits and compute in int8; those of 16 and
    32 compute in float32, from weights stored as float16 or as they were.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER})
    adds: ClassVar = frozenset({Trait.QUANTIZED})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; start from the float32 original instead",
    }
    guidance: ClassVar[str] = (
        "Where a few layers spoil int8 for the rest, or where int8 is more than enough for most of them. "
        "Layers that int8 leaves at 20 dB or better go to 4 bits first where they are large. For "
        "transformers put smooth_quantization with `quantize` off before it. Repeats a choice where its "
        "`bits` are the same; takes two or three minutes for an encoder of 22 M parameters."
    )
    stage: ClassVar = Stage.PRECISION

    technique: Literal["mixed_precision"] = "mixed_precision"
    bits: tuple[Literal[4, 8, 16, 32], ...] = Field(
        default=(4, 8, 16, 32),
        min_length=1,
        max_length=4,
        description="that a layer may get",
    )
    min_sqnr_db: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="least signal to noise of the outputs on calibration samples, dB; null: 20, unless "
        "`max_bytes` is given",
    )
    max_bytes: int | None = Field(
        default=None, ge=1, description="largest file; the noise is then as little as that allows"
    )
    sensitivity_samples: int = Field(
        default=32, ge=1, le=10_000, description="at most so many samples compare layers and whole models"
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many samples set the ranges of activations"
    )
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="names of nodes, or of their outputs, that are left out"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.min_sqnr_db is not None and self.max_bytes is not None:
            raise ValueError("give min_sqnr_db or max_bytes, not both")
        return self

    def check(self, model: ModelInspection) -> str | None:
        if not _LAYERS & set(model.operators):
            return f"the model has none of {', '.join(sorted(_LAYERS))}, so no layers to give bits to"
        return super().check(model)

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:  # noqa: ARG003
        """For networks that int8 suits, but not everywhere."""
        if model.traits or architecture(model) not in {Architecture.CONVOLUTIONAL, Architecture.MOBILE}:
            return
        yield Proposal(
            cls(),
            smaller=4.5,
            faster=1.5,
            drop=0.01,
            confidence="low",
            why="layers that bear 4 bits get them, and those that int8 hurts stay in floats",
        )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.sensitivity.mixing import Budget, Request, mix
        from compression.sensitivity.options import Using

        split = context.data.split("calibration") if context.data is not None else None
        if split is None:
            raise CompressionError("no_calibration", "mixed_precision needs calibration samples")
        least = SQNR_DB if self.min_sqnr_db is None and self.max_bytes is None else self.min_sqnr_db
        request = Request(
            bits=sorted(set(self.bits)),
            budget=Budget(least, self.max_bytes),
            samples=self.sensitivity_samples,
            calibration=self.samples,
            exclude=self.exclude,
        )
        using = Using(split, context.scratch, context.threads, context.report, context.task)
        return Applied(*mix(model, request, using))

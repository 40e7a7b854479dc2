"""Mixed precision: as few bits as each layer bears."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import Field

from compression.architecture import Architecture, architecture, small
from compression.errors import CompressionError
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
SQNR_DB = 20.0


class _Expected(NamedTuple):
    min_sqnr_db: float
    smaller: float
    faster: float
    drop: float


_EXPECTED: Mapping[Architecture, _Expected] = {
    Architecture.CONVOLUTIONAL: _Expected(20.0, 6.5, 2.5, 0.005),
    Architecture.MOBILE: _Expected(30.0, 3.2, 1.3, 0.005),
}
"""Measured: a residual CNN (94.2 to 93.7 %); a direction classifier (0.988 agreement, 0.945 at 20 dB)."""
_OVERHEAD = 1.1


class MixedPrecision(Technique):
    """Each layer gets the precision it bears: weights of 4, 8, 16 or 32 bits, and int8 or floats to compute
    in, so that the model is fastest, or smallest, within limits of noise, of the metric's drop and of bytes.

    What a layer loses is measured on it alone, as sensitivity_analysis does; what it takes in floats and in
    int8, and what changing between the two costs, is profiled. The choice is made for all layers together,
    and the model that comes of it is measured as a whole, for speed too, and corrected until the limits hold.
    Weights of 4 and 8 bits whose layer computes in floats are unpacked when a session is made.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER})
    adds: ClassVar = frozenset({Trait.QUANTIZED})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; start from the float32 original instead",
    }
    guidance: ClassVar[str] = (
        "Where a few layers spoil int8 for the rest, or int8 slows a network down, as it does many small "
        "mobile ones: layers compute in whatever is faster on this machine, never all together slower than "
        "the original, and weights get as few bits as the limits allow. Name `max_metric_drop` where the "
        "calibration or train split has labels. For transformers put smooth_quantization with `quantize` off "
        "before it. Choices by time may differ on another machine, or where two are equal; takes two or "
        "three minutes for an encoder of 22 M parameters."
    )
    stage: ClassVar = Stage.PRECISION
    version: ClassVar[int] = 2

    technique: Literal["mixed_precision"] = "mixed_precision"
    minimise: Literal["latency", "bytes"] = Field(
        default="latency",
        description="what is least within the limits; the other is as little as what is left of them allows",
    )
    bits: tuple[Literal[4, 8, 16, 32], ...] = Field(
        default=(4, 8, 16, 32),
        min_length=1,
        max_length=4,
        description="that a layer may get",
    )
    max_metric_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="largest loss of the task metric on samples of the calibration or train split: 0.01 is "
        "one point, or one hundredth of the original's value for metrics without an upper end. Needs labels",
    )
    min_sqnr_db: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="least signal to noise of the outputs on calibration samples, dB; null: 20, unless "
        "`max_metric_drop` is given",
    )
    max_bytes: int | None = Field(
        default=None,
        ge=1,
        description="largest file; weights then lose as little as that allows, instead of taking as few "
        "bytes as the other limits allow",
    )
    sensitivity_samples: int = Field(
        default=32,
        ge=1,
        le=10_000,
        description="at most so many samples compare layers, and whole models by noise",
    )
    samples: int = Field(
        default=512,
        ge=1,
        le=100_000,
        description="at most so many samples set the ranges of activations, and tell the metric",
    )
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="names of nodes, or of their outputs, that are left out"
    )

    def check(self, model: ModelInspection) -> str | None:
        if not _LAYERS & set(model.operators):
            return f"the model has none of {', '.join(sorted(_LAYERS))}, so no layers to give bits to"
        return super().check(model)

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:  # noqa: ARG003
        """For convolutional networks, mobile ones with less noise: their decisions bear less of it."""
        kind = architecture(model)
        if model.traits or kind not in _EXPECTED:
            return
        expected = _EXPECTED[kind]
        yield Proposal(
            cls(min_sqnr_db=expected.min_sqnr_db),
            smaller=expected.smaller,
            faster=_OVERHEAD if small(model) else expected.faster,
            drop=expected.drop,
            confidence="medium",
            why="layers that bear 4 bits get them, and compute in int8 or in floats, whichever is faster",
        )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.sensitivity.evaluation import thinned
        from compression.sensitivity.judging import Judge, labelled
        from compression.sensitivity.mixing import Budget, Request, mix
        from compression.sensitivity.options import Using

        split = context.data.split("calibration") if context.data is not None else None
        if context.data is None or split is None:
            raise CompressionError("no_calibration", "mixed_precision needs calibration samples")
        by_metric = self.max_metric_drop is not None
        judged = (
            labelled(context.data, self.samples, model)
            if by_metric
            else thinned(split, self.sensitivity_samples, model.inputs)
        )
        least = SQNR_DB if self.min_sqnr_db is None and not by_metric else self.min_sqnr_db
        request = Request(
            bits=sorted(set(self.bits)),
            budget=Budget(self.minimise, least, self.max_metric_drop, self.max_bytes),
            samples=self.sensitivity_samples,
            calibration=self.samples,
            exclude=self.exclude,
        )
        using = Using(split, context.scratch, context.threads, context.report, context.task)
        judge = Judge.of(model, judged, context.task, context.threads)
        return Applied(*mix(model, request, judge, using))

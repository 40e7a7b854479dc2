"""Sensitivity analysis: which layers a network can spare, and which it cannot."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compression.errors import CompressionError
from compression.inspection import ModelInspection, Trait
from compression.technique import Applied, Context, Need, Stage, Technique

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_NOTE = (
    "Each row is one change alone: what several lose together is not their sum. Outputs are compared with "
    "the network's own on calibration samples. `saved.ms` is an estimate: of the time that the layer takes "
    "in the float network, on one thread, as profiled here."
)


class SensitivityAnalysis(Technique):
    """Leaves the model as it is and measures what each layer alone loses and saves by each technique: int8,
    4-bit weights, weights set to zero, low rank, and channels cut out.

    The details of the step hold a table, one row for each change: how far outputs move (SQNR, KL divergence,
    agreement, and the metric where there are labels) and what is saved (bytes, multiply-accumulates,
    estimated milliseconds).
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; analyse its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; analyse the float32 original instead",
    }
    guidance: ClassVar[str] = (
        "Before deciding what to exclude: shows which layers pay and which cost accuracy. For each row "
        "only what follows the change is run again, about half the network, on activations that are kept "
        "(256 MiB at most): seconds for a small CNN, a minute or two for an encoder of 22 M parameters with "
        "32 samples. mixed_precision decides by the same measurements."
    )
    version: ClassVar[int] = 2
    stage: ClassVar = Stage.GRAPH

    technique: Literal["sensitivity_analysis"] = "sensitivity_analysis"
    techniques: tuple[
        Literal[
            "static_quantization", "weight_quantization", "magnitude_pruning", "channel_pruning", "low_rank"
        ],
        ...,
    ] = Field(
        default=(
            "static_quantization",
            "weight_quantization",
            "magnitude_pruning",
            "channel_pruning",
            "low_rank",
        ),
        min_length=1,
        description="what is tried on each layer; channel_pruning on each group of channels",
    )
    samples: int = Field(
        default=32, ge=1, le=10_000, description="at most so many calibration samples are run for each row"
    )
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="nodes, their outputs or weights that are not tried"
    )

    def check(self, model: ModelInspection) -> str | None:
        if not _LAYERS & set(model.operators):
            return f"the model has none of {', '.join(sorted(_LAYERS))}, so no layers to analyse"
        return super().check(model)

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.sensitivity.options import Options, Using
        from compression.sensitivity.scan import scan

        split = context.data.split("calibration") if context.data is not None else None
        if split is None:
            raise CompressionError("no_calibration", "sensitivity_analysis needs calibration samples")
        options = Options(self.techniques, self.samples, self.exclude)
        using = Using(split, context.scratch, context.threads, context.report, context.task)
        found = scan(model, options, using)
        details: Mapping[str, Any] = {
            "note": _NOTE,
            "samples": found.samples,
            "layers": len(found.sizes),
            "left_out": found.left_out,
            "task": found.task,
            "metric": found.metric,
            "rows": [row.json for row in found.rows],
        }
        return Applied(model, details)

"""Quantization-aware training: integer weights and activations that were trained as such."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compression.architecture import Architecture, architecture, scarce, small
from compression.errors import CompressionError
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.dataset import Split
    from compression.graph.plan import Plan
    from compression.model import Model

STAGE = "quantization-aware training"
PLANNED = 0.2
"""Share of the work that is done before the training."""


_EXPECTED: Mapping[Architecture, tuple[tuple[int, float, float, float], ...]] = {
    Architecture.CONVOLUTIONAL: ((8, 3.9, 2.8, 0.0), (4, 7.5, 2.7, 0.003)),
    Architecture.MOBILE: ((8, 3.2, 1.6, 0.004), (4, 5.0, 1.6, 0.02)),
    Architecture.TRANSFORMER: ((8, 3.9, 2.0, 0.01),),
    Architecture.DENSE: ((8, 4.0, 1.6, 0.0), (4, 7.5, 1.6, 0.003)),
}
"""Bits of a weight; download and time as factors; drop. Measured (docs/benchmarks.md): after pruning, a
residual CNN and a dense network of 8 bits; of 4 bits with activations in floats. The others are guesses.
"""
_WHY = {
    8: "int8 that was trained as such: where static_quantization loses too much",
    4: "weights of 4 bits that were trained as such: half the file of int8, and as fast",
}
_MEASURED = (Architecture.CONVOLUTIONAL, Architecture.DENSE)
_OVERHEAD = 1.1
_HARDLY_TRAINED = 0.005
"""Lost besides, at a guess, where few samples are there to train on."""


class GentleTraining(Training):
    """Short and at a low rate, by the original's outputs: a quantized network is nearly there."""

    epochs: float = Field(default=2, ge=0, le=1000, description="passes over the samples; 0: calibrated only")
    optimizer: Literal["sgd", "adamw"] = Field(default="adamw", description="sgd: with Nesterov momentum")
    learning_rate: float | None = Field(
        default=1e-4,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="at its highest; null: 0.01 for sgd, 0.0003 for adamw",
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="of matrices and kernels only")
    temperature: float = Field(default=2.0, ge=0.1, le=100, description="softens both sides of distillation")


class QuantizationAwareTraining(Technique):
    """Weights of 2 to 8 bits and activations that are trained while they are rounded, taught by the original.

    Starts from what static_quantization finds, and writes the same kind of file (QDQ).
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    adds: ClassVar = frozenset({Trait.QUANTIZED})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; quantize the float32 original instead",
    }
    guidance: ClassVar[str] = (
        "Where static_quantization loses too much: with 4-bit weights, or networks that int8 hurts. As fast "
        "and as small as static_quantization with the same bits. Needs some thousand samples, better with "
        "labels. Weights of 4 bits or fewer make smaller files; they compute as int8 does."
    )
    trains: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.PRECISION
    version: ClassVar[int] = 3

    technique: Literal["quantization_aware_training"] = "quantization_aware_training"
    weight_bits: int = Field(default=8, ge=2, le=8, description="bits of a weight")
    activation_bits: int | None = Field(
        default=8, ge=2, le=8, description="bits of an activation; null: floats, weights alone are quantized"
    )
    per_channel: bool = Field(
        default=True, description="a scale for each output channel of a weight, not one for all"
    )
    ranges: Literal["lsq", "ema"] = Field(
        default="lsq",
        description="lsq: scales are learnt by gradient (learned step size quantization); ema: ranges are "
        "moving averages of the extremes",
    )
    freeze_after: float = Field(
        default=0.7, ge=0, le=1, description="of ema: share of the steps after which ranges stay"
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="names of nodes, or of their outputs, that compute in floats, from integer weights",
    )
    keep: Literal["auto", "none"] = Field(
        default="auto",
        description="auto: layers that int8 does not make faster, as measured here, compute in floats "
        "from integer weights. `kept_float` of the details, given as `exclude` with `keep` none, repeats a "
        "choice",
    )
    preserve_sparsity: bool = Field(
        default=True, description="weights that are exactly 0, as pruning leaves them, stay 0"
    )
    preserve_clusters: bool = Field(
        default=True,
        description="weights of layers that share a few values, as weight_clustering leaves "
        "them, still share them",
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many calibration samples set the first ranges"
    )
    training: GentleTraining = Field(default=GentleTraining(), description="how the weights are trained")

    def required(self) -> frozenset[Need]:
        return self.needs | ({Need.LABELS} if self.training.loss == "labels" else set())

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """8 bits, and weights of 4."""
        kind, few = architecture(model), scarce(data)
        for bits, smaller, faster, drop in _EXPECTED.get(kind, ()):
            yield Proposal(
                cls(weight_bits=bits),
                smaller=smaller,
                faster=_OVERHEAD if small(model) else faster,
                drop=drop + _HARDLY_TRAINED if few else drop,
                confidence="medium" if bits == 8 and kind in _MEASURED and not few else "low",
                why=_WHY[bits],
            )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.engine import normalise
        from compression.model import Model
        from compression.qat.training import Settings, train
        from compression.training.loop import Stage

        ready = normalise(model)
        notes = _notes(context)
        plan = self._plan(ready, context, notes)
        notes = notes or {
            name: plan.details[name] for name in ("kept_float", "speeds") if name in plan.details
        }
        settings = Settings(
            self.training, self.ranges, self.freeze_after, self.preserve_sparsity, self.preserve_clusters
        )
        stage = Stage(STAGE, notes, (PLANNED, 0.98 - PLANNED))
        plan, details = train(ready, plan, settings, context, stage)
        return Applied(Model(plan.write()), {**plan.details, **notes, "training": details})

    def _plan(self, model: "Model", context: Context, notes: dict[str, Any]) -> "Plan":
        """`notes` of an earlier attempt say which layers stay float: that is not measured again."""
        from compression.graph import qdq, quantization

        keep: Literal["auto", "none", "all"] = "none" if notes else self.keep
        options = quantization.Options(
            scheme=qdq.Scheme(self.weight_bits, self.activation_bits or 8, self.per_channel),
            ranges="auto",
            percentile=99.99,
            equalization=True,
            bias_correction=True,
            exclude=(*self.exclude, *notes.get("kept_float", ())),
            operators=None,
            keep=keep if self.activation_bits else "all",
            samples=self.samples,
        )
        using = quantization.Resources(
            _calibration(context),
            context.scratch,
            context.threads,
            lambda fraction, message: context.report(fraction * PLANNED, message),
        )
        return quantization.decide(model.proto, options, using)


def _notes(context: Context) -> dict[str, Any]:
    """What an earlier attempt at this step had decided; nothing if there was none."""
    from compression.training.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(context.resume)
    return dict(checkpoint.notes) if checkpoint is not None and checkpoint.stage == STAGE else {}


def _calibration(context: Context) -> "Split":
    split = context.data.split("calibration") if context.data is not None else None
    if split is None:
        raise CompressionError("no_calibration", "quantization_aware_training needs calibration samples")
    return split

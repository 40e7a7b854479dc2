"""Smooth quantization: int8 for networks whose activations have outliers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from compression.architecture import Architecture, architecture, small
from compression.errors import CompressionError
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique

if TYPE_CHECKING:
    from compression.graph.quantization import Options
    from compression.model import Model

Alpha = Annotated[float, Field(ge=0, le=1)]


class SmoothQuantization(Technique):
    """Channels of activations that are far larger than the others are divided by factors that the weights
    which read them are multiplied with (SmoothQuant); then static quantization to int8.

    The factors, s = max|x|^alpha / max|w|^(1 - alpha) for each channel, change nothing in floats. They go
    into the layer or normalisation before, or into a multiplication where that is read elsewhere too.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    adds: ClassVar = frozenset({Trait.QUANTIZED})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized already; start from its floating-point original",
        Trait.HALF_PRECISION: "the model is in half precision; quantize the float32 original instead",
    }
    guidance: ClassVar[str] = (
        "For encoders and other transformers, whose few channels of large activations leave static "
        "quantization hardly any steps for the rest. Of MiniLM it leaves a quarter of the file, and less "
        "than half of the noise of static quantization. Convolutions are equalised as by "
        "static_quantization. With `quantize` off the float model is only rewritten, for a later step."
    )
    stage: ClassVar = Stage.PRECISION

    technique: Literal["smooth_quantization"] = "smooth_quantization"
    alphas: tuple[Alpha, ...] = Field(
        default=(0.4, 0.5, 0.6, 0.7),
        min_length=1,
        max_length=32,
        description="how much of the outliers moves into weights: the best of these is taken, by the error "
        "of the outputs on calibration samples; above 0.75 rare inputs may lose much",
    )
    scope: Literal["per_layer", "global"] = Field(
        default="per_layer", description="an alpha for each tensor that layers read, or the same for all"
    )
    smoothing_samples: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="at most so many samples show the activations to be smoothed",
    )
    quantize: bool = Field(default=True, description="quantize too; false: rewrite the float model only")
    weight_bits: int = Field(default=8, ge=2, le=8, description="bits of a weight")
    activation_bits: int = Field(default=8, ge=2, le=8, description="bits of an activation")
    ranges: Literal["auto", "minmax", "percentile", "entropy", "mse"] = Field(
        default="minmax",
        description="how the range of an activation is found; auto: per tensor, by least error, which cuts "
        "off what is rare but may matter to an encoder",
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="share of values inside the range, per cent"
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="names of nodes, or of their outputs, that stay float and are not smoothed",
    )
    keep: Literal["auto", "none"] = Field(
        default="auto",
        description="auto: layers that int8 does not make faster, as measured here, compute in floats "
        "from 8-bit weights; none: every layer computes in int8",
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many calibration samples are used"
    )

    def traits_after(self, before: frozenset[Trait]) -> frozenset[Trait]:
        return super().traits_after(before) if self.quantize else before

    def check(self, model: ModelInspection) -> str | None:
        if not {"MatMul", "Gemm"} & set(model.operators):
            return "the model has no MatMul or Gemm; static_quantization equalises convolutions by itself"
        return super().check(model)

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:  # noqa: ARG003
        """For transformers."""
        if model.traits or architecture(model) is not Architecture.TRANSFORMER:
            return
        yield Proposal(
            cls(),
            smaller=3.9,
            faster=1.1 if small(model) else 2.3,
            drop=0.008,
            confidence="medium",
            why="int8 matrix products and embeddings, with the outliers of an encoder's activations "
            "moved into its weights: the order of MiniLM's similarities is kept to 0.992 "
            "(Spearman), by static quantization to 0.984",
        )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.graph import quantization
        from compression.model import Model

        split = context.data.split("calibration") if context.data is not None else None
        if split is None:
            raise CompressionError("no_calibration", "smooth_quantization needs calibration samples")
        using = quantization.Resources(split, context.scratch, context.threads, context.report)
        carry_out = quantization.quantize if self.quantize else quantization.smoothed
        written, details = carry_out(model.proto, self._options, using)
        return Applied(Model(written), details)

    @property
    def _options(self) -> "Options":
        from compression.graph import qdq, quantization

        return quantization.Options(
            scheme=qdq.Scheme(self.weight_bits, self.activation_bits),
            ranges=self.ranges,
            percentile=self.percentile,
            equalization=True,
            bias_correction=True,
            exclude=self.exclude,
            operators=None,
            keep=self.keep,
            samples=self.samples,
            smoothing=quantization.Smoothing(self.alphas, self.scope == "global", self.smoothing_samples),
        )

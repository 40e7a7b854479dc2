"""Depthwise-separable rewriting: a kernel for each channel, then a 1 x 1 over all channels."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.recovery import Recovery

if TYPE_CHECKING:
    from compression.model import Model

Multiplier = Annotated[int, Field(ge=1, le=16)]
_LEAST_RATIO = 0.15
"""A smaller share of the network saves less than a measurement can tell."""


class DepthwiseSeparable(Technique):
    """Dense k x k convolutions become depthwise-separable ones: a k x k kernel for each channel, and a 1 x 1
    convolution that mixes the channels, as in networks made for phones.

    Each starts from the rank-1 SVD of every channel's kernels and is fitted, block by block, to what the
    layer gave on calibration samples, first of the original's activations, then of the rewritten network's.
    Layers are rewritten where that loses the least for what it saves. Then the network is trained a little,
    taught by the original.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; rewrite its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; rewrite the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.STRUCTURE
    guidance: ClassVar[str] = (
        "For convolutional networks of 3 x 3 layers, the largest saving of all rewritings: a layer does an "
        "eighth of the work, where channel_pruning would leave a third of its channels. Goes well before "
        "quantization. Networks made for phones have no dense convolution left, and are refused."
    )

    technique: Literal["depthwise_separable"] = "depthwise_separable"
    ratio: float = Field(
        default=0.5, gt=0, lt=1, description="share of the multiply-accumulates to remove, at least"
    )
    max_multiplier: Multiplier = Field(
        default=1,
        description="kernels for each channel, at most: a layer takes more where what it loses is worth it",
    )
    faster: bool = Field(
        default=True,
        description="rewrite a layer only where it is expected to run faster, told from its "
        "multiply-accumulates and what its parts write; false: wherever it saves multiply-accumulates",
    )
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="weights, nodes or outputs of layers that stay"
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many calibration samples are looked at"
    )
    layers: dict[str, Multiplier] | None = Field(
        default=None,
        description="by weight, the multipliers of the layers to rewrite, to repeat a choice. Nothing is "
        "chosen then",
    )
    training: Recovery | None = Field(default=Recovery(), description="the recovery afterwards; null: none")

    def required(self) -> frozenset[Need]:
        labels = self.training is not None and self.training.loss == "labels"
        return self.needs | ({Need.LABELS} if labels else set())

    def check(self, model: ModelInspection) -> str | None:
        found = model.abilities.get("depthwise_separable", {})
        if "Conv" not in model.operators or (self.faster and found.get("layers") == 0):
            return "the model has no dense convolution that would run faster as a depthwise-separable one"
        return super().check(model)

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.rewriting.abilities import rewritable
        from compression.rewriting.forms import Form

        return rewritable(model, Form(1, 1))

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """Two thirds of what can go, and nearly all of it."""
        found = model.abilities.get("depthwise_separable", {})
        saving = found.get("macs_saving") or 0.0
        if data is None:
            return
        for part, drop in ((0.67, 0.003), (0.98, 0.008)):
            ratio = round(part * saving, 2)
            if ratio >= _LEAST_RATIO:
                left = 1 - ratio
                yield Proposal(
                    cls(ratio=ratio),
                    smaller=1 / left,
                    faster=1 / left**0.8,
                    drop=drop,
                    confidence="medium",
                    why=f"{found['layers']} dense convolutions, {found['macs_share']:.0%} of the "
                    "multiply-accumulates, do an eighth of the work as depthwise-separable ones",
                )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.rewriting.forms import Form
        from compression.rewriting.options import Options
        from compression.rewriting.rewriting import rewrite

        given = None
        if self.layers is not None:
            given = {name: Form(1, multiplier) for name, multiplier in self.layers.items()}
        options = Options(
            forms=[Form(1, multiplier) for multiplier in range(1, self.max_multiplier + 1)],
            ratio=self.ratio,
            faster=self.faster,
            exclude=frozenset(self.exclude),
            samples=self.samples,
            given=given,
            training=self.training,
        )
        return Applied(*rewrite(model, options, context))

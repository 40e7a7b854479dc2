"""Grouped rewriting: kernels within groups of channels, then a 1 x 1 over all channels."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.recovery import Recovery

if TYPE_CHECKING:
    from compression.model import Model

Channels = Annotated[int, Field(ge=2, le=1024)]
_LEAST_RATIO = 0.15
"""A smaller share of the network saves less than a measurement can tell."""


class GroupedConvolution(Technique):
    """Dense k x k convolutions become grouped ones: k x k kernels within groups of channels, and a 1 x 1
    convolution that mixes the groups, so that information still crosses them.

    Each starts from the SVD of every group's kernels and is fitted, block by block, to what the layer gave on
    calibration samples, first of the original's activations, then of the rewritten network's. Layers are
    rewritten where that loses the least for what it saves. Then the network is trained a little, taught by
    the original.
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
        "For convolutional networks of wide 3 x 3 layers where depthwise_separable loses too much: a layer "
        "of 128 channels does a quarter of the work in groups of 16, and loses a third of what a depthwise "
        "one does. Runtimes compute channels in blocks, of 16 with AVX-512: smaller groups have fewer "
        "multiply-accumulates and are slower. Goes well before quantization."
    )

    technique: Literal["grouped_convolution"] = "grouped_convolution"
    ratio: float = Field(
        default=0.5, gt=0, lt=1, description="share of the multiply-accumulates to remove, at least"
    )
    group_channels: tuple[Channels, ...] = Field(
        default=(16, 32),
        min_length=1,
        max_length=8,
        description="channels of a group: each layer takes what loses the least for what it saves",
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
    layers: dict[str, Channels] | None = Field(
        default=None,
        description="by weight, the channels of a group of the layers to rewrite, to repeat a choice. "
        "Nothing is chosen then",
    )
    training: Recovery | None = Field(default=Recovery(), description="the recovery afterwards; null: none")

    def required(self) -> frozenset[Need]:
        labels = self.training is not None and self.training.loss == "labels"
        return self.needs | ({Need.LABELS} if labels else set())

    def check(self, model: ModelInspection) -> str | None:
        found = model.abilities.get("grouped_convolution", {})
        if "Conv" not in model.operators or (self.faster and found.get("layers") == 0):
            return "the model has no dense convolution that would run faster as a grouped one"
        return super().check(model)

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.rewriting.abilities import rewritable
        from compression.rewriting.forms import Form

        return rewritable(model, Form(16, 16))

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """Nearly all that can go."""
        found = model.abilities.get("grouped_convolution", {})
        saving = found.get("macs_saving") or 0.0
        if data is None:
            return
        for part, drop in ((0.9, 0.002),):
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
                    "multiply-accumulates, do less work in groups of 16 channels",
                )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.rewriting.forms import Form
        from compression.rewriting.options import Options
        from compression.rewriting.rewriting import rewrite

        given = None
        if self.layers is not None:
            given = {name: Form(channels, channels) for name, channels in self.layers.items()}
        options = Options(
            forms=[Form(channels, channels) for channels in self.group_channels],
            ratio=self.ratio,
            faster=self.faster,
            exclude=frozenset(self.exclude),
            samples=self.samples,
            given=given,
            training=self.training,
        )
        return Applied(*rewrite(model, options, context))

"""Channel pruning: networks that are really smaller, in any runtime."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compression.inspection import ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Technique
from compression.training.recovery import Recovery

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_WEIGHTS_ALONE = frozenset({"l1", "l2", "random"})
Units = Annotated[tuple[int, ...], Field(min_length=1, max_length=1_000_000)]


class ChannelPruning(Technique):
    """Channels, neurons, feed-forward widths and attention heads are cut out of the network, with all that
    belongs to them: the weights get smaller, the graph stays an ordinary one.

    What goes together (through sums, concatenations, depthwise and grouped convolutions, reshapes, attention)
    is found on the graph. After each cut the layers that read what is gone are corrected by least squares,
    and the network is trained a little, taught by the original.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; prune its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; prune the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    version: ClassVar[int] = 2
    guidance: ClassVar[str] = (
        "Smaller and faster in every runtime, unlike single weights set to zero; goes well before "
        "quantization. Start with half the multiply-accumulates. Runtimes compute channels in blocks, of 16 "
        "with AVX-512: at half the multiply-accumulates a CNN was 1.95 times as fast with `round_to` 16, "
        "1.47 times with 8. "
        "For `target` latency the time is measured where the job runs; `kept` and `dropped` of the "
        "details, given as parameters, repeat a cut exactly."
    )

    technique: Literal["channel_pruning"] = "channel_pruning"
    ratio: float = Field(default=0.5, gt=0, lt=1, description="share of the target to remove")
    target: Literal["macs", "params", "latency"] = Field(
        default="macs",
        description="what the ratio is of: multiply-accumulates, parameters, or the time of one sample on "
        "one thread, measured here",
    )
    criterion: Literal[
        "reconstruction", "l1", "l2", "taylor", "activation_mean", "apoz", "bn_scale", "random"
    ] = Field(
        default="reconstruction",
        description="what makes a unit matter. reconstruction: what its readers lose when the other units "
        "take over, by least squares; l1, l2: norms of its weights; taylor: squared gradients of the loss; "
        "activation_mean, apoz: how large its activations are, how often they are not zero; bn_scale: "
        "the scale of its BatchNormalization; random: nothing",
    )
    scope: Literal["global", "uniform"] = Field(
        default="global",
        description="global: units of all groups are ranked together; uniform: the same share of each",
    )
    round_to: int = Field(
        default=16,
        ge=1,
        le=256,
        description="channels of a group stay a multiple of it, of a small group a multiple of 8",
    )
    min_channels: int = Field(default=8, ge=1, le=100_000, description="at least so many of a group stay")
    max_group_ratio: float = Field(
        default=0.9, gt=0, lt=1, description="at most this share of a group goes, so that no stage collapses"
    )
    steps: int = Field(
        default=1, ge=1, le=32, description="cuts on the way to the ratio, each with a recovery of its own"
    )
    blocks: bool = Field(
        default=False,
        description="drop whole residual blocks too, where outputs then change less at the same cost",
    )
    reconstruct: bool = Field(
        default=True,
        description="correct the layers that read what is cut, by least squares on calibration samples",
    )
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="groups, weights or tensors whose channels all stay"
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many calibration samples are looked at"
    )
    kept: dict[str, Units] | None = Field(
        default=None, description="a cut to repeat: by group, the units that stay. Nothing is ranked then"
    )
    dropped: tuple[str, ...] = Field(
        default=(), max_length=1000, description="with `kept`: residual blocks to drop, by their output"
    )
    training: Recovery | None = Field(
        default=Recovery(), description="the recovery after each cut; null: none"
    )

    def required(self) -> frozenset[Need]:
        labels = self.training is not None and self.training.loss == "labels"
        blind = not self.training and not self.reconstruct and self.criterion in _WEIGHTS_ALONE
        if blind:
            return frozenset()
        return frozenset({Need.CALIBRATION}) | ({Need.LABELS} if labels else set())

    def check(self, model: ModelInspection) -> str | None:
        if not _LAYERS & set(model.operators):
            return f"the model has none of {', '.join(sorted(_LAYERS))}, so no channels to cut"
        return super().check(model)

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.pruning.abilities import prunable

        return prunable(model)

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.pruning.options import Options
        from compression.pruning.pruning import prune
        from compression.pruning.selection import Limits

        options = Options(
            target=self.target,
            ratio=self.ratio,
            criterion=self.criterion,
            uniform=self.scope == "uniform",
            limits=Limits(self.round_to, self.min_channels, self.max_group_ratio),
            steps=self.steps,
            blocks=self.blocks,
            reconstruct=self.reconstruct,
            exclude=frozenset(self.exclude),
            samples=self.samples,
            training=self.training,
            kept=self.kept,
            dropped=self.dropped,
        )
        return Applied(*prune(model, options, context))

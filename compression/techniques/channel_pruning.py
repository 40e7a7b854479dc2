"""Channel pruning: networks that are really smaller, in any runtime."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compression.architecture import Architecture, architecture, scarce, small
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.recovery import Recovery

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_WEIGHTS_ALONE = frozenset({"l1", "l2", "random"})
_EXPECTED: Mapping[Architecture, tuple[tuple[float, float, float, float], ...]] = {
    Architecture.CONVOLUTIONAL: (
        (0.3, 1.6, 1.4, 0.0),
        (0.5, 2.5, 1.95, 0.0),
        (0.7, 4.6, 3.1, 0.002),
        (0.85, 8.0, 5.5, 0.01),
    ),
    Architecture.MOBILE: ((0.3, 1.5, 1.25, 0.01), (0.5, 2.1, 1.55, 0.03), (0.7, 3.2, 2.2, 0.08)),
    Architecture.TRANSFORMER: ((0.3, 1.2, 1.35, 0.02), (0.5, 1.4, 1.8, 0.05)),
    Architecture.RECURRENT: ((0.3, 1.2, 1.2, 0.01), (0.5, 1.4, 1.4, 0.03)),
    Architecture.DENSE: (
        (0.3, 1.4, 1.35, 0.002),
        (0.5, 2.0, 1.9, 0.005),
        (0.7, 3.2, 3.0, 0.01),
        (0.85, 6.0, 5.0, 0.03),
    ),
}
"""Ratio; download and time as factors; drop after three epochs of recovery. Measured (docs/benchmarks.md):
half and three quarters of a residual CNN, half of a MobileNetV3 of 0.13 M parameters; the rest lies between
or is a guess.
"""
_MEASURED = frozenset({Architecture.CONVOLUTIONAL})
_HARDER = 3.0
"""So many times as much is lost, at a guess, where few samples are there to recover with."""
_OVERHEAD = 1.05
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
    stage: ClassVar[Stage] = Stage.STRUCTURE
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

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """Several strengths, as far as there is something to cut."""
        kind = architecture(model)
        found = model.abilities.get("channel_pruning", {})
        most = found.get("prunable_macs") or (1.0 if found.get("groups") or not found else 0.0)
        few = scarce(data)
        for ratio, smaller, faster, drop in _EXPECTED.get(kind, ()):
            if ratio < most:
                yield Proposal(
                    cls(ratio=ratio),
                    smaller=smaller,
                    faster=_OVERHEAD if small(model) else faster,
                    drop=drop * _HARDER if few else drop,
                    confidence="medium" if kind in _MEASURED and not few else "low",
                    why=_why(found, small(model)),
                )

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


def _why(found: Mapping[str, Any], tiny: bool) -> str:
    groups = len(found.get("groups", ()))
    counted = f"{groups} group{'s' if groups > 1 else ''} of channels, neurons or heads"
    where = counted if groups else "channels or neurons"
    speed = ", though a network this small spends its time in the runtime itself" if tiny else ""
    return f"{where} can be cut out for good: smaller and faster in any runtime{speed}"

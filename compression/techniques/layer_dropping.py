"""Layer dropping: networks that are less deep."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.recovery import Recovery

if TYPE_CHECKING:
    from compression.model import Model

_FEWEST = 4
"""Blocks of a network that does not miss one of them much."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class LayerDropping(Technique):
    """Whole residual blocks, y = x + f(x), or layers of a transformer, attention and feed-forward part alike,
    are taken out of the network: the branch f goes, with all its weights.

    They go one after the other, each time the one whose absence changes the outputs least for what it saves.
    Then the network is trained a little, taught by the original.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; drop layers of its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; drop layers of the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.STRUCTURE
    version: ClassVar[int] = 2
    guidance: ClassVar[str] = (
        "For deep residual networks and transformers: time goes down by what the blocks took, in every "
        "runtime and at every batch size, as no layer gets narrower. Needs a longer recovery than "
        "channel_pruning for the same saving; with few blocks, each of them is missed: a CNN of six lost 0.7 "
        "points with the first (1.2 times as fast) and 6 with two, after a short recovery."
    )

    technique: Literal["layer_dropping"] = "layer_dropping"
    ratio: float = Field(default=0.25, gt=0, lt=1, description="share of the target to remove, at least")
    target: Literal["macs", "params", "latency"] = Field(
        default="macs",
        description="what the ratio is of: multiply-accumulates, parameters, or the time of one sample on "
        "one thread, measured here",
    )
    count: int | None = Field(
        default=None, ge=1, le=1000, description="instead of a ratio: how many blocks, or layers, go"
    )
    unit: Literal["block", "layer"] = Field(
        default="block",
        description="block: residual blocks one by one, such as the attention and the feed-forward part of a "
        "transformer's layer; layer: both of them together",
    )
    criterion: Literal["outputs", "influence"] = Field(
        default="outputs",
        description="what makes a block matter. outputs: how much they change without it, for what it saves; "
        "influence: how much it turns what it is given, one minus the cosine (Men et al. 2024), told "
        "without running the network once for each block",
    )
    keep_first: int = Field(
        default=0, ge=0, le=1000, description="so many of the first blocks, or layers, stay"
    )
    keep_last: int = Field(default=0, ge=0, le=1000, description="so many of the last ones stay")
    exclude: tuple[Name, ...] = Field(
        default=(), max_length=10_000, description="blocks that stay, by their output, a node or a weight"
    )
    samples: int = Field(
        default=128, ge=1, le=100_000, description="at most so many calibration samples are looked at"
    )
    dropped: tuple[Name, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="blocks to drop, by their output, to repeat a choice. Nothing is chosen then",
    )
    training: Recovery | None = Field(default=Recovery(), description="the recovery afterwards; null: none")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dropped is not None and self.count is not None:
            raise ValueError("blocks that are named are not counted: leave out `dropped` or `count`")
        return self

    def required(self) -> frozenset[Need]:
        labels = self.training is not None and self.training.loss == "labels"
        return self.needs | ({Need.LABELS} if labels else set())

    def check(self, model: ModelInspection) -> str | None:
        if "Add" not in model.operators:
            return "the model adds no tensors up, so it has no residual blocks"
        return super().check(model)

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.dropping.abilities import droppable

        return droppable(model)

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """A quarter of what can go, and half of it."""
        found = model.abilities.get("layer_dropping", {})
        blocks = len(found.get("blocks", ()))
        if data is None or blocks < _FEWEST:
            return
        for part, drop in ((0.25, 0.01), (0.5, 0.06)):
            ratio = round(part * found["params_share"], 2)
            yield Proposal(
                cls(ratio=ratio, target="params"),
                smaller=1 / (1 - ratio),
                faster=1 / (1 - ratio),
                drop=drop,
                confidence="low",
                why=f"{blocks} residual blocks can be left out one by one",
            )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.dropping.dropping import drop
        from compression.dropping.options import Options

        options = Options(
            unit=self.unit,
            count=self.count,
            ratio=self.ratio,
            target=self.target,
            criterion=self.criterion,
            keep_first=self.keep_first,
            keep_last=self.keep_last,
            exclude=frozenset(self.exclude),
            samples=self.samples,
            dropped=self.dropped,
            training=self.training,
        )
        return Applied(*drop(model, options, context))

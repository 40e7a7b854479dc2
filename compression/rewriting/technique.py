"""What techniques that rewrite dense convolutions have in common."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.recovery import Recovery

if TYPE_CHECKING:
    from compression.model import Model

Sizes = tuple[int, int]
"""Channels of a group and its rank, of which a `Form` is made; that module loads a runtime (ADR 0001)."""
_LEAST_RATIO = 0.15
"""A smaller share of the network saves less than a measurement can tell."""
_TIME = 0.8
"""Time goes with this power of the multiply-accumulates that are left."""


class Rewriting(Technique):
    """A technique of this kind says which forms a layer may take, and in which words."""

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; rewrite its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; rewrite the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.STRUCTURE

    typical: ClassVar[Sizes]
    """The form by which it is told what there is to do in a model."""
    written: ClassVar[str]
    """What becomes of a layer: "a ... one"."""
    saves: ClassVar[str]
    """What layers do then."""
    tries: ClassVar[tuple[tuple[float, float], ...]]
    """Shares of what can go that are worth trying, each with the drop to expect."""

    ratio: float = Field(
        default=0.5, gt=0, lt=1, description="share of the multiply-accumulates to remove, at least"
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
    training: Recovery | None = Field(default=Recovery(), description="the recovery afterwards; null: none")

    def forms(self) -> Iterator[Sizes]:
        """That a layer may take."""
        raise NotImplementedError

    def given(self) -> Mapping[str, Sizes] | None:
        """By weight, where nothing is to be chosen."""
        raise NotImplementedError

    def required(self) -> frozenset[Need]:
        labels = self.training is not None and self.training.loss == "labels"
        return self.needs | ({Need.LABELS} if labels else set())

    def check(self, model: ModelInspection) -> str | None:
        found = model.abilities.get(self.technique, {})
        if "Conv" not in model.operators or (self.faster and found.get("layers") == 0):
            return f"the model has no dense convolution that would run faster as {self.written}"
        return super().check(model)

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.rewriting import abilities, forms  # noqa: PLC0415  ADR 0001

        return abilities.rewritable(model, forms.Form(*cls.typical))

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """Those in `tries` that save enough to be measured."""
        found = model.abilities.get(cls.model_fields["technique"].default, {})
        if data is None or not found:
            return
        for part, drop in cls.tries:
            ratio = round(part * (found["macs_saving"] or 0.0), 2)
            if ratio >= _LEAST_RATIO:
                left = 1 - ratio
                yield Proposal(
                    cls.model_validate({"ratio": ratio}),
                    smaller=1 / left,
                    faster=1 / left**_TIME,
                    drop=drop,
                    confidence="medium",
                    why=f"{found['layers']} dense convolutions, {found['macs_share']:.0%} of the "
                    f"multiply-accumulates, {cls.saves}",
                )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.rewriting import forms, options, rewriting  # noqa: PLC0415  ADR 0001

        given = self.given()
        asked = options.Options(
            forms=[forms.Form(*sizes) for sizes in self.forms()],
            ratio=self.ratio,
            faster=self.faster,
            exclude=frozenset(self.exclude),
            samples=self.samples,
            given=None if given is None else {name: forms.Form(*sizes) for name, sizes in given.items()},
            training=self.training,
        )
        return Applied(*rewriting.rewrite(model, asked, context))

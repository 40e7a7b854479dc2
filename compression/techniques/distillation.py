"""Distillation: a smaller network learns what a larger one computes."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compression.architecture import Architecture, architecture, scarce, small
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.interchange import misfit
from compression.technique import Applied, Context, ModelReference, Need, Promise, Proposal, Stage, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.model import Model

_FLOATS_ONLY = {
    Trait.QUANTIZED: "is quantized: distil in floating point, and quantize what comes of it",
    Trait.HALF_PRECISION: "is in half precision: distil in float32, and convert what comes of it",
}


_EXPECTED: Mapping[Architecture, tuple[tuple[float, float, float, float, float], ...]] = {
    Architecture.CONVOLUTIONAL: ((0.5, 1.0, 3.9, 3.4, 0.006), (0.5, 0.25, 8.8, 7.2, 0.011)),
    Architecture.MOBILE: ((0.5, 1.0, 3.0, 2.0, 0.05),),
    Architecture.TRANSFORMER: ((1.0, 0.5, 1.3, 1.9, 0.04),),
    Architecture.RECURRENT: ((0.5, 1.0, 2.0, 1.5, 0.05),),
    Architecture.DENSE: ((0.5, 1.0, 2.0, 1.9, 0.005),),
}
"""Width and depth of the student; download and time as factors; drop after ten epochs. Measured
(docs/benchmarks.md): the student of half the width and a quarter of the blocks of a residual CNN. The others
are guesses.
"""
_MEASURED = (0.5, 0.25)
_OVERHEAD = 1.05
_HARDER = 3.0
"""So many times as much is lost, at a guess, where few samples are there to learn from."""


class Derived(BaseModel):
    """A student made from the model itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: float = Field(
        default=0.5, gt=0, le=1, description="share of the channels, neurons and heads that it keeps"
    )
    depth: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share that it keeps of the residual blocks that can be left out (shapes are the same "
        "before and after them); those that change least go",
    )
    initialization: Literal["inherit", "random"] = Field(
        default="inherit",
        description="inherit: the weights of the channels kept, which are those with the largest; random: "
        "drawn anew (He et al. 2015)",
    )

    @model_validator(mode="after")
    def _smaller(self) -> Self:
        if self.width == self.depth == 1:
            raise ValueError("a student of width 1 and depth 1 is the model itself")
        return self


class Hint(BaseModel):
    """Hidden tensors whose attention maps, the sums of squares over the channels at each position, are to
    agree (Zagoruyko and Komodakis 2017, arXiv:1612.03928).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str = Field(min_length=1, max_length=1000, description="a tensor of the teacher")
    student: str = Field(min_length=1, max_length=1000, description="a tensor of the student")
    weight: float = Field(
        default=1.0, gt=0, le=1e6, allow_inf_nan=False, description="relative to the loss between outputs"
    )


class Lessons(Training):
    """A training for a network that is far from its teacher yet."""

    epochs: float = Field(default=10, ge=0, le=1000, description="passes over the samples; 0 trains nothing")
    learning_rate: float | None = Field(
        default=0.1, gt=0, le=10, allow_inf_nan=False, description="at its highest; null: the optimizer's own"
    )


class Distillation(Technique):
    """A student, smaller than the model, learns to give the model's outputs (Hinton et al. 2015,
    arXiv:1503.02531), and takes its place.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    version: ClassVar[int] = 2
    stage: ClassVar[Stage] = Stage.STRUCTURE
    guidance: ClassVar[str] = (
        "For the largest reductions: a student of an eighth of the multiplications makes fewer errors when "
        "it learns from the teacher's outputs than when it learns from labels alone, and needs no labels. "
        "Takes a training as long as the teacher's own; where less is to go, channel_pruning needs a "
        "shorter one."
    )

    technique: Literal["distillation"] = "distillation"
    student: ModelReference | None = Field(
        default=None,
        description="a model of the same inputs and outputs; null: one is derived from the model",
    )
    derive: Derived = Field(default=Derived(), description="how a student is derived")
    teacher: ModelReference | None = Field(
        default=None, description="a model of the same inputs and outputs; null: the job's original"
    )
    hints: tuple[Hint, ...] | Literal["auto"] = Field(
        default=(), description="hidden tensors to learn from too; auto: the ends of stages"
    )
    training: Lessons = Field(default=Lessons(), description="how the student is trained")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hints and self.training.loss == "labels":
            raise ValueError("by labels alone there is no teacher that hints could come from")
        if self.student is not None and self.derive != Derived():
            raise ValueError("an uploaded student is not derived: leave out `student` or `derive`")
        return self

    def required(self) -> frozenset[Need]:
        return self.needs | ({Need.LABELS} if self.training.loss == "labels" else set())

    def check(self, model: ModelInspection) -> str | None:
        if self.student is None:
            return next(
                (f"the model {why}" for trait, why in _FLOATS_ONLY.items() if trait in model.traits), None
            )
        return super().check(model)

    def traits_after(self, before: frozenset[Trait]) -> frozenset[Trait]:
        return before if self.student is None else frozenset()  # an uploaded student is in floats

    def check_reference(self, field: str, model: ModelInspection, referred: ModelInspection) -> str | None:
        if field == "student":
            for trait, why in _FLOATS_ONLY.items():
                if trait in referred.traits:
                    return f"the student {why}"
        reason = misfit(model, referred)
        return reason and f"the {field} cannot take the model's place: {reason}"

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """Students of half the width, and of fewer blocks where there are residual ones."""
        few = scarce(data)
        for width, depth, smaller, faster, drop in _EXPECTED.get(architecture(model), ()):
            if depth < 1 and "Add" not in model.operators:
                continue
            yield Proposal(
                cls(derive=Derived(width=width, depth=depth)),
                smaller=smaller,
                faster=_OVERHEAD if small(model) else faster,
                drop=drop * _HARDER if few else drop,
                confidence="medium" if (width, depth) == _MEASURED and not few else "low",
                why=f"a student of {_size(width, depth)} learns the outputs, labels or none; takes a "
                "training as long as the model's own",
            )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression import distillation
        from compression.graph import hints

        if self.student is None:
            how = self.derive
            pupil = distillation.derived(
                model, context, how.width, how.depth, random=how.initialization == "random"
            )
        else:
            chosen = context.models[self.student]
            pupil = distillation.Student(distillation.placed(chosen, model, context, "student"))
        teacher = context.original or model
        if self.teacher is not None:
            teacher = distillation.placed(context.models[self.teacher], model, context, "teacher")
        wanted = self.hints if self.hints == "auto" else [hints.Hint(**dict(one)) for one in self.hints]
        return Applied(*distillation.taught(pupil, teacher, context, self.training, wanted))


def _size(width: float, depth: float) -> str:
    parts = [f"{width:.0%} of the width"] if width < 1 else []
    parts += [f"{depth:.0%} of the residual blocks"] if depth < 1 else []
    return " and ".join(parts)

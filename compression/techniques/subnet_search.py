"""Subnet search: the best part of a network for a budget, found by training all parts together."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compression.inspection import ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Stage, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Shared(Training):
    """Of the supernet: at a higher rate and by labels as much as by the original, as its parts are far from
    what they will be.
    """

    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="at its highest; null: 0.02 for sgd, 0.0003 for adamw",
    )
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="of matrices and kernels only")
    alpha: float = Field(default=0.5, ge=0, le=1, description="share of distillation in the loss")

    @property
    def peak_rate(self) -> float:
        return self.learning_rate or {"sgd": 0.02, "adamw": 3e-4}[self.optimizer]


class SubnetSearch(Technique):
    """Neural architecture search over the model itself: which widths, and which residual blocks, suit a
    budget best.

    One supernet is trained in which all sub-networks share weights: at each step the widest within the
    budget, one of half of it and a few by chance, taught by the original. Then many can be judged without
    training any: Optuna looks for those of lowest loss and cost, on samples held out of training. The best
    are cut out, with the shared weights or the original's corrected by least squares, trained shortly and
    compared, and the winner is trained on.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; search in its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; search in the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.STRUCTURE
    version: ClassVar[int] = 2
    guidance: ClassVar[str] = (
        "For large reductions, where it matters which layers get the budget, and many samples: the supernet "
        "must learn before it can tell sub-networks apart. With 10,000 images and an eighth of a CNN's "
        "multiply-accumulates it was no better than uniform widths at much the same compute: 92.4 against "
        "92.3 % with a supernet (one seed), 92.0 against 92.2 % without (three). channel_pruning takes a "
        "fraction of the time: try that first; searches and advice do. `kept` and `dropped` of a point of "
        "the frontier cut it out when given to channel_pruning."
    )

    technique: Literal["subnet_search"] = "subnet_search"
    ratio: float = Field(default=0.5, gt=0, lt=1, description="share of the target to remove, at least")
    target: Literal["macs", "params", "latency"] = Field(
        default="macs",
        description="what the ratio is of: multiply-accumulates, parameters, or the time of one sample on "
        "one thread, predicted from a table of operators measured here",
    )
    widths: tuple[Share, ...] = Field(
        default=(0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0),
        min_length=1,
        max_length=32,
        description="shares of a group's channels, neurons or heads that a sub-network may have",
    )
    depth: bool = Field(
        default=True, description="whether residual blocks may be left out, half of them at most"
    )
    round_to: int = Field(
        default=8,
        ge=1,
        le=256,
        description="channels of a group stay a multiple of it, of a small group of less",
    )
    criterion: Literal["reconstruction", "taylor", "l1", "l2", "activation_mean"] = Field(
        default="reconstruction",
        description="what makes a unit matter: a narrower sub-network has the more important units, by the "
        "criteria of channel_pruning",
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many samples are looked at for the ranking"
    )
    subnets: int = Field(
        default=2,
        ge=0,
        le=16,
        description="sub-networks by chance at each step, beside the widest within the budget and one of "
        "half of it",
    )
    trials: int = Field(default=120, ge=1, le=100_000, description="sub-networks that are judged")
    population: int = Field(
        default=24,
        ge=2,
        le=10_000,
        description="of a generation of nsga2; trials by chance before tpe learns",
    )
    sampler: Literal["nsga2", "tpe", "local"] = Field(
        default="nsga2",
        description="how sub-networks are proposed: NSGA-II (Deb et al. 2002), or a tree-structured Parzen "
        "estimator (Bergstra et al. 2011), or local: neighbours of the best so far, which suits few trials",
    )
    finalists: int = Field(
        default=4,
        ge=1,
        le=64,
        description="the best sub-networks by shared weights, which are cut out, trained and compared",
    )
    final_epochs: float = Field(
        default=1.0, ge=0, le=100, description="passes over the samples for each of several finalists"
    )
    training: Shared | None = Field(
        default=Shared(),
        description="how the supernet is trained; null: there is none, and sub-networks are judged with the "
        "original's weights, corrected by least squares",
    )
    recovery: Shared | None = Field(
        default=Shared(), description="how the sub-network found is trained; null: not at all"
    )

    @model_validator(mode="after")
    def _elastic(self) -> Self:
        if not self.depth and set(self.widths) == {1.0}:
            raise ValueError("with depth false and no width but 1 there is nothing to choose from")
        return self

    def required(self) -> frozenset[Need]:
        trainings = (self.training, self.recovery)
        labels = any(one is not None and one.loss == "labels" for one in trainings)
        return self.needs | ({Need.LABELS} if labels else set())

    def check(self, model: ModelInspection) -> str | None:
        if not _LAYERS & set(model.operators):
            return f"the model has none of {', '.join(sorted(_LAYERS))}, so nothing to choose from"
        return super().check(model)

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.subnets.abilities import elastic

        step = cls()
        return elastic(model, step.widths, step.round_to)

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.subnets.options import Options
        from compression.subnets.searching import find

        options = Options(
            ratio=self.ratio,
            target=self.target,
            widths=self.widths,
            depth=self.depth,
            round_to=self.round_to,
            criterion=self.criterion,
            samples=self.samples,
            subnets=self.subnets,
            trials=self.trials,
            population=self.population,
            sampler=self.sampler,
            finalists=self.finalists,
            final_epochs=self.final_epochs,
            training=self.training,
            recovery=self.recovery,
        )
        return Applied(*find(model, options, context))

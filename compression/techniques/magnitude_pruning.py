"""Magnitude pruning: weights of small magnitude become zero, step by step, while the rest is trained."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from compression.architecture import Architecture, architecture, scarce
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.sparsity.options import Constant, NOfM, Pattern, PolynomialDecay, Schedule, Unstructured
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.engine import Engine
    from compression.graph.layers import Layer, Layers
    from compression.model import Model
    from compression.sparsity.masking import Masking
    from compression.sparsity.rule import Rule

_SPARSITY = 0.8
_LEFT = {0.5: 0.56, 0.8: 0.24}
"""Share of a tensor's bytes that zstd leaves at a sparsity, measured on weights of a CNN and an LSTM."""
_DROPS: Mapping[Architecture, tuple[float, float]] = {
    Architecture.CONVOLUTIONAL: (0.0, 0.0),
    Architecture.DENSE: (0.0, 0.0),
    Architecture.MOBILE: (0.005, 0.03),
    Architecture.TRANSFORMER: (0.01, 0.05),
    Architecture.RECURRENT: (0.005, 0.03),
}
"""At sparsities of 0.5 and 0.8 after three epochs. Measured (docs/benchmarks.md): a residual CNN and a dense
network, both better than before, as they were trained further. The others are guesses.
"""
_MEASURED = frozenset({Architecture.CONVOLUTIONAL, Architecture.DENSE})
_HARDLY_TRAINED = 0.01
"""Lost besides, at a guess, where few samples are there to recover with."""
_NEITHER_FIRST_NOR_LAST = 3


class RecoveryTraining(Training):
    """At a higher rate, and by labels as much as by the original: the weights that stay have far to go."""

    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="at its highest; null: 0.05 for sgd, 0.001 for adamw",
    )
    alpha: float = Field(default=0.5, ge=0, le=1, description="share of distillation in the loss")

    @property
    def peak_rate(self) -> float:
        return self.learning_rate or {"sgd": 0.05, "adamw": 1e-3}[self.optimizer]


class MagnitudePruning(Technique):
    """Makes weights of small magnitude exactly zero, and trains the others to make up for them.

    Pruned are the kernels and matrices of convolutions, dense and recurrent layers. Biases, normalisation,
    embeddings and depthwise kernels, which are few and sensitive, stay. The zeros hold through the training;
    steps that follow, such as static_quantization, keep them.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER_DOWNLOAD})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; prune its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; prune the float32 original, then halve it",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.SPARSITY
    guidance: ClassVar[str] = (
        "Download size only on this runtime: a file with 80 % zeros compresses to a quarter, but takes as "
        "much memory and time as before (measured: 0.93-1.04 times the speed, 2:4 included, which needs "
        "NVIDIA's sparse tensor cores). For speed take channel_pruning. Quantize afterwards: the zeros stay, "
        "and both gains multiply."
    )

    technique: Literal["magnitude_pruning"] = "magnitude_pruning"
    sparsity: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of zeros in the pruned weights at the end; null: 0.8, or what n and m say",
    )
    scope: Literal["layer", "global"] = Field(
        default="global",
        description="what the share is of: each layer, or all of them together (n_m: always each group)",
    )
    criterion: Literal["lamp", "l1", "random"] = Field(
        default="lamp",
        description="what goes first: weights that are small for their layer, small of all, or any; within a "
        "layer the first two are the same",
    )
    pattern: Pattern = Field(
        default=Unstructured(), discriminator="kind", description="which weights go together"
    )
    schedule: Schedule = Field(
        default=PolynomialDecay(),
        discriminator="kind",
        description="when weights become zero; needs training",
    )
    skip_first_and_last: bool = Field(
        default=True, description="leave out layers that no other layer precedes, or none follows"
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="names of nodes, of their outputs, or of weights that are left out",
    )
    training: RecoveryTraining | None = Field(
        default=RecoveryTraining(),
        description="how the other weights are trained; null: pruned at once, not trained",
    )

    @model_validator(mode="after")
    def _agrees(self) -> "MagnitudePruning":
        implied = self.pattern.sparsity if isinstance(self.pattern, NOfM) else None
        if implied is not None and self.sparsity not in {None, implied}:
            raise ValueError(f"n and m make {implied:g} of the weights zero: leave sparsity out")
        if isinstance(self.schedule, PolynomialDecay):
            initial = self.schedule.initial_sparsity
            if initial > self.final:
                raise ValueError(f"initial_sparsity {initial:g} is more than the final {self.final:g}")
        at_once = isinstance(self.schedule, Constant) and self.schedule.begin_step == 0
        if self.training is not None and self.training.patience is not None and not at_once:
            raise ValueError("patience may stop the training before the schedule ends: leave it out")
        return self

    @property
    def final(self) -> float:
        """Sparsity at the end."""
        if isinstance(self.pattern, NOfM):
            return self.pattern.sparsity
        return _SPARSITY if self.sparsity is None else self.sparsity

    def required(self) -> frozenset[Need]:
        if self.training is None or not self.training.epochs:
            return frozenset()
        return self.needs | ({Need.LABELS} if self.training.loss == "labels" else set())

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.graph import weights
        from compression.graph.layers import Layers

        found = Layers(model.outline.graph)
        prunable = sum(math.prod(found.stored[layer.weight].dims) for layer in found.all)
        share = prunable / max(1, weights.params(model.outline.graph))
        return {"layers": len(found.all), "prunable_params": round(share, 4)}

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """Half and four fifths; of a network without inner layers its ends too."""
        kind, few = architecture(model), scarce(data)
        found = model.abilities.get("magnitude_pruning", {})
        share = found.get("prunable_params", 1.0)
        if kind not in _DROPS or not share:
            return
        ends = found.get("layers", _NEITHER_FIRST_NOR_LAST) >= _NEITHER_FIRST_NOR_LAST
        for (sparsity, left), drop in zip(_LEFT.items(), _DROPS[kind], strict=True):
            yield Proposal(
                cls(sparsity=sparsity, skip_first_and_last=ends),
                smaller=1 / (1 - share + share * left),
                faster=1.0,
                drop=drop + _HARDLY_TRAINED if few else drop,
                confidence="medium" if kind in _MEASURED and not few else "low",
                why=f"zeros compress well, and {share:.0%} of the weights can be made zero: a smaller "
                "download, as fast and as large in memory as before",
            )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.graph.layers import Layers
        from compression.model import Model
        from compression.sparsity.rule import Rule, measured, prune

        rule = Rule(self.pattern, self.scope, self.criterion, context.seed)
        details: Mapping[str, Any] = {}
        if self.required():
            model, details = self._trained(model, context, rule)
        proto = model.copy()
        layers = Layers(proto.graph)
        chosen = self._chosen(layers)
        if prune(layers, chosen, rule, self.final) and self.required():
            raise CompressionError(
                "E_INTERNAL", "zeros did not hold through the training", ErrorKind.INTERNAL
            )
        return Applied(Model(proto), {**measured(layers, chosen), **details})

    def _trained(self, model: "Model", context: Context, rule: "Rule") -> "tuple[Model, Mapping[str, Any]]":
        from compression.graph.layers import Layers
        from compression.sparsity.masking import Masking
        from compression.training.loop import Stage
        from compression.training.tuning import fine_tune

        assert self.training is not None  # noqa: S101  `required`

        def masking(engine: "Engine") -> "list[Masking]":
            chosen = self._chosen(Layers(engine.model.proto.graph))
            return [Masking(engine, chosen, rule, self.schedule, self.final)]

        return fine_tune(
            model, self.training, context, extensions=masking, stage=Stage("pruning"), renormalise=True
        )

    def _chosen(self, layers: "Layers") -> "list[Layer]":
        """Errors: CompressionError `nothing_to_prune`."""
        left_out = layers.ends() if self.skip_first_and_last else set()
        excluded = set(self.exclude)
        chosen = [
            layer for layer in layers.all if layer.weight not in left_out and excluded.isdisjoint(layer.names)
        ]
        if not chosen:
            raise _nothing(len(layers.all), skipped=bool(left_out))
        return chosen


def _nothing(layers: int, *, skipped: bool) -> CompressionError:
    if not skipped:
        why = f"of the model's {layers} layers with float weights none is left to prune"
        return CompressionError("nothing_to_prune", why, ErrorKind.UNSUPPORTED)
    return CompressionError(
        "nothing_to_prune",
        f"all of the model's {layers} layers are its first, its last, or excluded",
        ErrorKind.UNSUPPORTED,
        suggestions=[Suggestion("Prune the first and last layers too", {"skip_first_and_last": False})],
    )

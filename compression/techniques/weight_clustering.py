"""Weight clustering: the weights of a layer share a few values, which are trained."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from compression.architecture import Architecture, architecture, scarce
from compression.errors import CompressionError, ErrorKind
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.clustering.members import HeldClusters
    from compression.engine import Engine
    from compression.graph.layers import Layer, Layers
    from compression.model import Model

_DROPS = {
    Architecture.DENSE: 0.005,
    Architecture.CONVOLUTIONAL: 0.005,
    Architecture.MOBILE: 0.02,
    Architecture.TRANSFORMER: 0.01,
    Architecture.RECURRENT: 0.01,
}
"""With 16 clusters. Measured: the example's residual CNN, 0.2 points after a fifth of an epoch. The others
are guesses.
"""
_HARDLY_TRAINED = 0.01
"""Lost besides, at a guess, where few samples are there to train with."""
_LEFT = 0.14
"""Of the download of clustered weights (measured: the example's residual CNN)."""


class CentroidTraining(Training):
    """Short and by the original's outputs: centroids have little way to go."""

    epochs: float = Field(default=2, ge=0, le=1000, description="passes over the samples; 0 trains nothing")
    optimizer: Literal["sgd", "adamw"] = Field(default="adamw", description="sgd: with Nesterov momentum")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="of matrices and kernels only")
    temperature: float = Field(default=2.0, ge=0.1, le=100, description="softens both sides of distillation")


class WeightClustering(Technique):
    """Makes the weights of each layer share a few values, and trains these values.

    Clustered are the kernels and matrices of convolutions, dense and recurrent layers, each on its own, by
    k-means; BatchNormalization is folded into them first. Which weights go together is chosen once; then the
    values are trained, a value's gradient being that of all its weights.

    Zeros that pruning left stay. static_quantization and quantization_aware_training keep the values shared,
    so that magnitude_pruning, weight_clustering and quantization, in this order, add up.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER_DOWNLOAD})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; cluster its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; cluster the float32 original, then halve it",
    }
    trains: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.SPARSITY
    guidance: ClassVar[str] = (
        "Download size only on this runtime: a file whose layers have 16 values compresses to less than a "
        "sixth, but takes as much memory and time as before. Quantize afterwards: the int8 file is a quarter "
        "as large and faster, and its download shrinks to an eighth of the original's and less."
    )

    technique: Literal["weight_clustering"] = "weight_clustering"
    clusters: int = Field(default=16, ge=2, le=256, description="values that the weights of a layer share")
    initialization: Literal["exact", "kmeans++", "density", "linear"] = Field(
        default="exact",
        description="where k-means begins: the best clustering of up to 4,096 points that stand for the "
        "weights, centroids drawn by distance, as many weights to each, or equally far from each other",
    )
    entropy_penalty: float = Field(
        default=2.0,
        ge=0,
        le=100,
        description="squared error that one bit of the coded weights is worth, as a multiple of that of "
        "k-means: clusters become unequal, and the download smaller; 0: k-means",
    )
    preserve_sparsity: bool = Field(
        default=True,
        description="weights that are exactly 0, as pruning leaves them, are one of the clusters",
    )
    skip_first_and_last: bool = Field(
        default=False, description="leave out layers that no other layer precedes, or none follows"
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="names of nodes, of their outputs, or of weights that are left out",
    )
    training: CentroidTraining | None = Field(
        default=CentroidTraining(),
        description="how the values are trained; null: those of k-means stay",
    )

    @model_validator(mode="after")
    def _keeps_values(self) -> "WeightClustering":
        if self.training is not None and self.training.batchnorm == "train":
            raise ValueError("batchnorm: folding it again would give each channel values of its own")
        return self

    def required(self) -> frozenset[Need]:
        if self.training is None or not self.training.epochs:
            return frozenset()
        return self.needs | ({Need.LABELS} if self.training.loss == "labels" else set())

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.graph import weights
        from compression.graph.layers import Layers

        found = Layers(model.proto.graph)
        params = sum(math.prod(found.stored[layer.weight].dims) for layer in found.all)
        share = params / max(1, weights.params(model.proto.graph))
        return {"layers": len(found.all), "clustered_params": round(share, 4)}

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """16 clusters."""
        kind, few = architecture(model), scarce(data)
        share = model.abilities.get("weight_clustering", {}).get("clustered_params", 1.0)
        if kind not in _DROPS or not share:
            return
        yield Proposal(
            cls(),
            smaller=1 / (1 - share + share * _LEFT),
            faster=1.0,
            drop=_DROPS[kind] + _HARDLY_TRAINED * few,
            confidence="medium" if kind is Architecture.CONVOLUTIONAL and not few else "low",
            why=f"{share:.0%} of the weights can share 16 values a layer: a smaller download, no speed",
        )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.clustering.rule import Rule, cluster, measured
        from compression.engine import fold_batchnorm, normalise
        from compression.graph.layers import Layers
        from compression.model import Model

        ready = fold_batchnorm(normalise(model))
        proto = ready.copy()
        layers = Layers(proto.graph)
        rule = Rule(
            self.clusters, self.initialization, self.entropy_penalty, self.preserve_sparsity, context.seed
        )
        errors = cluster(layers, self._chosen(layers), rule)
        made, details = Model(proto), dict[str, Any]()
        if self.required():
            made, trained = self._trained(made, context, context.original or ready)
            details["training"] = dict(trained)
        layers = Layers(made.proto.graph)
        figures = measured(layers, self._chosen(layers))
        if max(figures["layer_values"].values()) > self.clusters:
            raise CompressionError("E_INTERNAL", "a layer has more values than clusters", ErrorKind.INTERNAL)
        return Applied(made, {**figures, "layer_error": errors, **details})

    def _trained(
        self, model: "Model", context: Context, teacher: "Model"
    ) -> "tuple[Model, Mapping[str, Any]]":
        from compression.clustering.members import HeldClusters
        from compression.graph.layers import Layers
        from compression.training.loop import Stage
        from compression.training.tuning import fine_tune

        assert self.training is not None  # noqa: S101  `required`

        def held(engine: "Engine") -> "list[HeldClusters]":
            values = engine.values()
            layers = self._chosen(Layers(engine.model.proto.graph))
            return [HeldClusters(values[layer.weight] for layer in layers)]

        return fine_tune(
            model, self.training, context, extensions=held, teacher=teacher, stage=Stage("clustering")
        )

    def _chosen(self, layers: "Layers") -> "list[Layer]":
        """Errors: CompressionError `nothing_to_cluster`."""
        left_out = layers.ends() if self.skip_first_and_last else set()
        excluded = set(self.exclude)
        chosen = [
            layer for layer in layers.all if layer.weight not in left_out and excluded.isdisjoint(layer.names)
        ]
        if not chosen:
            raise CompressionError(
                "nothing_to_cluster",
                f"of the model's {len(layers.all)} layers with float weights none is left to cluster",
                ErrorKind.UNSUPPORTED,
            )
        return chosen

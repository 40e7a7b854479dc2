"""Low-rank factorisation: layers written as two or three smaller ones."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import Applied, Context, Need, Promise, Proposal, Stage, Technique
from compression.training.recovery import Recovery

if TYPE_CHECKING:
    from compression.model import Model

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_UNKNOWN_SHARE = 0.6
"""Of the multiply-accumulates in layers that can be factorised, where it cannot be told from the graph."""
_ENCODERS = 20
"""Times as much is lost in networks that look up tokens."""
_LEAST_RATIO = 0.15
"""A smaller share of the network saves less than a measurement can tell."""
Method = Literal["svd", "spatial", "tucker"]
Rank = Annotated[int, Field(ge=1, le=1_000_000)]


class Factors(BaseModel):
    """How one layer is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(description="as in `methods`")
    ranks: tuple[Rank, ...] = Field(
        min_length=1, max_length=2, description="one; of tucker those of the inputs and of the outputs"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        wanted = 2 if self.method == "tucker" else 1
        if len(self.ranks) != wanted:
            raise ValueError(f"{self.method} has {wanted} rank{'s' * (wanted > 1)}, not {len(self.ranks)}")
        return self


class LowRank(Technique):
    """Layers become chains of two or three smaller ones, of the ranks that lose the least of what the layers
    give on calibration samples: Linear layers by SVD, convolutions by a column and a row of the kernel or by
    Tucker-2, whichever is better.

    Ranks are shared out over the network by what is lost for each multiply-accumulate saved. Then the network
    is trained a little, taught by the original.
    """

    needs: ClassVar = frozenset({Need.CALIBRATION})
    promises: ClassVar = frozenset({Promise.SMALLER, Promise.FASTER})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; factorise its floating-point original, then quantize",
        Trait.HALF_PRECISION: "the model is in half precision; factorise the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.STRUCTURE
    version: ClassVar[int] = 2
    guidance: ClassVar[str] = (
        "For networks with wide dense layers or 3 x 3 convolutions, where channel pruning finds nothing more "
        "to cut or a layer's width must stay; goes well before quantization. A CNN at a quarter of its "
        "multiply-accumulates was 3.1 times as fast and 5.3 times smaller, at 0.39 points after a short "
        "recovery. Half can go without any training, for half a point. Encoders, whose layers are of nearly "
        "full rank, lose more. "
        "Depthwise and narrow layers gain nothing and are left as they are."
    )

    technique: Literal["low_rank"] = "low_rank"
    ratio: float = Field(default=0.4, gt=0, lt=1, description="share of the target to remove")
    target: Literal["macs", "params"] = Field(
        default="macs", description="what the ratio is of: multiply-accumulates, or parameters"
    )
    energy: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="instead of a ratio: the share of each layer's output energy that its rank must keep",
    )
    criterion: Literal["outputs", "layers"] = Field(
        default="outputs",
        description="what an error counts. outputs: what it does to the outputs of the network, told from "
        "gradients; layers: its share of what the layer itself gives",
    )
    methods: tuple[Method, ...] = Field(
        default=("svd", "spatial", "tucker"),
        min_length=1,
        max_length=3,
        description="svd: Linear layers and 1 x 1 convolutions in two; spatial: a k x k convolution as k x 1 "
        "and 1 x k; tucker: as 1 x 1, k x k and 1 x 1, where a side of full rank needs no 1 x 1",
    )
    round_to: int = Field(default=16, ge=1, le=256, description="ranks are multiples of it")
    faster: bool = Field(
        default=True,
        description="factorise a layer only where it is expected to run faster, told from its "
        "multiply-accumulates and what its parts write; false: wherever it saves multiply-accumulates",
    )
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="weights, nodes or outputs of layers that stay"
    )
    samples: int = Field(
        default=512, ge=1, le=100_000, description="at most so many calibration samples are looked at"
    )
    layers: dict[str, Factors] | None = Field(
        default=None,
        description="by weight, how layers are written, to repeat a choice. Nothing is chosen then",
    )
    training: Recovery | None = Field(default=Recovery(), description="the recovery afterwards; null: none")

    def required(self) -> frozenset[Need]:
        labels = self.training is not None and self.training.loss == "labels"
        return self.needs | ({Need.LABELS} if labels else set())

    def check(self, model: ModelInspection) -> str | None:
        if not _LAYERS & set(model.operators):
            return f"the model has none of {', '.join(sorted(_LAYERS))}, so no layer to factorise"
        return super().check(model)

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:
        from compression.factorization.abilities import factorisable

        return factorisable(model)

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:
        """Half of what can go, and most of it. A CNN lost 0.4 points at a ratio of 0.75; a sentence encoder,
        whose layers are of nearly full rank, 0.06 of its similarities' rank correlation at 0.3.
        """
        found = model.abilities.get("low_rank", {})
        if data is None or not found.get("layers"):
            return
        share = found["macs_share"] or _UNKNOWN_SHARE
        for part, drop in ((0.5, 0.003), (0.75, 0.004)):
            ratio = round(part * share, 2)
            if ratio >= _LEAST_RATIO:
                yield Proposal(
                    cls(ratio=ratio),
                    smaller=1 / (1 - part * found["params_share"]),
                    faster=(1 - ratio) ** -0.8,
                    drop=drop * _ENCODERS if model.lookups else drop,
                    confidence="low" if model.lookups else "medium",
                    why=f"{found['layers']} layers, about {share:.0%} of the multiply-accumulates, can be "
                    "written as chains of smaller ones",
                )

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.factorization.chains import Form
        from compression.factorization.factorization import factorise
        from compression.factorization.options import Options

        forms = None
        if self.layers is not None:
            forms = {name: Form(one.method, one.ranks) for name, one in self.layers.items()}
        options = Options(
            ratio=self.ratio,
            target=self.target,
            energy=self.energy,
            criterion=self.criterion,
            methods=frozenset(self.methods),
            round_to=self.round_to,
            faster=self.faster,
            exclude=frozenset(self.exclude),
            samples=self.samples,
            forms=forms,
            training=self.training,
        )
        return Applied(*factorise(model, options, context))

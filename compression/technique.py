"""Technique: the base of every step, and the registry that everything else is derived from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, core_schema

from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.measurement import WantedTask

if TYPE_CHECKING:  # a technique is declared without loading a runtime (ADR 0001)
    from compression.dataset import Dataset
    from compression.model import Model

REGISTRY: "dict[str, type[Technique]]" = {}
Confidence = Literal["low", "medium", "high"]


class Need(StrEnum):
    """What a technique asks of the data set."""

    CALIBRATION = "calibration"
    LABELS = "labels"
    TRAINING = "training"


class Promise(StrEnum):
    """What a technique is chosen for. Measured at the end; a broken promise makes the outcome `unmet`."""

    SMALLER = "smaller"
    SMALLER_DOWNLOAD = "smaller_download"
    """By zstd: the file itself may be as large as before."""
    FASTER = "faster"


class Stage(IntEnum):
    """Where in a pipeline a technique belongs: what a later one does, an earlier one would undo."""

    GRAPH = 0
    """The same function, written shorter."""
    STRUCTURE = 1
    """Fewer or smaller layers."""
    SPARSITY = 2
    """Weights that are zero or shared: a smaller download."""
    PRECISION = 3
    """Fewer bits."""


@dataclass(frozen=True)
class Proposal:
    """A step with what to expect of it, as factors (2.0: half as large, half the time): estimates from what
    was measured on models of the kind. `drop` in points of the metric, or as a share of the original's value
    where it has no upper end (0.01: one point, one hundredth).
    """

    step: "Technique"
    smaller: float
    """Of the download (zstd)."""
    faster: float
    drop: float
    confidence: Confidence
    why: str
    """A sentence for the user: why this step, on this model."""


class ModelReference(str):
    """Another model, in a parameter of a technique: a service's id of it (`mdl_…`), or any name in a library
    call. `Context.models` holds it by this name.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, handler(_Name))


_Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]


class Report(Protocol):
    def __call__(self, fraction: float, message: str, numbers: Mapping[str, float] = {}, /) -> None:
        """A fraction of 0-1, what is being done now, and what can be read off it: `step`, `loss`,
        `samples_per_second`, ...
        """


def quiet(_fraction: float, _message: str, _numbers: Mapping[str, float] = {}, /) -> None:
    """Reports to nobody."""


@dataclass(frozen=True)
class Context:
    """What a technique may use besides the model."""

    data: "Dataset | None"
    seed: int
    scratch: Path
    """A private directory that is deleted afterwards."""
    threads: int = 1
    report: Report = quiet
    original: "Model | None" = None
    """The model before the first step, which teaches a trained step. None: the step's own model."""
    models: "Mapping[str, Model]" = field(default_factory=dict)
    """Those that the parameters refer to, by reference."""
    resume: Path | None = None
    """A checkpoint that an earlier attempt at this very step left, if it did."""
    checkpoint: Path | None = None
    """Where to leave checkpoints: a file that is always replaced as a whole. None: nobody would resume."""
    task: WantedTask = "auto"
    """What the labels ask."""


class Applied(NamedTuple):
    model: "Model"
    details: Mapping[str, Any]
    """JSON for the step's record: what was chosen, excluded, measured."""


class Technique(BaseModel):
    """Subclasses declare `technique: Literal["name"] = "name"`, their parameters as fields, and `apply`.

    The docstring is the public documentation. A technique never changes the model it is given, keeps names,
    types
    and shapes of inputs and outputs, and returns the same bytes for the same model, data, parameters and
    seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: ClassVar[frozenset[Need]] = frozenset()
    promises: ClassVar[frozenset[Promise]] = frozenset()
    adds: ClassVar[frozenset[Trait]] = frozenset()
    refuses: ClassVar[Mapping[Trait, str]] = {}
    """Traits this technique cannot follow, each with the sentence the user reads."""
    guidance: ClassVar[str] = ""
    """When to use it and what it really gains."""
    trains: ClassVar[bool] = False
    """Whether weights are trained: such a step is taught by the original model and leaves checkpoints."""
    moves_outputs: ClassVar[bool] = False
    """Whether outputs may, with the defaults, end far from what they were; the outcome says if too far."""
    stage: ClassVar[Stage] = Stage.GRAPH
    """Where in a pipeline it belongs."""
    version: ClassVar[int] = 1
    """Part of every cache key: raised when the same parameters give other bytes."""

    technique: str

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        named = get_args(cls.model_fields["technique"].annotation)
        if not named:  # what several techniques have in common
            return
        (name,) = named
        if name in REGISTRY:
            raise TypeError(f"two techniques are named {name!r}")
        REGISTRY[name] = cls

    def required(self) -> frozenset[Need]:
        """What these parameters ask of the data set; `needs`, unless a parameter changes it."""
        return self.needs

    def references(self) -> Iterator[tuple[str, ModelReference]]:
        """Fields that name another model, and the names."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, ModelReference):
                yield name, value

    def check_reference(
        self,
        field: str,  # noqa: ARG002  the base refuses nothing
        model: ModelInspection,  # noqa: ARG002
        referred: ModelInspection,  # noqa: ARG002
    ) -> str | None:
        """Why the model that a field refers to does not go with the model of the step; None if it does."""
        return None

    def traits_after(self, before: frozenset[Trait]) -> frozenset[Trait]:
        """Of the model that comes out, told from those of the one that goes in."""
        return before | self.adds

    def check(self, model: ModelInspection) -> str | None:
        """Why this technique, with these parameters, cannot be applied to such a model; None if it can."""
        for trait in sorted(model.traits & set(self.refuses)):
            return self.refuses[trait]
        return None

    @classmethod
    def examine(cls, model: "Model") -> Mapping[str, Any]:  # noqa: ARG003  the base has nothing to say
        """What there is to do in a model, as JSON of numbers and names; told with the model's inspection.
        Given up after a few seconds.
        """
        return {}

    @classmethod
    def proposals(
        cls,
        model: ModelInspection,  # noqa: ARG003  the base proposes nothing
        data: DatasetInspection | None,  # noqa: ARG003
    ) -> Iterable[Proposal]:
        """The few steps worth trying on such a model with such data: what automated search combines and
        advice recommends. Steps that `check` or the data refuse need not be left out; the caller does that.
        """
        return ()

    def apply(self, model: "Model", context: Context) -> Applied:
        """Errors: CompressionError, with a code and a way out."""
        raise NotImplementedError

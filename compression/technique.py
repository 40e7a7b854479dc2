"""Technique: the base of every step, and the registry that everything else is derived from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

from compression.inspection import ModelInspection, Trait

if TYPE_CHECKING:  # a technique is declared without loading a runtime (ADR 0001)
    from compression.dataset import Dataset
    from compression.model import Model

REGISTRY: "dict[str, type[Technique]]" = {}


class Need(StrEnum):
    """What a technique asks of the data set."""

    CALIBRATION = "calibration"
    LABELS = "labels"
    TRAINING = "training"


class Promise(StrEnum):
    """What a technique is chosen for. Measured at the end; a broken promise makes the outcome `unmet`."""

    SMALLER = "smaller"
    FASTER = "faster"


@dataclass(frozen=True)
class Context:
    """What a technique may use besides the model."""

    data: "Dataset | None"
    seed: int
    scratch: Path
    """A private directory that is deleted afterwards."""
    threads: int = 1
    report: Callable[[float, str], None] = lambda _fraction, _message: None
    """Progress: a fraction of 0-1 and what is being done now."""


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
    version: ClassVar[int] = 1
    """Part of every cache key: raised when the same parameters give other bytes."""

    technique: str

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        (name,) = get_args(cls.model_fields["technique"].annotation)
        if name in REGISTRY:
            raise TypeError(f"two techniques are named {name!r}")
        REGISTRY[name] = cls

    def check(self, model: ModelInspection) -> str | None:
        """Why this technique, with these parameters, cannot be applied to such a model; None if it can."""
        for trait in sorted(model.traits & set(self.refuses)):
            return self.refuses[trait]
        return None

    def apply(self, model: "Model", context: Context) -> Applied:
        """Errors: CompressionError, with a code and a way out."""
        raise NotImplementedError

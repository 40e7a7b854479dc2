"""Recipe: ordered steps, each one of the registered techniques."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import compression.techniques  # noqa: F401  loading the folder fills the registry
from compression.errors import FieldError, Suggestion
from compression.fit import LABELS
from compression.inspection import DatasetInspection, ModelInspection
from compression.measurement import WantedTask
from compression.technique import REGISTRY, Need, Promise, Technique

if TYPE_CHECKING:
    Step = Technique
else:
    Step = Annotated[reduce(or_, REGISTRY.values()), Field(discriminator="technique")]


class Recipe(BaseModel):
    """What is to be done, and from when on the result counts as a failure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[Step, ...] = Field(min_length=1, max_length=16)
    max_metric_drop: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="largest loss of the task metric that still counts as met: 0.01 is one point, or one "
        "hundredth of the original's value for metrics without an upper end (rmse, perplexity)",
    )
    min_agreement: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="without labels: smallest share of samples decided as by the original",
    )
    task: WantedTask = Field(
        default="auto", description="what the labels ask of the model; `auto`: told from what both look like"
    )

    @property
    def promises(self) -> frozenset[Promise]:
        return frozenset().union(*(step.promises for step in self.steps))

    def check(self, model: ModelInspection, data: DatasetInspection | None) -> list[FieldError]:
        """Every reason why these steps cannot run, in this order, on such a model and data; empty if they
        can.
        """
        errors: list[FieldError] = []
        for index, step in enumerate(self.steps):
            reasons = [step.check(model), *(_unmet(need, data) for need in sorted(step.required()))]
            at = f"/recipe/steps/{index}"
            errors += [FieldError(at, f"{step.technique}: {why}") for why in reasons if why]
            model = model.model_copy(update={"traits": step.traits_after(model.traits)})
        return errors

    def ways_out(self, data: DatasetInspection | None) -> list[Suggestion]:
        """A patch of the request, where steps that ask for labels in vain can do without."""
        steps = [
            _unlabelled(step) if data is not None and _wants_labels(step, data) else step
            for step in self.steps
        ]
        if steps == list(self.steps):
            return []
        patch = {"recipe": {"steps": [canonical(step) for step in steps]}}
        return [Suggestion("Learn from the original model's outputs instead of labels", patch)]


def _wants_labels(step: Technique, data: DatasetInspection) -> bool:
    return Need.LABELS in step.required() and _unmet(Need.LABELS, data) is not None


def _unlabelled(step: Technique) -> Technique:
    """The same step taught by the original, if it is one that can be."""
    parameters = canonical(step)
    if not isinstance(parameters.get("training"), dict):
        return step
    parameters["training"]["loss"] = "distillation"
    try:
        other = type(step).model_validate(parameters)
    except ValidationError:  # it has no other loss
        return step
    return step if Need.LABELS in other.required() else other


def _unmet(need: Need, data: DatasetInspection | None) -> str | None:
    if data is None:
        return f"needs a data set ({need.value}); name one in dataset_id"
    match need:
        case Need.CALIBRATION:
            return None if data.splits.get("calibration") else "the data set has no samples to calibrate with"
        case Need.LABELS:
            trained = "train" if "train" in data.splits else "calibration"
            labelled = any(array.split == trained and array.name in LABELS for array in data.arrays)
            return None if labelled else f"needs labels, and the {trained} split of the data set has none"
        case Need.TRAINING:
            return None if data.splits.get("train") else "needs a train split and the data set has none"


def canonical(step: Technique) -> dict[str, Any]:
    """The step as JSON with every default written out: what is stored and what cache keys are made of."""
    return step.model_dump(mode="json")

"""A look at a few samples, before a job trains: do its model and its data set belong together?"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.measurement import WantedTask

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Glanced(BaseModel):
    """Each doubt a sentence with a way out."""

    model_config = _FROZEN
    doubts: list[Annotated[str, Field(max_length=1000)]] = Field(max_length=8)


class Glance(BaseModel):
    """Of a normalised model at a normalised data set."""

    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = Glanced
    operation: Literal["glance"] = "glance"
    original: Path
    data: Path
    seed: int
    task: WantedTask = "auto"
    output: None = None

    @property
    def inputs(self) -> list[Path]:
        return [self.original, self.data]


def run(task: Glance) -> Glanced:
    from compression.measure.glance import glance  # noqa: PLC0415  loads what only a child may

    return Glanced(doubts=list(glance(task.original, task.data, seed=task.seed, task=task.task)))

"""What a sandbox can be asked to do and what comes of it, as data."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.dataset_preview import DatasetPreview
from compression.export_check import ExportCheck
from compression.inspection import DatasetInspection, ModelInspection
from compression.measurement import Measurements, WantedTask
from compression.step import StepResult
from workers.glances import Glance

_FROZEN = ConfigDict(frozen=True, extra="forbid")
KILL = b"kill"
"""On the status socket: end the child now."""


class Probes(BaseModel):
    """The self-test's result: each forbidden action and whether it was denied."""

    model_config = _FROZEN
    denied: dict[str, bool]


class InspectModel(BaseModel):
    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = ModelInspection
    operation: Literal["inspect_model"] = "inspect_model"
    source: Path
    filename: str
    options: dict[str, Any] = {}
    output: str = "model.onnx"

    @property
    def inputs(self) -> list[Path]:
        return [self.source]


class InspectDataset(BaseModel):
    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = DatasetInspection
    operation: Literal["inspect_dataset"] = "inspect_dataset"
    source: Path
    filename: str
    options: dict[str, Any] = {}
    output: str = "dataset.npz"

    @property
    def inputs(self) -> list[Path]:
        return [self.source]


class Apply(BaseModel):
    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = StepResult
    operation: Literal["apply"] = "apply"
    step: dict[str, Any]
    model: Path
    data: Path | None
    seed: int
    threads: int
    original: Path | None = None
    models: dict[str, Path] = {}
    task: WantedTask = "auto"
    resume: Path | None = None
    output: str = "model.onnx"
    checkpoint: str = "checkpoint"

    @property
    def inputs(self) -> list[Path]:
        given = [self.model, self.data, self.original, self.resume, *self.models.values()]
        return [path for path in given if path is not None]


class Examined(BaseModel):
    """What each technique finds that it could do, by its name."""

    model_config = _FROZEN
    abilities: dict[str, dict[str, Any]]


class Examine(BaseModel):
    """Of a normalised model. In a child of its own: an upload is good, whatever a technique makes of it."""

    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = Examined
    operation: Literal["examine"] = "examine"
    model: Path
    output: None = None

    @property
    def inputs(self) -> list[Path]:
        return [self.model]


class Measured(BaseModel):
    """Of each compressed model, in their order."""

    model_config = _FROZEN
    measurements: list[Measurements]


class Measure(BaseModel):
    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = Measured
    operation: Literal["measure"] = "measure"
    original: Path
    compressed: list[Path]
    data: Path | None
    seed: int
    task: WantedTask = "auto"
    classes: tuple[str, ...] = ()
    """Their names, where they are known."""
    quick: bool = False
    output: None = None

    @property
    def inputs(self) -> list[Path]:
        return [self.original, *self.compressed, *([self.data] if self.data else [])]


class Written(BaseModel):
    """The file says it all."""

    model_config = _FROZEN


class Convert(BaseModel):
    """A normalised model to another format."""

    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = Written
    operation: Literal["convert"] = "convert"
    format: str
    model: Path
    output: str = "exported"

    @property
    def inputs(self) -> list[Path]:
        return [self.model]


class Proved(BaseModel):
    model_config = _FROZEN
    check: ExportCheck | None


class Prove(BaseModel):
    """Of an exported file, in a child that did not make it: runs it beside its source, and bundles it with
    `card`, the JSON of a bundle's card.
    """

    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = Proved
    operation: Literal["prove"] = "prove"
    format: str
    exported: Path
    source: Path
    data: Path | None
    card: Path
    seed: int
    task: WantedTask = "auto"
    output: str = "bundle.zip"

    @property
    def inputs(self) -> list[Path]:
        return [self.exported, self.source, self.card, *([self.data] if self.data else [])]


class Carve(BaseModel):
    """What a search may see of a normalised data set."""

    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = Written
    operation: Literal["carve"] = "carve"
    data: Path
    most: int
    output: str = "dataset.npz"

    @property
    def inputs(self) -> list[Path]:
        return [self.data]


class Preview(BaseModel):
    """A look into a normalised data set."""

    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = DatasetPreview
    operation: Literal["preview"] = "preview"
    data: Path
    output: None = None

    @property
    def inputs(self) -> list[Path]:
        return [self.data]


class Probe(BaseModel):
    """Tries what a child must not do: `canary` is a file out of its reach, `outside` a directory."""

    model_config = _FROZEN
    result: ClassVar[type[BaseModel]] = Probes
    operation: Literal["probe"] = "probe"
    sample: Path
    canary: Path
    outside: Path
    output: None = None

    @property
    def inputs(self) -> list[Path]:
        return [self.sample]


_Look = Examine | Preview | Glance
Operation = Annotated[
    InspectModel | InspectDataset | Carve | _Look | Apply | Measure | Convert | Prove | Probe,
    Field(discriminator="operation"),
]


class Limits(BaseModel):
    """What a child may use. `seconds` is wall time, guarded by the worker; CPU time follows from it."""

    model_config = _FROZEN
    memory_bytes: int
    disk_bytes: int
    seconds: float
    threads: int = 1


class Request(BaseModel):
    """`private` is the one directory the child may write to; `uid` its own user, if there is one for it."""

    model_config = _FROZEN
    operation: Operation
    private: Path
    limits: Limits
    uid: int | None
    landlock: bool
    seccomp: bool

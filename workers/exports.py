"""The files of a job: the ONNX model, the formats that were asked for, a bundle of each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import structlog

from app.domain.errors import ErrorRecord
from app.domain.records import JobClaim, NewArtifact, StepOutput
from compression.bundle import Card
from compression.errors import CompressionError, ErrorKind
from compression.exports import EXPORTS
from compression.measurement import Measurements
from compression.packages import version
from workers.bench import Desk
from workers.operations import Convert, Operation, Prove, Proved
from workers.sandbox import Done

_log = structlog.get_logger()


class Exported(NamedTuple):
    artifacts: Sequence[NewArtifact]
    failed: Sequence[dict[str, Any]]


class Exporting:
    """A format that fails leaves the others alone. What runs a file is a child that did not make it."""

    def __init__(
        self, desk: Desk, claim: JobClaim, run: Callable[[Operation], Done], data: Path | None
    ) -> None:
        self._desk = desk
        self._claim = claim
        self._run = run
        self._data = data
        self._made: list[NewArtifact] = []
        self._failed: list[tuple[str, CompressionError]] = []

    def keep(self, final: StepOutput, measured: Measurements) -> None:
        """The model itself, without a bundle where that fails: hours of work are in the model.

        Errors: CompressionError of the infrastructure, Stop.
        """
        size = measured.compressed
        made = self._artifact("onnx", final.sha256, size.bytes)
        runtime = {**made.runtime, "opset": final.inspection.opset}
        made = replace(made, bytes_zstd=size.bytes_zstd, runtime=runtime)
        try:
            made = self._proved(made, final, measured)
        except CompressionError as error:
            if error.kind is ErrorKind.INFRASTRUCTURE:
                raise
            _log.warning("no bundle", reason=str(error))
        self._made.append(made)

    def convert(self, name: str, final: StepOutput, measured: Measurements) -> None:
        """Errors: CompressionError of the infrastructure, Stop."""
        try:
            done = self._run(Convert(format=name, model=self._desk.file(final.sha256)))
            made = self._artifact(name, *self._desk.keep(cast("Path", done.output)))
            self._made.append(self._proved(made, final, measured))
        except CompressionError as error:
            if error.kind is ErrorKind.INFRASTRUCTURE:
                raise
            self._failed.append((name, error))

    def done(self) -> Exported:
        """Errors: CompressionError of the first format where nothing at all came of it."""
        if self._failed and not self._made:
            raise self._failed[0][1]
        failed = [{"format": name, "error": ErrorRecord.of(error).json()} for name, error in self._failed]
        return Exported(self._made, failed)

    def _artifact(self, name: str, sha256: str, size: int) -> NewArtifact:
        export, claim = EXPORTS[name], self._claim
        return NewArtifact(
            format=name,
            filename=export.filename,
            sha256=sha256,
            bytes=size,
            runtime={"name": export.package, "version": version(export.package), "minimum": export.minimum},
            provenance={
                "model_sha256": claim.model_sha256,
                "dataset_sha256": claim.data_sha256,
                "models_sha256": dict(claim.models),
                "artifact_sha256": claim.artifact_sha256,
                "recipe": claim.recipe,
                "seed": claim.seed,
                "versions": self._desk.bench.environment["versions"],
            },
        )

    def _proved(self, made: NewArtifact, final: StepOutput, measured: Measurements) -> NewArtifact:
        card = self._desk.directory / f"{made.format}.card.json"
        card.write_text(self._card(made, measured).model_dump_json())
        operation = Prove(
            format=made.format,
            exported=self._desk.file(made.sha256),
            source=self._desk.file(final.sha256),
            data=self._data,
            card=card,
            seed=self._claim.seed,
            task=self._claim.recipe["task"],
        )
        done = self._run(operation)
        sha256, size = self._desk.keep(cast("Path", done.output))
        check = cast("Proved", done.result).check
        proof = check.model_dump(mode="json") if check else None
        return replace(made, proof=proof, bundle_sha256=sha256, bundle_bytes=size)

    def _card(self, made: NewArtifact, measured: Measurements) -> Card:
        model, data = self._claim.model_inspection, self._claim.data_inspection
        return Card(
            name=self._claim.model_name,
            format=made.format,
            inputs=model.inputs,
            outputs=model.outputs,
            labels=model.classes or (data.classes if data else ()),
            preprocessing=data.preprocessing if data else None,
            measurements=measured,
            provenance=dict(made.provenance),
        )

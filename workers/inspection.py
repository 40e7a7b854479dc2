"""Inspecting an upload: hostile bytes in, a normalised file and what is known of it out, or a refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import structlog

from app.adapters.blobs import Blob
from app.domain.errors import ErrorRecord, LeaseLost
from app.domain.records import InspectionClaim
from app.services.inspected import InspectedService
from compression import packages
from compression.dataset_preview import DatasetPreview
from compression.errors import CompressionError, ErrorKind
from compression.inspection import DatasetInspection, ModelInspection
from workers.bench import Bench, Desk, Drained, Lost, Stop
from workers.lease import InspectionLease
from workers.operations import Examine, Examined, InspectDataset, InspectModel, Limits, Preview
from workers.sandbox import Done

_SECONDS = 90.0
"""A model of another framework is converted, and run beside it."""
_EXAMINE = 20.0
_BYTES_PER_SECOND = 20 << 20
_log = structlog.get_logger()
_INTERNAL = ErrorRecord(
    "E_INTERNAL", "This should not have happened; the server's log says more.", ErrorKind.INTERNAL
)


def inspect_model(bench: Bench, model_id: str) -> None:
    _inspect(bench, bench.services.models, InspectModel, model_id)


def inspect_dataset(bench: Bench, dataset_id: str) -> None:
    _inspect(bench, bench.services.datasets, InspectDataset, dataset_id)


Kind = type[InspectModel] | type[InspectDataset]


def _inspect(bench: Bench, service: InspectedService, kind: Kind, identity: str) -> None:
    claim = bench.insist(lambda: service.claim(identity, bench.worker_id))
    if claim is None:
        return
    with structlog.contextvars.bound_contextvars(id=identity, attempt=claim.attempts), bench.desk() as desk:
        try:
            ended = _attempt(bench, service, claim, lambda: _ready(desk, service, claim, kind))
        except (Lost, LeaseLost):
            ended = "lost"
        except Drained:
            ended = "drained"
        _log.info("inspection ended", state=ended)


def _attempt(bench: Bench, service: InspectedService, claim: InspectionClaim, act: Callable[[], None]) -> str:
    """Errors: Lost, LeaseLost, Drained."""
    try:
        act()
    except Drained:
        service.release(claim)
        return "released"
    except Stop:
        raise
    except CompressionError as error:
        if _handed_over(bench, service, claim, error):
            return "handed over"
        record = ErrorRecord.of(error)
    except Exception:  # noqa: BLE001  a bug of ours must end the inspection, not the worker
        _log.exception("inspection broke")
        record = _INTERNAL
    else:
        return "ready"
    if record.kind is ErrorKind.INFRASTRUCTURE:
        bench.insist(lambda: service.retry(claim))
        return "retry"
    bench.insist(lambda: service.rejected(claim, record))
    return "rejected"


def _handed_over(
    bench: Bench, service: InspectedService, claim: InspectionClaim, error: CompressionError
) -> bool:
    """To a living worker that has what this one lacks, should there be any."""
    extra = packages.lacking(error)
    if extra is None or extra in bench.queues or not bench.services.workers.serves(extra):
        return False
    bench.insist(lambda: service.hand_over(claim, extra))
    return True


def _ready(desk: Desk, service: InspectedService, claim: InspectionClaim, kind: Kind) -> None:
    bench = desk.bench
    options = dict(claim.options) if kind is InspectDataset else _allowed(bench)
    operation = kind(source=desk.file(claim.source_sha256), filename=claim.filename, options=options)
    limits = bench.limits(_SECONDS + claim.source_bytes / _BYTES_PER_SECOND)
    lease = InspectionLease(bench, service, claim)
    done = bench.sandbox.run(operation, limits, desk.directory, lease)
    preview = None
    if kind is InspectModel:
        found: ModelInspection | DatasetInspection = _examined(desk, lease, done)
    else:
        found, preview = cast("DatasetInspection", done.result), _previewed(desk, lease, done, limits)
    blob = Blob(*desk.keep(cast("Path", done.output)))
    bench.insist(lambda: service.ready(claim, blob, found, preview))


def _allowed(bench: Bench) -> dict[str, bool]:
    """What the operator decides about models."""
    contained = bench.sandbox.isolation.level >= "S2"
    return {"allow_pt2": bench.services.settings.allow_pt2 and contained}


def _previewed(desk: Desk, lease: InspectionLease, done: Done, limits: Limits) -> DatasetPreview | None:
    """None where it cannot be had: the data set is as good."""
    try:
        look = Preview(data=cast("Path", done.output))
        return cast("DatasetPreview", desk.bench.sandbox.run(look, limits, desk.directory, lease).result)
    except CompressionError as error:
        _log.warning("no preview", reason=str(error))
        return None


def _examined(desk: Desk, lease: InspectionLease, done: Done) -> ModelInspection:
    """With what techniques could do; a model they cannot be asked about is as good as any."""
    inspection, bench = cast("ModelInspection", done.result), desk.bench
    try:
        examine = Examine(model=cast("Path", done.output))
        examined = bench.sandbox.run(examine, bench.limits(_EXAMINE), desk.directory, lease).result
    except CompressionError as error:
        _log.warning("not examined", reason=str(error))
        return inspection
    return inspection.model_copy(update={"abilities": cast("Examined", examined).abilities})

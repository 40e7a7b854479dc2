"""Uploads: announced first, then sent as one raw body, hashed and synced while it arrives."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.adapters.blobs import BlobStore, BlobWriter
from app.adapters.database import Database, now
from app.adapters.tables import blobs, uploads
from app.domain.errors import Conflict, Invalid, NotFound, StorageFull
from app.domain.ids import new_id
from app.domain.records import Upload
from app.domain.states import UploadState
from app.services.idempotency import Record, unrecorded
from app.services.rows import keep_blob
from app.settings import Settings
from compression.errors import CompressionError, Suggestion
from compression.formats.sniff import check_head

HEAD = 4096
_COLUMNS = [uploads.c[field.name] for field in fields(Upload)]


@dataclass(frozen=True, slots=True)
class NewUpload:
    filename: str
    bytes: int
    purpose: Literal["model", "dataset"]
    sha256: str | None = None


class UploadService:
    def __init__(self, settings: Settings, database: Database, store: BlobStore) -> None:
        self._settings = settings
        self._database = database
        self._store = store

    def create(self, project_id: str, order: NewUpload, record: Record[Upload] = unrecorded) -> Upload:
        """Complete at once if the project has these bytes. Errors: `empty_file`, `too_large`, StorageFull,
        `format_…`.
        """
        self._admit(order)
        seen = self._known(project_id, order)
        with self._database.write() as connection:
            known = seen and _touch(connection, project_id, order)
            state = UploadState.COMPLETED if known else UploadState.PENDING
            row = connection.execute(
                uploads.insert()
                .values(
                    id=new_id("upl"),
                    project_id=project_id,
                    state=state,
                    purpose=order.purpose,
                    filename=order.filename,
                    bytes=order.bytes,
                    sha256=order.sha256,
                    blob_sha256=order.sha256 if known else None,
                    created_at=now(),
                    completed_at=now() if known else None,
                )
                .returning(*_COLUMNS)
            ).one()
            created = Upload(*row)
            record(connection, created)
        return created

    def get(self, project_id: str, upload_id: str) -> Upload:
        with self._database.read() as connection:
            row = connection.execute(
                select(*_COLUMNS).where(uploads.c.id == upload_id, uploads.c.project_id == project_id)
            ).one_or_none()
        if row is None:
            raise NotFound("upload", upload_id)
        return Upload(*row)

    def delete(self, project_id: str, upload_id: str) -> None:
        """Models and data sets made from it keep their bytes."""
        with self._database.write() as connection:
            gone = connection.execute(
                delete(uploads).where(uploads.c.id == upload_id, uploads.c.project_id == project_id)
            )
        if not gone.rowcount:
            raise NotFound("upload", upload_id)

    def receive(self, project_id: str, upload_id: str, length: int | None) -> "Receiving":
        """Errors: NotFound; Conflict `upload_completed`; Invalid `size_mismatch`; StorageFull."""
        upload = self.get(project_id, upload_id)
        if upload.state is UploadState.COMPLETED:
            raise _completed(upload_id)
        if length is not None and length > upload.bytes:
            raise _too_many(upload)
        if length is not None and length < upload.bytes:
            raise _too_few(upload, length)
        self._floor(upload.bytes)
        return Receiving(upload, self._store.writer(), self._database)

    def _admit(self, order: NewUpload) -> None:
        if order.bytes == 0:
            raise Invalid("empty_file", "The file is empty.")
        settings = self._settings
        limit = settings.max_model_bytes if order.purpose == "model" else settings.max_dataset_bytes
        if order.bytes > limit:
            raise CompressionError(
                "too_large", f"A {order.purpose} may have {limit} bytes at most, not {order.bytes}."
            )
        self._floor(order.bytes)

    def _floor(self, wanted: int) -> None:
        disk = shutil.disk_usage(self._settings.data_dir)
        floor = max(self._settings.disk_floor_bytes, int(self._settings.disk_floor_fraction * disk.total))
        if disk.free - wanted < floor:
            raise StorageFull

    def _known(self, project_id: str, order: NewUpload) -> bool:
        """Whether the project has these bytes, whole, and they may be what they are announced as."""
        if order.sha256 is None:
            return False
        with self._database.read() as connection:
            known = connection.execute(select(blobs.c.bytes).where(*_same(project_id, order))).one_or_none()
        if known is None or not self._store.verify(order.sha256):
            return False
        head = b"".join(self._store.open(order.sha256, 0, min(HEAD, order.bytes)))
        check_head(head, order.filename, order.purpose)
        return True


class Receiving:
    """One body on its way into the store. Blocking: for threads. `abort` unless `finish` returned."""

    def __init__(self, upload: Upload, writer: BlobWriter, database: Database) -> None:
        self.upload = upload
        self._writer = writer
        self._database = database
        self._received = 0
        self._head = b""
        self._checked = False

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Errors: `too_large` as soon as more arrives than was announced; `format_…` from the first bytes."""
        self._received += sum(len(chunk) for chunk in chunks)
        if self._received > self.upload.bytes:
            raise _too_many(self.upload)
        if not self._checked:
            self._look(chunks)
        self._writer.write(chunks)

    def finish(self) -> Upload:
        """Durable when it returns. Errors: Invalid `size_mismatch`, `checksum_mismatch`; Conflict
        `upload_completed`.
        """
        if self._received < self.upload.bytes:
            raise _too_few(self.upload, self._received)
        blob = self._writer.commit(self.upload.sha256)
        with self._database.write() as connection:
            keep_blob(self._database, connection, self.upload.project_id, blob)
            row = connection.execute(
                update(uploads)
                .where(
                    uploads.c.id == self.upload.id,
                    uploads.c.project_id == self.upload.project_id,
                    uploads.c.state == UploadState.PENDING,
                )
                .values(
                    state=UploadState.COMPLETED,
                    sha256=blob.sha256,
                    blob_sha256=blob.sha256,
                    completed_at=now(),
                )
                .returning(*_COLUMNS)
            ).one_or_none()
        if row is None:
            raise _completed(self.upload.id)
        return Upload(*row)

    def abort(self) -> None:
        self._writer.abort()

    def _look(self, chunks: Sequence[bytes | memoryview]) -> None:
        for chunk in chunks:
            self._head += chunk[: HEAD - len(self._head)]
        if len(self._head) == min(HEAD, self.upload.bytes):
            purpose: Literal["model", "dataset"] = "model" if self.upload.purpose == "model" else "dataset"
            check_head(self._head, self.upload.filename, purpose)
            self._checked = True


def _same(project_id: str, order: NewUpload) -> tuple[ColumnElement[bool], ...]:
    return blobs.c.project_id == project_id, blobs.c.sha256 == order.sha256, blobs.c.bytes == order.bytes


def _touch(connection: Connection, project_id: str, order: NewUpload) -> bool:
    """Keeps a sweep from taking the bytes; False if it just did."""
    touched = connection.execute(update(blobs).where(*_same(project_id, order)).values(created_at=now()))
    return bool(touched.rowcount)


def _completed(upload_id: str) -> Conflict:
    way = Suggestion(f"GET /v1/uploads/{upload_id}, or announce a new upload")
    return Conflict("upload_completed", "This upload is complete or gone and takes no bytes.", way)


def _too_many(upload: Upload) -> CompressionError:
    return CompressionError("too_large", f"More than the {upload.bytes} bytes that were announced.")


def _too_few(upload: Upload, received: int) -> Invalid:
    return Invalid(
        "size_mismatch", f"{upload.bytes} bytes were announced and {received} sent. Nothing was kept."
    )

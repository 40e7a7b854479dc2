"""Blobs in an S3 bucket: `blobs/abcdef…`, uploads of unknown digest in `parts/…` until they are known."""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.adapters.blobs import CHUNK, Blob, BlobWriter, Listed, aborted_on_error, expect
from app.domain.errors import BlobMissing, BlobsUnavailable
from app.settings import Settings

S3Client = Any  # boto3 makes its clients' classes at run time
_PART = 16 << 20
_MISSING = {"404", "NoSuchKey", "NotFound"}
_URL_SECONDS = 15 * 60


class S3Blobs:
    def __init__(self, settings: Settings, bucket: str) -> None:
        self._bucket = bucket
        self._s3 = _client(settings, settings.s3_endpoint_url)
        public = settings.s3_public_endpoint_url
        self._public = _client(settings, public) if public else self._s3

    def put_file(self, path: Path) -> Blob:
        writer = self.writer()
        with aborted_on_error(writer), path.open("rb") as file:
            while chunk := file.read(CHUNK):
                writer.write([chunk])
            return writer.commit()

    def writer(self) -> BlobWriter:
        return S3Writer(self._s3, self._bucket)

    def fetch(self, sha256: str, into: Path) -> None:
        digest = hashlib.sha256()
        with into.open("wb") as file:
            for chunk in self._chunks(sha256, {}):
                digest.update(chunk)
                file.write(chunk)
        expect(sha256, digest.hexdigest())

    def local_path(self, sha256: str) -> Path | None:  # noqa: ARG002
        return None

    def verify(self, sha256: str) -> bool:
        """Whether it is there: the store answers for its bytes."""
        return self.stat(sha256) is not None

    def open(self, sha256: str, start: int, end: int) -> Iterator[bytes]:
        return self._chunks(sha256, {"Range": f"bytes={start}-{end - 1}"})

    def url(self, sha256: str, filename: str) -> str | None:
        parameters = {
            "Bucket": self._bucket,
            "Key": _key(sha256),
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
            "ResponseContentType": "application/octet-stream",
        }
        url: str = self._public.generate_presigned_url(
            "get_object", Params=parameters, ExpiresIn=_URL_SECONDS
        )
        return url

    def stat(self, sha256: str) -> Blob | None:
        with _translated(sha256):
            try:
                return Blob(
                    sha256, self._s3.head_object(Bucket=self._bucket, Key=_key(sha256))["ContentLength"]
                )
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise

    def delete(self, sha256: str, older_than: float = 0) -> None:
        where = {"Bucket": self._bucket, "Key": _key(sha256)}
        with contextlib.suppress(BlobMissing), _translated(sha256):
            if older_than and _age(self._s3.head_object(**where)["LastModified"]) < older_than:
                return
            self._s3.delete_object(**where)

    def old(self, seconds: float) -> Iterator[Listed]:
        with _translated(""):
            self._forget_parts(seconds)
            for page in self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix="blobs/"
            ):
                for found in page.get("Contents", ()):
                    age = _age(found["LastModified"])
                    if age > seconds:
                        yield Listed(found["Key"].removeprefix("blobs/"), age)

    def check(self) -> None:
        with _translated(""):
            self._s3.head_bucket(Bucket=self._bucket)

    def close(self) -> None:
        self._s3.close()
        self._public.close()

    def _forget_parts(self, seconds: float) -> None:
        for upload in self._s3.list_multipart_uploads(Bucket=self._bucket).get("Uploads", ()):
            if _age(upload["Initiated"]) > seconds:
                self._s3.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        for found in self._s3.list_objects_v2(Bucket=self._bucket, Prefix="parts/").get("Contents", ()):
            if _age(found["LastModified"]) > seconds:
                self._s3.delete_object(Bucket=self._bucket, Key=found["Key"])

    def _chunks(self, sha256: str, wanted: dict[str, str]) -> Iterator[bytes]:
        with _translated(sha256):
            answer = self._s3.get_object(Bucket=self._bucket, Key=_key(sha256), **wanted)
            with contextlib.closing(answer["Body"]) as body:
                yield from body.iter_chunks(CHUNK)


class S3Writer:
    """A multipart upload under a name of its own; the store copies it to its digest when that is known."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._place = {"Bucket": bucket, "Key": f"parts/{secrets.token_hex(16)}"}
        self._upload = ""
        self._parts: list[dict[str, Any]] = []
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        for chunk in chunks:
            self._digest.update(chunk)
            self._buffer += chunk
            self._bytes += len(chunk)
        if len(self._buffer) >= _PART:
            self._send()

    def commit(self, sha256: str | None = None) -> Blob:
        found = self._digest.hexdigest()
        with aborted_on_error(self), _translated(found):
            expect(sha256 or found, found)
            if self._upload:
                self._finish(found)
            else:  # small: one request
                self._s3.put_object(Bucket=self._place["Bucket"], Key=_key(found), Body=bytes(self._buffer))
        return Blob(found, self._bytes)

    def abort(self) -> None:
        self._buffer.clear()
        if self._upload:
            with contextlib.suppress(ClientError, BotoCoreError):  # else the sweep finds it
                self._s3.abort_multipart_upload(**self._place, UploadId=self._upload)

    def _send(self) -> None:
        with _translated(""):
            if not self._upload:
                self._upload = self._s3.create_multipart_upload(**self._place)["UploadId"]
            number = len(self._parts) + 1
            answer = self._s3.upload_part(
                **self._place, UploadId=self._upload, PartNumber=number, Body=bytes(self._buffer)
            )
            self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            self._buffer.clear()

    def _finish(self, found: str) -> None:
        if self._buffer:
            self._send()
        parts = {"Parts": self._parts}
        self._s3.complete_multipart_upload(**self._place, UploadId=self._upload, MultipartUpload=parts)
        self._upload = ""
        self._s3.copy(dict(self._place), self._place["Bucket"], _key(found))
        self._s3.delete_object(**self._place)


def _client(settings: Settings, endpoint: str | None) -> S3Client:
    secret = settings.s3_secret_key
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",
            connect_timeout=3,
            read_timeout=60,
            max_pool_connections=32,
            retries={"max_attempts": 5, "mode": "standard"},
            s3={"addressing_style": "path"},
        ),
    )


def _key(sha256: str) -> str:
    return f"blobs/{sha256}"


def _age(when: datetime) -> float:
    return (datetime.now(UTC) - when).total_seconds()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _translated(sha256: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if _code(error) in _MISSING:
            raise BlobMissing(sha256) from error
        raise BlobsUnavailable from error
    except BotoCoreError as error:
        raise BlobsUnavailable from error

"""Tables in a zip or tar: with a tokenizer.json for their texts, or saved by `datasets`."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from compression.formats.format import Format, Upload, need

_TABLES = (".parquet", ".arrow", ".feather", ".csv", ".tsv", ".jsonl", ".ndjson")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_TOKENIZER = "tokenizer.json"


def _zip(head: bytes, suffix: str) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06")) and suffix in {".zip", ""}


def _tar(head: bytes, _suffix: str) -> bool:
    return head[257:262] == b"ustar"


def _gzip(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x1f\x8b")


def _zstandard(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x28\xb5\x2f\xfd")


def _contains(names: Sequence[str]) -> bool:
    lower = [name.lower() for name in names]
    return any(name.endswith(_TABLES) for name in lower) and not any(name.endswith(_IMAGES) for name in lower)


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    need("pyarrow", "tables", "tables")
    from compression import preprocessing
    from compression.intake import tables
    from compression.validation import packed

    if any(PurePosixPath(name).name == _TOKENIZER for name in packed.names(upload.path) or ()):
        need("tokenizers", "texts", "text")
    return tables.load(upload.path, into, upload.scratch, preprocessing.parse(upload.options))


Format("table_zip", "dataset", "zip", (".zip",), _zip, _load, contains=_contains, narrow=True).register()
Format("table_tar", "dataset", "tar", (".tar",), _tar, _load, contains=_contains, narrow=True).register()
Format(
    "table_tar_gz", "dataset", "gzip", (".gz", ".tgz"), _gzip, _load, contains=_contains, narrow=True
).register()
Format(
    "table_tar_zst", "dataset", "zstd", (".zst",), _zstandard, _load, contains=_contains, narrow=True
).register()

"""Images in a zip or tar, by class directories or with labels.csv or labels.jsonl."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compression.formats.format import Format, Upload, need

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def _zip(head: bytes, suffix: str) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06")) and suffix in {".zip", ""}


def _tar(head: bytes, _suffix: str) -> bool:
    return head[257:262] == b"ustar"


def _gzip(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x1f\x8b")


def _zstandard(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x28\xb5\x2f\xfd")


def _contains(names: Sequence[str]) -> bool:
    return any(name.lower().endswith(_SUFFIXES) for name in names)


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    need("PIL", "images", "images")
    from compression import preprocessing
    from compression.intake import folder

    return folder.load(upload.path, into, upload.scratch, preprocessing.parse(upload.options))


Format("image_folder", "dataset", "zip", (".zip",), _zip, _load, contains=_contains, narrow=True).register()
Format("image_folder_tar", "dataset", "tar", (".tar",), _tar, _load).register()
Format("image_folder_tar_gz", "dataset", "gzip", (".gz", ".tgz"), _gzip, _load).register()
Format("image_folder_tar_zst", "dataset", "zstd", (".zst",), _zstandard, _load).register()

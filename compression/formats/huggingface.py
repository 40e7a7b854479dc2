"""Hugging Face directories in a zip or tar: config.json and safetensors."""

from collections.abc import Sequence
from pathlib import Path

from compression.formats.format import Details, Format, Upload, need


def _zip(head: bytes, suffix: str) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06")) and suffix in {".zip", ""}


def _tar(head: bytes, _suffix: str) -> bool:
    return head[257:262] == b"ustar"


def _gzip(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x1f\x8b")


def _zstandard(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x28\xb5\x2f\xfd")


def _contains(names: Sequence[str]) -> bool:
    from compression.conversion import huggingface_archive

    return huggingface_archive.contains(names)


def _load(upload: Upload, into: Path) -> Details:
    from compression.conversion import huggingface_archive

    directory = huggingface_archive.unpack(upload.path, upload.scratch / "huggingface")
    for package in ("transformers", "safetensors", "onnxscript"):
        need(package, "Hugging Face directories", "huggingface")
    from compression.conversion import huggingface_model

    return huggingface_model.load(directory, into, upload.scratch)


for _name, _container, _suffixes, _recognises in (
    ("huggingface", "zip", (".zip",), _zip),
    ("huggingface_tar", "tar", (".tar",), _tar),
    ("huggingface_tar_gz", "gzip", (".gz", ".tgz"), _gzip),
    ("huggingface_tar_zst", "zstd", (".zst",), _zstandard),
):
    Format(
        _name, "model", _container, _suffixes, _recognises, _load, contains=_contains, narrow=True
    ).register()

"""A zip or tar with one ONNX file and its external data."""

from pathlib import Path

from compression.formats.format import Format, Upload


def _zip(head: bytes, _suffix: str) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _tar(head: bytes, _suffix: str) -> bool:
    return head[257:262] == b"ustar"


def _gzip(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x1f\x8b")


def _zstandard(head: bytes, _suffix: str) -> bool:
    return head.startswith(b"\x28\xb5\x2f\xfd")


def _load(upload: Upload, into: Path) -> None:
    from compression.validation import onnx_model, packed

    model = packed.unpack_model(upload.path, upload.scratch / "unpacked")
    onnx_model.normalise(model, into, folder=model.parent)


Format("onnx_zip", "model", "zip", (".zip",), _zip, _load).register()
Format("onnx_tar", "model", "tar", (".tar",), _tar, _load).register()
Format("onnx_tar_gz", "model", "gzip", (".gz", ".tgz"), _gzip, _load).register()
Format("onnx_tar_zst", "model", "zstd", (".zst",), _zstandard, _load).register()

"""ONNX: one protobuf file that holds its weights."""

from pathlib import Path

from compression.formats.format import Format, Upload


def _recognises(head: bytes, _suffix: str) -> bool:
    """A ModelProto has no magic; it starts with one of its fields, as a rule `ir_version`."""
    return head[:1] == b"\x08" and len(head) > 2 and head[2] in _SECOND_TAGS


_SECOND_TAGS = frozenset({0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72, 0xCA, 0xA2})
"""Tags of ModelProto's fields 2-8 and 14; first byte of those of 20 and 25."""


def _load(upload: Upload, into: Path) -> None:
    from compression.validation import onnx_model

    onnx_model.normalise(upload.path, into, folder=None)


Format("onnx", "model", "protobuf", (".onnx",), _recognises, _load, title="ONNX").register()

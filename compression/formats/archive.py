"""A zip or tar with one ONNX file and its external data."""

from pathlib import Path

from compression.formats.containers import Archived
from compression.formats.format import Upload


def _load(upload: Upload, into: Path) -> None:
    from compression.validation import onnx_model, packed

    model = packed.unpack_model(upload.path, upload.scratch / "unpacked")
    onnx_model.normalise(model, into, folder=model.parent)


Archived(name="onnx", purpose="model", title="ONNX with external data", load=_load).register()

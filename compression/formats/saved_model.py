"""TensorFlow SavedModels, in an archive: read by a worker with TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

from compression.formats.containers import Archived
from compression.formats.format import Details, Upload


def _contains(names: Sequence[str]) -> bool:
    return any(name.rpartition("/")[2] == "saved_model.pb" for name in names)


def _load(upload: Upload, into: Path) -> Details:
    from compression.conversion import saved_model
    from compression.validation import packed

    return saved_model.load(upload.path, packed.names(upload.path) or [], into, upload.scratch)


def _check(upload: Upload) -> None:
    from compression.conversion import saved_model_archive, saved_model_graph
    from compression.validation import packed

    names = packed.names(upload.path) or []
    folder = saved_model_archive.unpack(upload.path, names, upload.scratch / "saved_model")
    saved_model_graph.check(folder / saved_model_archive.GRAPH)


Archived(
    name="saved_model",
    purpose="model",
    title="TensorFlow SavedModel",
    load=_load,
    contains=_contains,
    packages=("tensorflow-cpu", "tf2onnx", "torch"),
    extra="tensorflow",
    check=_check,
).register()

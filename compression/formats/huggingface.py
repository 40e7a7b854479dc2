"""Hugging Face directories in a zip or tar: config.json and safetensors."""

from collections.abc import Sequence
from pathlib import Path

from compression.formats.containers import Archived
from compression.formats.format import Details, Upload


def _contains(names: Sequence[str]) -> bool:
    from compression.conversion import huggingface_archive

    return huggingface_archive.contains(names)


def _load(upload: Upload, into: Path) -> Details:
    from compression.conversion import huggingface_archive, huggingface_model

    directory = huggingface_archive.unpack(upload.path, upload.scratch / "huggingface")
    return huggingface_model.load(directory, into, upload.scratch)


Archived(
    name="huggingface",
    purpose="model",
    title="Hugging Face directory",
    load=_load,
    contains=_contains,
    packages=("transformers", "safetensors", "torch", "onnxscript"),
    extra="huggingface",
).register()

"""PyTorch's exported program (.pt2): a program in a zip, which is read where the operator allows it."""

from pathlib import Path

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.formats.format import Details, Format, Upload

ALLOWED = "allow_pt2"
"""Key of `Upload.options`: the operator's setting, never the owner's of the upload."""
_EXPORT = "export the model to ONNX: torch.onnx.export(program, f='model.onnx')"
_ASK = "ask the operator of this server to set PARE_ALLOW_PT2=true"


def _recognises(head: bytes, suffix: str) -> bool:
    return head.startswith(b"PK") and suffix == ".pt2"


def _load(upload: Upload, into: Path) -> Details:
    """A broken archive is named as such; a sound one is refused where it is not allowed.

    Errors: CompressionError `invalid_archive`, `format_refused`, and those of the conversion.
    """
    from compression.validation import archive

    archive.check_zip(upload.path)
    if upload.options.get(ALLOWED) is not True:
        raise CompressionError(
            "format_refused",
            f"an exported program is a program, which is not read unless the operator allows it; {_EXPORT}, "
            f"or {_ASK}",
            ErrorKind.UNSUPPORTED,
            suggestions=(Suggestion(_EXPORT), Suggestion(_ASK)),
        )
    from compression.conversion import torch_export

    return torch_export.load(upload.path, into, upload.scratch)


Format(
    "torch_export",
    "model",
    "zip",
    (".pt2",),
    _recognises,
    _load,
    title="PyTorch exported program, where the operator allows it",
    packages=("torch", "onnxscript"),
    extra="torch-export",
    narrow=True,
).register()

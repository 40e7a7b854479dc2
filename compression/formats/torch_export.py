"""PyTorch's exported program (.pt2): a program in a zip, whose reader runs what it finds."""

from pathlib import Path

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.formats.format import Format, Upload


def _recognises(head: bytes, suffix: str) -> bool:
    return head.startswith(b"PK") and suffix == ".pt2"


def _load(upload: Upload, _into: Path) -> None:
    """A broken archive is named as such; a sound one is refused.

    Errors: CompressionError `invalid_archive`, `format_refused`.
    """
    from compression.validation import archive

    archive.check_zip(upload.path)
    way_out = "export the model to ONNX: torch.onnx.export(program, f='model.onnx')"
    raise CompressionError(
        "format_refused",
        f"an exported program runs code when read; {way_out}",
        ErrorKind.UNSUPPORTED,
        suggestions=(Suggestion(way_out),),
    )


Format("torch_export", "model", "zip", (".pt2",), _recognises, _load, narrow=True).register()

"""Files out: `targets` holds one module for each format, and nothing else is edited to add one."""

from pathlib import Path

from compression import packages
from compression.errors import CompressionError, ErrorKind
from compression.exports import targets
from compression.exports.export import EXPORTS, Export, Session, unsupported

__all__ = ["EXPORTS", "Export", "Session", "convert", "targets"]


def convert(name: str, model: Path, into: Path, scratch: Path) -> None:
    """Writes a normalised ONNX file in another format; a format that fails says nothing of the others.

    Errors: CompressionError `format_unavailable`, `format_unsupported`, E_SANDBOX_OOM.
    """
    export = EXPORTS[name]
    packages.require(export.title, export.packages, export.extra)
    try:
        export.convert(model, into, scratch)
    except MemoryError as error:
        raise CompressionError(
            "E_SANDBOX_OOM",
            f"the conversion to {export.title} needs more memory than a job may use",
            ErrorKind.RESOURCE,
        ) from error
    except CompressionError as error:
        if error.kind is ErrorKind.RESOURCE or error.code == "format_unsupported":
            raise
        raise unsupported(export.title, error.detail) from error
    except Exception as error:  # a converter of another project raises what it likes
        raise unsupported(export.title, str(error) or type(error).__name__) from error

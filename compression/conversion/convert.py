"""The one way from a framework's model to the normalised file."""

from pathlib import Path

from compression.conversion.agreement import compare
from compression.conversion.export import export
from compression.conversion.original import Original
from compression.formats.format import Details


def convert(model: Original, into: Path, scratch: Path) -> Details:
    """Writes `into`; returns the field `conversion` of the inspection.

    Errors: CompressionError.
    """
    export(model, into, scratch)
    return {"conversion": compare(model, into)}

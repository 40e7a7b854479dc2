"""The one way from a framework's model to the normalised file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression.conversion.agreement import compare
from compression.conversion.export import export
from compression.conversion.original import Original


def convert(model: Original, into: Path, scratch: Path) -> Mapping[str, Any]:
    """Writes `into`; returns the field `conversion` of the inspection.

    Errors: CompressionError.
    """
    export(model, into, scratch)
    return {"conversion": compare(model, into)}

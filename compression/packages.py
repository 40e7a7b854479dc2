"""Packages that only some formats need: which are here, and what to install for the rest."""

from collections.abc import Iterable
from importlib import metadata

from compression.errors import CompressionError, ErrorKind, Suggestion


def version(package: str) -> str | None:
    """Of a distribution, by its name; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def require(title: str, packages: Iterable[str], extra: str) -> None:
    """Errors: CompressionError `format_unavailable`, which says what to install."""
    missing = [package for package in packages if version(package) is None]
    if missing:
        way_out = install(extra)
        raise CompressionError(
            "format_unavailable",
            f"{title} needs {' and '.join(missing)}, which this worker lacks: {way_out} there",
            ErrorKind.RESOURCE,
            suggestions=(Suggestion(way_out),),
        )


def install(extra: str) -> str:
    return f"install pare-server[{extra}]"

"""Packages that only some formats need: which are here, and what to install for the rest."""

import re
from collections.abc import Iterable
from importlib import metadata

from compression.errors import CompressionError, ErrorKind, Suggestion

UNAVAILABLE = "format_unavailable"
_INSTALL = re.compile(r"install pare-server\[([a-z-]+)\]")


def version(package: str) -> str | None:
    """Of a distribution, by its name; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def missing(packages: Iterable[str]) -> list[str]:
    return [package for package in packages if version(package) is None]


def require(title: str, packages: Iterable[str], extra: str) -> None:
    """Errors: CompressionError `format_unavailable`, which says what to install."""
    lacks = missing(packages)
    if lacks:
        way_out = install(extra)
        raise CompressionError(
            UNAVAILABLE,
            f"{title} needs {' and '.join(lacks)}, which this worker lacks: {way_out} there",
            ErrorKind.RESOURCE,
            suggestions=(Suggestion(way_out),),
        )


def install(extra: str) -> str:
    return f"install pare-server[{extra}]"


def lacking(error: CompressionError) -> str | None:
    """The extra that `require` missed; None of any other error."""
    ways = [way.title for way in error.suggestions] if error.code == UNAVAILABLE else []
    found = [match[1] for way in ways if (match := _INSTALL.fullmatch(way))]
    return found[0] if found else None

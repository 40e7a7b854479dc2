"""Format: the declaration of one kind of file, told by content. Declared without loading any parser (ADR
0001).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal

Purpose = Literal["model", "dataset"]


@dataclass(frozen=True)
class Upload:
    """A hostile file, and what its owner said of it."""

    path: Path
    filename: str
    scratch: Path
    """A directory for the loader alone."""
    options: Mapping[str, Any] = field(default_factory=dict)


Details = Mapping[str, Any]
"""Fields of the inspection that only the upload tells."""
Loader = Callable[[Upload, Path], Details | None]
"""Writes the normalised file to the path given. Errors: CompressionError."""

REGISTRY: "list[Format]" = []


Recognises = Callable[[bytes, str], bool]


@dataclass(frozen=True)
class Format:
    """`recognises` sees the first 4 KiB and the suffix; `contains`, of an archive, the names of its members,
    once the whole file is there. `narrow` formats, which look inside a container, are asked first.

    `container` is what the bytes themselves are; a suffix promises the containers of all formats that carry
    it.
    """

    name: str
    purpose: Purpose
    container: str
    suffixes: tuple[str, ...]
    recognises: Recognises
    load: Loader | None = None
    _: KW_ONLY
    title: str = ""
    """What a reader calls it; the same for all containers of the same content."""
    packages: tuple[str, ...] = ()
    """Distributions that `load` needs besides the core."""
    extra: str = ""
    """The extra of pare-server that brings them."""
    contains: Callable[[Sequence[str]], bool] | None = None
    narrow: bool = False
    check: Callable[[Upload], None] | None = None
    """What can be told of a file without `packages`: asked where they are missing, so that a hostile one is
    refused for what it is. Errors: CompressionError.
    """
    refusal: str = ""
    """Why such a file is not read, and the way out; where it is set there is no loader."""

    def register(self) -> "Format":
        REGISTRY.append(self)
        return self


def suffix(filename: str) -> str:
    return "".join(Path(filename.lower()).suffixes[-1:])

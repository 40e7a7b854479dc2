"""Format: the declaration of one kind of file, told by content. Declared without loading any parser (ADR
0001).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Purpose = Literal["model", "dataset"]
Loader = Callable[[Path, Path, Path], None]
"""(hostile file, where the normalised file goes, scratch directory). Errors: CompressionError."""

REGISTRY: "list[Format]" = []


@dataclass(frozen=True)
class Format:
    """`recognises` sees the first 4 KiB and the suffix; `narrow` formats, which look inside a container, are
    asked first.

    `container` is what the bytes themselves are; a suffix promises the containers of all formats that carry
    it.
    """

    name: str
    purpose: Purpose
    container: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes, str], bool]
    load: Loader | None = None
    narrow: bool = False
    refusal: str = ""
    """Why such a file is not read, and the way out; where it is set there is no loader."""

    def register(self) -> "Format":
        REGISTRY.append(self)
        return self


def suffix(filename: str) -> str:
    return "".join(Path(filename.lower()).suffixes[-1:])

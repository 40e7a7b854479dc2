"""All that goes in and comes out. `python -m compression.catalogue` prints the README's table of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from compression import packages
from compression.exports import EXPORTS
from compression.formats import REGISTRY, Format

Way = Literal["model", "dataset", "artifact"]
_HEADS: Mapping[Way, str] = {"model": "Models in", "dataset": "Data sets in", "artifact": "Artifacts out"}


@dataclass(frozen=True)
class Entry:
    way: Way
    title: str
    names: tuple[str, ...]
    """As `format` says in an inspection or an artifact."""
    suffixes: tuple[str, ...]
    packages: tuple[str, ...]
    """Distributions that a worker needs for it, besides the core."""
    extra: str
    """The extra of pare-server that brings them; empty for the core."""

    @property
    def install(self) -> str | None:
        return packages.install(self.extra) if self.extra else None

    def available(self, installed: Mapping[str, str]) -> bool:
        return all(package in installed for package in self.packages)


def entries() -> list[Entry]:
    return [*_in("model"), *_in("dataset"), *_out()]


def optional() -> list[str]:
    """Distributions that only some formats need."""
    return sorted({package for entry in entries() for package in entry.packages})


def extras() -> frozenset[str]:
    """Those that some format in needs."""
    return frozenset(entry.extra for entry in _inward())


def readable(installed: Mapping[str, str]) -> list[str]:
    """Extras, all of whose formats in can be read where these distributions are."""
    return sorted(extras() - {entry.extra for entry in _inward() if not entry.available(installed)})


def _inward() -> list[Entry]:
    return [entry for entry in entries() if entry.way != "artifact" and entry.extra]


def table() -> str:
    """Markdown, for the README."""
    lines = ["| | format | files | needs |", "|---|---|---|---|"]
    for entry in entries():
        files = ", ".join(f"`{suffix}`" for suffix in entry.suffixes)
        needs = f"`{entry.extra}`" if entry.extra else ""
        lines.append(f"| {_HEADS[entry.way]} | {entry.title} | {files} | {needs} |")
    return "\n".join(lines)


def _in(way: Literal["model", "dataset"]) -> Iterator[Entry]:
    """Containers of one kind of content are one entry."""
    by_title: dict[str, list[Format]] = {}
    for known in REGISTRY:
        if known.purpose == way and known.load is not None:
            by_title.setdefault(known.title, []).append(known)
    for title, own in sorted(by_title.items()):
        suffixes = dict.fromkeys(suffix for known in own for suffix in known.suffixes)
        names = tuple(known.name for known in own)
        yield Entry(way, title, names, tuple(suffixes), own[0].packages, own[0].extra)


def _out() -> Iterator[Entry]:
    for export in EXPORTS.values():
        needed = export.packages if export.extra else ()
        yield Entry("artifact", export.title, (export.name,), (export.filename,), needed, export.extra)


if __name__ == "__main__":
    print(table())  # noqa: T201

"""Export: the declaration of one format out. Declared without loading any runtime (ADR 0001)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compression.errors import CompressionError, ErrorKind, Suggestion

if TYPE_CHECKING:
    from compression.dataset import Array

Session = Callable[[Mapping[str, "Array"]], "dict[str, Array]"]
"""One run: inputs by name to outputs by name, under the names and in the order of the ONNX graph."""

EXPORTS: "dict[str, Export]" = {}


@dataclass(frozen=True)
class Export:
    name: str
    title: str
    """What a reader calls it."""
    filename: str
    """Of the one file that `convert` writes."""
    package: str
    """The distribution that runs it, with NumPy and nothing else."""
    minimum: str
    """The oldest version of it that is known to run what is written here."""
    convert: Callable[[Path, Path, Path], None]
    """Normalised ONNX, the file to write, a scratch directory. Errors: CompressionError; what a converter
    raises besides is the format's refusal.
    """
    session: Callable[[Path, int], Session]
    """Opens a written file in its own runtime on so many threads."""
    program: str
    """Lines of run.py that define `run(feeds)`, outputs by name, from the files in `here` and the `card`."""
    extra: str = ""
    """The extra of pare-server that brings what `convert` and `session` need; empty for the core."""
    needs: tuple[str, ...] = ()
    """Distributions that `convert` needs besides `package`."""
    archive: bool = False
    """Whether the file is a zip whose members lie side by side in a bundle, as the runtime wants them."""

    def register(self) -> "Export":
        EXPORTS[self.name] = self
        return self

    @property
    def packages(self) -> tuple[str, ...]:
        """All that writing and checking it takes."""
        return self.package, *self.needs


def unsupported(title: str, why: str) -> CompressionError:
    """What a format says of a graph that it cannot hold; `why` names the operator."""
    return CompressionError(
        "format_unsupported",
        f"{title} cannot hold this model: {' '.join(why.split())[:400]}",
        ErrorKind.UNSUPPORTED,
        suggestions=(Suggestion("take another format; onnx always works"),),
    )

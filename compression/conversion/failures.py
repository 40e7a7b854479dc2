"""What other people's libraries throw, as errors of ours: a sentence for the owner, no traceback, no path."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from compression.errors import CompressionError, ErrorKind, Suggestion

_OUT_OF_MEMORY = re.compile(r"alloc|out of memory", re.IGNORECASE)
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:/[^\s/:'\"]+){2,}/?")
_LONGEST = 300
EXPORT = "export the model to ONNX with its own framework and upload that"


@contextmanager
def converting(what: str) -> Iterator[None]:
    """Errors: CompressionError `conversion_failed`, or E_SANDBOX_OOM where memory was the reason."""
    try:
        yield
    except CompressionError:
        raise
    except MemoryError as error:
        raise _out_of_memory() from error
    except Exception as error:
        if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
            raise _out_of_memory() from error
        raise failed(f"{what}: {shown(error)}") from error


def failed(why: str, way_out: str = EXPORT) -> CompressionError:
    return CompressionError(
        "conversion_failed", why, ErrorKind.UNSUPPORTED, suggestions=(Suggestion(way_out),)
    )


def shown(error: BaseException) -> str:
    """The root's first line, which is the one that names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return _PATH.sub("…", lines[0] if lines else type(error).__name__)[:_LONGEST]


def _out_of_memory() -> CompressionError:
    return CompressionError(
        "E_SANDBOX_OOM", "the model asks for more memory than a job may use", ErrorKind.RESOURCE
    )

"""What a file is, by its first 4 KiB: pure Python, so that a wrong file is refused before any worker is
asked.
"""

from pathlib import Path

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.formats.format import REGISTRY, Format, Purpose, suffix

HEAD = 4096
_WANTED = {"model": "upload an ONNX file", "dataset": "upload a NumPy .npz file"}


def check_head(head: bytes, filename: str, purpose: Purpose) -> None:
    """Errors: CompressionError `empty_file`, `format_refused`, `format_mismatch`."""
    _detect(head, filename, purpose)


def load(path: Path, filename: str, purpose: Purpose, into: Path, scratch: Path) -> str:
    """Finds the format and lets its loader write `into`; returns the format's name.

    Errors: CompressionError.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    found = _detect(head, filename, purpose)
    if found.load is None:
        raise _refused(found.name, found.refusal)
    found.load(path, into, scratch)
    return found.name


def _detect(head: bytes, filename: str, purpose: Purpose) -> Format:
    if not head:
        raise CompressionError("empty_file", "the file is empty")
    ending = suffix(filename)
    found = next((known for known in _candidates(purpose) if known.recognises(head, ending)), None)
    promised = {known.container for known in REGISTRY if ending in known.suffixes}
    if found is None:
        return _unrecognised(ending, promised, purpose)
    if promised and found.container not in promised:
        raise _mismatch(ending, f"{found.container} ({found.name})")
    if found.refusal or found.purpose != purpose:
        raise _refused(found.name, found.refusal or f"it is no {purpose}; {_WANTED[purpose]}")
    return found


def _candidates(purpose: Purpose) -> list[Format]:
    """Formats of the other purpose come last: they only help to name what was found."""
    return sorted(REGISTRY, key=lambda known: (known.purpose != purpose, not known.narrow))


def _unrecognised(ending: str, promised: set[str], purpose: Purpose) -> Format:
    """Protobuf has no magic: what nothing else claims, and no suffix denies, is left to the ONNX parser."""
    refusal = next(
        (known for known in _candidates(purpose) if ending in known.suffixes and known.refusal), None
    )
    if refusal and "pickle" in promised:
        raise _refused(refusal.name, refusal.refusal)
    if promised and "protobuf" not in promised:
        raise _mismatch(ending, "something else")
    if purpose == "dataset":
        raise _refused("unknown", f"not recognised; {_WANTED[purpose]}")
    return next(known for known in REGISTRY if known.container == "protobuf")


def _mismatch(ending: str, content: str) -> CompressionError:
    return CompressionError(
        "format_mismatch", f"the name ends in {ending} but the content is {content}", ErrorKind.UNSUPPORTED
    )


def _refused(name: str, why: str) -> CompressionError:
    return CompressionError(
        "format_refused",
        f"{name}: {why}",
        ErrorKind.UNSUPPORTED,
        suggestions=(Suggestion(why.rpartition("; ")[2]),),
    )

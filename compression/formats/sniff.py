"""What a file is, by its first 4 KiB: pure Python, so that a wrong file is refused before any worker is
asked.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compression import packages
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.formats.format import REGISTRY, Details, Format, Purpose, Upload, suffix

HEAD = 4096
_WANTED = {
    "model": "upload an ONNX or Keras file, or a Hugging Face directory or SavedModel in an archive",
    "dataset": "upload NumPy arrays (.npz), a table or an archive of images",
}


def check_head(head: bytes, filename: str, purpose: Purpose) -> None:
    """Errors: CompressionError `empty_file`, `format_refused`, `format_mismatch`."""
    _detect(head, filename, purpose)


def load(upload: Upload, purpose: Purpose, into: Path) -> tuple[str, Details]:
    """Finds the format and lets its loader write `into`; returns the format's name and what it tells besides.

    Errors: CompressionError.
    """
    upload = _unpacked(upload, purpose)
    with upload.path.open("rb") as file:
        head = file.read(HEAD)
    found = _detect(head, upload.filename, purpose, _names(upload.path, head))
    if found.load is None:
        raise _refused(found.name, found.refusal)
    if found.check is not None and packages.missing(found.packages):
        found.check(upload)
    packages.require(found.title, found.packages, found.extra)
    return found.name, found.load(upload, into) or {}


def _unpacked(upload: Upload, purpose: Purpose) -> Upload:
    """A single file that gzip or Zstandard packed, as its owner had it before."""
    from compression.validation import archive, limits, single

    most = {"model": limits.MAX_ARCHIVE_BYTES, "dataset": limits.MAX_DATASET_BYTES}[purpose]
    ratio = {"model": limits.MAX_RATIO, "dataset": limits.MAX_DATASET_RATIO}[purpose]
    budget = archive.Budget(upload.path.stat().st_size, most, ratio)
    path, filename = single.unpacked(upload.path, upload.filename, upload.scratch / "single", budget)
    return replace(upload, path=path, filename=filename)


def _names(path: Path, head: bytes) -> Sequence[str] | None:
    """Of an archive's members; None for what is none, or is damaged: its loader says so."""
    from compression.validation import archive, packed

    return packed.names(path) if archive.kind(head) else None


def _detect(head: bytes, filename: str, purpose: Purpose, names: Sequence[str] | None = None) -> Format:
    if not head:
        raise CompressionError("empty_file", "the file is empty")
    ending = suffix(filename)
    found = next((known for known in _candidates(purpose) if _is(known, head, ending, names)), None)
    promised = {known.container for known in REGISTRY if ending in known.suffixes}
    if found is None:
        return _unrecognised(ending, promised, purpose)
    if promised and found.container not in promised:
        raise _mismatch(ending, f"{found.container} ({found.name})")
    if found.refusal or found.purpose != purpose:
        raise _refused(found.name, found.refusal or f"it is no {purpose}; {_WANTED[purpose]}")
    return found


def _is(known: Format, head: bytes, ending: str, names: Sequence[str] | None) -> bool:
    if not known.recognises(head, ending):
        return False
    return names is None or known.contains is None or known.contains(names)


def _candidates(purpose: Purpose) -> list[Format]:
    """What is refused at sight comes first. Formats of the other purpose come last: they only help to name
    what was found.
    """
    return sorted(REGISTRY, key=lambda known: (known.purpose != purpose, not known.narrow, not known.refusal))


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

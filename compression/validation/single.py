"""One file packed by gzip or Zstandard: data.csv.gz. A packed tar is none: its reader unpacks it itself."""

from pathlib import Path, PurePath

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.validation import archive, tar

_CHUNK = 1 << 20
_HEAD = 512
_TARS = (".tgz", ".tar.gz", ".tar.zst")
_PACKED = (b"\x1f\x8b", tar.ZSTD)


def unpacked(path: Path, filename: str, into: Path, budget: archive.Budget) -> tuple[Path, str]:
    """Writes what the file holds `into` and returns that with the name it has unpacked; what is not packed,
    or is a tar, as it is.

    Errors: CompressionError `invalid_archive`, `member_refused`, `limit_decoded_bytes`, `budget.ratio_code`.
    """
    with path.open("rb") as raw:
        if not raw.read(4).startswith(_PACKED) or filename.lower().endswith(_TARS):
            return path, filename
        raw.seek(0)
        with archive.reading():
            stream = archive.Counted(tar.decoded(raw), budget)
            head = stream.read(_HEAD)
            if head[257:262] == b"ustar":
                return path, filename
            _check(head)
            with into.open("xb") as file:
                while head:
                    file.write(head)
                    head = stream.read(_CHUNK)
    return into, PurePath(filename).stem


def _check(head: bytes) -> None:
    if archive.kind(head):
        raise CompressionError(
            "member_refused",
            "the file is an archive that was packed once more, which is not opened",
            ErrorKind.INPUT,
            suggestions=(Suggestion("upload the archive itself"),),
        )

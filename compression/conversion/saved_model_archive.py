"""A SavedModel in a zip or tar: only its graph and its variables are unpacked, whatever else lies beside."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from compression.conversion.saved_model_wire import invalid
from compression.validation import archive, tar

GRAPH = "saved_model.pb"
_WANTED = re.compile(r"saved_model\.pb|variables/variables\.(?:index|data-\d{5}-of-\d{5})", re.ASCII)
_CHUNK = 1 << 20


def unpack(path: Path, names: Sequence[str], folder: Path) -> Path:
    """Writes what is needed into `folder`, which is made. `names` are the members'.

    Errors: CompressionError `invalid_saved_model`, `invalid_archive`, `link_refused`, `path_refused`,
    `member_refused`, `archive_ratio`, `limit_decoded_bytes`.
    """
    roots = {str(PurePosixPath(name).parent) for name in names if PurePosixPath(name).name == GRAPH}
    if len(roots) != 1:
        raise invalid(f"the archive holds {len(roots)} files {GRAPH}; it must hold one")
    root = roots.pop()
    prefix = "" if root == "." else f"{root}/"
    (folder / "variables").mkdir(parents=True)
    budget = archive.Budget(path.stat().st_size)
    with path.open("rb") as file:
        is_zip = archive.kind(file.read(512)) == "zip"
    if is_zip:
        with archive.open_zip(path) as source:
            for info in archive.members(source, budget):
                archive.check_member(info.filename)
                with source.open(info) as content:
                    _write(content, info.filename, prefix, folder)
    else:
        for member in tar.members(path, budget):
            _write(member.content, member.name, prefix, folder)
    return folder


def _write(source: IO[bytes], name: str, prefix: str, folder: Path) -> None:
    inner = name.removeprefix(prefix)
    if name.startswith(prefix) and _WANTED.fullmatch(inner):
        with (folder / inner).open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)

"""A zip whose bytes follow from its members alone."""

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_CHUNK = 1 << 20


def write(into: Path, members: Mapping[str, Path | str]) -> None:
    """Files by path, texts as they are; sorted, at a fixed time, stored: weights hardly deflate."""
    with zipfile.ZipFile(into, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = _MODE
            _add(archive, info, members[name])


def _add(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: Path | str) -> None:
    if isinstance(content, str):
        archive.writestr(info, content)
        return
    info.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(info, "w") as member:
        shutil.copyfileobj(source, member, _CHUNK)

"""Images in a zip or tar, by class directories or with labels.csv or labels.jsonl."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compression.formats.containers import Archived
from compression.formats.format import Upload

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def _contains(names: Sequence[str]) -> bool:
    return any(name.lower().endswith(_SUFFIXES) for name in names)


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import folder

    return folder.load(upload.path, into, upload.scratch, preprocessing.parse(upload.options))


Archived(
    name="images",
    purpose="dataset",
    title="Images by class directories or with a labels file",
    load=_load,
    contains=_contains,
    packages=("pillow",),
    extra="images",
).register()

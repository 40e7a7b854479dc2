"""Tables in a zip or tar: with a tokenizer.json for their texts, or saved by `datasets`."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from compression.formats.containers import Archived
from compression.formats.format import Upload

_TABLES = (".parquet", ".arrow", ".feather", ".csv", ".tsv", ".jsonl", ".ndjson")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_TOKENIZER = "tokenizer.json"


def _tables(names: Sequence[str]) -> bool:
    lower = [name.lower() for name in names]
    return any(name.endswith(_TABLES) for name in lower) and not any(name.endswith(_IMAGES) for name in lower)


def _texts(names: Sequence[str]) -> bool:
    return _tables(names) and any(PurePosixPath(name).name == _TOKENIZER for name in names)


def _load(upload: Upload, into: Path) -> dict[str, Any]:
    from compression import preprocessing
    from compression.intake import tables

    return tables.load(upload.path, into, upload.scratch, preprocessing.parse(upload.options))


Archived(
    name="text",
    purpose="dataset",
    title="Tables of texts with a tokenizer.json",
    load=_load,
    contains=_texts,
    packages=("pyarrow", "tokenizers"),
    extra="text",
).register()
Archived(
    name="table",
    purpose="dataset",
    title="Tables, one for each split; directories of `datasets`",
    load=_load,
    contains=_tables,
    packages=("pyarrow",),
    extra="tables",
).register()

"""Archives of tables: with a tokenizer.json for their texts, in files for each split, or as `datasets` saves
them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from compression.intake import members, processor, rows, splits, table
from compression.intake.cells import invalid
from compression.intake.jsonl import jsonl_rows
from compression.intake.plan import Given
from compression.intake.rows import Read, Source
from compression.preprocessing import DatasetOptions

if TYPE_CHECKING:
    from compression.intake.tokens import Tokens

TOKENIZER = "tokenizer.json"
READERS: dict[str, Read] = {
    ".parquet": rows.parquet_rows,
    ".arrow": rows.arrow_rows,
    ".feather": rows.arrow_rows,
    ".csv": rows.csv_rows,
    ".tsv": rows.csv_rows,
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
}
_STATE = "state.json"


def load(path: Path, into: Path, scratch: Path, options: DatasetOptions) -> dict[str, Any]:
    """Errors: CompressionError `invalid_dataset`, `invalid_tokenizer`; what `members` and `table` raise."""
    with members.opened(path, scratch) as archive:
        options, findings = processor.followed(archive, options)
        found = list(_saved(archive)) or _tables(archive)
        sources = [
            Source(archive.copy(name, scratch / f"table{at}"), _reader(name, options), _split(name), name)
            for at, name in enumerate(found)
        ]
        tokenizer = next((name for name in sorted(archive.sizes, key=len) if _is(name, TOKENIZER)), None)
        if tokenizer:
            archive.copy(tokenizer, scratch / TOKENIZER)
    whole = [source for source in sources if source.split is None]
    if whole and len(whole) < len(sources):
        raise invalid(f"{whole[0].name[:80]!r} is in no split, others are in train, calibration or test")
    tokens = _tokens(scratch / TOKENIZER, options) if tokenizer else None
    told = table.load(sources, into, Given(options, scratch, tokens))
    return told | {"findings": (*findings, *told["findings"])}


def _reader(name: str, options: DatasetOptions) -> Read:
    reader = READERS[_suffix(name)]
    return rows.csv_reader(options) if reader is rows.csv_rows else reader


def _tokens(path: Path, options: DatasetOptions) -> "Tokens":
    from compression.intake.tokens import Tokens  # noqa: PLC0415  few tables hold texts, and it is an extra

    return Tokens(path, options.text)


def _is(name: str, wanted: str) -> bool:
    return PurePosixPath(name).name == wanted


def _suffix(name: str) -> str:
    return PurePosixPath(name.lower()).suffix


def _tables(archive: members.Members) -> list[str]:
    found = sorted(name for name in archive.sizes if _suffix(name) in READERS)
    if not found:
        raise invalid("the archive holds no table")
    return found


def _saved(archive: members.Members) -> Iterator[str]:
    """The files that each state.json lists, in its order: beside them may lie others, of a cache."""
    for state in sorted(name for name in archive.sizes if _is(name, _STATE)):
        folder = PurePosixPath(state).parent
        try:
            listed = [
                str(folder / file["filename"]) for file in json.loads(archive.read(state))["_data_files"]
            ]
        except (ValueError, KeyError, TypeError, OSError, RecursionError):
            raise invalid(f"{state[:80]!r} lists no data files") from None
        for name in listed:
            if name not in archive.sizes or _suffix(name) != ".arrow":
                raise invalid(f"{state[:80]!r} lists {name[:80]!r}, which the archive does not hold")
        yield from listed


def _split(name: str) -> str | None:
    """train.csv, train-00000-of-00002.parquet, data/train/1.csv."""
    path = PurePosixPath(name)
    words = [re.split(r"[-_.]", path.name)[0], *reversed(path.parts[:-1])]
    return next((split for split in map(splits.name_of, words) if split), None)

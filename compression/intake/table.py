"""A table, or several of the same columns, -> arrays."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from compression.dataset import Array
from compression.errors import CompressionError
from compression.intake import cells, finish, plan, rows, splits
from compression.intake.columns import Filled
from compression.intake.plan import Given, Plan
from compression.intake.rows import Source
from compression.preprocessing import DatasetOptions
from compression.validation.limits import MAX_ROWS


def load(sources: Sequence[Source], into: Path, given: Given) -> dict[str, Any]:
    """Errors: CompressionError `invalid_dataset`, `limit_rows`, `limit_decoded_bytes`, `invalid_tokenizer`
    and those of `images`.
    """
    planned, owned = _read(sources, given)
    whole = [sink.filled() for sink in planned.sinks]
    details: dict[str, Any] = {}
    for filled in whole:
        details |= filled.details
    _write(whole, planned.rows_each, owned, into, given.options)
    told = finish.details(into, given.options, details.pop("classes", ()))
    findings = (
        *planned.findings,
        *(found for filled in whole for found in filled.findings),
        *told["findings"],
    )
    return told | details | {"findings": findings}


def _read(sources: Sequence[Source], given: Given) -> tuple[Plan, Array | None]:
    """The filled sinks, and the owner's split of each row."""
    planned: Plan | None = None
    codes: list[Array] = []
    n = 0
    for source in sources:
        first = 0
        with _named(source):
            for piece in rows.pieces(source):
                planned = planned or plan.make(piece, given)
                for sink in planned.sinks:
                    sink.add(piece, first)
                codes += _codes(piece, first, source.split, given.options)
                first += len(piece)
                if n + first > MAX_ROWS:
                    raise CompressionError("limit_rows", f"there are more than {MAX_ROWS} rows")
        n += first
    if planned is None:
        raise cells.invalid("it has no rows")
    return planned, np.concatenate(codes) if codes else None


@contextmanager
def _named(source: Source) -> Iterator[None]:
    """Rows are counted in each table, so what is wrong in one of several says in which."""
    try:
        yield
    except CompressionError as error:
        if not source.name:
            raise
        raise replace(error, detail=f"{source.name[:80]!r}: {error.detail}") from None


def _codes(piece: pa.RecordBatch, first: int, split: str | None, options: DatasetOptions) -> list[Array]:
    column = plan.split_column(options)
    if column:
        return [splits.codes(cells.texts(cells.named(piece, column), column, first), column, first)]
    return [splits.codes([split], "split").repeat(len(piece))] if split else []


def _write(
    whole: Sequence[Filled], rows_each: int, owned: Array | None, into: Path, options: DatasetOptions
) -> None:
    arrays: dict[str, Array] = {}
    kept: Array | None = None
    for filled in whole:
        arrays |= filled.arrays
        kept = filled.kept if kept is None else kept
    if rows_each == 1:
        finish.write(arrays, into, options, owned, kept)
    else:
        finish.write_grouped(arrays, into, options, owned, rows_each)

"""Which column of a table becomes what: decided on its first rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from compression.errors import FieldError
from compression.inspection import Finding
from compression.intake import cells, text
from compression.intake.columns import Images, Labels, Numbers, Row, Sink
from compression.intake.sequences import Sequences, Transcriptions, is_sequence
from compression.preprocessing import NO_TRANSCRIPTIONS, DatasetOptions, invalid_options
from compression.validation.limits import MAX_CLASSES

if TYPE_CHECKING:
    from compression.intake.tokens import Tokens

FEATURES = "features"
_LABELS = ("label", "labels")
_SHOWN = 8

Columns = str | tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    sinks: tuple[Sink, ...]
    rows_each: int = 1
    """Rows of the inputs for each of the table."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Given:
    """What the owner said, and what came beside the table."""

    options: DatasetOptions
    scratch: Path
    tokens: "Tokens | None" = None


def split_column(options: DatasetOptions) -> str | None:
    return options.splits if isinstance(options.splits, str) else None


def make(piece: pa.RecordBatch, given: Given) -> Plan:
    """Errors: CompressionError `invalid_dataset`, `invalid_options`."""
    names = piece.schema.names
    labels = given.options.labels or next((name for name in _LABELS if name in names), None)
    if labels is None and given.options.transcriptions:
        raise invalid_options([FieldError("/labels", NO_TRANSCRIPTIONS)])
    rest = [name for name in names if name not in {labels, split_column(given.options)}]
    inputs, findings = _inputs(piece, rest, given)
    texts = {name: str(column) for name, column in inputs.items() if given.tokens and column in text.COLUMNS}
    plain = {name: column for name, column in inputs.items() if name not in texts}
    sinks = _plain(plain, piece, given)
    if labels is not None:
        sinks.append(_labels(labels, piece, given))
    rows_each = 1
    if texts and given.tokens:
        options = text.chosen(piece, rest, given.options.text)
        sinks.append(text.Texts(texts, options, given.tokens, given.scratch))
        rows_each = 2 if options.pair and options.pairs == "rows" else 1
    if plain and rows_each > 1:
        raise cells.invalid("with text.pairs `rows` there is no input but what the tokenizer makes")
    return Plan(tuple(sinks), rows_each, findings)


def _inputs(
    piece: pa.RecordBatch, rest: Sequence[str], given: Given
) -> tuple[Mapping[str, Columns], tuple[Finding, ...]]:
    if given.options.inputs:
        return given.options.inputs, ()
    if given.tokens:
        return {name: name for name in text.COLUMNS}, ()
    if rest and all(cells.is_number(piece.column(name).type) for name in rest):
        if len(rest) == 1:
            return {rest[0]: tuple(rest)}, ()
        return {FEATURES: tuple(rest)}, (_joined(rest),)
    return {name: name for name in rest}, ()


def _joined(columns: Sequence[str]) -> Finding:
    shown = ", ".join(repr(name[:40]) for name in columns[:_SHOWN]) + (", …" if len(columns) > _SHOWN else "")
    return Finding(
        code="columns_joined",
        severity="info",
        detail=f"the {len(columns)} columns {shown} are the features of one input, in this order",
        way_out="name columns in inputs to choose, order or part them",
    )


def _plain(inputs: Mapping[str, Columns], piece: pa.RecordBatch, given: Given) -> list[Sink]:
    sinks: list[Sink] = []
    for at, (name, column) in enumerate(inputs.items()):
        into = given.scratch / f"column{at}"
        if not isinstance(column, str):
            sinks.append(Row(name, column, into))
        elif cells.is_encoded(cells.named(piece, column).type):
            sinks.append(Images(name, column, given.options, given.scratch))
        else:
            sinks.append(Numbers(name, column, into))
    if sum(isinstance(sink, Images) for sink in sinks) > 1:
        raise cells.invalid("more than one column holds images; name one in inputs")
    return sinks


def _labels(column: str, piece: pa.RecordBatch, given: Given) -> Sink:
    if given.options.transcriptions:
        return Transcriptions(column, given.scratch, given.options.classes)
    if is_sequence(cells.named(piece, column)):
        return Sequences(column, given.scratch)
    classes = given.options.classes or class_names(piece.schema, column)
    return Labels(column, given.scratch / "labels", classes)


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """As `datasets` writes them beside a column of class numbers; none where they are not to be had."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = told["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    known = (
        isinstance(names, list) and 0 < len(names) <= MAX_CLASSES and all(isinstance(n, str) for n in names)
    )
    return tuple(names) if known else ()

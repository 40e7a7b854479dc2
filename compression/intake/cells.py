"""Columns of a few rows -> numpy; what is wrong is named by row and column.

`first` is the number of the first row, from 0.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compression.dataset import Array
from compression.errors import CompressionError
from compression.validation.limits import MAX_PIECE_BYTES

_MISSING = pa.array(["", "NA", "N/A", "null", "NULL", "None"])
_NUMBERS = (pa.int64(), pa.float64(), pa.bool_())


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_dataset", why)


def at(row: int, column: str, why: str) -> CompressionError:
    return invalid(f"row {row + 1}, column {column[:80]!r}: {why}")


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def is_encoded(kind: pa.DataType) -> bool:
    """Bytes, or the struct of bytes and path that `datasets` writes."""
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def named(piece: pa.RecordBatch, name: str) -> pa.Array:
    """Errors: CompressionError `invalid_dataset` where no column has the name."""
    if name not in piece.schema.names:
        shown = ", ".join(repr(known[:40]) for known in piece.schema.names[:8])
        raise invalid(f"there is no column {name[:80]!r}; there are {shown}")
    return piece.column(name)


def typed(column: pa.Array) -> pa.Array:
    """Text that is all numbers, or numbers and missing values, as such; other text as it is."""
    bare = pc.utf8_trim_whitespace(column)
    bare = pc.if_else(pc.is_in(bare, _MISSING), None, bare)
    for kind in _NUMBERS:
        try:
            return bare.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def plain(column: pa.Array, name: str, first: int) -> pa.Array:
    """Without a dictionary, and with a value in each row.

    Errors: CompressionError `invalid_dataset`, `limit_decoded_bytes`.
    """
    if pa.types.is_dictionary(column.type):
        _check_dictionary(column, name)
        column = column.dictionary_decode()
    if column.null_count:
        raise at(first + _index(column.is_null()), name, "the value is missing")
    return column


def _check_dictionary(column: pa.Array, name: str) -> None:
    kind = column.type.value_type
    if is_number(kind):
        return
    if not is_text(kind) and not is_encoded(kind):
        raise invalid(f"column {name[:80]!r} repeats values of a kind that is not read")
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    total = pc.sum(pc.take(lengths, column.indices)).as_py() or 0
    if total > MAX_PIECE_BYTES:
        raise CompressionError(
            "limit_decoded_bytes", f"column {name[:80]!r}: {len(column)} rows take {total} bytes"
        )


def _index(mask: pa.Array) -> int:
    found: int = pc.index(mask, value=True).as_py()
    return found


def numbers(column: pa.Array, name: str, first: int) -> Array:
    """Numbers, or lists of one length of them.

    Errors: CompressionError `invalid_dataset`, `limit_decoded_bytes`.
    """
    values = plain(column, name, first)
    shape = [len(values)]
    while is_list(values.type):
        lengths = pc.list_value_length(values)
        odd = _index(pc.not_equal(lengths, lengths[0]))
        if odd >= 0:
            raise at(first + odd // _inner(shape), name, "its list is not as long as the first")
        shape.append(lengths[0].as_py())
        values = values.flatten()
    if 0 in shape:
        raise at(first, name, "its list is empty")
    if values.null_count:
        raise at(first + _index(values.is_null()) // _inner(shape), name, "a value is missing")
    if not is_number(values.type):
        raise _no_number(values, name, first, _inner(shape))
    array: Array = values.to_numpy(zero_copy_only=False).reshape(shape)
    return array


def _inner(shape: list[int]) -> int:
    return max(1, int(np.prod(shape[1:])))


def _no_number(values: pa.Array, name: str, first: int, inner: int) -> CompressionError:
    if not is_text(values.type):
        return invalid(f"column {name[:80]!r} is {str(values.type)[:40]}; inputs are numbers, images or text")
    row = next((row for row, text in enumerate(values.to_pylist()) if not _is_number(text)), 0)
    found = values[row].as_py()
    if found == "":
        return at(first + row // inner, name, "the value is missing")
    hint = "" if first or row else "; texts come in an archive of the table and its tokenizer.json"
    return at(first + row // inner, name, f"{found[:40]!r} is no number{hint}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def texts(column: pa.Array, name: str, first: int) -> list[str]:
    """Errors: CompressionError `invalid_dataset`, `limit_decoded_bytes`."""
    values = plain(column, name, first)
    if not is_text(values.type):
        values = _shown(values, name)
    found: list[str] = values.to_pylist()
    return found


def _shown(values: pa.Array, name: str) -> pa.Array:
    """A batch of class names or texts may be all numbers."""
    if not is_number(values.type):
        raise invalid(f"column {name[:80]!r} is {str(values.type)[:40]}, not text")
    return values.cast(pa.string())


def encoded(column: pa.Array, name: str) -> list[bytes]:
    """Encoded images; what has no bytes is empty.

    Errors: CompressionError `limit_decoded_bytes`.
    """
    if pa.types.is_struct(column.type):
        column = column.field("bytes")
    if pa.types.is_dictionary(column.type):
        _check_dictionary(column, name)
    return [value or b"" for value in column.to_pylist()]

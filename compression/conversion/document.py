"""JSON from strangers: bounded, and with one meaning."""

import json
from typing import Any

from compression.errors import CompressionError

MAX_JSON_BYTES = 64 << 20


def parse(text: bytes | str, code: str, what: str) -> dict[str, Any]:
    """An object in which no key occurs twice: readers differ in which of the two they take.

    Errors: CompressionError `code`.
    """
    if len(text) > MAX_JSON_BYTES:
        raise CompressionError(code, f"{what} is longer than {MAX_JSON_BYTES} bytes")
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _RepeatedKeyError) else "not JSON, or nested too deep"
        raise CompressionError(code, f"{what}: {reason}") from None
    if not isinstance(found, dict):
        raise CompressionError(code, f"{what} is no JSON object")
    return found


class _RepeatedKeyError(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RepeatedKeyError("a key occurs twice")
    return found

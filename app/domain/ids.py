"""Ids: a prefix that says what it is, and a body that sorts by time of birth."""

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: sorts as the number does
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """`job_` and 26 characters: 48 bits of milliseconds, 80 random bits, ascending within a process."""
    global _last  # noqa: PLW0603  the order of ids is the process's state
    with _lock:
        _last = max((time.time_ns() // 1_000_000 << 80) | secrets.randbits(80), _last + 1)
        number = _last
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))

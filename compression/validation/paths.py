"""The one grammar of names inside archives and of external data: plain relative POSIX paths."""

import re

_PART = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]{1,255}")


def is_plain(name: str) -> bool:
    parts = name.split("/")
    return len(name) <= 1024 and all(_PART.fullmatch(part) and part.strip(". ") for part in parts)

"""API keys: `pare_<8 characters>_<secret><crc32>`. The checksum tells a typing error without asking the
database.
"""

import hashlib
import secrets
import string
import zlib
from dataclasses import dataclass

_ALPHABET = string.ascii_letters + string.digits
_SECRET = 32
_CRC = 8
_LENGTH = len("pare_") + 8 + 1 + _SECRET + _CRC


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a key of a project, which is the tenant."""

    project_id: str
    key_id: str


def mint() -> str:
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    body = f"pare_{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET))
    return body + _crc(body)


def well_formed(key: str) -> bool:
    """Whether the checksum is right; says nothing of whether the key exists."""
    return (
        len(key) == _LENGTH and key.isascii() and key.startswith("pare_") and _crc(key[:-_CRC]) == key[-_CRC:]
    )


def digest(key: str) -> str:
    """What is stored. A plain hash suffices: the secret has 190 random bits."""
    return hashlib.sha256(key.encode()).hexdigest()


def shown(key: str) -> str:
    """The part that may be shown to tell keys apart."""
    return key[:13]


def _crc(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"

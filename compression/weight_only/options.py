"""What is asked of weight-only quantization."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Method = Literal["rtn", "hqq", "gptq", "awq"]
Format = Literal["matmul_nbits", "qdq"]
OBSERVING: frozenset[Method] = frozenset({"gptq", "awq"})
"""Methods that look at what matrices read."""


@dataclass(frozen=True)
class Options:
    bits: int
    average_bits: float | None
    """Some matrices get 8 bits instead of `bits`, up to this mean."""
    block_size: int
    method: Method
    format: Format
    accuracy_level: int
    embeddings: bool
    table_bits: int
    """Of tables that are the output head too."""
    excluded: Collection[str]
    samples: int

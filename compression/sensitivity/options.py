"""What a scan is asked for, and what it may use."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compression.dataset import Split
from compression.measurement import WantedTask

Name = Literal[
    "static_quantization", "weight_quantization", "magnitude_pruning", "channel_pruning", "low_rank"
]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Options:
    techniques: Collection[Name]
    samples: int
    exclude: Collection[str]
    """Names of nodes, their outputs or weights."""
    bits: Collection[int] = (4,)
    """Of weights alone, by weight_quantization."""


@dataclass(frozen=True)
class Using:
    split: Split
    scratch: Path
    threads: int
    report: Report
    task: WantedTask = "auto"

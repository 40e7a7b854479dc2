"""What this worker is: announced at its start and written into the record of every job it runs."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from compression import catalogue
from compression.packages import version as installed

_VERSIONED = ("pare-server", "onnx", "onnxruntime", "onnxslim", "numpy", "torch")


def describe() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": _gpu(),
    }


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def versions() -> dict[str, str]:
    """Of all that may decide what a step gives. Without torch's, a worker does not train."""
    own = {name: found for name in _VERSIONED if (found := installed(name)) is not None}
    return {"python": platform.python_version(), **own}


def packages() -> dict[str, str]:
    """Versions of what only some formats need, too: what this worker can read and write."""
    optional = {name: found for name in catalogue.optional() if (found := installed(name)) is not None}
    return {**versions(), **optional}


def queues(configured: str) -> list[str]:
    """Names to take messages from: those of the settings and, with `cpu`, where every upload comes first, one
    for each extra that is installed here, for uploads that others cannot read.
    """
    wanted = [name for part in configured.split(",") if (name := part.strip())]
    readable = catalogue.readable(packages()) if "cpu" in wanted else []
    return list(dict.fromkeys([*wanted, *readable]))


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    return found.stdout.strip().splitlines()[0] if found.returncode == 0 and found.stdout.strip() else None

"""One step of a row, in a process of its own: contest.py REQUEST.json prints a line of JSON.

A step that names a technique goes through the call that a worker's sandbox makes; others name a peer.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NNCF_CI", "1")  # no telemetry


def technique(request: dict[str, Any]) -> dict[str, Any]:
    from compression.step import apply_step

    into = Path(request["into"])
    checkpoint = into.with_suffix(".checkpoint")
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        result = apply_step(
            request["step"],
            Path(request["model"]),
            Path(request["data"]),
            into,
            seed=request["seed"],
            scratch=Path(scratch),
            threads=request["threads"],
            original=Path(request["original"]),
            report=_told,
            resume=checkpoint if checkpoint.exists() else None,
            checkpoint=checkpoint,
        )
    checkpoint.unlink(missing_ok=True)
    return result.details


def _told(fraction: float, message: str, numbers: Any = {}, /) -> None:  # noqa: B006  read only
    now = time.monotonic()
    if now - _TOLD[-1] > 30:
        _TOLD.append(now)
        loss = "".join(f" {name} {value:.4g}" for name, value in numbers.items())
        print(f"  {fraction:.0%} {message}{loss}", file=sys.stderr, flush=True)


_TOLD = [0.0]


def peer(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    from benchmarks.contestants import PEERS, Request

    torch.set_num_threads(request["threads"])
    paths: dict[str, Any] = {name: Path(request[name]) for name in ("model", "data", "into", "work")}
    rest: dict[str, Any] = {name: request[name] for name in ("step", "network", "seed", "threads")}
    return PEERS[request["step"]["peer"]](Request(**paths, **rest))


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    start = time.perf_counter()
    details = (technique if "technique" in request["step"] else peer)(request)
    print(json.dumps({"seconds": time.perf_counter() - start, "details": details}))


if __name__ == "__main__":
    main()

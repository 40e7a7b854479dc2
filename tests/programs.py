"""Programs of the service, as tests start them."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from app import tether
from app.settings import Settings

T = TypeVar("T")


def environment(settings: Settings) -> dict[str, str]:
    """The settings as the variables a program reads them from, without those of the machine."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    plain = {name: getattr(value, "get_secret_value", lambda v=value: v)() for name, value in given.items()}
    own = {f"PARE_{name.upper()}": str(value) for name, value in plain.items() if value is not None}
    return {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "default", **own}


@contextlib.contextmanager
def running(
    command: list[str], settings: Settings, log: Path, patience: float = 25
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = tether.start(command, env=environment(settings), output=output.fileno())
    try:
        yield process
    finally:
        tether.stop(process, patience)


WORKER = [sys.executable, "-P", "-m", "workers"]


def eventually(look: Callable[[], T | None], seconds: float = 30, every: float = 0.02) -> T:
    """The first answer that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(every)
    raise TimeoutError(f"not within {seconds} s")

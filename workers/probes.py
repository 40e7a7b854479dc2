"""The start-up self-test, from inside: real forbidden actions, each of which must fail."""

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

from workers.operations import Probe, Probes

_PTRACE_ATTACH = 16


def run(probe: Probe) -> Probes:
    """Errors: OSError if not even the permitted works."""
    probe.sample.read_bytes()
    Path("/proc/cpuinfo").read_bytes()
    parent = os.getppid()
    attempts: dict[str, Callable[[], object]] = {
        "read /etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "read a private file": probe.canary.read_bytes,
        "read the parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "list a directory": lambda: list(probe.outside.iterdir()),
        "write outside": lambda: (probe.outside / "written").write_bytes(b"x"),
        "change a file's mode": lambda: probe.sample.chmod(0o777),
        "internet socket": lambda: socket.socket(socket.AF_INET).close(),
        "unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "execute": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
        "fork": _fork,
        "signal the parent": lambda: os.kill(parent, 0),
        "trace the parent": lambda: _trace(parent),
    }
    return Probes(denied={name: _denied(attempt) for name, attempt in attempts.items()})


def _denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS)
    return False


def _fork() -> None:
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _trace(pid: int) -> None:
    if ctypes.CDLL(None, use_errno=True).ptrace(_PTRACE_ATTACH, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")

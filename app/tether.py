"""Starts a program that cannot outlive the process that started it, not even one that was killed.

Run as a script it is the few lines between fork and exec: `python -I -S tether.py PARENT UID COMMAND …`.
A script, because code between fork and exec of a process that has threads may hang.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | int | None = None,
    stdin: int = subprocess.DEVNULL,
    uid: int = -1,
) -> subprocess.Popen[bytes]:
    """A program in a session of its own, killed when the calling *thread* ends."""
    tethered = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(uid), *map(str, command)]
    return subprocess.Popen(  # noqa: S603  our own command
        tethered,
        env=env,
        stdin=stdin,
        stdout=output,
        stderr=output and subprocess.STDOUT,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[Any], patience: float, first: int = signal.SIGTERM) -> None:
    """Ends a program of `start` and all that it started: asked first, after `patience` seconds killed."""
    if process.returncode is None:
        os.kill(process.pid, first)  # not `send_signal`, which would reap it
        _await_end(process.pid, patience)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its whole session, before its number can be another's
    process.wait()


def _await_end(pid: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while (
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < deadline
    ):
        time.sleep(0.02)


def die_with_parent(parent: int) -> None:
    """From now on this process is killed with its parent; it ends at once if that is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _main(parent: str, uid: str, *command: str) -> None:
    if int(uid) >= 0:
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    die_with_parent(int(parent))  # after the change of user, which forgets it
    os.execvp(command[0], command)  # noqa: S606  our own command


if __name__ == "__main__":
    _main(*sys.argv[1:])

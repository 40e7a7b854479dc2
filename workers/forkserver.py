"""The warm process: imports once what computing needs, then forks a child for every request.

It is started with an empty environment, holds no secret, has one thread and never computes. Descriptor 0 is
its control socket: each message is a request as JSON, with three descriptors (status socket, output, log).
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import compression
from compression.step import ENGINE
from workers import child, seccomp
from workers.operations import KILL, Request
from workers.supervision import anonymous

_MESSAGE = 1 << 17
_LATE = frozenset({"compression.conversion", "compression.exports", "compression.intake"})
"""Not warmed: they load libraries that start threads as they are imported, and that few uploads need."""


def main() -> None:
    _load()
    control = socket.socket(fileno=os.dup(0))
    server = Forkserver(control)
    hello = {
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "seccomp": bool(server.filters),
        "memory": anonymous(Path("/proc/self/status").read_text()),
    }
    control.send(json.dumps(hello).encode())
    server.serve()


def _load() -> None:
    for name in ("onnxruntime.quantization", "onnxslim", "zstandard"):
        importlib.import_module(name)
    for name in _modules(compression.__path__, "compression."):
        _warm(name)
    gc.collect()
    gc.freeze()  # what is warm stays shared with the children


def _modules(folder: Iterable[str], prefix: str) -> Iterator[str]:
    for module in pkgutil.iter_modules(folder, prefix):
        if module.name in _LATE:
            continue
        yield module.name
        if module.ispkg and (package := _warm(module.name)):
            yield from _modules(package.__path__, f"{module.name}.")


def _warm(name: str) -> ModuleType | None:
    """None: it needs what this worker does not have, and so does the step that will ask for it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ENGINE:
            raise
        return None


class Forkserver:
    def __init__(self, control: socket.socket) -> None:
        self.filters = _filters()
        self._control = control
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, None)

    def serve(self) -> None:
        """Until the worker closes the control socket."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    key.data()
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, _MESSAGE, 3)
        if not message:
            return False
        status, output, log = fds
        pid = os.fork()
        if pid == 0:
            self._child(message, output, log)
        os.close(output)
        os.close(log)
        self._watch(pid, socket.socket(fileno=status))
        return True

    def _child(self, message: bytes, output: int, log: int) -> None:
        """In the child: no descriptor stays open but its output and its log."""
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (log, 1), (log, 2), (os.dup(output), 3)):
                os.dup2(source, target)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            child.live(Request.model_validate_json(message), self._pid, self.filters, 3)
        except BaseException:  # noqa: BLE001  it goes no further: this process ends here
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)

    def _watch(self, pid: int, status: socket.socket) -> None:
        ended = os.pidfd_open(pid)
        status.send(json.dumps({"pid": pid}).encode())
        self._selector.register(status, selectors.EVENT_READ, partial(self._kill, pid, status))
        self._selector.register(ended, selectors.EVENT_READ, partial(self._bury, pid, ended, status))

    def _kill(self, pid: int, status: socket.socket) -> None:
        """Told to, or the worker's end is closed. The child is not reaped yet: its number is its own."""
        if status.recv(16) != KILL:
            self._selector.unregister(status)
        os.kill(pid, signal.SIGKILL)  # there is nobody else in its session: it cannot fork
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)  # but where seccomp is missing it can

    def _bury(self, pid: int, ended: int, status: socket.socket) -> None:
        _, code, usage = os.wait4(pid, 0)
        self._selector.unregister(ended)
        os.close(ended)
        if status in self._selector.get_map():
            self._selector.unregister(status)
        ending = {"code": os.waitstatus_to_exitcode(code), "peak": usage.ru_maxrss << 10}
        with contextlib.suppress(OSError):  # the worker no longer cares
            status.send(json.dumps(ending).encode())
        status.close()


def _filters() -> bytes:
    try:
        return seccomp.compile_filter()
    except (ImportError, RuntimeError, OSError):
        return b""

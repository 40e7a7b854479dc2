"""The worker's side of one child: trusts nothing it says, holds it to its limits, kills it when told."""

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from compression.errors import CompressionError, ErrorKind
from workers.frames import Frame, Progress
from workers.operations import KILL, Apply, Limits, Request

Watch = Callable[[Progress | None], None]
"""Called every half second with the last progress. Whatever it raises kills the child and is raised on."""
Look = Callable[[Path], None]
"""Called as often, with the path at which the child leaves checkpoints."""

_TICK = 0.1
_EVERY = 0.5
_DYING = 5.0
_LINE = 8 << 20
_TOTAL = 64 << 20
_LOG = 64 << 10
_ENTRIES = 10_000


class ChildDeath(CompressionError):
    """By a signal, or for memory: worth one more try, as the machine may have been the reason."""


def out_of_memory() -> ChildDeath:
    return ChildDeath(
        "E_SANDBOX_OOM", "the model asks for more memory than a job may use", ErrorKind.RESOURCE
    )


def crashed(detail: str = "the runtime crashed while it worked on the model") -> ChildDeath:
    return ChildDeath("E_SANDBOX_CRASH", detail, ErrorKind.RESOURCE)


def lost() -> CompressionError:
    """No child, because the warm process is gone: nobody's model is to blame."""
    return CompressionError("E_SANDBOX_LOST", "the sandbox had to be started again", ErrorKind.INFRASTRUCTURE)


def timed_out(seconds: float) -> CompressionError:
    return CompressionError(
        "E_SANDBOX_TIMEOUT", f"not finished within {seconds:.0f} seconds", ErrorKind.TIMEOUT
    )


def too_much_disk() -> CompressionError:
    return CompressionError(
        "E_SANDBOX_DISK", "the operation writes more than a job may store", ErrorKind.RESOURCE
    )


class Supervision:
    """One child from its first to its last byte."""

    def __init__(
        self, control: socket.socket, request: Request, warm: int, watch: Watch, look: Look | None = None
    ) -> None:
        """`warm` is how many bytes of the warm process every child shares."""
        self._request = request
        self._warm = warm
        self._watch = watch
        self._look = look
        self._deadline = time.monotonic() + request.limits.seconds
        self._pid: int | None = None
        self._ending: int | None = None
        self._gone = False
        self._received = 0
        self._line = b""
        self._last: Frame | None = None
        self._progress: Progress | None = None
        self._watched = 0.0
        self._peak = 0
        self.log = b""
        self._selector = selectors.DefaultSelector()
        self._open(control)

    def _open(self, control: socket.socket) -> None:
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output, output = os.pipe()
        self._stderr, stderr = os.pipe()
        try:
            message = self._request.model_dump_json().encode()
            socket.send_fds(control, [message], [theirs.fileno(), output, stderr])
        finally:
            theirs.close()
            os.close(output)
            os.close(stderr)
        self._selector.register(self._status, selectors.EVENT_READ, self._on_status)
        self._selector.register(self._output, selectors.EVENT_READ, self._on_output)
        self._selector.register(self._stderr, selectors.EVENT_READ, self._on_stderr)

    def run(self) -> BaseModel:
        """Errors: CompressionError, of the child or about it; whatever `watch` raises."""
        try:
            while self._selector.get_map():
                self._turn()
                self._guard()
        except BaseException:
            self._kill()
            raise
        finally:
            self._close()
        return self._judge()

    def _turn(self) -> None:
        for key, _ in self._selector.select(_TICK):
            key.data()

    def _guard(self) -> None:
        now = time.monotonic()
        if now > self._deadline:
            raise timed_out(self._request.limits.seconds)
        self._peak = max(self._peak, self._memory())
        if self._peak > self._request.limits.memory_bytes:
            raise out_of_memory()
        if now - self._watched >= _EVERY:
            self._watched = now
            if _disk(self._request.private) > self._request.limits.disk_bytes:
                raise too_much_disk()
            self._watch(self._progress)
            if self._look is not None and isinstance(self._request.operation, Apply):
                self._look(self._request.private / self._request.operation.checkpoint)

    def _memory(self) -> int:
        """Bytes only this child has; files mapped into memory are the page cache's."""
        if self._pid is None or self._gone:
            return 0
        try:
            status = Path(f"/proc/{self._pid}/status").read_text()
        except OSError:
            return 0
        return max(0, anonymous(status) - self._warm)

    def _on_status(self) -> None:
        message = self._status.recv(4096)
        said = json.loads(message) if message else {}
        self._pid = said.get("pid", self._pid)
        self._ending = said.get("code", self._ending)
        if "pid" not in said:
            self._gone = True
            self._selector.unregister(self._status)

    def _on_output(self) -> None:
        chunk = os.read(self._output, 1 << 16)
        self._received += len(chunk)
        if not chunk:
            self._selector.unregister(self._output)
        if self._received > _TOTAL or len(self._line) > _LINE:
            raise crashed("the runtime said more than it may")
        *lines, self._line = (self._line + chunk).split(b"\n")
        for line in lines:
            self._on_frame(line)

    def _on_frame(self, line: bytes) -> None:
        try:
            frame = Frame.model_validate_json(line)
        except ValidationError:
            raise crashed("the runtime gave no answer that makes sense") from None
        if frame.progress is None:
            self._last = frame
        else:
            self._progress = frame.progress

    def _on_stderr(self) -> None:
        chunk = os.read(self._stderr, 1 << 16)
        self.log += chunk[: max(0, _LOG - len(self.log))]
        if not chunk:
            self._selector.unregister(self._stderr)

    def _kill(self) -> None:
        """Returns when the child is gone and its files are still."""
        with contextlib.suppress(OSError):
            self._status.send(KILL)
            self._status.settimeout(_DYING)
            while not self._gone:
                self._on_status()

    def _close(self) -> None:
        self._selector.close()
        self._status.close()
        os.close(self._output)
        os.close(self._stderr)

    def _judge(self) -> BaseModel:
        if self._ending is None:
            raise lost()
        if self._ending != 0 or self._last is None:
            raise self._death(self._request.limits)
        if self._last.error is not None:
            raise self._last.error.error()
        try:
            return self._request.operation.result.model_validate(self._last.result)
        except ValidationError:
            raise crashed("the runtime gave no answer that makes sense") from None

    def _death(self, limits: Limits) -> CompressionError:
        if self._ending == -signal.SIGXCPU:
            return timed_out(limits.seconds)
        if self._ending == -signal.SIGXFSZ:
            return too_much_disk()
        return out_of_memory() if self._peak > 0.9 * limits.memory_bytes else crashed()


def anonymous(status: str) -> int:
    """Bytes of memory that no file backs, from `/proc/…/status`."""
    wanted = ("RssAnon:", "RssShmem:")
    return sum(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith(wanted))


def _disk(directory: Path) -> int:
    """Bytes below a directory that a hostile child fills; too many files count as too much."""
    total, waiting, seen = 0, [str(directory)], 0
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                seen += 1
                if seen > _ENTRIES:
                    return 1 << 62
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total

"""The sandbox: operations on a user's bytes run in confined children of a warm process without secrets."""

import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

import structlog
from pydantic import BaseModel

from app import tether
from compression.errors import CompressionError
from workers import landlock
from workers.checkpoints import Checkpoints
from workers.operations import Apply, Limits, Operation, Probe, Probes, Request
from workers.private import collect, private
from workers.supervision import ChildDeath, Supervision, Watch, lost

Level = Literal["S0", "S1", "S2"]
_ENVIRONMENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads slow each other down as soon as two jobs share the cores
    "OPENBLAS_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}
_WARM = "import sys; sys.path.insert(0, sys.argv[1]); from workers.forkserver import main; main()"
_START = 60.0
_UIDS = range(61184, 65520)  # users that exist for one process only (systemd's DynamicUser)
_CALLS = frozenset(
    {"internet socket", "unix socket", "execute", "fork", "signal the parent", "trace the parent"}
)
_SELF_TEST = Limits(memory_bytes=1 << 30, disk_bytes=1 << 20, seconds=20)
_log = structlog.get_logger()


class Done(NamedTuple):
    result: BaseModel
    output: Path | None
    """In the directory that was given; a plain file that is ours now."""


@dataclass(frozen=True)
class Isolation:
    """What holds here, found by trying. S2: files, network, processes are out of reach; S1: files are not."""

    level: Level
    landlock: int
    seccomp: bool
    own_user: bool


class Sandbox:
    """Start it first of all, from a thread that stays; then `examine` it before anything else."""

    def __init__(self) -> None:
        self.isolation = Isolation("S0", landlock.abi(), seccomp=False, own_user=False)
        self._lock = threading.Lock()
        self._uids = itertools.cycle(random.sample(_UIDS, len(_UIDS)))
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-c", _WARM, str(Path(__file__).parent.parent)]
        with theirs:
            self._process = tether.start(command, env=_ENVIRONMENT, stdin=theirs.fileno())
        self._greeted = False

    def _greet(self) -> socket.socket:
        """The control socket of a warm process that is ready; a new one if it has died."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._control.close()
                self._start()
            if not self._greeted:
                self._control.settimeout(_START)
                hello = json.loads(self._control.recv(4096) or b"{}")
                self._control.settimeout(None)
                if hello.get("threads") != 1:
                    _log.error("the warm process is not fit to fork", said=hello)
                    raise lost()
                self._greeted = True
                self._seccomp = bool(hello["seccomp"])
                self._warm = int(hello["memory"])
            return self._control

    def stop(self) -> None:
        """The children die with their parent."""
        if self._process is not None:
            self._control.close()
            tether.stop(self._process, 0)

    def run(
        self,
        operation: Operation,
        limits: Limits,
        directory: Path,
        watch: Watch,
        checkpoints: Checkpoints | None = None,
    ) -> Done:
        """Once, and once more, from the last checkpoint, if a signal or memory ended the child. `directory`
        is the caller's; nothing but the output is left there.

        Errors: CompressionError, of the operation or E_SANDBOX_…; whatever `watch` raises.
        """
        try:
            return self._run(operation, limits, directory, watch, checkpoints)
        except ChildDeath as death:
            _log.warning("child died, once more", operation=operation.operation, code=death.code)
            again = _resumed(operation, checkpoints)
            return self._run(again, limits, directory, watch, checkpoints)

    def _run(
        self,
        operation: Operation,
        limits: Limits,
        directory: Path,
        watch: Watch,
        checkpoints: Checkpoints | None = None,
    ) -> Done:
        isolation = self.isolation
        uid = next(self._uids) if isolation.own_user else None
        with private(directory, uid) as own:
            request = Request(
                operation=operation,
                private=own,
                limits=limits,
                uid=uid,
                landlock=isolation.landlock > 0,
                seccomp=isolation.seccomp,
            )
            result = self._supervise(request, watch, checkpoints)
            return Done(result, collect(own, operation.output, directory, limits.disk_bytes))

    def _supervise(self, request: Request, watch: Watch, checkpoints: Checkpoints | None) -> BaseModel:
        look = checkpoints.look if checkpoints else None
        try:
            supervision = Supervision(self._greet(), request, self._warm, watch, look)
        except OSError as error:
            raise lost() from error
        try:
            return supervision.run()
        finally:
            if supervision.log:
                text = supervision.log.decode(errors="replace")
                _log.warning("child wrote", operation=request.operation.operation, text=text)

    def examine(self, directory: Path) -> Isolation:
        """The self-test: tries what is forbidden and keeps the strictest confinement that works."""
        self._greet()
        users = [True, False] if os.geteuid() == 0 and landlock.abi() else [False]
        for own_user in users:
            self.isolation = Isolation("S0", landlock.abi(), self._seccomp, own_user)
            try:
                denied = self._probe(directory).denied
            except CompressionError as error:
                _log.warning("sandbox self-test failed", own_user=own_user, error=str(error))
                continue
            self.isolation = Isolation(_level(denied), landlock.abi(), self._seccomp, own_user)
            failed = [name for name, was in denied.items() if not was]
            _log.info("sandbox", level=self.isolation.level, own_user=own_user, not_denied=failed)
            return self.isolation
        return self.isolation

    def _probe(self, directory: Path) -> Probes:
        with tempfile.TemporaryDirectory(dir=directory, prefix="probe-") as outside:
            sample, canary = Path(outside) / "sample", Path(outside) / "canary"
            sample.touch(0o600)
            canary.touch(0o600)
            probe = Probe(sample=sample, canary=canary, outside=Path(outside))
            return cast("Probes", self._run(probe, _SELF_TEST, directory, lambda _: None).result)


def _resumed(operation: Operation, checkpoints: Checkpoints | None) -> Operation:
    latest = checkpoints.latest if checkpoints else None
    if latest is None or not isinstance(operation, Apply):
        return operation
    return operation.model_copy(update={"resume": latest})


def _level(denied: dict[str, bool]) -> Level:
    if all(denied.values()):
        return "S2"
    return "S1" if all(denied[call] for call in _CALLS) else "S0"

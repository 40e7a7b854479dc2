"""Keeps programs alive: what dies is started again, what is stopped is gone with all that it started."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from app import tether

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_STEADY = 30.0  # a program that ran so long is no longer thought to be failing
_TICK = 0.2
_log = structlog.get_logger()


@dataclass
class Program:
    """`launch` gives the running program; it has `patience` seconds to stop."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    patience: float
    process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _pause: float = _FIRST_PAUSE

    def start(self) -> None:
        self._started = time.monotonic()
        self.process = self.launch()

    def tend(self) -> None:
        """Starts it again if it has died, later and later if it keeps dying."""
        if self.process is None or self.process.poll() is None:
            return
        ran = time.monotonic() - self._started
        if ran > _STEADY:
            self._pause = _FIRST_PAUSE
        if ran < self._pause:
            return
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        _log.warning("program died, started again", program=self.name, code=self.process.returncode)
        with contextlib.suppress(TimeoutError):
            self.start()

    def ask(self) -> None:
        """To stop, without waiting for it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self.process is not None:
            tether.stop(self.process, self.patience)


@dataclass
class Supervisor:
    """From the thread that stays: its programs are tethered to it."""

    groups: list[Sequence[Program]] = field(default_factory=list)
    leaving: bool = False

    def start(self, *programs: Program) -> None:
        """A group: its members are stopped together, before those of earlier groups."""
        self.groups.append(programs)
        for program in programs:
            program.start()

    def leave(self, *_signal: object) -> None:
        self.leaving = True

    def tend(self) -> None:
        """Until told to leave."""
        while not self.leaving:
            for group in self.groups:
                for program in group:
                    program.tend()
            time.sleep(_TICK)

    @contextlib.contextmanager
    def running(self) -> Iterator["Supervisor"]:
        """SIGINT and SIGTERM end it; afterwards nothing runs."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.leave)
        try:
            yield self
        finally:
            for group in reversed(self.groups):
                for program in group:
                    program.ask()
                for program in group:
                    program.stop()

"""Holding a lease while a child works: called each half second, it keeps the lease and hears of a cancel."""

import time
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.domain.errors import Unavailable
from app.domain.records import InspectionClaim, JobClaim
from app.domain.states import JobState
from app.services.inspected import InspectedService
from workers.bench import Bench, Cancelled, Drained, Lost
from workers.frames import Progress

_LOOK = 0.9  # seconds between two looks whether a cancel was asked for
_STEP = 0.01  # progress below this is not worth an event
_TELL = 5.0  # seconds after which what a step says of itself is, even without such progress
_log = structlog.get_logger()


@dataclass
class JobLease:
    """`span` is the part of the job that the present operation is: where it starts and how long it is."""

    bench: Bench
    claim: JobClaim
    span: tuple[float, float] = (0.0, 0.0)
    _told: float = 0.0
    _told_at: float = field(default_factory=time.monotonic)
    _beat_at: float = field(default_factory=time.monotonic)
    _looked_at: float = 0.0

    def __call__(self, progress: Progress | None) -> None:
        """A database that is away is no reason to end: the fence decides later.

        Errors: Drained, Cancelled, Lost.
        """
        if self.bench.draining.is_set():
            raise Drained
        now = time.monotonic()
        if now - self._looked_at < _LOOK:
            return
        self._looked_at = now
        try:
            self._look(now, progress)
        except Unavailable as error:
            _log.warning("lease not kept", reason=error.code)

    def phase(self, phase: str) -> None:
        """Tells what begins, and how far the job is by then. Errors: as a call."""
        self._tell({"phase": phase, "progress": round(self.span[0], 4)})

    def say(self, message: str) -> None:
        """Errors: as a call."""
        self._tell({"progress": round(self.span[0], 4), "said": {"message": message}})

    def _tell(self, news: dict[str, Any]) -> None:
        self._answer(self.bench.insist(lambda: self.bench.services.jobs.heartbeat(self.claim, **news)))

    def _look(self, now: float, progress: Progress | None) -> None:
        jobs = self.bench.services.jobs
        news = self._news(now, progress)
        if news or now - self._beat_at >= self.bench.services.settings.lease_seconds / 6:
            answer = jobs.heartbeat(self.claim, **news)
            self._beat_at = now
            self._answer(answer)
        elif jobs.exists(self.claim.project_id, self.claim.id) is JobState.CANCELLING:
            raise Cancelled

    def _news(self, now: float, progress: Progress | None) -> dict[str, Any]:
        if progress is None:
            return {}
        start, length = self.span
        fraction = round(start + length * progress.fraction, 4)
        late = bool(progress.numbers) and now - self._told_at >= _TELL
        if abs(fraction - self._told) < _STEP and not late:
            return {}
        self._told, self._told_at = fraction, now
        said: dict[str, Any] = {"message": progress.message}
        if progress.numbers:
            said["numbers"] = progress.numbers
        return {"progress": fraction, "said": said}

    def _answer(self, answer: str) -> None:
        if answer == "cancel":
            raise Cancelled
        if answer == "lost":
            raise Lost


@dataclass
class InspectionLease:
    bench: Bench
    service: InspectedService
    claim: InspectionClaim
    _beat_at: float = field(default_factory=time.monotonic)

    def __call__(self, _progress: Progress | None) -> None:
        """Errors: Drained, Lost."""
        if self.bench.draining.is_set():
            raise Drained
        if time.monotonic() - self._beat_at < self.bench.services.settings.lease_seconds / 6:
            return
        self._beat_at = time.monotonic()
        try:
            kept = self.service.heartbeat(self.claim)
        except Unavailable as error:
            _log.warning("lease not kept", reason=error.code)
        else:
            if not kept:
                raise Lost

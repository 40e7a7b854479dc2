"""States and the only ways between them. Phases are not states: they are a field that may grow."""

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    # back to queued: a lease that expired, was given back by a draining worker, or a failure of ours
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLING, JobState.QUEUED}),
    JobState.CANCELLING: frozenset({JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
OVER = frozenset(state for state in JobState if state.over)


class SearchState(StrEnum):
    """While `running`, trials are jobs; when none is left, what was chosen is proved by one more job."""

    RUNNING = "running"
    PROVING = "proving"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in {SearchState.SUCCEEDED, SearchState.FAILED, SearchState.CANCELLED}


SEARCH_OVER = frozenset(state for state in SearchState if state.over)


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class InspectionState(StrEnum):
    """Of models and data sets."""

    PROCESSING = "processing"
    READY = "ready"
    REJECTED = "rejected"


class UploadState(StrEnum):
    PENDING = "pending"
    COMPLETED = "completed"

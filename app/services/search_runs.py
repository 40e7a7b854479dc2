"""The worker's side of a search: what is known of it, and changes that count only if nobody was faster."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, Float, and_, cast, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.adapters.database import Database, member, now
from app.adapters.notify import Notifier
from app.adapters.queue import Queue
from app.adapters.search_tables import searches
from app.adapters.tables import datasets, jobs, models, steps
from app.domain.errors import ErrorRecord
from app.domain.records import Job, Search, SearchTrial
from app.domain.states import SEARCH_OVER, JobState, SearchState, StepState
from app.services.orders import Order
from app.services.placing import COLUMNS, place
from app.services.publish import publish
from app.services.workers import seats
from compression.inspection import DatasetInspection, ModelInspection
from compression.measurement import Measurements
from compression.recipe import Recipe
from compression.search.budget import Budget
from compression.search.plan import Next
from compression.search.space import shortened
from compression.search.trial import Trial

_COMPUTED = {"trials", "cache_hits", "elapsed_ms", "proof"}
SEARCH = [searches.c[field.name] for field in fields(Search) if field.name not in _COMPUTED]
"""Of a `Search`, in its order."""
_TRIAL: list[Any] = [
    jobs.c.trial,
    jobs.c.id,
    *(jobs.c[name] for name in ("state", "recipe", "planned", "measurements", "error")),
    *(jobs.c[name] for name in ("started_at", "finished_at")),
]
"""Of a `SearchTrial`, in its order."""
_OPEN = {JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING}


def elapsed() -> ColumnElement[int]:
    """Milliseconds of searching; the proof is no part of it."""
    return searches.c.spent_ms + now() - searches.c.begun_at


@dataclass(frozen=True, slots=True)
class Look:
    """A search that is not over, and all that the next decision depends on."""

    search: Search
    budget: Budget
    model: ModelInspection
    data: DatasetInspection | None
    trials: Sequence[SearchTrial]
    proof: Job | None
    seats: int
    """Jobs that the living workers of its queue run at once."""

    @property
    def seconds(self) -> float:
        return self.search.elapsed_ms / 1000

    @property
    def open(self) -> Sequence[SearchTrial]:
        return [trial for trial in self.trials if trial.state in _OPEN]


class SearchRuns:
    def __init__(self, database: Database, queue: Queue, notify: Notifier) -> None:
        self._database = database
        self._queue = queue
        self._notify = notify

    def look(self, search_id: str) -> Look | None:
        """None: it is over, or was deleted."""
        with self._database.read() as connection:
            row = connection.execute(
                select(*SEARCH, elapsed().label("elapsed")).where(
                    searches.c.id == search_id, searches.c.state.not_in(SEARCH_OVER)
                )
            ).one_or_none()
            if row is None:
                return None
            search = replace(Search(*row[:-1]), elapsed_ms=row.elapsed)
            model = connection.execute(
                select(models.c.inspection).where(models.c.id == search.model_id)
            ).scalar_one()
            data = connection.execute(
                select(datasets.c.inspection).where(datasets.c.id == search.dataset_id)
            ).scalar_one_or_none()
            return Look(
                search=search,
                budget=Budget.model_validate(search.budget),
                model=ModelInspection.model_validate(model),
                data=None if data is None else DatasetInspection.model_validate(data),
                trials=trials_of(connection, search),
                proof=proof_of(connection, search),
                seats=max(1, seats(connection, search.target)),
            )

    def extend(self, look: Look, new: Sequence[Next]) -> bool:
        """With trials. False: look again."""
        search = look.search
        first = len(look.trials)
        with self._database.write() as connection:
            if not self._changed(connection, look, {"message_at": now()}):
                return False
            placed = [
                place(connection, search.project_id, trial_order(search, first + at, each))
                for at, each in enumerate(new)
            ]
        for job in placed:
            publish(self._queue, "run_job", job.id, job.queue)
        self._notify.send(search.id)
        return True

    def prove(self, look: Look, chosen: SearchTrial) -> bool:
        """By a job of the same steps, which are in the cache, on the samples nothing has seen yet."""
        search = look.search
        values: dict[str, Any] = {"chosen": chosen.number, "spent_ms": elapsed(), "message_at": now()}
        if search.state is SearchState.RUNNING:
            values["state"] = SearchState.PROVING
        with self._database.write() as connection:
            job = place(connection, search.project_id, proof_order(search, chosen))
            if not self._changed(connection, look, {**values, "proof_job_id": job.id}):
                connection.rollback()
                return False
        publish(self._queue, "run_job", job.id, job.queue)
        self._notify.send(search.id)
        return True

    def finish(
        self,
        look: Look,
        state: SearchState,
        outcome: str | None = None,
        reasons: Sequence[str] = (),
        notes: Sequence[str] = (),
        error: ErrorRecord | None = None,
    ) -> bool:
        values: dict[str, Any] = {
            "state": state,
            "finished_at": now(),
            "outcome": outcome,
            "outcome_reasons": reasons,
            "notes": notes,
            "error": None if error is None else error.json(),
        }
        if look.proof is None:
            values["spent_ms"] = elapsed()
        with self._database.write() as connection:
            done = self._changed(connection, look, values)
        self._notify.send(look.search.id)
        return done

    def _changed(self, connection: Connection, look: Look, values: Mapping[str, Any]) -> bool:
        same = and_(searches.c.id == look.search.id, searches.c.revision == look.search.revision)
        changed = connection.execute(
            update(searches).where(same).values(**values, revision=searches.c.revision + 1)
        )
        return bool(changed.rowcount)


def trials_of(
    connection: Connection, search: Search, after: int = -1, limit: int | None = None
) -> list[SearchTrial]:
    """By number."""
    own = (jobs.c.search_id == search.id, jobs.c.trial > after)
    rows = connection.execute(select(*_TRIAL).where(*own).order_by(jobs.c.trial).limit(limit)).all()
    done: dict[str, list[tuple[float, bool]]] = {}
    seconds = cast(member(steps.c.details, "seconds"), Float)
    for job_id, taken, reused in connection.execute(
        select(steps.c.job_id, seconds, steps.c.cache_hit)
        .join(jobs)
        .where(*own, steps.c.state == StepState.COMPLETED)
        .order_by(steps.c.job_id, steps.c.index)
    ):
        done.setdefault(job_id, []).append((taken or 0.0, reused))
    return [replace(SearchTrial(*row), steps=done.get(row.id, ())) for row in rows]


def proof_of(connection: Connection, search: Search) -> Job | None:
    row = connection.execute(select(*COLUMNS).where(jobs.c.id == search.proof_job_id)).one_or_none()
    return None if row is None else Job(*row)


_CAUTION = 1.0
"""Standard errors: the best of many trials looks better than it is. Not on samples of train, where
what is lost is overstated anyway, as a rule by more.
"""


def told(search: Search, trial: SearchTrial) -> Trial:
    """As the planner wants it."""
    succeeded = trial.state is JobState.SUCCEEDED
    own = sum(seconds for seconds, reused in trial.steps if not reused)
    return Trial(
        number=trial.number,
        steps=trial.planned["steps"],
        share=trial.planned["share"],
        state="succeeded" if succeeded else "open" if trial.state in _OPEN else "failed",
        measurements=Measurements.model_validate(trial.measurements) if trial.measurements else None,
        work=[seconds for seconds, _ in trial.steps],
        rest=max((trial.seconds or 0.0) - own, 0.0),
        caution=_CAUTION if search.judged_by == "calibration" else 0.0,
    )


def trial_order(search: Search, number: int, planned: Next) -> Order:
    """A trial keeps no artifact: what is wanted of it is made when it is proved."""
    given = [dict(step) for step in planned.steps]
    recipe = _recipe(search, shortened(given, planned.share))
    seconds = max(math.ceil(planned.seconds), 1)
    order = _order(search, recipe, seconds, ())
    return replace(order, trial=number, planned={"steps": given, "share": planned.share})


_PROOF_SECONDS = 24 * 3600


def proof_order(
    search: Search, trial: SearchTrial, formats: Sequence[str] = (), labels: Mapping[str, str] | None = None
) -> Order:
    order = _order(search, Recipe.model_validate(trial.recipe), _PROOF_SECONDS, formats or search.formats)
    return replace(order, labels=search.labels if labels is None else labels)


def _recipe(search: Search, given: Sequence[Mapping[str, Any]]) -> Recipe:
    budget = Budget.model_validate(search.budget)
    limits = {
        "max_metric_drop": 1.0 if budget.max_metric_drop is None else budget.max_metric_drop,
        "min_agreement": 0.0 if budget.min_agreement is None else budget.min_agreement,
    }
    return Recipe.model_validate({"steps": given, "task": budget.task, **limits})


def _order(search: Search, recipe: Recipe, seconds: int, formats: Sequence[str]) -> Order:
    same: dict[str, Any] = {name: getattr(search, name) for name in _SAME}
    return Order(recipe=recipe, timeout_seconds=seconds, formats=formats, search_id=search.id, **same)


_SAME = ("model_id", "dataset_id", "seed", "cache", "target", "labels")

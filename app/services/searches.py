"""The client's side of a search: order, look, cancel, resume, take another point of what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from app.adapters.database import now
from app.adapters.search_tables import searches
from app.adapters.tables import artifacts, events, job_models, jobs, steps
from app.domain.errors import Conflict, NotFound
from app.domain.ids import new_id
from app.domain.records import Job, Page, Search, SearchTrial
from app.domain.states import JobState, SearchState
from app.services import transitions
from app.services.idempotency import Record, unrecorded
from app.services.jobs import with_results
from app.services.orders import SearchOrder, check, check_search
from app.services.placing import place
from app.services.publish import publish
from app.services.rows import Cut, page
from app.services.search_runs import SEARCH, SearchRuns, elapsed, proof_of, proof_order, told, trials_of
from compression.errors import Suggestion
from compression.search.budget import Budget
from compression.search.frontier import Axis, frontier
from compression.search.trial import best

_GET = select(*SEARCH, elapsed().label("elapsed")).where(
    searches.c.id == bindparam("id"), searches.c.project_id == bindparam("project")
)


@dataclass(frozen=True, slots=True)
class Point:
    """A trial of the search, or limits that one of them keeps."""

    trial: int | None
    limits: Mapping[str, Any]
    formats: Sequence[str] = ("onnx",)
    labels: Mapping[str, str] = field(default_factory=dict)


class SearchService(SearchRuns):
    def submit(self, project_id: str, order: SearchOrder, record: Record[Search] = unrecorded) -> Search:
        """Errors: NotFound; Conflict `…_not_ready`; Invalid `budget_refused`, `dataset_misfit`, `no_worker`,
        `nothing_to_try`.
        """
        with self._database.write() as connection:
            budget, judged_by = check_search(connection, project_id, order)
            values = {
                "id": new_id("sch"),
                "project_id": project_id,
                "state": SearchState.RUNNING,
                "budget": budget.model_dump(mode="json"),
                "outcome_reasons": [],
                "judged_by": judged_by,
                "formats": list(order.formats),
                **{name: getattr(order, name) for name in _AS_ORDERED},
            }
            row = connection.execute(
                insert(searches)
                .values(**values, begun_at=now(), message_at=now(), created_at=now())
                .returning(*SEARCH)
            ).one()
            created = Search(*row)
            record(connection, created)
        publish(self._queue, "advance_search", created.id, created.target)
        return created

    def get(self, project_id: str, search_id: str) -> Search:
        """Errors: NotFound."""
        with self._database.read() as connection:
            return self._with_results(connection, self._search(connection, project_id, search_id))

    def list(self, project_id: str, cut: Cut, state: SearchState | None = None) -> Page[Search]:
        """Without their proofs."""
        query = select(*SEARCH).where(searches.c.project_id == project_id)
        if state is not None:
            query = query.where(searches.c.state == state)
        with self._database.read() as connection:
            found = page(connection, query, searches, cut, lambda row: Search(*row))
            return replace(found, data=[_counted(connection, search) for search in found.data])

    def trials(
        self, project_id: str, search_id: str, after: int = -1, limit: int = 100
    ) -> Sequence[SearchTrial]:
        """Errors: NotFound."""
        with self._database.read() as connection:
            return trials_of(connection, self._search(connection, project_id, search_id), after, limit)

    def frontier(self, project_id: str, search_id: str, axes: Sequence[Axis]) -> Sequence[SearchTrial]:
        """Errors: NotFound."""
        with self._database.read() as connection:
            search = self._search(connection, project_id, search_id)
            found = {trial.number: trial for trial in trials_of(connection, search)}
        known = [told(search, trial) for trial in found.values()]
        return [found[trial.number] for trial in frontier(known, axes)]

    def cancel(self, project_id: str, search_id: str, record: Record[Search] = unrecorded) -> Search:
        """Its trials end; the best found so far is proved. Errors: NotFound; Conflict `search_over`."""
        with self._database.write() as connection:
            search = self._search(connection, project_id, search_id, lock=True)
            if search.state.over:
                raise Conflict("search_over", f"The search is {search.state}: there is nothing to cancel.")
            told_ = _end_jobs(connection, search)
            values = {
                "state": SearchState.CANCELLING,
                "revision": searches.c.revision + 1,
                "message_at": now(),
            }
            connection.execute(update(searches).where(searches.c.id == search_id).values(**values))
            search = _counted(connection, self._search(connection, project_id, search_id))
            record(connection, search)
        publish(self._queue, "advance_search", search_id, search.target)
        for identity in (*told_, search_id):
            self._notify.send(identity)
        return search

    def resume(
        self, project_id: str, search_id: str, seconds: int, trials: int, record: Record[Search] = unrecorded
    ) -> Search:
        """With so many more of both. Errors: NotFound; Conflict `search_not_over`."""
        with self._database.write() as connection:
            search = self._search(connection, project_id, search_id, lock=True)
            if not search.state.over:
                raise Conflict("search_not_over", f"The search is {search.state}: it goes on by itself.")
            done = connection.execute(
                select(func.count()).where(jobs.c.search_id == search_id, jobs.c.trial.is_not(None))
            ).scalar_one()
            budget = {**search.budget, "trials": done + trials, "seconds": search.spent_ms // 1000 + seconds}
            again = SearchOrder(search.model_id, search.dataset_id, Budget.model_validate(budget))
            check_search(connection, project_id, again)
            values: dict[str, Any] = {
                "state": SearchState.RUNNING,
                "budget": budget,
                "revision": searches.c.revision + 1,
                "begun_at": now(),
                "message_at": now(),
                **dict.fromkeys(("chosen", "proof_job_id", "outcome", "error", "finished_at")),
                "outcome_reasons": [],
                "notes": [],
            }
            connection.execute(update(searches).where(searches.c.id == search_id).values(**values))
            search = _counted(connection, self._search(connection, project_id, search_id))
            record(connection, search)
        publish(self._queue, "advance_search", search_id, search.target)
        return search

    def materialize(
        self, project_id: str, search_id: str, point: Point, record: Record[Job] = unrecorded
    ) -> Job:
        """A job that proves another trial and keeps its artifact; its steps are in the cache.

        Errors: NotFound, also of the trial; Conflict `no_trial`; Invalid `validation_error`.
        """
        with self._database.write() as connection:
            search = self._search(connection, project_id, search_id)
            chosen = _chosen(search, trials_of(connection, search), point)
            order = proof_order(search, chosen, point.formats, point.labels)
            check(connection, project_id, order)
            created = place(connection, project_id, order)
            record(connection, created)
        publish(self._queue, "run_job", created.id, created.queue)
        return created

    def delete(self, project_id: str, search_id: str) -> None:
        """With its trials; jobs that proved some of them stay.

        Errors: NotFound; Conflict `search_not_over`.
        """
        with self._database.write() as connection:
            search = self._search(connection, project_id, search_id, lock=True)
            if not search.state.over:
                way = Suggestion(f"Cancel it first: POST /v1/searches/{search_id}/cancel")
                raise Conflict("search_not_over", f"The search is {search.state}.", way)
            own = select(jobs.c.id).where(jobs.c.search_id == search_id, jobs.c.trial.is_not(None))
            for table in (artifacts, events, steps, job_models):
                connection.execute(delete(table).where(table.c.job_id.in_(own)))
            connection.execute(delete(jobs).where(jobs.c.search_id == search_id, jobs.c.trial.is_not(None)))
            connection.execute(update(jobs).where(jobs.c.search_id == search_id).values(search_id=None))
            connection.execute(delete(searches).where(searches.c.id == search_id))

    def _search(
        self, connection: Connection, project_id: str, search_id: str, *, lock: bool = False
    ) -> Search:
        query = _GET.with_for_update() if lock else _GET
        row = connection.execute(query, {"id": search_id, "project": project_id}).one_or_none()
        if row is None:
            raise NotFound("search", search_id)
        search = Search(*row[:-1])
        searching = search.proof_job_id is None and not search.state.over
        return replace(search, elapsed_ms=row.elapsed if searching else search.spent_ms)

    def _with_results(self, connection: Connection, search: Search) -> Search:
        proof = proof_of(connection, search)
        if proof is not None:
            (proof,) = with_results(connection, [proof])
        return replace(_counted(connection, search), proof=proof)


_AS_ORDERED = ("model_id", "dataset_id", "seed", "cache", "target", "labels")


def _counted(connection: Connection, search: Search) -> Search:
    of_search = (jobs.c.search_id == search.id, jobs.c.trial.is_not(None))
    states = connection.execute(select(jobs.c.state, func.count()).where(*of_search).group_by(jobs.c.state))
    hits = connection.execute(
        select(func.count()).select_from(steps.join(jobs)).where(*of_search, steps.c.cache_hit)
    ).scalar_one()
    return replace(search, trials={state.value: count for state, count in states}, cache_hits=hits)


def _end_jobs(connection: Connection, search: Search) -> list[str]:
    """Of the search's own; of jobs that take a point of it, none is ended. Ids of those that changed."""
    own = (jobs.c.search_id == search.id) & (jobs.c.trial.is_not(None) | (jobs.c.id == search.proof_job_id))
    found = connection.execute(
        select(jobs.c.id).where(own, jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING)))
    ).scalars()
    ended = list(found)
    for identity in ended:
        transitions.end(connection, jobs.c.id == identity)
    return ended


def _chosen(search: Search, trials: Sequence[SearchTrial], point: Point) -> SearchTrial:
    by_number = {trial.number: trial for trial in trials if trial.state is JobState.SUCCEEDED}
    if point.trial is not None:
        if point.trial not in by_number:
            raise Conflict("no_trial", f"The search has no trial {point.trial} that succeeded.")
        return by_number[point.trial]
    wanted = Budget.model_validate({**search.budget, **point.limits})
    found = best(wanted, [told(search, trial) for trial in by_number.values()])
    if found is None:
        raise Conflict("no_trial", "No trial has succeeded yet.")
    return by_number[found.number]

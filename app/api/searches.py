import functools
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from app.api import render, schemas, search_examples, search_schemas
from app.api.context import Project, Wired
from app.api.documents import answers, json_body
from app.api.examples import JOB, listed
from app.api.once import Guard
from app.api.paging import Paged
from app.api.requests import parsed
from app.api.routing import resource
from app.api.search_requests import MaterializeRequest, ResumeRequest, SearchRequest
from app.api.waiting import Wait, look_until
from app.domain.records import Search
from app.domain.states import SearchState
from compression.search.frontier import Axis

router = resource("/v1/searches", "searches")
_MOST = 1000
Axes = Annotated[
    list[Axis], Query(min_length=2, max_length=3, description="what is looked at; smaller is better in all")
]


@router.post(
    "",
    status_code=202,
    summary="Find the best model within a budget",
    response_model=search_schemas.Search,
    responses=answers(202, search_examples.SEARCH),
    openapi_extra=json_body(SearchRequest, *search_examples.SEARCH_REQUESTS),
)
def create_search(
    services: Wired, project: Project, once: Guard, body: Annotated[SearchRequest, parsed(SearchRequest)]
) -> Response:
    """Techniques and their strengths are combined and tried; what is promising is trained longer. Trials are
    jobs of all workers, judged on samples set aside from those that are learnt from. The best is proved at
    the end on the test split, which nothing has looked at before: its job is `proof`, with artifact and
    report. A budget that cannot be met ends `succeeded` with `outcome` `unmet`, and what comes nearest.
    """
    submit = functools.partial(services.searches.submit, project, body.order())
    return once(submit, render.search, 202, _address)


@router.get(
    "",
    summary="List searches",
    response_model=schemas.Page[search_schemas.Search],
    responses=answers(200, listed(search_examples.SEARCH)),
)
def list_searches(
    services: Wired, project: Project, cut: Paged, state: Annotated[SearchState | None, Query()] = None
) -> Response:
    """Newest first. `proof` is only told by GET of one search."""
    return render.listed(services.searches.list(project, cut, state), render.search)


@router.get(
    "/{search_id}",
    summary="One search",
    response_model=search_schemas.Search,
    responses=answers(200, search_examples.SEARCH_SUCCEEDED),
)
async def get_search(
    request: Request, services: Wired, project: Project, search_id: str, wait: Wait = 0
) -> Response:
    """With `wait` the answer comes when the search is over or the time is up."""
    look = functools.partial(services.searches.get, project, search_id)
    search = await look_until(request, search_id, look, lambda found: found.state.over, wait)
    return render.tagged(request, render.search(search))


@router.get(
    "/{search_id}/trials",
    summary="What was tried",
    response_model=search_schemas.Trials,
    responses=answers(200, search_examples.TRIALS),
)
def list_trials(
    services: Wired,
    project: Project,
    search_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    after: Annotated[int, Query(ge=-1, description="number of a trial; those after it are listed")] = -1,
) -> Response:
    """In the order they were begun, each with its recipe and what was measured on the samples that the
    search chooses by.
    """
    search = services.searches.get(project, search_id)
    found = services.searches.trials(project, search_id, after, limit + 1)
    shown = [render.trial(search, trial) for trial in found[:limit]]
    more = len(found) > limit
    return render.answer(
        {"data": shown, "has_more": more, "next_cursor": str(shown[-1]["number"]) if more else None}
    )


@router.get(
    "/{search_id}/frontier",
    summary="The best of what was tried",
    response_model=search_schemas.Frontier,
    responses=answers(200, search_examples.FRONTIER),
)
def get_frontier(
    services: Wired,
    project: Project,
    search_id: str,
    axes: Axes = ["metric", "latency", "bytes"],  # noqa: B006
) -> Response:
    """Trials that no other one beats in all that is looked at: at most so much is lost of the metric
    (`metric`, of the agreement where there are no labels), the others as shares of the original's.
    """
    search = services.searches.get(project, search_id)
    found = services.searches.frontier(project, search_id, axes)
    return render.answer({"axes": axes, "data": [render.trial(search, trial, axes) for trial in found]})


@router.post(
    "/{search_id}/cancel",
    status_code=202,
    summary="Stop a search",
    response_model=search_schemas.Search,
    responses=answers(202, search_examples.SEARCH_CANCELLING),
)
def cancel_search(services: Wired, project: Project, search_id: str, once: Guard) -> Response:
    """Its trials end within seconds, and the best found so far is proved. Asked again, the proof ends too."""
    return once(functools.partial(services.searches.cancel, project, search_id), render.search, 202, _address)


@router.post(
    "/{search_id}/resume",
    status_code=202,
    summary="Search on",
    response_model=search_schemas.Search,
    responses=answers(202, search_examples.SEARCH),
    openapi_extra=json_body(ResumeRequest, ("ten minutes more", search_examples.RESUME_REQUEST)),
)
def resume_search(
    services: Wired,
    project: Project,
    search_id: str,
    once: Guard,
    body: Annotated[ResumeRequest, parsed(ResumeRequest)],
) -> Response:
    """From all that was tried, with more time and trials; then the best is proved again."""
    resume = functools.partial(services.searches.resume, project, search_id, body.seconds, body.trials)
    return once(resume, render.search, 202, _address)


@router.post(
    "/{search_id}/materialize",
    status_code=202,
    summary="Take another point",
    response_model=schemas.Job,
    responses=answers(202, {**JOB, "search_id": search_examples.SEARCH_ID}),
    openapi_extra=json_body(MaterializeRequest, *search_examples.MATERIALIZE_REQUESTS),
)
def materialize(
    services: Wired,
    project: Project,
    search_id: str,
    once: Guard,
    body: Annotated[MaterializeRequest, parsed(MaterializeRequest)],
) -> Response:
    """A trial by its number, or the best one within other limits: nothing is searched or trained again. The
    job proves it on the test split, and makes the artifacts.
    """
    act = functools.partial(services.searches.materialize, project, search_id, body.point())
    return once(act, render.job, 202, lambda job: f"/v1/jobs/{job.id}")


@router.delete("/{search_id}", status_code=204, summary="Delete a search that is over")
def delete_search(services: Wired, project: Project, search_id: str) -> None:
    """With its trials. Jobs that proved one of them stay, with their artifacts."""
    services.searches.delete(project, search_id)


def _address(search: Search) -> str:
    return f"/v1/searches/{search.id}"

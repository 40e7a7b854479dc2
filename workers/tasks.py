"""The tasks: what a message sets going."""

from collections.abc import Callable

from celery import Celery
from celery.exceptions import Reject

from workers.bench import Bench, Work
from workers.execute import run_job
from workers.inspection import inspect_dataset, inspect_model
from workers.searching import advance_search


def register(app: Celery, bench: Bench) -> None:
    for work in (run_job, inspect_model, inspect_dataset, advance_search):
        app.task(_task(bench, work), name=f"pare.{work.__name__}")


def _task(bench: Bench, work: Work) -> Callable[[str], None]:
    def perform(identity: str) -> None:
        if bench.draining.is_set():
            raise Reject(requeue=True)
        work(bench, identity)

    return perform

"""The tasks: what a message sets going."""

from functools import partial

from celery import Celery
from celery.exceptions import Reject

from workers.bench import Bench, Work
from workers.execute import run_job
from workers.inspection import inspect_dataset, inspect_model


def register(app: Celery, bench: Bench) -> None:
    for work in (run_job, inspect_model, inspect_dataset):
        app.task(partial(_perform, bench, work), name=f"pare.{work.__name__}")


def _perform(bench: Bench, work: Work, identity: str) -> None:
    if bench.draining.is_set():
        raise Reject(requeue=True)
    work(bench, identity)

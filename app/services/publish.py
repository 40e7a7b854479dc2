"""Sending the message of a committed row. It may fail: the row is its own outbox and the sweep sends it
again.
"""

import structlog

from app.adapters.queue import Queue, Task
from app.domain.errors import QueueUnavailable

log = structlog.get_logger()


def publish(queue: Queue, task: Task, identity: str, name: str = "cpu") -> None:
    try:
        queue.put(task, identity, name)
    except QueueUnavailable:
        log.warning("queue.unavailable", task=task, id=identity)

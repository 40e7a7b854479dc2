"""Messages to the workers: a hint that carries only an id. The rows hold the promise."""

import time
from typing import Literal, Protocol
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from app.domain.errors import QueueUnavailable

Task = Literal["run_job", "inspect_model", "inspect_dataset", "advance_search"]
_PAUSE = 2.0  # seconds during which a broker that was away is not asked again


class Queue(Protocol):
    def put(self, task: Task, id: str, queue: str = "cpu") -> None:  # noqa: A002
        """Quick. Errors: QueueUnavailable; the row stays queued and the sweep sends it again."""

    def waiting(self, queue: str) -> int:
        """How many messages wait there. Errors: QueueUnavailable."""

    def check(self) -> None:
        """Errors: QueueUnavailable."""

    def close(self) -> None: ...


class CeleryQueue:
    def __init__(self, url: str) -> None:
        options = {
            "socket_connect_timeout": 0.5,
            "socket_timeout": 0.8,
            "retry_on_timeout": False,
            "max_retries": 0,
        }
        self._celery = Celery("pare", broker=url, set_as_current=False)
        self._celery.conf.update(
            broker_transport_options=options,
            broker_connection_retry=False,
            broker_pool_limit=4,
            task_ignore_result=True,
            task_create_missing_queues=True,
            result_backend=None,
            worker_hijack_root_logger=False,
        )
        self._redis = Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=0.8)
        self._retry_at = 0.0

    def put(self, task: Task, id: str, queue: str = "cpu") -> None:  # noqa: A002
        if time.monotonic() < self._retry_at:
            raise QueueUnavailable
        try:
            self._publish(f"pare.{task}", id, queue)
        except (OperationalError, RedisError, OSError) as error:
            self._retry_at = time.monotonic() + _PAUSE
            raise QueueUnavailable from error

    def _publish(self, name: str, id: str, queue: str) -> None:  # noqa: A002
        """As `send_task`, without what is looked up anew for each message: half the time."""
        message = self._celery.amqp.as_task_v2(str(uuid4()), name, args=(id,), ignore_result=True)
        with self._celery.producer_pool.acquire(block=True, timeout=1) as producer:
            producer.publish(
                message.body, exchange="", routing_key=queue, headers=message.headers, **message.properties
            )

    def waiting(self, queue: str) -> int:
        try:
            return int(self._redis.llen(queue))
        except RedisError as error:
            raise QueueUnavailable from error

    def check(self) -> None:
        try:
            self._redis.ping()
        except RedisError as error:
            raise QueueUnavailable from error

    def close(self) -> None:
        self._celery.close()
        self._redis.close()


class MemoryQueue:
    """Keeps the messages for whoever reads them in the same process."""

    def __init__(self) -> None:
        self.messages: list[tuple[Task, str, str]] = []
        self.away = False

    def put(self, task: Task, id: str, queue: str = "cpu") -> None:  # noqa: A002
        self.check()
        self.messages.append((task, id, queue))

    def waiting(self, queue: str) -> int:
        self.check()
        return sum(name == queue for _, _, name in self.messages)

    def check(self) -> None:
        if self.away:
            raise QueueUnavailable

    def close(self) -> None:
        self.messages.clear()

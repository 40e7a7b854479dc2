"""The Celery application. Messages are hints: losing or repeating them changes nothing but latency."""

from collections.abc import Sequence

from celery import Celery
from kombu.entity import Queue

from app.settings import Settings


def make(settings: Settings, queues: Sequence[str]) -> Celery:
    """Threads, not processes: what a task does here is wait for a sandbox child, and the one warm process
    that forks those children, the leases and the database pool belong to one process that SIGTERM can drain.

    A message is acknowledged when its work is over, and a worker takes none while it is busy: what waits,
    waits where every worker can take it. The broker may deliver it again (it does so an hour after it was
    taken); the claim of a row that somebody holds fails, so that is a no-op.
    """
    app = Celery("pare", broker=settings.redis_url.get_secret_value(), set_as_current=False)
    app.conf.update(
        task_queues=[Queue(name) for name in queues],  # type: ignore[no-untyped-call]
        task_default_queue=queues[0],
        task_ignore_result=True,
        task_acks_late=True,
        worker_pool="threads",
        worker_concurrency=settings.worker_concurrency,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=0,  # else an acknowledgement that was lost would count for ever
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app

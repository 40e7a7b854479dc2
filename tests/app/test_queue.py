import signal
import time
from pathlib import Path

import pytest

from app import tether
from app.adapters.queue import CeleryQueue
from app.domain.errors import QueueUnavailable
from app.valkey import Valkey


def test_messages_wait_in_their_queue(valkey_url: str) -> None:
    queue = CeleryQueue(valkey_url)
    for _ in range(3):
        queue.put("run_job", "job_1", "gpu")
    queue.put("inspect_model", "mdl_1")
    assert (queue.waiting("gpu"), queue.waiting("cpu"), queue.waiting("other")) == (3, 1, 0)
    queue.close()


def test_a_broker_that_is_away_costs_no_time_and_is_found_again(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    process = server.start()
    queue = CeleryQueue(server.url)
    queue.put("run_job", "job_1")
    tether.stop(process, 0, first=signal.SIGKILL)

    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(QueueUnavailable):
            queue.put("run_job", "job_2")
    assert time.monotonic() - started < 1.5
    with pytest.raises(QueueUnavailable):
        queue.check()

    process = server.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            queue.put("run_job", "job_3")
            break
        except QueueUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    queue.check()
    queue.close()
    tether.stop(process, 5)


def test_a_broker_that_never_answers() -> None:
    """The address takes no connections at all."""
    queue = CeleryQueue("redis://10.255.255.1:6379/0")
    started = time.monotonic()
    for _ in range(3):
        with pytest.raises(QueueUnavailable):
            queue.put("run_job", "job_1")
    assert time.monotonic() - started < 2
    queue.close()

import json
import threading
from collections.abc import Iterator

import httpx

from app.domain.errors import ErrorRecord
from tests.app.conftest import Api, Json, problem


def frames(answer: httpx.Response) -> Iterator[Json]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            event = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (str(event["id"]), event["type"])
            yield event
            fields = {}


def test_pages(api: Api) -> None:
    job = api.job()
    claim = api.claim(job)
    api.services.jobs.step_started(claim, 0)
    path = f"/v1/jobs/{job['id']}/events"
    page = api.client.get(path, params={"limit": 2}).json()
    assert page == {
        "data": [
            {"id": 1, "type": "job.created", "timestamp": page["data"][0]["timestamp"], "data": {}},
            {
                "id": 2,
                "type": "job.started",
                "timestamp": page["data"][1]["timestamp"],
                "data": {"worker": "worker"},
            },
        ],
        "has_more": True,
        "next_cursor": "2",
    }
    rest = api.client.get(path, params={"after": page["next_cursor"]}).json()
    assert [event["type"] for event in rest["data"]] == ["job.step.started"]
    assert problem(api.other.get(path)) == (404, "not_found")


def test_stream_is_complete_and_ends_with_the_job(api: Api) -> None:
    job = api.job()
    claim = api.claim(job)

    def work() -> None:
        for number in range(20):
            api.services.jobs.heartbeat(claim, progress=number / 20)
        api.services.jobs.fail(claim, ErrorRecord("E_INTERNAL", "no"))

    worker = threading.Thread(target=work)
    headers = {"Accept": "text/event-stream"}
    with api.client.stream("GET", f"/v1/jobs/{job['id']}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        worker.start()
        events = list(frames(answer))
    worker.join()
    assert [event["id"] for event in events] == list(range(1, 24))
    assert [events[0]["type"], events[-1]["type"]] == ["job.created", "job.failed"]

    again = {**headers, "Last-Event-ID": "21"}
    with api.client.stream("GET", f"/v1/jobs/{job['id']}/events", headers=again) as answer:
        assert [event["id"] for event in frames(answer)] == [22, 23]


def test_long_poll_returns_as_soon_as_the_job_is_over(api: Api) -> None:
    job = api.job()
    timer = threading.Timer(0.3, lambda: api.client.post(f"/v1/jobs/{job['id']}/cancel"))
    timer.start()
    answer = api.client.get(f"/v1/jobs/{job['id']}", params={"wait": 20})
    timer.join()
    assert answer.json()["state"] == "cancelled"
    assert 0.2 < answer.elapsed.total_seconds() < 1.9  # woken, not polled

"""An upload that a worker lacks the packages for: handed over to one that has them, or refused."""

import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.adapters.queue import MemoryQueue
from app.bootstrap import Services, bootstrap
from app.domain.records import Inspected
from app.services.inspected import Registration
from app.services.uploads import NewUpload
from app.services.workers import Announcement
from app.settings import Settings
from tests.compression.conversion.saved_models import graph, node, saved_model, signature
from workers import hardware
from workers.bench import Bench
from workers.inspection import inspect_model
from workers.sandbox import Sandbox

pytestmark = pytest.mark.skipif(find_spec("tensorflow") is not None, reason="this worker reads them")


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def services(settings: Settings, queue: MemoryQueue) -> Iterator[Services]:
    made = bootstrap(settings, queue)
    yield made
    made.close()


@pytest.fixture
def bench(services: Services, sandbox: Sandbox, tmp_path: Path) -> Bench:
    return Bench(services, sandbox, "worker", tmp_path, {}, 1, hardware.queues("cpu"))


class _Uploader:
    def __init__(self, services: Services) -> None:
        self.services = services
        self.project = services.keys.create_project("own")

    def saved_model(self, operator: str) -> str:
        """The id of a model that waits for its inspection."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            content = saved_model(graph([node("out", operator)]), signature("serving_default", "out:0"))
            archive.writestr("m/saved_model.pb", content)
        uploads, data = self.services.uploads, made.getvalue()
        upload = uploads.create(self.project, NewUpload("m.zip", len(data), "model"))
        receiving = uploads.receive(self.project, upload.id, len(data))
        receiving.write([data])
        return self.services.models.register(self.project, Registration(receiving.finish().id)).id

    def get(self, identity: str) -> Inspected:
        return self.services.models.get(self.project, identity)


@pytest.fixture
def uploader(services: Services) -> _Uploader:
    return _Uploader(services)


def _announce(services: Services, *queues: str) -> str:
    return services.workers.register(Announcement(queues, 1, {}, {}, "S2"))


def test_a_worker_takes_what_its_packages_can_read() -> None:
    assert hardware.queues("cpu, gpu")[:2] == ["cpu", "gpu"]
    assert {"tables", "images"} <= set(hardware.queues("cpu"))
    assert "tensorflow" not in hardware.queues("cpu")
    assert hardware.queues("gpu") == ["gpu"]


def test_a_worker_that_can_read_it_gets_it(
    services: Services, bench: Bench, uploader: _Uploader, queue: MemoryQueue
) -> None:
    _announce(services, "cpu", "tensorflow")
    identity = uploader.saved_model("Relu")
    for _ in range(5):  # however often the first queue is asked, no attempt is charged
        inspect_model(bench, identity)
    assert uploader.get(identity).state == "processing"
    assert queue.messages[1:] == [("inspect_model", identity, "tensorflow")] * 5
    claim = services.models.claim(identity, "other")
    assert claim is not None
    assert claim.attempts == 1


def test_without_such_a_worker_it_is_refused_with_what_to_install(
    services: Services, bench: Bench, uploader: _Uploader, queue: MemoryQueue
) -> None:
    services.workers.gone(_announce(services, "cpu", "tensorflow"))
    _announce(services, "cpu")
    identity = uploader.saved_model("Relu")
    inspect_model(bench, identity)
    model = uploader.get(identity)
    assert (model.state, (model.error or {})["code"]) == ("rejected", "format_unavailable")
    assert "pare-server[tensorflow]" in (model.error or {})["detail"]
    assert len(queue.messages) == 1


@pytest.mark.parametrize("served", [False, True])
def test_a_hostile_one_is_refused_by_any_worker_for_what_it_is(
    services: Services, bench: Bench, uploader: _Uploader, *, served: bool
) -> None:
    if served:
        _announce(services, "tensorflow")
    identity = uploader.saved_model("ReadFile")
    inspect_model(bench, identity)
    model = uploader.get(identity)
    assert (model.state, (model.error or {})["code"]) == ("rejected", "op_refused")


def test_a_worker_of_that_queue_that_cannot_read_it_does_not_hand_it_to_itself(
    services: Services, bench: Bench, uploader: _Uploader, queue: MemoryQueue, tmp_path: Path
) -> None:
    _announce(services, "cpu", "tensorflow")
    identity = uploader.saved_model("Relu")
    own = Bench(services, bench.sandbox, "worker", tmp_path, {}, 1, ("cpu", "tensorflow"))
    inspect_model(own, identity)
    assert uploader.get(identity).state == "rejected"
    assert len(queue.messages) == 1

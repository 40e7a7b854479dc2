"""What a few samples say against a data set is told before anything trains."""

import numpy as np
import pytest

from compression.model import Model
from compression.runtime import run, session
from tests.compression import networks
from tests.service import Json, Service, npz

FINETUNE = {"technique": "finetune", "training": {"epochs": 1, "batch_size": 32, "precision": "float32"}}


@pytest.fixture(scope="module")
def cnn(service: Service) -> Json:
    return service.model(networks.cnn().SerializeToString())


def labelled(moved: int) -> bytes:
    """By what the network itself decides, under other numbers."""
    image = np.random.default_rng(0).normal(size=(120, 1, 12, 12)).astype(np.float32)
    decided = run(session(Model(networks.cnn()).proto), {"image": image})["logits"].argmax(1)
    label = (decided + moved) % 10
    return npz(train__image=image, train__label=label, test__image=image, test__label=label)


@pytest.mark.parametrize("moved", [0, 1])
def test_another_order_of_classes_is_told_before_the_first_step(
    moved: int, service: Service, cnn: Json
) -> None:
    job = service.finished(service.submit(cnn, service.dataset(labelled(moved)), FINETUNE, cache="off"))
    assert job["state"] == "succeeded", job["error"]
    events = service.events(job)
    told = [at for at, event in enumerate(events) if "numbered otherwise" in event["data"].get("message", "")]
    assert len(told) == moved
    if moved:
        assert told[0] < [event["type"] for event in events].index("job.step.started")
        assert any("numbered otherwise" in warning for warning in job["measurements"]["warnings"])

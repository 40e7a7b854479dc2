"""Options of a data set on their way to the worker."""

from tests.app.conftest import Api


def test_only_what_was_said_is_kept(api: Api) -> None:
    """What is said of arrays is done to them even where it is what images of an archive get by default."""
    options = {"labels": "y", "image": {"layout": "NCHW"}}
    upload = api.upload(b"PK\x03\x04" + bytes(100), "data.npz", "dataset")
    made = api.client.post("/v1/datasets", json={"upload_id": upload["id"], "options": options})
    claim = api.services.datasets.claim(made.raise_for_status().json()["id"], "worker")
    assert claim is not None
    assert claim.options == options

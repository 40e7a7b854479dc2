"""What goes in and comes out: told by the service, and by the README from the same source."""

from pathlib import Path

from app.services.workers import Announcement
from compression import catalogue
from tests.app.conftest import Api

README = Path(__file__).parents[2] / "README.md"


def test_what_a_worker_lacks_is_to_be_installed(api: Api) -> None:
    before = api.client.get("/v1/capabilities").json()
    assert not any(kind["available"] for kind in before["artifact_formats"])
    installed = {"onnxruntime": "1", "pyarrow": "1"}
    api.services.workers.register(Announcement(["cpu"], 1, {}, installed, "S2"))
    after = api.client.get("/v1/capabilities").json()
    kinds = {
        name: kind for way in ("model", "dataset", "artifact") for kind in after[f"{way}_formats"]
        for name in kind["names"]
    }  # fmt: skip
    assert kinds["onnx"]["available"]
    assert kinds["csv"] == {
        "title": "CSV with a header", "names": ["csv"], "files": [".csv", ".tsv"], "available": True,
        "install": None,
    }  # fmt: skip
    assert (kinds["openvino"]["available"], kinds["openvino"]["install"]) == (
        False, "install pare-server[openvino]",
    )  # fmt: skip
    assert (kinds["text_zip"]["available"], kinds["text_zip"]["install"]) == (
        False, "install pare-server[text]",
    )  # fmt: skip


def test_the_readme_has_the_same_table() -> None:
    section = README.read_text().partition("<!-- python -m compression.catalogue -->\n")[2]
    assert section.partition("\n<!-- end -->")[0] == catalogue.table()

"""What becomes of a job's files where a child fails: it cannot be made to fail on time, so this one only says
that it did.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from app.domain.records import StepOutput
from compression.errors import CompressionError, ErrorKind
from tests.app.conftest import MEASUREMENTS, MODEL
from workers.exports import Exporting

FINAL = StepOutput("ab" * 32, 8200, {}, MODEL)


def exporting(folder: Path, kind: ErrorKind, artifact: str | None) -> Exporting:
    def run(_operation: object) -> NoReturn:
        raise CompressionError("E_TOLD", "told to", kind)

    bench = SimpleNamespace(environment={"versions": {"onnxruntime": "1"}})
    desk: Any = SimpleNamespace(bench=bench, directory=folder, file=lambda _sha256: folder / "file")
    claim: Any = SimpleNamespace(
        model_name="net", model_sha256="aa", model_inspection=MODEL, data_sha256=None, data_inspection=None,
        models={}, artifact_sha256=artifact, recipe={"task": "auto"}, seed=0,
    )  # fmt: skip
    return Exporting(desk, claim, run, None)


@pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.RESOURCE])
def test_the_model_is_kept_whatever_becomes_of_the_rest(kind: ErrorKind, tmp_path: Path) -> None:
    work = exporting(tmp_path, kind, None)
    work.keep(FINAL, MEASUREMENTS)
    work.convert("ort", FINAL, MEASUREMENTS)
    (model,), (failed,) = work.done()
    assert (model.format, model.sha256, model.bundle_sha256) == ("onnx", FINAL.sha256, None)
    assert (failed["format"], failed["error"]["code"], failed["error"]["class"]) == ("ort", "E_TOLD", kind)


def test_a_conversion_of_which_nothing_comes_fails(tmp_path: Path) -> None:
    work = exporting(tmp_path, ErrorKind.TIMEOUT, "cd" * 32)
    work.convert("ort", FINAL, MEASUREMENTS)
    with pytest.raises(CompressionError, match="E_TOLD"):
        work.done()


def test_what_may_pass_is_tried_again_by_the_job(tmp_path: Path) -> None:
    work = exporting(tmp_path, ErrorKind.INFRASTRUCTURE, None)
    with pytest.raises(CompressionError, match="E_TOLD"):
        work.keep(FINAL, MEASUREMENTS)
    with pytest.raises(CompressionError, match="E_TOLD"):
        work.convert("ort", FINAL, MEASUREMENTS)

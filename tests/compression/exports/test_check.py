"""The proof of an exported file: beside its source, on held-out rows, with the task's metric."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.exports import EXPORTS, convert
from compression.exports.check import check
from tests.compression.exports.conftest import Models


def test_it_counts_what_is_right(models: Models, tmp_path: Path) -> None:
    exported = tmp_path / "model.ort"
    convert("ort", models["int8"], exported, tmp_path)
    data = models["int8"].with_name("data.npz")
    found = check("ort", exported, models["int8"], data)
    arrays = Dataset.open(data).arrays
    (logits,) = runtime.session(models["int8"]).run(None, {"image": arrays["test/image"].astype(np.float32)})
    right = float((logits.argmax(1) == arrays["test/label"]).mean())
    assert found.samples == len(logits)
    assert found.metric is not None
    assert (found.metric.name, found.metric.value) == ("accuracy", pytest.approx(right))
    assert found.source_metric == found.metric
    assert (found.difference, found.agreement) == (0, 1)
    assert found.warnings == () or all("slower" in warning for warning in found.warnings)


def test_another_model_does_not_pass_for_it(models: Models) -> None:
    """The file of the float model beside the int8 one: what differs is said."""
    found = check("onnx", models["cnn"], models["int8"], models["int8"].with_name("data.npz"))
    assert 0 < found.difference < 0.2
    assert any("differ" in warning for warning in found.warnings)


def test_a_file_that_its_runtime_does_not_take(models: Models, tmp_path: Path) -> None:
    broken = tmp_path / "model.openvino.zip"
    shutil.copy(models["mlp"], broken)
    with pytest.raises(CompressionError) as error:
        check("openvino", broken, models["mlp"], None)
    assert error.value.code == "format_unsupported"


def test_a_lacking_runtime_is_named(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compression.packages.version", lambda _package: None)
    with pytest.raises(CompressionError, match=r"openvino.*install pare-server\[openvino\]") as error:
        convert("openvino", models["mlp"], models["mlp"], models["mlp"].parent)
    assert error.value.code == "format_unavailable"
    assert set(EXPORTS) >= {"onnx", "onnx_fp16", "openvino", "ort", "litert"}

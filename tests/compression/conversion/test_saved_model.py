"""SavedModels in: real models, where TensorFlow is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compression.errors import CompressionError
from compression.formats import load_model
from compression.inspection import ModelInspection
from tests.compression.conversion.saved_models import zipped

tf: Any = pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")
pytestmark = pytest.mark.filterwarnings("ignore")


class Network(tf.Module):  # type: ignore[misc, unused-ignore]
    """Convolution, pooling and a dense layer, as TensorFlow writes them."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(0)
        self.kernel = tf.Variable(generator.standard_normal((3, 3, 1, 4)).astype("f4"))
        self.dense = tf.Variable(generator.standard_normal((144, 3)).astype("f4"))

    def __call__(self, image: Any) -> dict[str, Any]:
        hidden = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME")), 2, 2, "VALID")
        logits = tf.matmul(tf.reshape(hidden, (-1, 144)), self.dense)
        return {"logits": logits, "scores": tf.nn.softmax(logits)}


class Tokens(tf.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(np.random.default_rng(0).standard_normal((20, 8)).astype("f4"))

    def __call__(self, ids: Any) -> Any:
        return {"pooled": tf.reduce_mean(tf.gather(self.table, ids), axis=1)}


class Counting(tf.Module):  # type: ignore[misc, unused-ignore]
    """A loop, and an output that is not as long as the batch."""

    def __call__(self, x: Any) -> Any:
        doubled = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2.0), (0, x))[1]
        return {"doubled": doubled, "columns": tf.transpose(x)}


def _saved(module: Any, spec: Any, folder: Path, names: tuple[str, ...] = ("serving_default",)) -> Path:
    call = tf.function(module.__call__, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "model"), signatures=dict.fromkeys(names, call))
    return zipped(folder / "model", folder / "model.zip")


def _load(path: Path) -> ModelInspection:
    scratch = path.parent / "scratch"
    scratch.mkdir()
    return load_model(path, path.name, path.parent / "model.onnx", scratch)


def test_a_convolutional_network_computes_the_same(tmp_path: Path) -> None:
    found = _load(_saved(Network(), tf.TensorSpec((None, 12, 12, 1), tf.float32, "image"), tmp_path))
    assert found.format == "saved_model_zip"
    assert found.conversion is not None
    assert found.conversion.framework == "tensorflow"
    assert found.conversion.difference < 1e-5
    assert found.inputs[0].shape == ("batch", 12, 12, 1)
    assert {output.name: output.shape for output in found.outputs} == {
        "logits": ("batch", 3),
        "scores": ("batch", 3),
    }


def test_every_open_axis_stays_open(tmp_path: Path) -> None:
    found = _load(_saved(Tokens(), tf.TensorSpec((None, None), tf.int32, "ids"), tmp_path, ("mine",)))
    assert found.conversion is not None
    assert found.conversion.difference < 1e-5
    assert found.inputs[0].shape == ("batch", "ids_1")


def test_a_loop_and_an_output_without_a_batch(tmp_path: Path) -> None:
    found = _load(_saved(Counting(), tf.TensorSpec((None, 4), tf.float32, "x"), tmp_path))
    assert found.conversion is not None
    assert found.conversion.difference < 1e-5
    assert {output.name: output.shape for output in found.outputs} == {
        "doubled": ("batch", 4),
        "columns": (4, None),
    }


class Reading(tf.Module):  # type: ignore[misc, unused-ignore]
    def __call__(self, x: Any) -> Any:
        return {"y": x + tf.strings.to_number(tf.io.read_file("/etc/hostname"))}


def test_a_model_that_reads_files_is_refused(tmp_path: Path) -> None:
    path = _saved(Reading(), tf.TensorSpec((None, 4), tf.float32, "x"), tmp_path)
    with pytest.raises(CompressionError, match=r"'(ReadFile|StringToNumber)'") as refused:
        _load(path)
    assert refused.value.code == "op_refused"

"""The models and data of the peers benchmark."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks import inputs
from compression import formats

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
BATCH = 16


@dataclass(frozen=True)
class Subject:
    """A model file and an uncompressed `.npz` with the arrays `calibration/<input>`, `test/<input>` and
    perhaps `test/label`.
    """

    name: str
    model: Path
    data: Path
    input: str
    classes: bool = True
    """Whether the output's second axis is classes; else it is a map of probabilities."""

    @cached_property
    def test(self) -> Any:
        with np.load(self.data) as arrays:
            return arrays[f"test/{self.input}"]

    @cached_property
    def labels(self) -> Any:
        with np.load(self.data) as arrays:
            return arrays["test/label"] if "test/label" in arrays.files else None

    def test_batches(self) -> Iterator[Any]:
        for start in range(0, len(self.test), BATCH):
            yield self.test[start : start + BATCH].astype(np.float32)

    def sample(self) -> Any:
        return self.test[:1].astype(np.float32)

    def decide(self, output: Any) -> Any:
        """What a user reads off: the class, or for each pixel whether it is text."""
        return output.argmax(1) if self.classes else output > 0.3


def session(path: Path) -> ort.InferenceSession:
    """Default optimisations, one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def normalised(source: Path, into: Path) -> Path:
    """The file as the service keeps it after an upload."""
    formats.load_model(source, source.name, into, into.parent)
    return into


def _save(path: Path, arrays: dict[str, Any]) -> None:
    """Uncompressed, as the service keeps it after an upload."""
    np.savez(path, **arrays)


def fashion(_data: Path, scratch: Path) -> Subject | None:
    model, compressed = EXAMPLES / "fashion_mnist_resnet.onnx", EXAMPLES / "fashion_mnist.npz"
    if not model.exists() or not compressed.exists():
        return None
    arrays = scratch / "fashion_mnist.npz"
    with np.load(compressed) as members:
        _save(arrays, dict(members))
    return Subject("example CNN", model, arrays, "image")


def direction(data: Path, scratch: Path) -> Subject | None:
    source = data / "ppocr-v4" / "ch_ppocr_mobile_v2.0_cls_infer.onnx"
    if not source.exists():
        return None
    calibration, _ = inputs.text_lines(256, np.random.default_rng(0))
    test, labels = inputs.text_lines(600, np.random.default_rng(1))
    arrays = scratch / "direction.npz"
    _save(arrays, {"calibration/x": calibration, "test/x": test, "test/label": labels})
    return Subject("direction classifier", normalised(source, scratch / "direction.onnx"), arrays, "x")


def detector(data: Path, scratch: Path) -> Subject | None:
    source = data / "ppocr-v4" / "ch_PP-OCRv4_det_infer.onnx"
    if not source.exists():
        return None
    arrays = scratch / "detector.npz"
    calibration, test = (
        inputs.pages(count, np.random.default_rng(seed)) for seed, count in enumerate((64, 24))
    )
    _save(arrays, {"calibration/x": calibration, "test/x": test})
    model = normalised(source, scratch / "detector.onnx")
    return Subject("text detector", model, arrays, "x", classes=False)


def mobilenet(data: Path, scratch: Path) -> Subject | None:
    weights = sorted((data / "mobilenet_v2").glob("*.pth"))
    if not weights:
        return None
    model = scratch / "mobilenet_v2.onnx"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.mobilenet", str(weights[0].absolute()), str(model)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    arrays = scratch / "mobilenet_v2.npz"
    calibration = inputs.crops(256, np.random.default_rng(0), held_out=False)
    test = inputs.crops(128, np.random.default_rng(1), held_out=True)
    _save(arrays, {"calibration/image": calibration, "test/image": test})
    return Subject("MobileNetV2", model, arrays, "image")


MAKERS: dict[str, Callable[[Path, Path], Subject | None]] = {
    "fashion": fashion,
    "direction": direction,
    "detector": detector,
    "mobilenet": mobilenet,
}

"""What stays open and what is refused; that outputs agree is in test_targets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from compression import runtime
from compression.errors import CompressionError
from compression.exports import EXPORTS, convert
from tests.compression.conftest import Normalise, network
from tests.compression.networks import Builder, F


def convolutional() -> onnx.ModelProto:
    """Height and width open too."""
    b = Builder(4)
    x = b.node("Conv", ["image", b.weight("w1", 8, 3, 3, 3)], "first", pads=[1] * 4, strides=[2, 2])
    x = b.node("Relu", [x], "active")
    b.node("Conv", [x, b.weight("w2", 2, 8, 3, 3)], "map", pads=[1] * 4)
    image = onnx.helper.make_tensor_value_info("image", F, ["batch", 3, "height", "width"])
    return b.model([image], [onnx.helper.make_tensor_value_info("map", F, ["batch", 2, None, None])])


def flattened() -> onnx.ModelProto:
    """To a shape that is computed from the size of the batch."""
    b = Builder(5)
    size = b.node("Slice", [b.node("Shape", ["pixels"], "whole"), *_numbers(b)], "size")
    shape = b.node("Concat", [size, b.constant("rest", np.array([-1]))], "shape", axis=0)
    flat = b.node("Reshape", ["pixels", shape], "flat")
    b.node("MatMul", [flat, b.weight("w", 12, 5)], "score")
    pixels = onnx.helper.make_tensor_value_info("pixels", F, ["batch", 3, 2, 2])
    return b.model([pixels], [onnx.helper.make_tensor_value_info("score", F, ["batch", 5])])


def _numbers(b: Builder) -> list[str]:
    return [b.constant(name, np.array([value])) for name, value in (("start", 0), ("end", 1))]


SIZES: dict[str, tuple[Callable[[], onnx.ModelProto], list[tuple[int, ...]]]] = {
    "image": (convolutional, [(1, 3, 1, 1), (1, 3, 5, 40), (2, 3, 24, 17), (3, 3, 64, 64)]),
    "pixels": (flattened, [(1, 3, 2, 2), (4, 3, 2, 2)]),
    "tokens": (lambda: network("transformer"), [(1, 9), (3, 5), (2, 1)]),
}


@pytest.mark.parametrize("name", SIZES)
def test_all_open_axes_stay_open(name: str, normalise: Normalise, tmp_path: Path) -> None:
    made, shapes = SIZES[name]
    model = normalise(made())
    convert("torch_export", model, tmp_path / "model.pt2", tmp_path)
    session, plain = EXPORTS["torch_export"].session(tmp_path / "model.pt2", 1), runtime.session(model)
    random = np.random.default_rng(0)
    for shape in shapes:
        values = (
            random.integers(0, 50, shape) if name == "tokens" else random.standard_normal(shape, np.float32)
        )
        wanted = runtime.run(plain, {name: values})
        for output, found in session({name: values}).items():
            np.testing.assert_allclose(found, wanted[output], atol=1e-5)


def test_an_axis_that_tracing_would_fix_is_named(normalise: Normalise, tmp_path: Path) -> None:
    model = normalise(network("lstm"))
    with pytest.raises(
        CompressionError, match=r"fixes the size of axis 1 \(length\) of 'sequence'"
    ) as caught:
        convert("torch_export", model, tmp_path / "model.pt2", tmp_path)
    assert caught.value.code == "format_unsupported"
    assert not (tmp_path / "model.pt2").exists()


def test_an_operator_that_reads_a_computed_shape_is_named(
    normalise: Normalise, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    b = Builder()
    size = b.node(
        "Concat", [b.node("Shape", ["image"], "whole", start=2), b.constant("n", np.array([-1]))], "s", axis=0
    )
    b.node("Reshape", ["image", size], "flat")
    image = onnx.helper.make_tensor_value_info("image", F, ["batch", 1, 3, "width"])
    model = normalise(b.model([image], [onnx.helper.make_tensor_value_info("flat", F, [3, None, None])]))
    with pytest.raises(CompressionError, match="Reshape 'flat_node'"):
        convert("torch_export", model, tmp_path / "model.pt2", tmp_path)
    assert capfd.readouterr().err == ""

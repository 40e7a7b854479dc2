import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from compression import bundle, runtime
from compression.errors import CompressionError
from compression.exports import EXPORTS, convert
from compression.exports.targets import openvino_ir
from tests.compression.conftest import network
from tests.compression.exports.conftest import Models

FLOATS_ONLY = {"onnx_fp16", "torch_export"}
TOLERANCE = {"onnx_fp16": 5e-3}
INT8_STEP = 0.02
"""Of the outputs' scale: runtimes round products in int8 elsewhere, by one step of a grid."""
FEEDS = {
    "cnn": {"image": np.random.default_rng(5).uniform(0, 255, (3, 1, 12, 12)).astype(np.float32)},
    "mlp": {"features": np.random.default_rng(6).standard_normal((3, 16)).astype(np.float32)},
}
FEEDS["int8"] = FEEDS["cnn"]
RELOAD = """\
import sys
from pathlib import Path
import numpy as np
from compression.exports import EXPORTS

export, folder = EXPORTS[sys.argv[1]], Path(sys.argv[2])
for feeds in sorted(folder.glob("*.feeds.npz")):
    name = feeds.name.split(".")[0]
    session = export.session(folder / f"{name}.{export.filename}", 1)
    arrays = dict(np.load(feeds))
    session({key: array[:1] for key, array in arrays.items()})
    np.savez(folder / f"{name}.results.npz", **session(arrays))
"""


@pytest.mark.parametrize("target", sorted(EXPORTS))
def test_a_clean_process_gives_what_onnx_runtime_gives(target: str, models: Models, tmp_path: Path) -> None:
    taken = {name: model for name, model in models.items() if name != "int8" or target not in FLOATS_ONLY}
    for name, model in taken.items():
        convert(target, model, tmp_path / f"{name}.{EXPORTS[target].filename}", tmp_path)
        np.savez(tmp_path / f"{name}.feeds.npz", **FEEDS[name])
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, target, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, model in taken.items():
        wanted = runtime.run(runtime.session(model), FEEDS[name])
        found = dict(np.load(tmp_path / f"{name}.results.npz"))
        assert list(found) == list(wanted)
        for output, values in wanted.items():
            tolerance = INT8_STEP if name == "int8" else TOLERANCE.get(target, 1e-5)
            assert np.abs(found[output] - values).max() <= tolerance * np.abs(values).max()


@pytest.mark.parametrize("target", sorted(FLOATS_ONLY))
def test_a_format_of_floats_refuses_int8(target: str, models: Models, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        convert(target, models["int8"], tmp_path / "out", tmp_path)
    assert caught.value.code == "format_unsupported"


@pytest.mark.parametrize("target", sorted(set(EXPORTS) - {"onnx"}))
def test_an_unknown_operator_is_named(target: str, tmp_path: Path) -> None:
    model = network("cnn")
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Frobnicate", "com.acme"
    model.opset_import.add(domain="com.acme", version=1)
    onnx.save(model, tmp_path / "source.onnx")
    with pytest.raises(CompressionError) as caught:
        convert(target, tmp_path / "source.onnx", tmp_path / "out", tmp_path)
    assert caught.value.code == "format_unsupported"
    assert "Frobnicate" in caught.value.detail


def test_openvino_computes_int8_layers_in_int8(models: Models) -> None:
    openvino = openvino_ir.runtime()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(models["int8"], "CPU", options).get_runtime_model()
    layers = [op.get_rt_info() for op in compiled.get_ops() if op.get_rt_info()["layerType"] == "Convolution"]
    assert layers
    assert {info["runtimePrecision"] for info in layers} <= {"u8", "i8"}


def test_run_py_of_litert_runs_with_the_bare_runtime(models: Models, tmp_path: Path) -> None:
    export = EXPORTS["litert"]
    convert("litert", models["int8"], tmp_path / export.filename, tmp_path)
    card = {
        "outputs": [{"name": "logits"}],
        "inputs": [{"name": "image", "dtype": "float32", "shape": []}],
        "labels": [],
    }
    (tmp_path / "pare.json").write_text(json.dumps(card))
    (tmp_path / "run.py").write_text(bundle.program(export))
    np.save(tmp_path / "input.npy", FEEDS["cnn"]["image"])
    command = [sys.executable, "-I", "run.py", "input.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "logits float32 (3, 10)" in done.stdout, done.stderr

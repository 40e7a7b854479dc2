import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from compression import bundle
from compression.errors import CompressionError
from compression.exports import EXPORTS, convert
from compression.exports.check import ExportCheck
from compression.measurement import Latency, Ratio
from compression.model import Model
from compression.technique import Context
from compression.techniques.dynamic_quantization import DynamicQuantization
from tests.compression.conftest import Normalise, network

FORMATS = ("onnx", "onnx_fp16", "ort", "openvino")


def _exported(name: str, model: Path, folder: Path) -> Path:
    (folder / "scratch").mkdir()
    into = folder / EXPORTS[name].filename
    convert(name, model, into, folder / "scratch")
    return into


def _card(name: str, exported: Path, model: Path) -> bundle.Card:
    opened = Model.open(model)
    check = ExportCheck(
        format=name,
        filename=exported.name,
        bytes=exported.stat().st_size,
        runtime=EXPORTS[name].package,
        runtime_version="1",
        samples=1,
        difference=0.0,
        agreement=1.0,
        latency_ms=Latency(p50=1, p90=1, p99=1, n=1),
        latency=Ratio(value=1.0, ci95=(0.9, 1.1)),
    )
    return bundle.Card(name="net", format=name, inputs=opened.inputs, outputs=opened.outputs, check=check)


@pytest.mark.parametrize("name", FORMATS)
def test_run_py_runs_with_the_bare_runtime_alone(name: str, normalise: Normalise, tmp_path: Path) -> None:
    model = normalise(network("lstm"))
    exported = _exported(name, model, tmp_path)
    for into in ("one.zip", "two.zip"):
        bundle.write(exported, _card(name, exported, model), tmp_path / into)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        archive.extractall(tmp_path / "bundle")
    np.save(tmp_path / "input.npy", np.ones((1, 7, 12), np.float32))
    command = [sys.executable, "-I", "run.py", tmp_path / "input.npy"]
    done = subprocess.run(
        command, cwd=tmp_path / "bundle", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "score float32 (1, 5)" in done.stdout
    assert "state float32 (1, 24)" in done.stdout


@pytest.mark.parametrize("warnings", [(), ("it is slower", "it is larger")])
def test_the_readme_has_no_gaps(warnings: tuple[str, ...], normalise: Normalise, tmp_path: Path) -> None:
    model = normalise(network("lstm"))
    card = _card("onnx", model, model)
    assert card.check is not None
    told = card.model_copy(update={"check": card.check.model_copy(update={"warnings": warnings})})
    bundle.write(model, told, tmp_path / "one.zip")
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        readme = archive.read("README.md").decode()
    assert "\n\n\n" not in readme
    assert readme.count("\n- it is ") == len(warnings)


@pytest.mark.parametrize("name", FORMATS)
def test_a_session_gives_what_onnx_runtime_gives(name: str, normalise: Normalise, tmp_path: Path) -> None:
    model = normalise(network("lstm"))
    feeds = {"sequence": np.ones((1, 7, 12), np.float32)}
    wanted = EXPORTS["onnx"].session(model, 1)(feeds)
    found = EXPORTS[name].session(_exported(name, model, tmp_path), 1)(feeds)
    assert list(found) == list(wanted)
    for output, values in wanted.items():
        np.testing.assert_allclose(found[output], values, atol=5e-3 if name == "onnx_fp16" else 1e-5)


@pytest.mark.parametrize("name", [*FORMATS[1:], "torch_export"])
def test_an_unknown_operator_fails_the_format_by_its_name(name: str, tmp_path: Path) -> None:
    model = network("cnn")
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Frobnicate", "com.acme"
    model.opset_import.add(domain="com.acme", version=1)
    onnx.save(model, tmp_path / "source.onnx")
    with pytest.raises(CompressionError) as caught:
        _exported(name, tmp_path / "source.onnx", tmp_path)
    assert caught.value.code == "format_unsupported"
    assert "Frobnicate" in caught.value.detail


def test_float16_refuses_a_quantized_model(normalise: Normalise, tmp_path: Path) -> None:
    made = DynamicQuantization().apply(
        Model.open(normalise(network("transformer"))), Context(None, 0, tmp_path)
    )
    made.model.save(tmp_path / "int8.onnx")
    with pytest.raises(CompressionError, match="quantized"):
        _exported("onnx_fp16", tmp_path / "int8.onnx", tmp_path)


def test_an_exported_program_keeps_its_batch_open(normalise: Normalise, tmp_path: Path) -> None:
    model = normalise(network("cnn"))
    exported = _exported("torch_export", model, tmp_path)
    bundle.write(exported, _card("torch_export", exported, model), tmp_path / "one.zip")
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        archive.extractall(tmp_path / "bundle")
    np.save(tmp_path / "input.npy", np.ones((3, 1, 12, 12), np.float32))
    command = [sys.executable, "-I", "run.py", tmp_path / "input.npy"]
    done = subprocess.run(
        command, cwd=tmp_path / "bundle", capture_output=True, text=True, check=False, timeout=60
    )
    assert "logits float32 (3, 10)" in done.stdout, done.stderr

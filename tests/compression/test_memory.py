"""What large models cost: anonymous memory, which no file backs, beside the size of the model."""

import subprocess
import sys
from pathlib import Path

import pytest

_LAYERS, _WIDTH = 8, 2048
_PROGRAM = f"""
import sys, threading, time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression import mapped
from compression.formats import load_model
from compression.measure import compare, latency
from compression.step import apply_step
from workers.supervision import anonymous

mapped.FROM = mapped.LARGE = 1
latency.SECONDS, latency.LEAST = 0.1, 4
folder, what = Path(sys.argv[1]), sys.argv[2]
mib = lambda: anonymous(Path("/proc/self/status").read_text()) / 2**20
peak = 0.0

def watch():
    global peak
    while True:
        peak = max(peak, mib())
        time.sleep(0.005)

def made():
    random, name, nodes, weights = np.random.default_rng(0), "x", [], []
    for at in range({_LAYERS}):
        weights.append(numpy_helper.from_array(
            random.standard_normal(({_WIDTH}, {_WIDTH}), dtype=np.float32) / 64, f"w{{at}}"
        ))
        nodes.append(helper.make_node("MatMul", [name, f"w{{at}}"], [f"y{{at}}"], f"layer{{at}}"))
        name = f"y{{at}}"
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", {_WIDTH}]) for end in ("x", name)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

def apply(step):
    data = folder / "data.npz"
    apply_step(step, folder / "normal.onnx", data, folder / "made.onnx", seed=0, scratch=folder)

if what == "make":
    onnx.save(made(), folder / "model.onnx")
    rows = np.random.default_rng(1).standard_normal((8, {_WIDTH}), dtype=np.float32)
    np.savez(folder / "data.npz", **{{"calibration/x": rows, "test/x": rows}})
start = mib()
threading.Thread(target=watch, daemon=True).start()
match what:
    case "ingest":
        load_model(folder / "model.onnx", "model.onnx", folder / "normal.onnx", folder)
    case "compare":
        compare(folder / "normal.onnx", folder / "made.onnx", folder / "data.npz")
    case "make":
        pass
    case technique:
        apply({{"technique": technique}})
print(max(peak, mib()) - start)
"""


def _peak(folder: Path, what: str) -> float:
    """Of a process of its own, relative to the model's size."""
    command = [sys.executable, "-c", _PROGRAM, str(folder), what]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout) / (_LAYERS * _WIDTH * _WIDTH * 4 / 2**20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("large")
    _peak(made, "make")
    assert _peak(made, "ingest") < 0.3
    return made


@pytest.mark.parametrize(
    ("technique", "most"),
    [("half_precision", 1.45), ("dynamic_quantization", 0.75), ("static_quantization", 0.9)],
)
def test_a_job_takes_less_than_one_and_a_half_times_the_model(
    folder: Path, technique: str, most: float
) -> None:
    """Half precision: the runtime folds the casts, which is the size of the model in float32."""
    assert _peak(folder, technique) < most
    assert _peak(folder, "compare") < 1.5

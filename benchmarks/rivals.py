"""The tools of the peers benchmark, one compression a process: rivals.py TOOL MODEL DATA INTO prints a line
of JSON.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np


def calibration(data: Path) -> tuple[str, Any]:
    """Name of the input and its samples, all in memory: `.npz` files are not mapped by numpy."""
    with np.load(data) as arrays:
        name = next(
            key for key in arrays.files if key.startswith("calibration/") and not key.endswith("label")
        )
        return name.split("/")[1], arrays[name]


def pare(model: Path, data: Path, into: Path) -> None:
    """Through the call that a worker's sandbox makes."""
    from compression.step import apply_step

    with tempfile.TemporaryDirectory() as scratch:
        step = {"technique": "static_quantization"}
        threads = os.cpu_count() or 1
        apply_step(step, model, data, into, seed=0, scratch=Path(scratch), threads=threads)


def _reader(data: Path) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
        """One sample at a time, as in ONNX Runtime's own examples."""

        def __init__(self) -> None:
            self.name, self.samples = calibration(data)
            self.position = 0

        def get_next(self) -> dict[str, Any] | None:
            self.position += 1
            sample = self.samples[self.position - 1 : self.position].astype(np.float32)
            return {self.name: sample} if len(sample) else None

    return Reader()


def ort_defaults(model: Path, data: Path, into: Path) -> None:
    from onnxruntime.quantization import quantize_static

    quantize_static(model, into, _reader(data))


def _prepared(model: Path, scratch: Path) -> Path:
    """Opset raised where per-channel scales need it, constants and BatchNorm folded: ONNX Runtime's own
    script.
    """
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    raised, prepared = scratch / "raised.onnx", scratch / "prepared.onnx"
    proto = onnx.load(model)
    if max(entry.version for entry in proto.opset_import if not entry.domain) < 13:
        proto = version_converter.convert_version(proto, 13)
    onnx.save(proto, raised)
    quant_pre_process(raised, prepared, skip_symbolic_shape=True)
    return prepared


def _ort_tuned(model: Path, data: Path, into: Path, method: str) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as scratch:
        quantize_static(
            _prepared(model, Path(scratch)),
            into,
            _reader(data),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
        )


def ort_minmax(model: Path, data: Path, into: Path) -> None:
    _ort_tuned(model, data, into, "MinMax")


def ort_percentile(model: Path, data: Path, into: Path) -> None:
    _ort_tuned(model, data, into, "Percentile")


def ort_entropy(model: Path, data: Path, into: Path) -> None:
    _ort_tuned(model, data, into, "Entropy")


def nncf_default(model: Path, data: Path, into: Path) -> None:
    os.environ["NNCF_CI"] = "1"  # no telemetry
    import nncf
    import onnx

    name, samples = calibration(data)
    singles = [samples[index : index + 1].astype(np.float32) for index in range(len(samples))]
    source = nncf.Dataset(singles, lambda sample: {name: sample})
    with tempfile.TemporaryDirectory() as scratch:
        prepared = onnx.load(_prepared(model, Path(scratch)))
    onnx.save(nncf.quantize(prepared, source, subset_size=len(singles)), into)


TOOLS: dict[str, Callable[[Path, Path, Path], None]] = {
    "pare": pare,
    "ort-defaults": ort_defaults,
    "ort-minmax": ort_minmax,
    "ort-percentile": ort_percentile,
    "ort-entropy": ort_entropy,
    "nncf": nncf_default,
}


def main() -> None:
    tool, model, data, into = sys.argv[1], *map(Path, sys.argv[2:5])
    start = time.perf_counter()
    TOOLS[tool](model, data, into)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": _peak_mib()}))


def _peak_mib() -> int:
    """Of this program; `getrusage` would count what the parent had before it was started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()

"""OpenVINO's IR: a zip of model.xml and model.bin. QDQ int8 stays int8: the runtime fuses it."""

import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression.exports import packing
from compression.exports.export import Export, Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compression.dataset import Array

_PROGRAM = """\
import openvino

# float32 also where the processor has bfloat16, as it was measured; int8 layers stay int8
options = {{"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}}
model = openvino.Core().compile_model(here / "model.xml", "CPU", options)


def run(feeds):
    results = model(feeds)
    return {{output["name"]: results[index] for index, output in enumerate(card["outputs"])}}
"""


def runtime() -> Any:
    """OpenVINO without the package by which its converters report home: it takes that for not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _convert(model: Path, into: Path, scratch: Path) -> None:
    openvino = runtime()
    xml = scratch / "model.xml"
    openvino.save_model(openvino.Core().read_model(model), xml, compress_to_fp16=False)
    packing.write(into, {part.name: part for part in (xml.with_suffix(".bin"), xml)})


def _session(path: Path, threads: int) -> Session:
    openvino = runtime()
    core = openvino.Core()
    with zipfile.ZipFile(path) as archive:
        model = core.read_model(archive.read("model.xml"), archive.read("model.bin"))
    # A compiled model may call an output by another name of the same tensor; the order stays.
    names = [result.output(0).get_any_name() for result in model.get_results()]
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def run(feeds: "Mapping[str, Array]") -> "dict[str, Array]":
        results = request.infer(dict(feeds))
        return {name: results[index] for index, name in enumerate(names)}

    return run


Export(
    name="openvino",
    title="OpenVINO IR",
    filename="model.openvino.zip",
    package="openvino",
    minimum="2026.4",
    convert=_convert,
    session=_session,
    program=_PROGRAM,
    extra="openvino",
    archive=True,
).register()

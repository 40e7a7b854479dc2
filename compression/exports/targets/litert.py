"""LiteRT (TensorFlow Lite), for phones, boards and microcontrollers. QDQ becomes full-integer int8."""

from pathlib import Path
from typing import TYPE_CHECKING

from compression.exports.export import Export, Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compression.dataset import Array

_TITLE = "LiteRT"
_PROGRAM = """\
from ai_edge_litert.interpreter import Interpreter

run_signature = Interpreter(str(here / "{filename}")).get_signature_runner("serving_default")


def run(feeds):
    results = run_signature(**feeds)
    return {{output["name"]: results[output["name"]] for output in card["outputs"]}}
"""


def _convert(model: Path, into: Path, _scratch: Path) -> None:
    """Errors: CompressionError `format_unsupported`."""
    from compression.exports.tflite.convert import convert
    from compression.model import Model

    into.write_bytes(convert(Model.open(model).proto, _TITLE))


def _session(path: Path, threads: int) -> Session:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    run_signature = interpreter.get_signature_runner("serving_default")
    names = [output["name"] for output in interpreter.get_output_details()]

    def run(feeds: "Mapping[str, Array]") -> "dict[str, Array]":
        results = run_signature(**feeds)
        return {name: results[name] for name in names}

    return run


Export(
    name="litert",
    title=_TITLE,
    filename="model.tflite",
    package="ai-edge-litert",
    minimum="2.3",
    convert=_convert,
    session=_session,
    program=_PROGRAM,
    extra="litert",
    needs=("flatbuffers",),
).register()

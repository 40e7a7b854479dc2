"""ONNX Runtime's own format: optimised once, opened without the optimiser, also by small builds."""

from pathlib import Path

from compression.exports.export import Export, Session
from compression.exports.targets.onnx_file import PROGRAM

_OF_THIS_MACHINE = ["NchwcTransformer"]
"""Optimisers that lay weights out for the processor that converts; the file goes elsewhere."""


def _convert(model: Path, into: Path, _scratch: Path) -> None:
    import onnxruntime as ort

    from compression import runtime

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = str(into)
    options.add_session_config_entry("session.save_model_format", "ORT")
    with runtime.running("convert"):
        ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=_OF_THIS_MACHINE
        )


def _session(path: Path, threads: int) -> Session:
    """From bytes, which tell the format; from a path only the suffix would."""
    from compression import runtime

    session = runtime.session(path.read_bytes(), threads=threads)
    return lambda feeds: runtime.run(session, feeds)


Export(
    name="ort",
    title="ONNX Runtime's .ort",
    filename="model.ort",
    package="onnxruntime",
    minimum="1.32",
    convert=_convert,
    session=_session,
    program=PROGRAM,
).register()

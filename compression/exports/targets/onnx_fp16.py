"""ONNX that computes in float16, for processors that do; inputs and outputs keep their types."""

from pathlib import Path

from compression.exports.export import Export, unsupported
from compression.exports.targets.onnx_file import PROGRAM, open_session

_TITLE = "ONNX in float16"


def _convert(model: Path, into: Path, scratch: Path) -> None:
    """Errors: CompressionError `format_unsupported` of a model that is quantized or half already."""
    from compression.model import Model
    from compression.technique import Context
    from compression.techniques.half_precision import HalfPrecision

    source, technique = Model.open(model), HalfPrecision(scope="all")
    if reason := technique.check(source.inspect()):
        raise unsupported(_TITLE, reason)
    technique.apply(source, Context(None, 0, scratch)).model.save(into)


Export(
    name="onnx_fp16",
    title=_TITLE,
    filename="model.fp16.onnx",
    package="onnxruntime",
    minimum="1.32",
    convert=_convert,
    session=open_session,
    program=PROGRAM,
).register()

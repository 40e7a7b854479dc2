"""ONNX: the file as it is, for every runtime that reads ONNX."""

import shutil
from pathlib import Path

from compression.exports.export import Export, Session

PROGRAM = """\
import onnxruntime

session = onnxruntime.InferenceSession(here / "{filename}", providers=["CPUExecutionProvider"])


def run(feeds):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))
"""


def open_session(path: Path, threads: int) -> Session:
    from compression import runtime

    session = runtime.session(path, threads=threads)
    return lambda feeds: runtime.run(session, feeds)


def _convert(model: Path, into: Path, _scratch: Path) -> None:
    shutil.copyfile(model, into)


Export(
    name="onnx",
    title="ONNX",
    filename="model.onnx",
    package="onnxruntime",
    minimum="1.32",
    convert=_convert,
    session=open_session,
    program=PROGRAM,
).register()

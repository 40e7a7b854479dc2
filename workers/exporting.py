"""In the child: a model to another format, and the proof of the file. Loaded late: few ask for it."""

from pathlib import Path

from workers.operations import Convert, Prove, Proved, Written


def convert(task: Convert, into: Path, scratch: Path) -> Written:
    """Errors: CompressionError."""
    from compression import exports  # noqa: PLC0415

    exports.convert(task.format, task.model, into, scratch)
    return Written()


def prove(task: Prove, into: Path) -> Proved:
    """The ONNX file was measured already. Errors: CompressionError."""
    from compression import bundle  # noqa: PLC0415
    from compression.exports.check import check  # noqa: PLC0415

    found = None
    if task.format != "onnx":
        found = check(task.format, task.exported, task.source, task.data, task=task.task, seed=task.seed)
    card = bundle.Card.model_validate_json(task.card.read_bytes())
    bundle.write(task.exported, card.model_copy(update={"check": found}), into)
    return Proved(check=found)

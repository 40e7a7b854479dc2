"""PyTorch's exported program (.pt2) of the graph, as the training engine reads it; named axes stay open."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression.exports.export import Export, Session, unsupported

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from compression.dataset import Array
    from compression.inspection import TensorSpec

_TITLE = "torch.export"
_PROGRAM = """\
import torch

model = torch.export.load(here / "{filename}").module()


def run(feeds):
    with torch.inference_mode():
        outputs = model({{name: torch.from_numpy(array) for name, array in feeds.items()}})
    return {{name: output.numpy() for name, output in outputs.items()}}
"""


def _convert(model: Path, into: Path, _scratch: Path) -> None:
    """Errors: CompressionError `format_unsupported`, of quantized models and of what the engine lacks."""
    import torch

    from compression import samples
    from compression.exports import trial
    from compression.exports.tracing import Traced
    from compression.model import Model

    source = Model.open(model)
    if source.inspect().traits:
        raise unsupported(_TITLE, "its QuantizeLinear and float16 Casts have no counterpart that stays small")
    split = samples.made_up(source, 0).split
    feeds = next(split.batches(source.inputs, 2))
    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    auto = torch.export.Dim.AUTO
    shapes: dict[str, Any] = {
        spec.name: {at: auto for at, axis in enumerate(spec.shape) if not isinstance(axis, int)}
        for spec in source.inputs
    }
    traced = Traced.of(Model(trial.settle(source.proto)))
    try:
        with _tracing():
            exported = torch.export.export(traced, (inputs,), dynamic_shapes=(shapes,), strict=False)
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise unsupported(_TITLE, f"{traced.place.operator}: {reason}") from error
    if fixed := _fixed(exported, source.inputs):
        raise unsupported(_TITLE, f"tracing fixes the size of {fixed}, which an operator reads")
    with into.open("wb") as file:  # of a path torch expects its own suffix
        torch.export.save(exported, file)


@contextmanager
def _tracing() -> Iterator[None]:
    """Sizes of one stay possible, and a failure does not print the whole graph."""
    import torch
    from torch.fx.experimental import _config

    from compression.quiet import quiet

    with (
        quiet(),
        redirect_stderr(io.StringIO()),
        torch.no_grad(),
        _config.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]
    ):
        yield


def _fixed(exported: "ExportedProgram", inputs: "Sequence[TensorSpec]") -> str:
    """Open axes that came out as a number, also as a symbol that stands for one: the file would refuse other
    sizes.
    """
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    wanted = set(exported.graph_signature.user_inputs)
    traced = [node.meta["val"].shape for node in exported.graph.nodes if node.name in wanted]
    return ", ".join(
        f"axis {at} ({axis}) of {spec.name!r}" if axis else f"axis {at} of {spec.name!r}"
        for spec, shape in zip(inputs, traced, strict=True)
        for at, axis in enumerate(spec.shape)
        if not isinstance(axis, int) and is_concrete_int(shape[at])
    )


def _session(path: Path, threads: int) -> Session:
    import torch

    torch.set_num_threads(threads)
    with path.open("rb") as file:
        model = torch.export.load(file).module()

    def run(feeds: "Mapping[str, Array]") -> "dict[str, Array]":
        with torch.inference_mode():
            outputs = model({name: torch.from_numpy(array) for name, array in feeds.items()})
        return {name: output.numpy() for name, output in outputs.items()}

    return run


Export(
    name="torch_export",
    title=_TITLE,
    filename="model.pt2",
    package="torch",
    minimum="2.13",
    convert=_convert,
    session=_session,
    program=_PROGRAM,
    extra="worker",
).register()

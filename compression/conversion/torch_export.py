"""PyTorch's exported programs (.pt2): checked, loaded, and exported to ONNX with open axes left open."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.export.pt2_archive._package import load_pt2

from compression.conversion import exported_program_archive
from compression.conversion.agreement import compare
from compression.conversion.export import OPSET
from compression.conversion.failures import converting, failed
from compression.conversion.original import Argument, Original
from compression.quiet import quiet
from compression.validation import onnx_model

_BYTE = 1 << 8
"""Where no table of embeddings bounds integers, those of a byte."""
_SIZES = (3, 5, 9, 13, 17, 21)
_EMBEDDINGS = (torch.ops.aten.embedding.default, torch.ops.aten.embedding_bag.default)


def load(path: Path, into: Path, scratch: Path) -> Mapping[str, Any]:
    """Errors: CompressionError."""
    checked = scratch / "checked.pt2"
    exported_program_archive.rewrite(path, checked)
    with converting("reading it in PyTorch"), quiet():
        program = load_pt2(checked).exported_programs["model"]
    checked.unlink()
    axes = _Axes.of(program)
    exported = scratch / "exported.onnx"
    with converting("PyTorch -> ONNX"), quiet(), torch.no_grad():
        outputs = _export(program, axes, exported)
    onnx_model.normalise(exported, into, folder=scratch)
    exported.unlink()
    model = Original("torch", str(torch.__version__), _Positional(program), axes.arguments, outputs)
    return {"conversion": compare(model, into, axes.sizes)}


class _Axes(NamedTuple):
    """Open axes by their name in PyTorch (`s27`) and here: `batch`, or `tokens_1` after the first place."""

    names: Mapping[str, str]
    arguments: tuple[Argument, ...]
    sizes: Mapping[str, int]
    """One for each name, which the program takes."""

    @classmethod
    def of(cls, program: ExportedProgram) -> "_Axes":
        values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        tensors = {name: values[name] for name in _tensor_names(program)}
        names: dict[str, str] = {}
        for name, value in tensors.items():
            for index, size in enumerate(value.shape):
                if not isinstance(size, int):
                    names.setdefault(_symbol(size, name, index), _axis_name(name, index, names))
        below = _rows(program, values)
        arguments = tuple(_argument(name, value, names, below) for name, value in tensors.items())
        return cls(names, arguments, _sizes(program, names))


def _tensor_names(program: ExportedProgram) -> Iterator[str]:
    for spec in _given(program):
        if isinstance(spec.arg, TensorArgument):
            yield spec.arg.name
        elif not hasattr(spec.arg, "value"):
            raise failed(
                f"input {spec.arg.name!r} is a number that varies",
                "make it a tensor or fix it, and export the program again",
            )


def _given(program: ExportedProgram) -> list[InputSpec]:
    specs = program.graph_signature.input_specs
    return [spec for spec in specs if spec.kind is InputKind.USER_INPUT]


def _symbol(size: torch.SymInt, name: str, index: int) -> str:
    expression = size.node.expr
    if not expression.is_Symbol:
        raise failed(
            f"axis {index} of input {name!r} must be {expression} long",
            "export the program with an axis that is fixed or free",
        )
    return str(expression)


def _axis_name(name: str, index: int, taken: Mapping[str, str]) -> str:
    return "batch" if index == 0 and "batch" not in taken.values() else f"{name}_{index}"


def _argument(name: str, value: Tensor, names: Mapping[str, str], below: int) -> Argument:
    shape = tuple(size if isinstance(size, int) else names[str(size.node.expr)] for size in value.shape)
    return Argument(name, str(value.dtype).removeprefix("torch."), shape, below)


def _rows(program: ExportedProgram, values: Mapping[str, Any]) -> int:
    """The smallest number of rows of any table of embeddings: integers below it are good for all."""
    tables = [node.args[0] for node in program.graph.nodes if node.target in _EMBEDDINGS]
    shapes = [values[table.name].shape for table in tables if table.name in values]
    return min([_BYTE, *(int(shape[0]) for shape in shapes)])


def _sizes(program: ExportedProgram, names: Mapping[str, str]) -> dict[str, int]:
    ranges = {str(symbol): found for symbol, found in program.range_constraints.items()}
    if len(names) > len(_SIZES):
        raise failed(f"the model has {len(names)} axes of no fixed size; at most {len(_SIZES)} are taken")
    sizes = {}
    for (symbol, name), size in zip(names.items(), _SIZES, strict=False):
        bounds = ranges.get(symbol)
        sizes[name] = size if bounds is None else int(min(max(size, bounds.lower), bounds.upper))
    return sizes


_TENSOR = object()


class _Positional(nn.Module):
    """Tensors in the order of the inputs; inputs that are constants are what they were exported with."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.program = program.module()
        self.given = [getattr(spec.arg, "value", _TENSOR) for spec in _given(program)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        values = [next(rest) if value is _TENSOR else value for value in self.given]
        found: tuple[Tensor, ...] = self.program(*values)
        return found


def _export(program: ExportedProgram, axes: _Axes, path: Path) -> tuple[str, ...]:
    """Returns the names of the outputs."""
    made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    if made is None:
        raise failed("the exporter returned nothing")
    graph = made.model.graph
    shapes = [_named(value, axes.names) for value in (*graph.inputs, *graph.outputs)]
    for argument, value, shape in zip(axes.arguments, graph.inputs, shapes, strict=False):
        if shape != argument.shape:
            raise failed(f"the exporter fixed an axis of input {argument.name!r}")
        value.name = argument.name
    ClearMetadataAndDocStringPass()(made.model)  # it holds paths of the machine it was exported on
    made.save(path)
    return tuple(str(value.name) for value in graph.outputs)


def _named(value: onnx_ir.Value, names: Mapping[str, str]) -> tuple[int | str | None, ...]:
    """The shape, which has our names from now on."""
    sizes = [size if isinstance(size, int) else size.value for size in value.shape or ()]
    named = tuple(names.get(size, size) if isinstance(size, str) else size for size in sizes)
    value.shape = onnx_ir.Shape(named)
    return named

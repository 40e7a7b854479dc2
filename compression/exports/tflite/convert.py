"""An ONNX graph to the bytes of a TFLite file."""

import onnx

from compression.exports.export import unsupported
from compression.exports.tflite import quantization, storage
from compression.exports.tflite.operators.table import OPERATORS
from compression.exports.tflite.program import Kind, Program, Refused
from compression.exports.tflite.source import Source
from compression.exports.tflite.step import Step, fused
from compression.exports.tflite.writer import Writer, natural

Names = dict[str, int]
_GRIDS = {"QuantizeLinear", "DequantizeLinear"}


def convert(model: onnx.ModelProto, title: str) -> memoryview:
    """The model is consumed. `title` is the format's.

    Errors: CompressionError `format_unsupported` with the operator's name.
    """
    try:
        program, *names = _written(model)
    except Refused as error:
        raise unsupported(title, str(error)) from error
    del model  # its weights are in the program
    return program.serialize(*names)


def _written(model: onnx.ModelProto) -> tuple[Program, Names, Names]:
    """Errors: Refused."""
    storage.restore(model.graph)
    source = Source(model)
    for node in source.live:
        if node.domain not in {"", "ai.onnx"} or node.op_type not in {*OPERATORS, *_GRIDS}:
            raise Refused(f"{node.op_type} ({node.name!r})")
    return _Conversion(source).run()


class _Conversion:
    def __init__(self, source: Source) -> None:
        self._source, self._writer = source, Writer(source)
        self._absorbed: set[str] = set()
        """Outputs of activations that the kernel before them did."""

    def run(self) -> tuple[Program, Names, Names]:
        """The program, its inputs and its outputs. Errors: Refused."""
        graph = self._source.graph
        inputs = {value.name: self._input(value.name) for value in graph.input}
        for node in self._source.live:
            try:
                self._take(node)
            except Refused as error:
                raise Refused(f"{node.op_type} ({node.name!r}): {error}") from error
        outputs: dict[str, int] = {}
        for value in graph.output:
            outputs[value.name] = self._output(value.name, {*inputs.values(), *outputs.values()})
        return self._writer.program, inputs, outputs

    def _input(self, name: str) -> int:
        dims = self._source.dims(name)
        return self._writer.define(name, Kind(dims, self._source.dtype(name)), natural(len(dims)))

    def _output(self, name: str, named: set[int]) -> int:
        """A tensor of its own: one number has one name."""
        value = self._writer.value(name)
        if value.kind.grid is not None:
            raise Refused(f"its output {name!r} is stored in 8 bits")
        order = natural(len(value.kind.dims))
        number = self._writer.stored(name, order)
        return self._writer.copied(number) if number in named else number

    def _take(self, node: onnx.NodeProto) -> None:
        if node.op_type == "QuantizeLinear":
            self._quantize(node)
        elif node.op_type != "DequantizeLinear" and node.output[0] not in self._absorbed:
            self._write(node)

    def _quantize(self, node: onnx.NodeProto) -> None:
        grid = quantization.read(node, self._source.index)
        if grid is None or grid.scales.size != 1:
            raise Refused("its grid is not of 8 bits with one scale")
        self._writer.regrid(node.output[0], self._writer.behind(node.input[0]), grid)

    def _write(self, node: onnx.NodeProto) -> None:
        operator = OPERATORS[node.op_type]
        step = Step(self._writer, node, self._activation(node) if operator.fuses else None)
        data = [name for name in node.input[: operator.data] if name]
        step.int8 = self._coded(data, [name for name in step.outputs if name]) and operator.int8(step)
        operator.write(step)
        if step.outputs != list(node.output):
            self._absorbed.update(step.outputs)

    def _activation(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        reader = self._source.index.only_consumer(node.output[0])
        return reader if reader is not None and fused(reader, self._source.index.scalar) else None

    def _coded(self, data: list[str], outputs: list[str]) -> bool:
        before = [self._source.grid_before(name) for name in data]
        after = [self._source.grid_after(name) for name in outputs]
        return all(grid is not None and grid.scales.size == 1 for grid in (*before, *after))

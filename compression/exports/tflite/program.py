"""A TFLite file in the making: tensors, operators and buffers, by the schema that the runtime ships."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compression.dataset import Array
from compression.exports.tflite.quantization import Quantization

Dims = tuple[int | None, ...]
"""Sizes of axes; None where an axis is open."""

_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 16
_PER_TENSOR = 1 << 12
"""Bytes of a tensor and its operator in the file, generously: a builder that grows copies everything."""
_SHARED_UP_TO = 256
"""Bytes of a constant that is written once however often it is asked for: axes, paddings, zeros."""
_TYPES = {
    name: getattr(schema.TensorType, name.upper())
    for name in ("float32", "int8", "uint8", "int32", "int64", "bool")
}
_INT8_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "EXPAND_DIMS": 1,
    "HARD_SWISH": 1,
    "QUANTIZE": 1,
    "RESHAPE": 1,
}
"""Of an operator as it came to take int8, where that is not 2: older runtimes refuse instead of erring."""


class Refused(Exception):
    """Why a graph does not fit; whoever knows the operator adds its name."""


@dataclass(frozen=True)
class Kind:
    """What a tensor is."""

    dims: Dims
    dtype: str
    grid: Quantization | None = None
    """Of int8."""


class _Aligned(schema.BufferT):  # type: ignore[misc]
    """A buffer that starts where kernels may read whole vectors, as the schema asks for."""

    data: Any

    def Pack(self, builder: Any) -> int:  # noqa: N802
        if self.data is None:
            return int(super().Pack(builder))
        data = np.ascontiguousarray(self.data).reshape(-1).view(np.uint8).data
        self.data = None  # it is in the file now
        builder.StartVector(1, data.nbytes, _ALIGNMENT)
        builder.head = builder.Head() - data.nbytes
        builder.Bytes[builder.Head() : builder.Head() + data.nbytes] = data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


class Program:
    def __init__(self) -> None:
        self._buffers = [_Aligned()]
        """The first is empty by convention: of tensors that are computed."""
        self._tensors: list[Any] = []
        self._kinds: list[Kind] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._shared: dict[tuple[Any, ...], int] = {}

    def kind(self, tensor: int) -> Kind:
        return self._kinds[tensor]

    def tensor(self, kind: Kind) -> int:
        """Its number. Errors: Refused of a type that no kernel of the CPU takes."""
        if kind.dtype not in _TYPES:
            raise Refused(f"computes in {kind.dtype}")
        made = schema.TensorT(name=f"tensor{len(self._tensors)}", type=_TYPES[kind.dtype], hasRank=True)
        made.shape = [1 if size is None else size for size in kind.dims]
        if None in kind.dims:
            made.shapeSignature = [-1 if size is None else size for size in kind.dims]
        if kind.grid is not None:
            made.quantization = schema.QuantizationParametersT(
                scale=kind.grid.scales,
                zeroPoint=[kind.grid.zero_point] * kind.grid.scales.size,
                quantizedDimension=kind.grid.axis,
            )
        self._tensors.append(made)
        self._kinds.append(kind)
        return len(self._tensors) - 1

    def constant(self, array: Array, grid: Quantization | None = None) -> int:
        small = grid is None and array.nbytes <= _SHARED_UP_TO
        key = (array.dtype.name, array.shape, array.tobytes() if small else id(array))
        if small and key in self._shared:
            return self._shared[key]
        number = self.tensor(Kind(array.shape, array.dtype.name, grid))
        self._tensors[number].buffer = len(self._buffers)
        self._buffers.append(_Aligned(data=array))
        if small:
            self._shared[key] = number
        return number

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: object = None
    ) -> None:
        """`name` as in the schema's BuiltinOperator; an input that is left out is -1."""
        int8 = any(self._tensors[number].type == schema.TensorType.INT8 for number in (*inputs, *outputs))
        version = _INT8_VERSIONS.get(name, 2) if int8 else 1
        made = schema.OperatorT(inputs=list(inputs), outputs=list(outputs))
        made.opcodeIndex = self._codes.setdefault((name, version), len(self._codes))
        if options is not None:
            made.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._operators.append(made)

    def serialize(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> memoryview:
        """The file; both are named in its one signature too. The program is consumed."""
        for name, number in (*inputs.items(), *outputs.items()):
            self._tensors[number].name = name
        graph = schema.SubGraphT(
            tensors=self._tensors,
            inputs=list(inputs.values()),
            outputs=list(outputs.values()),
            operators=self._operators,
            name="main",
        )
        signature = schema.SignatureDefT(
            inputs=_map(inputs), outputs=_map(outputs), signatureKey="serving_default", subgraphIndex=0
        )
        model = schema.ModelT(
            version=_SCHEMA_VERSION,
            operatorCodes=[_code(*key) for key in self._codes],
            subgraphs=[graph],
            buffers=self._buffers,
            signatureDefs=[signature],
        )
        size = sum(buffer.data.nbytes + _ALIGNMENT for buffer in self._buffers if buffer.data is not None)
        builder = flatbuffers.Builder(size + _PER_TENSOR * len(self._tensors))
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        return memoryview(builder.Bytes)[builder.Head() :]


def _map(names: Mapping[str, int]) -> list[Any]:
    return [schema.TensorMapT(name=name, tensorIndex=number) for name, number in names.items()]


def _code(name: str, version: int) -> Any:
    number = getattr(schema.BuiltinOperator, name)
    # Readers from before there were 127 operators look at the other field.
    return schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version)

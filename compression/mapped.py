"""Large tensors left in files: a graph holds a reference, and who looks at the values maps them into memory.

A reference is ONNX's external data whose location is relative to the root directory, so that the tensors of
one graph may lie in several files. What a file backs can be given up and read again: it is no memory that a
job uses.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]

FROM = 64 << 20
"""Bytes of a model file from which on its tensors stay there."""
LEAST = 1 << 20
"""Bytes of a tensor that is worth a reference."""
LARGE = 256 << 20
"""Mapped bytes of a model from which on nobody makes copies of them for speed alone."""
ROOT = "/"
"""What locations are relative to."""
_ALIGNED = 64


class Place(NamedTuple):
    path: Path
    offset: int
    length: int


def is_mapped(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def refer(tensor: TensorProto, place: Place) -> None:
    """Makes the tensor one whose values lie there, as they would in `raw_data`."""
    for field in ("raw_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    location = str(place.path.resolve()).removeprefix(ROOT)
    for key, value in (("location", location), ("offset", place.offset), ("length", place.length)):
        tensor.external_data.add(key=key, value=str(value))


def place(tensor: TensorProto) -> Place:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Place(Path(ROOT, entries["location"]), int(entries["offset"]), int(entries["length"]))


def content(tensor: TensorProto) -> memoryview:
    """Bytes of a mapped tensor."""
    path, offset, length = place(tensor)
    return np.memmap(path, np.uint8, "r", offset, (length,)).data


def array(tensor: TensorProto) -> Array:
    """Values of any tensor; those of a mapped one are read-only and no copy, unless several share a byte."""
    if not is_mapped(tensor):
        return numpy_helper.to_array(tensor)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if np.dtype(dtype).itemsize * int(np.prod(tensor.dims)) != place(tensor).length:
        return numpy_helper.to_array(tensor, ROOT)
    return np.frombuffer(content(tensor), dtype).reshape(tensor.dims)


def size(model: onnx.ModelProto) -> int:
    """Mapped bytes of a model."""
    return sum(place(tensor).length for tensor in model.graph.initializer if is_mapped(tensor))


def loaded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all its weights in memory; itself where they are."""
    if not any(is_mapped(tensor) for tensor in model.graph.initializer):
        return model
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for tensor in whole.graph.initializer:
        if is_mapped(tensor):
            values = bytes(content(tensor))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = values
    return whole


class Store:
    """A file of its own, where tensors that are made from mapped ones go. It must outlive their use."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def beside(cls, tensor: TensorProto) -> "Store":
        """For what is made of a mapped tensor that lies in a scratch directory itself."""
        return cls(place(tensor).path.with_suffix(".made") if is_mapped(tensor) else Path())

    def instead(self, of: TensorProto, values: Array, name: str) -> TensorProto:
        """A tensor of these values, each of a byte or more: in the file if the one that it is made from is in
        one, else in memory.
        """
        if not is_mapped(of) or values.nbytes < LEAST:
            return numpy_helper.from_array(values, name)
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=values.shape)
        with self._path.open("ab") as file:
            file.write(bytes(-file.tell() % _ALIGNED))
            refer(tensor, Place(self._path, file.tell(), values.nbytes))
            values.tofile(file)
        return tensor

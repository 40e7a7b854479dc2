"""Model: an ONNX graph in memory, with what must be known of it. Treated as immutable: edit a `copy()`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compression import mapped
from compression.graph import inspection, serialization, tensors
from compression.inspection import ModelInspection, TensorSpec


@dataclass(frozen=True, eq=False)
class Model:
    outline: onnx.ModelProto
    """The graph. Large initializers of a large model lie in files, and their tensors only refer to them
    (`compression.mapped`); of any other model this is `proto`.
    """

    @classmethod
    def open(cls, path: Path) -> "Model":
        """A file that was normalised before (`formats`); hostile ones go through there first. A large one
        must stay as it is for as long as the model is used.
        """
        return cls(serialization.outline(path))

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """With all weights in memory, which takes as much as the file is long."""
        return mapped.loaded(self.outline)

    @cached_property
    def is_large(self) -> bool:
        """Whether copies of all its weights are too much to make for speed alone."""
        return mapped.size(self.outline) >= mapped.LARGE

    @property
    def serialized(self) -> bytes:
        """As one piece, made anew each time; `save` needs no such copy."""
        return b"".join(serialization.chunks(self.outline))

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(len(piece) for piece in serialization.chunks(self.outline))

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in serialization.chunks(self.outline):
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a caller feeds: graph inputs that no initializer fills."""
        return tensors.inputs(self.outline.graph)

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tensors.outputs(self.outline.graph)

    @cached_property
    def opset(self) -> int:
        """Version of the default domain."""
        return inspection.opset(self.outline)

    @cached_property
    def initializers(self) -> Mapping[str, onnx.TensorProto]:
        """Of the outermost graph, by name."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    def initializer(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Its values; read-only, as they may share the graph's memory."""
        array = mapped.array(self._outlined[name])
        array.flags.writeable = False
        return array

    @cached_property
    def _outlined(self) -> Mapping[str, onnx.TensorProto]:
        return {tensor.name: tensor for tensor in self.outline.graph.initializer}

    def inspect(self, format_name: str = "onnx") -> ModelInspection:
        return inspection.inspect(self.outline, format_name, self.size)

    def save(self, path: Path) -> None:
        serialization.write(self.outline, path)

    def copy(self) -> onnx.ModelProto:
        """A deep copy that may be edited."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return proto

    def copy_outline(self) -> onnx.ModelProto:
        """As `copy`, of the outline."""
        outline = onnx.ModelProto()
        outline.CopyFrom(self.outline)
        return outline

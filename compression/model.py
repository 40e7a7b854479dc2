"""Model: an ONNX graph in memory, with what must be known of it. Treated as immutable: edit a `copy()`."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx


@dataclass(frozen=True, eq=False)
class Model:
    proto: onnx.ModelProto

    @classmethod
    def open(cls, path: Path) -> "Model":
        """A file that was normalised before (`formats`); hostile ones go through there first."""
        return cls(onnx.load(path, load_external_data=False))

    @cached_property
    def serialized(self) -> bytes:
        return self.proto.SerializeToString(deterministic=True)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.serialized).hexdigest()

    def save(self, path: Path) -> None:
        path.write_bytes(self.serialized)

    def copy(self) -> onnx.ModelProto:
        """A deep copy that may be edited."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return proto

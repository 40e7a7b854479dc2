"""A model opened up: it also gives inner tensors."""

from collections.abc import Iterator, Mapping, Sequence

import onnx

from compression import runtime
from compression.dataset import Array
from compression.model import Model

_AT_ONCE = 32
"""Tensors fetched in one run, which bounds the memory; the run is repeated for the next ones."""


class Probe:
    def __init__(self, model: Model, names: Sequence[str]) -> None:
        """Errors: CompressionError E_MODEL_RUN."""
        opened = model.copy_outline()
        opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        self.session = runtime.session(opened)
        self.names = names

    def values(self, feeds: Mapping[str, Array]) -> Iterator[Array]:
        """In the order of the names.

        Errors: CompressionError E_MODEL_RUN.
        """
        for start in range(0, len(self.names), _AT_ONCE):
            names = self.names[start : start + _AT_ONCE]
            yield from runtime.run(self.session, feeds, names).values()

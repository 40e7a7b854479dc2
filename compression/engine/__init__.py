"""An ONNX graph as a torch module: run it, differentiate it, write the trained values back by name."""

from compression.engine.engine import Engine
from compression.engine.roles import Role

__all__ = ["Engine", "Role"]

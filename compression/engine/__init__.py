"""An ONNX graph as a torch module: run it, differentiate it, write the trained values back by name.

`Engine.from_model(normalise(model))` is what training starts from; `write_back` gives the model again.
"""

from compression.engine.batchnorm import fold_batchnorm, insert_batchnorm
from compression.engine.engine import Engine
from compression.engine.normalise import normalise
from compression.engine.precision import Precision, choose_precision, use_precision
from compression.engine.roles import Role

__all__ = [
    "Engine",
    "Precision",
    "Role",
    "choose_precision",
    "fold_batchnorm",
    "insert_batchnorm",
    "normalise",
    "use_precision",
]

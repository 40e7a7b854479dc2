"""The configuration of a hostile Keras model: every object in it is known by name before Keras sees it."""

from collections.abc import Callable
from typing import Any

from compression.conversion.keras_names import ACTIVATIONS, ARITHMETIC, LAYERS, MODELS, OPERATIONS, PARTS
from compression.errors import CompressionError, Suggestion

_KNOWN = LAYERS.union(MODELS, PARTS, *OPERATIONS.values())
_EXACT = 1 << 53
_FLOATS = {"mixed_float16": "float32", "mixed_bfloat16": "float32"}
_LATER = ("compile_config", "shared_object_id")
"""Not needed for inference, or another way to name an object."""


def checked(config: dict[str, Any], version: str) -> dict[str, Any]:
    """The configuration with nothing but what is known; `version` is that of the Keras that wrote it.

    Errors: CompressionError `layer_refused`, `invalid_keras`.
    """
    if config.get("class_name") not in MODELS:
        raise refused(str(config.get("class_name")), "the model must be a Sequential or a Functional one")
    found = _value(config, 0)
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise CompressionError("invalid_keras", "the model has no configuration")
    if version.startswith(("1.", "2.")) and _uses(found, "hard_sigmoid"):
        raise refused("hard_sigmoid", "Keras 2 takes 0.2 x + 0.5, Keras 3, which reads the file, x / 6 + 0.5")
    return found


def _uses(value: Any, activation: str) -> bool:
    if isinstance(value, list):
        return any(_uses(item, activation) for item in value)
    if not isinstance(value, dict):
        return False
    own = (item for key, item in value.items() if str(key).endswith("activation"))
    return activation in own or any(_uses(item, activation) for item in value.values())


def refused(name: str, why: str) -> CompressionError:
    return CompressionError(
        "layer_refused",
        f"{name[:80]!r}: {why}",
        suggestions=(
            Suggestion("build the model of layers of keras.layers, or export it to ONNX and upload that"),
        ),
    )


def _value(value: Any, depth: int) -> Any:
    if depth > 200:
        raise CompressionError("invalid_keras", "the configuration is nested too deep")
    if isinstance(value, list):
        return [_value(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if "class_name" in value:
        return _object(value, depth)
    if "module" in value or "registered_name" in value:
        raise refused(str(value.get("registered_name")), "an object without a class")
    return {key: _value(item, depth + 1) for key, item in value.items()}


def _object(value: dict[str, Any], depth: int) -> Any:
    name, module = value["class_name"], value.get("module")
    if name == "function":
        return _activation(value.get("config"))
    if name not in _KNOWN:
        raise refused(str(name), "not among the layers and operations that are read")
    _check_origin(name, module, value.get("registered_name"))
    if name in ("DTypePolicy", "Policy"):
        return _precision(value)
    kept = {key: _value(item, depth + 1) for key, item in value.items() if key not in _LATER}
    kept.pop("registered_name", None)
    if module is not None:
        kept["module"] = _module(name, module)
        if ".ops." in module and name in ARITHMETIC:
            kept["inbound_nodes"] = [_promoted(node) for node in kept.get("inbound_nodes", [])]
    if isinstance(kept.get("config"), dict):
        kept["config"] = _MENDED.get(name, _same)(kept["config"])
    return kept


def _check_origin(name: str, module: Any, registered: Any) -> None:
    if module is not None and (
        not isinstance(module, str) or module.split(".")[0] not in ("keras", "tf_keras")
    ):
        raise refused(name, f"of module {str(module)[:80]!r}, which is not Keras's")
    if registered not in (None, "", name):
        raise refused(name, f"under another name, {str(registered)[:80]!r}")


def _module(name: str, module: str) -> str:
    """Where Keras 3 has it; a class is never looked for where the file says."""
    if name in MODELS:
        return "keras.src.models.functional" if name == "Functional" else "keras"
    if ".ops." in module:
        return _operations(name, module)
    if name in LAYERS and not (name == "Identity" and "initializers" in module):
        return "keras.layers"
    return "keras." + next(
        (kind for kind in ("regularizers", "constraints") if f"{kind}" in module), "initializers"
    )


def _operations(name: str, module: str) -> str:
    if name not in OPERATIONS.get(module, ()):
        raise refused(name, f"not among the operations of {module[:80]!r} that are read")
    return module


def _promoted(node: Any) -> Any:
    """A whole number beside floats is one of them, as Keras has it: its exporter would leave it whole."""
    arguments = node.get("args") if isinstance(node, dict) else None
    if not isinstance(arguments, list) or not any(map(_is_float, arguments)):
        return node
    numbers = [float(one) if type(one) is int and abs(one) < _EXACT else one for one in arguments]
    return {**node, "args": numbers}


def _is_float(argument: Any) -> bool:
    config = argument.get("config") if isinstance(argument, dict) else None
    return isinstance(config, dict) and "float" in str(config.get("dtype"))


def _activation(name: Any) -> str:
    if name not in ACTIVATIONS:
        raise refused(str(name), "a function that is no activation of Keras")
    return str(name)


def _precision(value: dict[str, Any]) -> str:
    config = value.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    precision = _FLOATS.get(str(name), str(name))
    if precision not in ("float16", "float32", "float64", "int32", "int64", "bool"):
        raise refused(str(name), "a precision that is not read")
    return precision


def _same(config: dict[str, Any]) -> dict[str, Any]:
    return config


def _input(config: dict[str, Any]) -> dict[str, Any]:
    """Keras 2 called it otherwise."""
    kept = {key: item for key, item in config.items() if key != "batch_input_shape"}
    if "batch_input_shape" in config:
        kept["batch_shape"] = config["batch_input_shape"]
    return kept


def _normalization(config: dict[str, Any]) -> dict[str, Any]:
    axis = config.get("axis")
    return {**config, "axis": axis[0]} if isinstance(axis, list) and len(axis) == 1 else config


def _without(key: str, default: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Keras 2 wrote it and Keras 3 does not know it; only its default means what Keras 3 does."""
    return lambda config: {
        name: item for name, item in config.items() if name != key or item not in (default, None)
    }


def _recurrent(config: dict[str, Any]) -> dict[str, Any]:
    if config.get("stateful"):
        raise refused(
            str(config.get("name")),
            "it keeps its state from one batch to the next: save it with stateful=False",
        )
    return _without("time_major", default=False)(config)


_MENDED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "InputLayer": _input,
    "BatchNormalization": _normalization,
    "DepthwiseConv2D": _without("groups", 1),
    "SeparableConv2D": _without("groups", 1),
    "Conv2DTranspose": _without("groups", 1),
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "SimpleRNN": _recurrent,
}

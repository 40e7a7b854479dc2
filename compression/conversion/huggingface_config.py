"""config.json of a stranger, before transformers sees it: which network, how large, and no code."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compression.conversion.huggingface_families import ARCHITECTURES, Architecture
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.validation.limits import MAX_CLASSES

_MAX_LAYERS = 256
_MAX_SIDE = 1024
"""Of an image, in pixels."""
_MAX_NUMBER = 2**31
_MAX_TEXT = 500
_MAX_ITEMS = 1 << 16
_PLAIN_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
"""Others change with the length of the input, which a graph cannot."""
_ROPE = ("rope_scaling", "rope_parameters")
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "is_causal": (True,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "quantization_config": (),
    "per_layer_config": (),
}
"""Settings that would make another network of it, and what they may be beside null."""
_LABELS = "id2label"
_EXPORT = "export the model to ONNX with optimum or torch.onnx.export(dynamo=True) and upload that"


def architecture(config: Mapping[str, Any]) -> Architecture:
    """Errors: CompressionError `remote_code_refused`, `architecture_refused`."""
    if config.get("auto_map"):
        raise CompressionError(
            "remote_code_refused",
            "config.json names code of its own (auto_map), which is never run",
            suggestions=(Suggestion(_EXPORT),),
        )
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    found = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if found is None:
        known = ", ".join(ARCHITECTURES)
        raise _refused(f"architecture {str(name)[:80]!r} is not among those that are read: {known}")
    if config.get("model_type", found.family.model_type) != found.family.model_type:
        raise _refused(f"{found.name} is no model of type {str(config['model_type'])[:80]!r}")
    _check_settings(config)
    return found


def check(config: Mapping[str, Any], sizes: Sequence[str], layers: str, largest: int) -> None:
    """That nothing larger is asked for than weights of which the longest axis is `largest` can fill. `sizes`
    and `layers` are names of settings.

    Errors: CompressionError `model_limits`, `invalid_config`.
    """
    for name, value in config.items():
        _check_value(name, value)
    bounds = dict.fromkeys(sizes, largest) | {"num_labels": MAX_CLASSES, "image_size": _MAX_SIDE}
    for name, most in bounds.items():
        for size in _whole(name, config.get(name)):
            if not 1 <= size <= most:
                raise limits(f"{name} is {size}; with these weights it is at most {most}")
    if sum(max(1, count) for count in _whole(layers, config.get(layers))) > _MAX_LAYERS:
        raise limits(f"{layers} is {config[layers]}; at most {_MAX_LAYERS} layers are taken")


def limits(why: str) -> CompressionError:
    return CompressionError("model_limits", f"config.json: {why}")


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_config", f"config.json: {why}")


def labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes in their order; empty where there are none but numbers.

    Errors: CompressionError `invalid_config`.
    """
    named = config.get(_LABELS) or {}
    if not isinstance(named, Mapping) or len(named) > MAX_CLASSES:
        raise invalid(f"{_LABELS} is no object of at most {MAX_CLASSES} names")
    if {str(index) for index in range(len(named))} != set(named):
        raise invalid(f"{_LABELS} does not name the classes from 0 on")
    names = tuple(str(named[str(index)]) for index in range(len(named)))
    made_up = all(name == f"LABEL_{index}" for index, name in enumerate(names))
    return () if made_up else names


def _check_settings(config: Mapping[str, Any]) -> None:
    for name, allowed in _FIXED.items():
        if config.get(name) is not None and config[name] not in allowed:
            raise _refused(f"with {name} = {str(config[name])[:80]} it is a network that is not read")
    for name in _ROPE:
        rope = config.get(name) or {}
        kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, Mapping) else rope
        if not isinstance(kind, str) or kind not in _PLAIN_ROPE:
            raise _refused(f"{name} of type {str(kind)[:80]!r} is not read")


def _check_value(name: str, value: Any) -> None:
    for count, item in enumerate(_items(value)):
        if count > _MAX_ITEMS:
            raise invalid(f"{name[:80]} is too long")
        if isinstance(item, str) and len(item) > _MAX_TEXT:
            raise invalid(f"{name[:80]} holds a text of more than {_MAX_TEXT} characters")
        if isinstance(item, float) and not math.isfinite(item):
            raise invalid(f"{name[:80]} is no number")
        if isinstance(item, int) and abs(item) > _MAX_NUMBER:
            raise limits(f"{name[:80]} is {str(item)[:20]}")


def _items(value: Any) -> Iterator[Any]:
    match value:
        case Mapping():
            for item in value.values():
                yield from _items(item)
        case list():
            for item in value:
                yield from _items(item)
        case _:
            yield value


def _whole(name: str, value: Any) -> list[int]:
    """The numbers of one field: one, a list of them, or none where the default of the class holds."""
    found = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(item) is int for item in found):
        raise invalid(f"{name} is no whole number")
    return found


def _refused(why: str) -> CompressionError:
    return CompressionError(
        "architecture_refused", why, ErrorKind.UNSUPPORTED, suggestions=(Suggestion(_EXPORT),)
    )

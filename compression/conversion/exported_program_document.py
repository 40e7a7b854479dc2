"""The JSON of a .pt2, walked along PyTorch's own schema and written anew.

Its reader makes Python source of names, evaluates expressions, resolves dotted paths and imports what a
structure of arguments names. So every value must be of its field's type, every string of its field's
grammar, and what is not needed to compute (guards, stack traces, structures of arguments) is replaced.
"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar

from torch._export.serde import schema
from torch._export.serde.union import _Union

from compression.conversion import exported_program_expression as expression
from compression.conversion import exported_program_operators as operators
from compression.conversion.failures import failed
from compression.errors import CompressionError
from compression.validation.limits import MAX_NODES

Text = Callable[[str], str]
_T = TypeVar("_T")
_NAME = re.compile(r"(?!__)[A-Za-z_]\w{0,511}", re.ASCII)
_PATH = re.compile(r"(?!__)\w{1,255}(?:\.(?!__)\w{1,255}){0,63}", re.ASCII)
_WORDS = re.compile(r"[\w ,.>\-]{0,256}", re.ASCII)
_RANGE = re.compile(r"(?:u|zuf)\d{1,5}|[s(\d-][\w*+/() -]{0,255}", re.ASCII)
"""Of a symbol, or of an axis that must be `2*s27` long; PyTorch counts up to the first kind."""
_FLOATS = frozenset({"Infinity", "-Infinity", "NaN"})
_LARGEST = 2**63


def invalid(why: str) -> CompressionError:
    return CompressionError("invalid_pt2", why)


def program(document: dict[str, Any]) -> dict[str, Any]:
    """`models/model.json`: tensors in, in order, a tuple of tensors out.

    Errors: CompressionError `invalid_pt2`, `pt2_expr`, `op_refused`, `limit_nodes`, `conversion_failed`.
    """
    found = _checked(schema.ExportedProgram, document)
    graph, signature = found["graph_module"]["graph"], found["graph_module"]["signature"]
    _check_nodes(graph)
    given = [spec for spec in signature["input_specs"] if {"user_input", "constant_input"} & spec.keys()]
    _check_outputs(signature["output_specs"])
    found["graph_module"]["module_call_graph"] = [_root(len(given), len(signature["output_specs"]))]
    return found


def payloads(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`…_config.json`: for each tensor where its bytes lie, and its shape.

    Errors: as `program`.
    """
    config: dict[str, dict[str, Any]] = _checked(schema.PayloadConfig, document)["config"]
    return config


def _checked(kind: type, document: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _value(kind, document, _name)
    except RecursionError:
        raise invalid("its JSON is nested too deep") from None
    return found


def _check_nodes(graph: dict[str, Any]) -> None:
    if len(graph["nodes"]) > MAX_NODES:
        raise CompressionError("limit_nodes", f"the program has more than {MAX_NODES} nodes")


def _check_outputs(specs: list[dict[str, Any]]) -> None:
    if any("user_output" not in spec for spec in specs):
        raise failed(
            "the program changes its own buffers or computes gradients",
            "export the model after model.eval(), with its state as inputs and outputs",
        )


def _root(inputs: int, outputs: int) -> dict[str, Any]:
    """The call of the whole program: `inputs` positional arguments, a tuple of `outputs`."""
    arguments = _tree("builtins.tuple", "null", [_tuple(inputs), _tree("builtins.dict", "[]", [])])
    signature: dict[str, Any] = {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps([schema.TREESPEC_VERSION, arguments]),
        "out_spec": json.dumps([schema.TREESPEC_VERSION, _tuple(outputs)]),
        "forward_arg_names": None,
    }
    return {"fqn": "", "signature": signature}


def _tuple(length: int) -> dict[str, Any]:
    return _tree("builtins.tuple", "null", [_tree(None, None, [])] * length)


def _tree(kind: str | None, context: str | None, children: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": children}


def _name(text: str) -> str:
    return _matching(_NAME, text, "name")


def _path(text: str) -> str:
    return _matching(_PATH, text, "path of a tensor")


def _argument_name(text: str) -> str:
    return text and _name(text)  # those of a graph in a graph have none


def _words(text: str) -> str:
    return _matching(_WORDS, text, "argument")


def _range(text: str) -> str:
    return _matching(_RANGE, text, "size")


def _matching(grammar: re.Pattern[str], text: str, what: str) -> str:
    if not grammar.fullmatch(text):
        raise invalid(f"{text[:80]!r} is no {what}")
    return text


_TEXTS: Mapping[tuple[str, str], Text] = {
    ("Node", "target"): operators.checked,
    ("SymExpr", "expr_str"): expression.checked,
    ("NamedArgument", "name"): _argument_name,
    ("Argument", "as_string"): _words,
    ("Argument", "as_strings"): _words,
    ("ConstantValue", "as_string"): _words,
    ("InputToParameterSpec", "parameter_name"): _path,
    ("InputToBufferSpec", "buffer_name"): _path,
    ("InputToTensorConstantSpec", "tensor_constant_name"): _path,
    ("PayloadConfig", "config"): _path,
    ("ExportedProgram", "range_constraints"): _range,
    ("Device", "type"): lambda _: "cpu",  # wherever it was exported, here it runs on the processor
}
_REPLACED: Mapping[tuple[str, str], Any] = {
    ("Node", "metadata"): {},
    ("GraphModule", "metadata"): {},
    ("GraphModule", "treespec_namedtuple_fields"): {},
    ("GraphModule", "module_call_graph"): [],
    ("ExportedProgram", "guards_code"): [],
    ("ExportedProgram", "verifiers"): ["TRAINING"],
    ("ExportedProgram", "torch_version"): "",
    ("Device", "index"): None,
    ("TensorMeta", "requires_grad"): False,
}
_OBJECTS = frozenset({"as_custom_obj", "as_operator", "custom_obj", "token", "as_string_to_argument"})


def _value(kind: Any, value: Any, text: Text) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _value(typing.get_args(kind)[0], value, text)
    if origin is list:
        return [_value(typing.get_args(kind)[0], item, text) for item in _of(list, value)]
    if origin is dict:
        inner = typing.get_args(kind)[1]
        return {text(key): _value(inner, item, text) for key, item in _of(dict, value).items()}
    if issubclass(kind, _Union):
        return _union(kind, _of(dict, value))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _fields(kind, _of(dict, value))
    return _plain(kind, value, text)


def _of(kind: type[_T], value: Any) -> _T:
    if not isinstance(value, kind):
        raise invalid(f"its JSON holds {type(value).__name__} where {kind.__name__} belongs")
    return value


def _union(kind: type, value: dict[str, Any]) -> dict[str, Any]:
    if len(value) != 1 or not value.keys() <= _hints(kind).keys():
        raise invalid(f"{kind.__name__} {list(value)[:3]} is not known")
    ((name, inner),) = value.items()
    if name in _OBJECTS:
        raise operators.refused("the program uses objects or functions that are no tensors")
    return {name: _field(kind, name, inner)}


def _fields(kind: type, value: dict[str, Any]) -> dict[str, Any]:
    """What the schema does not know is left out; what it cannot do without must be there."""
    known = [field.name for field in dataclasses.fields(kind)]
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is field.default_factory is dataclasses.MISSING and field.name not in value
    ]
    if missing:
        raise invalid(f"{kind.__name__} has no {missing[0]}")
    return {name: _field(kind, name, value[name]) for name in known if name in value}


def _field(kind: type, name: str, value: Any) -> Any:
    place = (kind.__name__, name)
    if place in _REPLACED:
        return _REPLACED[place]
    return _value(_hints(kind)[name], value, _TEXTS.get(place, _name))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, globalns=vars(schema))


def _plain(kind: type, value: Any, text: Text) -> Any:
    if kind is str:
        return text(_of(str, value))
    if kind is bool:
        return _of(bool, value)
    if kind is float:
        return value if value in _FLOATS else _number(float | int, value)
    if issubclass(kind, IntEnum):
        if value not in list(kind):
            raise invalid(f"{kind.__name__} {str(value)[:20]} is not known")
        return int(value)
    return _number(int, value)


def _number(kind: Any, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise invalid(f"its JSON holds {type(value).__name__} where a number belongs")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise invalid("a number is longer than 64 bits")
    return value

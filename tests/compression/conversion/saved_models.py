"""saved_model.pb by hand: protobuf of a few fields, so that hostile ones need no TensorFlow."""

import zipfile
from collections.abc import Iterable
from pathlib import Path


def number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def content(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def node(name: str, operator: str, *inputs: str, attributes: bytes = b"") -> bytes:
    """A NodeDef."""
    given = b"".join(content(3, one) for one in inputs)
    return content(1, name) + content(2, operator) + given + attributes


def attribute(key: str, value: bytes) -> bytes:
    """An entry of NodeDef.attr."""
    return content(5, content(1, key) + content(2, value))


def calls(name: str, inner: bytes = b"") -> bytes:
    """The attribute of an operator that calls a function; `inner` are attributes of the call."""
    return attribute("f", content(10, content(1, name) + inner))


def function(name: str, *nodes: bytes) -> bytes:
    """A FunctionDef."""
    return content(1, content(1, name)) + b"".join(content(3, one) for one in nodes)


def graph(nodes: Iterable[bytes], functions: Iterable[bytes] = ()) -> bytes:
    """The field graph_def of a MetaGraphDef."""
    library = b"".join(content(1, one) for one in functions)
    return content(2, b"".join(content(1, one) for one in nodes) + content(2, library))


def signature(name: str, output: str) -> bytes:
    """The entry of a MetaGraphDef."""
    outputs = content(2, content(1, "y") + content(2, content(1, output)))
    return content(5, content(1, name) + content(2, outputs))


def saved_model(*fields: bytes, tag: str = "serve") -> bytes:
    """A SavedModel with one graph of these fields."""
    return number(1, 1) + content(2, content(1, content(4, tag)) + b"".join(fields))


def restore(name: str) -> bytes:
    """The field saver_def of a MetaGraphDef."""
    return content(3, content(3, name))


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
    return path

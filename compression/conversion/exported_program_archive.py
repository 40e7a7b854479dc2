"""The zip of a .pt2: what is known and checked is written to a fresh archive, and only that is loaded."""

import json
import math
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression.conversion import document
from compression.conversion import exported_program_document as documents
from compression.conversion.exported_program_document import invalid
from compression.errors import CompressionError, Suggestion
from compression.validation import archive
from compression.validation.limits import MAX_BYTES

_PROGRAM = "models/model.json"
_WEIGHTS = "data/weights/"
_CONSTANTS = "data/constants/"
_CONFIGS = {
    _WEIGHTS: f"{_WEIGHTS}model_weights_config.json",
    _CONSTANTS: f"{_CONSTANTS}model_constants_config.json",
}
_EXAMPLES = "data/sample_inputs/model.pt"
_FRESH = {
    "archive_format": "pt2",
    "archive_version": "0",
    "byteorder": "little",
    ".data/version": "6\n",
    _EXAMPLES: "",  # a pickle, which nobody needs
}
_TENSOR = re.compile(r"data/(?:weights/weight|constants/tensor)_\d{1,9}", re.ASCII)
_PICKLED = re.compile(r"data/(?:weights|constants)/(?:[^/]+\.pt|(?:custom|opaque)_obj_[^/]*)")
_LEFT_OUT = re.compile(r"extra/.+|\.data/[^/]+|byteorder|archive_\w+")
_ROOT = "program"
_CHUNK = 1 << 20
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""Of an element, by PyTorch's number of its type: integers, floats and booleans."""
_STRIDED = 7

Members = Mapping[str, zipfile.ZipInfo]


def rewrite(path: Path, into: Path) -> None:
    """Errors: CompressionError `invalid_archive`, `path_refused`, `link_refused`, `member_refused`,
    `limit_decoded_bytes`, `archive_ratio`, `pt2_pickle`, and those of the program's document.
    """
    with archive.open_zip(path) as source:
        members = _known(archive.members(source, archive.Budget(path.stat().st_size)))
        texts = {_PROGRAM: documents.program(_read(source, members, _PROGRAM))}
        for folder, name in _CONFIGS.items():
            payloads = documents.payloads(_read(source, members, name))
            _check_payloads(payloads, members, folder)
            texts[name] = {"config": payloads}
        with zipfile.ZipFile(into, "x") as target:
            for name, text in _FRESH.items():
                target.writestr(f"{_ROOT}/{name}", text)
            for name, content in texts.items():
                target.writestr(f"{_ROOT}/{name}", json.dumps(content))
            for name in filter(_TENSOR.fullmatch, members):
                with source.open(members[name]) as tensor, target.open(f"{_ROOT}/{name}", "w") as copy:
                    shutil.copyfileobj(tensor, copy, _CHUNK)


def _known(infos: list[zipfile.ZipInfo]) -> Members:
    """By name below the one folder that holds everything."""
    folders = {info.filename.partition("/")[0] for info in infos}
    if len(folders) != 1:
        raise archive.invalid("a .pt2 file holds one folder, and everything in that")
    members = {info.filename.partition("/")[2]: info for info in infos}
    for name in members:
        _check_name(name)
    missing = {_PROGRAM, *_CONFIGS.values()} - members.keys()
    if missing:
        raise invalid(f"the archive holds no {min(missing)}; PyTorch 2.9 and newer write it")
    return members


def _check_name(name: str) -> None:
    if _PICKLED.fullmatch(name):
        raise _pickled(name)
    known = name in {_PROGRAM, _EXAMPLES, *_CONFIGS.values()}
    if not known and not _TENSOR.fullmatch(name) and not _LEFT_OUT.fullmatch(name):
        raise CompressionError(
            "member_refused",
            f"member {name[:80]!r} is no part of one exported program and its weights",
            suggestions=(Suggestion("save the program alone: torch.export.save(program, 'model.pt2')"),),
        )


def _pickled(what: str) -> CompressionError:
    return CompressionError(
        "pt2_pickle",
        f"{what[:80]!r} is a pickle, and reading it runs code",
        suggestions=(
            Suggestion("save the program with PyTorch 2.9 or newer; weights are plain tensors, no objects"),
        ),
    )


def _read(source: zipfile.ZipFile, members: Members, name: str) -> dict[str, Any]:
    if members[name].file_size > document.MAX_JSON_BYTES:
        raise invalid(f"{name} is longer than {document.MAX_JSON_BYTES} bytes")
    return document.parse(source.read(members[name]), "invalid_pt2", name)


def _check_payloads(payloads: Mapping[str, dict[str, Any]], members: Members, folder: str) -> None:
    """Every tensor lies in the bytes that are there; repeated, they are not larger than a model may be."""
    total = 0
    types: dict[str, int] = {}
    for payload in payloads.values():
        if payload["use_pickle"]:
            raise _pickled(payload["path_name"])
        name = folder + payload["path_name"]
        meta = payload["tensor_meta"]
        if name not in members or not _TENSOR.fullmatch(name) or meta is None:
            raise invalid(f"the tensor of {name[:80]!r} is missing")
        if types.setdefault(name, meta["dtype"]) != meta["dtype"]:
            raise invalid(f"{name!r} is read as two types")
        total += _checked_bytes(meta, members[name].file_size, name)
        if total > MAX_BYTES:
            raise CompressionError("limit_decoded_bytes", f"the weights take more than {MAX_BYTES} bytes")


def _checked_bytes(meta: dict[str, Any], stored: int, name: str) -> int:
    """How many the tensor takes when it is laid out without gaps."""
    if meta["dtype"] not in _BYTES or meta["layout"] != _STRIDED:
        raise invalid(f"{name!r} is of a type that is not read")
    each = _BYTES[meta["dtype"]]
    sizes, strides = ([size.get("as_int", -1) for size in meta[field]] for field in ("sizes", "strides"))
    offset = meta["storage_offset"].get("as_int", -1)
    if len(sizes) != len(strides) or min([offset, *sizes, *strides]) < 0:
        raise invalid(f"{name!r} has an impossible shape")
    steps = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if stored % each or (math.prod(sizes) and (offset + steps + 1) * each > stored):
        raise invalid(f"{name!r} declares {sizes[:8]} but holds {stored} bytes")
    return int(math.prod(sizes)) * each

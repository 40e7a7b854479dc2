"""A Hugging Face directory in a zip or tar: only what is read is unpacked, whatever else lies beside it."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from compression.conversion import document
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.validation import archive, paths, tar

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
_WEIGHTS = ".safetensors"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_DOCUMENTS = frozenset({CONFIG, INDEX})
_MAX_DOCUMENT_BYTES = 16 << 20
_MAX_SHARDS = 100
_CHUNK = 1 << 20
_SAVE = "model.save_pretrained(folder, safe_serialization=True)"
INCOMPLETE = (
    f"in transformers, {_SAVE} writes config.json and model.safetensors: upload a zip or tar of that folder"
)


class Directory(NamedTuple):
    config: dict[str, object]
    weights: tuple[Path, ...]
    """The safetensors files that belong to the model: one, or the shards that the index names."""


def contains(names: Sequence[str]) -> bool:
    """Whether an archive of these members is such a directory; without an ONNX file also what only looks
    like one, and is told what is missing.
    """
    found = [PurePosixPath(name) for name in names]
    configured = {name.parent for name in found if name.name == CONFIG}
    weights = {name.parent for name in found if name.suffix == _WEIGHTS}
    if weights & configured:
        return True
    pickled = {name.parent for name in found if name.suffix in _PICKLED}
    return bool(weights or pickled & configured) and not any(name.suffix == ".onnx" for name in found)


def unpack(path: Path, folder: Path) -> Directory:
    """Writes what is needed below `folder`, which is made.

    Errors: CompressionError `format_refused` (weights in a pickle, or none), `invalid_config`,
    `invalid_archive`, `link_refused`, `path_refused`, `member_refused`, `archive_ratio`,
    `limit_decoded_bytes`.
    """
    folder.mkdir(parents=True)
    with path.open("rb") as file:
        zipped = archive.kind(file.read(512)) == "zip"
    names = _unpack_zip(path, folder) if zipped else _unpack_tar(path, folder)
    root = folder / _root(names)
    return Directory(_document(root / CONFIG), _weights(root))


def _wanted(name: str) -> bool:
    pure = PurePosixPath(name)
    return pure.name in _DOCUMENTS or pure.suffix == _WEIGHTS


def _root(names: Iterable[str]) -> PurePosixPath:
    """The uppermost directory with both a configuration and weights."""
    found = [PurePosixPath(name) for name in names]
    configured = {name.parent for name in found if name.name == CONFIG}
    roots = {name.parent for name in found if name.suffix == _WEIGHTS} & configured
    if roots:
        return min(roots, key=lambda root: (len(root.parts), str(root)))
    if any(name.suffix in _PICKLED for name in found):
        raise _refused(
            "the weights are pickled, and reading a pickle runs code, so it is never opened",
            f"save the weights as safetensors: {_SAVE}",
        )
    raise _refused("no config.json lies beside the weights, so their network is not known", INCOMPLETE)


def _unpack_zip(path: Path, folder: Path) -> list[str]:
    with archive.open_zip(path) as source:
        infos = archive.members(source, archive.Budget(path.stat().st_size))
        for info in infos:
            if _wanted(info.filename):
                with source.open(info) as stream:
                    _write(stream, folder / info.filename, info.file_size)
    return [info.filename for info in infos]


def _unpack_tar(path: Path, folder: Path) -> list[str]:
    names = []
    for member in tar.members(path, archive.Budget(path.stat().st_size)):
        names.append(member.name)
        if _wanted(member.name):
            _write(member.content, folder / member.name, member.size)
    return names


def _write(source: IO[bytes], target: Path, size: int) -> None:
    if target.name in _DOCUMENTS and size > _MAX_DOCUMENT_BYTES:
        raise CompressionError("invalid_config", f"{target.name} is longer than {_MAX_DOCUMENT_BYTES} bytes")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
        if file.tell() != size:
            raise archive.invalid(f"member {target.name[:80]!r} is not as long as declared")


def _document(path: Path) -> dict[str, object]:
    return document.parse(path.read_bytes(), "invalid_config", path.name)


def _weights(root: Path) -> tuple[Path, ...]:
    """As transformers looks for them: one file by its name, else what the index names, else the only one."""
    whole, index = root / f"model{_WEIGHTS}", root / INDEX
    if whole.is_file():
        return (whole,)
    if index.is_file():
        return _shards(root, _document(index))
    found = sorted(root.glob(f"*{_WEIGHTS}"))
    if len(found) != 1:
        raise CompressionError(
            "invalid_config", f"{len(found)} safetensors files and no {INDEX} that says what each holds"
        )
    return (found[0],)


def _shards(root: Path, index: dict[str, object]) -> tuple[Path, ...]:
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise CompressionError("invalid_config", f"{INDEX} has no weight_map")
    names = sorted({str(name) for name in placed.values()})
    if len(names) > _MAX_SHARDS:
        raise CompressionError("invalid_config", f"{INDEX} names more than {_MAX_SHARDS} files")
    for name in names:
        if not paths.is_plain(name) or "/" in name or not (root / name).is_file():
            raise CompressionError("invalid_config", f"{INDEX} names {name[:80]!r}, which is not there")
    return tuple(root / name for name in names)


def _refused(why: str, way_out: str) -> CompressionError:
    return CompressionError(
        "format_refused",
        f"huggingface: {why}; {way_out}",
        ErrorKind.UNSUPPORTED,
        suggestions=(Suggestion(way_out),),
    )

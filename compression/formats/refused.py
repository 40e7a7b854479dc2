"""Formats that are never opened: reading them runs code, or they hold no graph. Each refusal names the way
out.
"""

from compression.formats.format import Format, Purpose, Recognises

_EXPORT = (
    "export the model to ONNX (PyTorch: torch.onnx.export(model, inputs, 'model.onnx', dynamo=True)) "
    "and upload that"
)
_RUNS_CODE = (
    "reading a pickle runs code, so it is never opened; save a transformers model with "
    f"model.save_pretrained(folder, safe_serialization=True) and upload a zip of that folder, or {_EXPORT}"
)
_WITH_CONFIG = (
    "pack it in a zip beside its config.json (model.save_pretrained(folder) of transformers writes both)"
)
_SAVEZ = (
    "save the arrays with numpy.savez_compressed('data.npz', "
    "**{'calibration/image': …, 'test/image': …, 'test/label': …})"
)

_PICKLE = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt")
_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".torchscript", ".ptl")
_TORCH_MEMBERS = (b"/data.pkl", b"/constants.pkl", b"/byteorder", b"/.format_version", b"/code/")


def _pickle(head: bytes, _suffix: str) -> bool:
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def _zip_of_torch(head: bytes, suffix: str) -> bool:
    return head.startswith(b"PK") and (suffix in _TORCH or any(member in head for member in _TORCH_MEMBERS))


def _tar_of_torch(head: bytes, suffix: str) -> bool:
    return head[257:262] == b"ustar" and suffix in _TORCH


def _safetensors(head: bytes, _suffix: str) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27


def _magic(*magics: bytes, at: int = 0) -> Recognises:
    return lambda head, _suffix: head[at:].startswith(magics)


_REFUSED: tuple[tuple[str, Purpose, str, tuple[str, ...], Recognises, str], ...] = (
    ("pickle", "model", "pickle", _PICKLE, _pickle, _RUNS_CODE),
    (
        "pickle",
        "dataset",
        "pickle",
        _PICKLE,
        _pickle,
        f"reading a pickle runs code, so it is never opened; {_SAVEZ}",
    ),
    ("joblib", "model", "zlib", (".joblib",), _magic(b"x\x01", b"x\x9c", b"x\xda"), _RUNS_CODE),
    (
        "torch_zip",
        "model",
        "zip",
        _TORCH,
        _zip_of_torch,
        f"TorchScript and torch.save files run code when read; {_EXPORT}",
    ),
    (
        "torch_tar",
        "model",
        "tar",
        _TORCH,
        _tar_of_torch,
        f"legacy torch.save files run code when read; {_EXPORT}",
    ),
    ("hdf5", "dataset", "hdf5", (".h5", ".hdf5"), _magic(b"\x89HDF"), f"HDF5 is not read; {_SAVEZ}"),
    (
        "safetensors",
        "model",
        "safetensors",
        (".safetensors",),
        _safetensors,
        f"it holds weights but no network; {_WITH_CONFIG}, or {_EXPORT}",
    ),
    (
        "litert",
        "model",
        "flatbuffer",
        (".tflite",),
        _magic(b"TFL3", at=4),
        f"compiled models are not read; {_EXPORT}",
    ),
)

for _name, _purpose, _container, _suffixes, _recognises, _refusal in _REFUSED:
    Format(_name, _purpose, _container, _suffixes, _recognises, refusal=_refusal, narrow=True).register()

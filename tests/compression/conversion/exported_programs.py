"""Exported programs of tests: one that is small, changed ones, and what becomes of them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from compression.errors import CompressionError
from compression.formats import sniff
from compression.formats.format import Upload
from compression.inspection import Conversion

BATCH = Dim("batch")
PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
Change = Callable[[dict[str, Any]], None]


class Affine(nn.Module):
    """With a constant for an argument, weights that are used twice and a part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.again.weight = self.layer.weight
        self.shift = torch.arange(4.0)

    def forward(self, x: Tensor, y: Tensor | None = None, times: int = 2) -> Tensor:
        with torch.no_grad():
            found = self.layer(x if y is None else x + y) * times
        result: Tensor = self.again(found) + self.shift
        return result


def save_small(path: Path) -> Path:
    shapes = {"x": {0: BATCH}, "y": None, "times": None}
    program = torch.export.export(Affine(), (torch.randn(3, 4), None), {"times": 3}, dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def load(path: Path, folder: Path) -> Conversion:
    details = sniff.load(
        Upload(path, path.name, folder, {"allow_pt2": True}), "model", folder / "model.onnx"
    )[1]
    found: Conversion = details["conversion"]
    return found


def edited(source: Path, into: Path, change: Change, name: str = PROGRAM) -> Path:
    """The archive with one of its documents changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(into, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith(name):
                document = json.loads(content)
                change(document)
                content = json.dumps(document).encode()
            new.writestr(info.filename, content)
    return into


def replaced(source: Path, into: Path, name: str, content: bytes) -> Path:
    """The archive with one member replaced or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(into, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for info in old.infolist():
            if info.filename != f"{root}/{name}":
                new.writestr(info.filename, old.read(info))
        new.writestr(f"{root}/{name}", content)
    return into


def graph(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["graph_module"]["graph"]
    return found


def refusal(path: Path, folder: Path) -> str:
    with pytest.raises(CompressionError) as refused:
        load(path, folder)
    return refused.value.code

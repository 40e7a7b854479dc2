"""Files in: every module of this folder that declares a format is loaded, and nothing else is edited to add
one.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression.formats import sniff
from compression.formats.format import REGISTRY, Format, Upload
from compression.inspection import DatasetInspection, ModelInspection

__all__ = ["REGISTRY", "Format", "load_dataset", "load_model"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def load_model(
    path: Path, filename: str, into: Path, scratch: Path, options: Mapping[str, Any] | None = None
) -> ModelInspection:
    """Checks a hostile file by content and limits, and writes it as one normalised ONNX file. `options` are
    the operator's.

    Errors: CompressionError.
    """
    name, details = sniff.load(Upload(path, filename, scratch, options or {}), "model", into)
    from compression.model import Model

    return Model.open(into).inspect(name).model_copy(update=dict(details))


def load_dataset(
    path: Path, filename: str, into: Path, scratch: Path, options: Mapping[str, Any] | None = None
) -> DatasetInspection:
    """Checks a hostile file by content and limits, and writes it as an uncompressed .npz with splits.

    Errors: CompressionError.
    """
    name, details = sniff.load(Upload(path, filename, scratch, options or {}), "dataset", into)
    from compression.dataset import Dataset

    return Dataset.open(into).inspection.model_copy(update={"format": name, **details})

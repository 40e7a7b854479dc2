"""Files in: every module of this folder that declares a format is loaded, and nothing else is edited to add
one.
"""

import importlib
import pkgutil
from pathlib import Path

from compression.formats import sniff
from compression.inspection import DatasetInspection, ModelInspection

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def load_model(path: Path, filename: str, into: Path, scratch: Path) -> ModelInspection:
    """Checks a hostile file by content and limits, and writes it as one normalised ONNX file.

    Errors: CompressionError.
    """
    found = sniff.load(path, filename, "model", into, scratch)
    from compression.model import Model

    return Model.open(into).inspect(found)


def load_dataset(path: Path, filename: str, into: Path, scratch: Path) -> DatasetInspection:
    """Checks a hostile file by content and limits, and writes it as an uncompressed .npz with splits.

    Errors: CompressionError.
    """
    sniff.load(path, filename, "dataset", into, scratch)
    from compression.dataset import Dataset

    return Dataset.open(into).inspection

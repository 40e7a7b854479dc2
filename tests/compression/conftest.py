from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from compression.formats import load_dataset, load_model
from tests.compression.networks import NETWORKS

EXAMPLES = Path(__file__).parents[2] / "examples"

Normalise = Callable[[onnx.ModelProto], Path]
Pack = Callable[[Mapping[str, np.ndarray]], Path]


@pytest.fixture
def normalise(tmp_path: Path) -> Normalise:
    """Writes a model as the service would have it."""

    def write(model: onnx.ModelProto) -> Path:
        folder = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "upload").write_bytes(model.SerializeToString())
        load_model(folder / "upload", "model.onnx", folder / "model.onnx", folder)
        return folder / "model.onnx"

    return write


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Writes arrays as the service would have them."""

    def write(arrays: Mapping[str, np.ndarray]) -> Path:
        folder = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        np.savez_compressed(folder / "upload.npz", **arrays)  # type: ignore[arg-type]
        load_dataset(folder / "upload.npz", "data.npz", folder / "data.npz", folder)
        return folder / "data.npz"

    return write


def arrays(network: str, seed: int = 0) -> dict[str, np.ndarray]:
    """A data set that fits one of the test networks."""
    random = np.random.default_rng(seed)
    made = {
        "cnn": lambda n: {
            "image": random.integers(0, 256, (n, 1, 12, 12), np.uint8),
            "label": random.integers(0, 10, n),
        },
        "transformer": lambda n: {
            "tokens": random.integers(0, 50, (n, 9)),
            "label": random.integers(0, 7, (n, 9)),
        },
        "lstm": lambda n: {"sequence": random.standard_normal((n, 7, 12), np.float32)},
    }[network]
    return {
        f"{split}/{name}": values
        for split, n in (("calibration", 40), ("test", 60))
        for name, values in made(n).items()
    }


def network(name: str) -> onnx.ModelProto:
    return NETWORKS[name]()

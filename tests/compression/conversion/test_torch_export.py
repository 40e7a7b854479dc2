"""Exported programs in: real models."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from compression.errors import CompressionError
from compression.formats import sniff
from compression.formats.format import Upload
from compression.model import Model
from tests.compression.conversion.exported_programs import BATCH, load, refusal, save_small

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PyTorch's own, of its trees


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(100, 3))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(image))
        return logits


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(self.embedding(tokens), src_key_padding_mask=mask)
        return {"hidden": hidden, "pooled": hidden.mean(1)}


def _shapes(folder: Path) -> dict[str, tuple[Any, ...]]:
    found = Model.open(folder / "model.onnx").inspect("torch_export")
    return {value.name: value.shape for value in (*found.inputs, *found.outputs)}


def test_a_convolutional_network_computes_the_same(tmp_path: Path) -> None:
    example = (torch.randn(2, 1, 12, 12),)
    program = torch.export.export(Convolution().eval(), example, dynamic_shapes={"image": {0: BATCH}})
    torch.export.save(program, tmp_path / "model.pt2")
    found = load(tmp_path / "model.pt2", tmp_path)
    assert found.framework == "torch"
    assert found.difference < 1e-5
    assert found.samples == 9
    assert _shapes(tmp_path) == {"image": ("batch", 1, 12, 12), "linear": ("batch", 3)}


def test_every_open_axis_stays_open(tmp_path: Path) -> None:
    """Also where the program takes only some sizes of it."""
    axes = {0: BATCH, 1: Dim("length", min=8, max=64)}
    example = (torch.randint(0, 50, (2, 9)), torch.zeros(2, 9, dtype=torch.bool))
    program = torch.export.export(Encoder().eval(), example, dynamic_shapes={"tokens": axes, "mask": axes})
    torch.export.save(program, tmp_path / "model.pt2")
    assert load(tmp_path / "model.pt2", tmp_path).difference < 1e-5
    assert list(_shapes(tmp_path).values()) == [
        ("batch", "tokens_1"),
        ("batch", "tokens_1"),
        ("batch", "tokens_1", 16),
        ("batch", 16),
    ]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("program") / "small.pt2")


def test_arguments_that_are_constants_and_weights_that_are_shared(small: Path, tmp_path: Path) -> None:
    assert load(small, tmp_path).difference < 1e-5
    assert list(_shapes(tmp_path).values()) == [("batch", 4), ("batch", 4)]


def test_without_the_operator_it_is_refused_with_both_ways_out(small: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as refused:
        sniff.load(Upload(small, "small.pt2", tmp_path), "model", tmp_path / "model.onnx")
    assert refused.value.code == "format_refused"
    assert ["ONNX" in way.title for way in refused.value.suggestions] == [True, False]
    assert "PARE_ALLOW_PT2" in refused.value.suggestions[1].title


def test_a_program_that_changes_its_buffers_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(nn.BatchNorm1d(4), (torch.randn(3, 4),)).run_decompositions()
    torch.export.save(program, tmp_path / "model.pt2")
    assert refusal(tmp_path / "model.pt2", tmp_path) == "conversion_failed"


class Chaos(nn.Module):
    """Whatever last digit PyTorch's exponential and ONNX Runtime's do not share, each step doubles."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        for _ in range(40):
            y = 4 * y * (1 - y)
        return y


def test_a_program_that_onnx_computes_otherwise_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(Chaos(), (torch.randn(2, 64),), dynamic_shapes={"x": {0: BATCH}})
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(CompressionError) as refused:
        load(tmp_path / "model.pt2", tmp_path)
    assert refused.value.code == "conversion_differs"
    assert "differs from torch's" in refused.value.detail
    assert refused.value.suggestions

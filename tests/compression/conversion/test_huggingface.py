"""Hugging Face directories in: each architecture computes the same, and says what it is."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from compression import runtime
from compression.conversion import huggingface_model, huggingface_weights
from compression.conversion.huggingface_families import ARCHITECTURES, Architecture
from compression.formats import load_model
from compression.validation.safetensors import Stored
from tests.compression import networks
from tests.compression.conversion import huggingface

pytestmark = pytest.mark.filterwarnings("ignore")

TEXT = ["input_ids", "attention_mask"]
INPUTS = {"Bert": [*TEXT, "token_type_ids"], "ViT": ["pixel_values"], "ConvNext": ["pixel_values"]}


def _load(path: Path, tmp_path: Path) -> Any:
    return load_model(path, path.name, tmp_path / "model.onnx", tmp_path)


def _feeds(inputs: list[str], batch: int, length: int) -> dict[str, np.ndarray]:
    """The last row is padded, from its middle on."""
    random = np.random.default_rng(3)
    mask = np.ones((batch, length), np.int64)
    mask[-1, length // 2 + 1 :] = 0
    drawn = {"attention_mask": mask, "input_ids": random.integers(0, 100, (batch, length))}
    drawn["token_type_ids"] = random.integers(0, 2, (batch, length))
    return {name: drawn[name] for name in inputs}


@pytest.mark.parametrize("name", sorted(set(huggingface.NETWORKS) - {"Qwen2ForCausalLM"}))  # see shards
def test_a_network_computes_the_same(name: str, tmp_path: Path) -> None:
    folder = huggingface.save(name, tmp_path / "saved")
    found = _load(huggingface.pack(folder, tmp_path / "upload.zip"), tmp_path)
    assert found.format == "huggingface_zip"
    assert found.opset == 20
    assert found.conversion.framework == "transformers"
    assert found.conversion.samples == 3 * (3 + 1 + 2)
    assert found.conversion.difference < 1e-5
    prefix = next((known for known in INPUTS if name.startswith(known)), "")
    assert [spec.name for spec in found.inputs] == INPUTS.get(prefix, TEXT)
    assert [spec.name for spec in found.outputs] == [
        "last_hidden_state" if name.endswith("Model") and "LMHead" not in name else "logits"
    ]
    assert all(spec.shape[0] == "batch" for spec in found.inputs)
    if prefix not in ("ViT", "ConvNext"):
        _check_lengths(huggingface.build(name), tmp_path / "model.onnx", INPUTS.get(prefix, TEXT))


def test_shards_of_halves_in_a_tar_become_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    network = huggingface.build("Qwen2ForCausalLM", vocab_size=1000).to(torch.bfloat16)
    network.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    with tarfile.open(tmp_path / "upload.tar.gz", "w:gz") as archive:
        archive.add(folder, "some/model")
    found = _load(tmp_path / "upload.tar.gz", tmp_path)
    assert found.format.startswith("huggingface_tar")
    assert found.conversion.difference < 1e-5
    assert {spec.dtype for spec in found.outputs} == {"float32"}
    stored = sum(weight.numel() for weight in network.parameters())
    assert 0.99 * stored < found.params < 1.01 * stored  # the embedding is the head: stored once
    _check_lengths(network.float(), tmp_path / "model.onnx", TEXT)


LATER = [
    {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 5e5},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
    {"head_dim": 16, "id2label": None, "num_labels": 7},
]


@pytest.mark.parametrize("settings", LATER, ids=str)
def test_settings_under_older_names_mean_what_they_mean_to_transformers(settings: dict[str, Any]) -> None:
    given = json.loads(huggingface.build("Qwen2ForCausalLM").config.to_json_string(use_diff=False)) | settings
    if "rope_scaling" in settings:
        del given["rope_parameters"]
    stored = {"w": Stored("F32", (100,), 0, 400)}
    have = huggingface_model._config(ARCHITECTURES["Qwen2ForCausalLM"], given, stored)
    wanted = transformers.Qwen2Config(**given)
    for name in ("rope_parameters", "hidden_size", "num_labels", "tie_word_embeddings", *settings):
        assert getattr(have, name, None) == getattr(wanted, name, None)


@pytest.mark.parametrize("known", ARCHITECTURES.values(), ids=lambda known: known.name)
def test_the_table_agrees_with_transformers(known: Architecture) -> None:
    config = getattr(transformers, known.family.config)
    assert getattr(transformers, known.name).config_class is config
    assert config.model_type == known.family.model_type
    assert {*known.family.sizes, known.family.layers} - {"head_dim"} <= set(config.__dataclass_fields__)


OLDER = {
    "GPT2LMHeadModel": lambda name: name.removeprefix("transformer."),
    "BertForSequenceClassification": lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    ),
}


@pytest.mark.parametrize("name", OLDER)
def test_weights_under_names_of_older_versions_are_found(name: str, tmp_path: Path) -> None:
    folder = huggingface.save(name, tmp_path / "saved")
    file = folder / "model.safetensors"
    save_file({OLDER[name](old): weight for old, weight in load_file(file).items()}, file)
    given, stored = json.loads((folder / "config.json").read_text()), huggingface_weights.stored([file])
    config = huggingface_model._config(ARCHITECTURES[name], given, stored)
    loaded = huggingface_model._load(ARCHITECTURES[name], config, [file], stored).state_dict()
    wanted = huggingface.build(name).state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[key], weight) for key, weight in wanted.items())


def test_an_onnx_file_in_a_tar_is_still_one(tmp_path: Path) -> None:
    """Names decide, in a tar as in a zip."""
    model = networks.NETWORKS["cnn"]().SerializeToString()
    (tmp_path / "model.onnx").write_bytes(model)
    (tmp_path / "config.json").write_text("{}")
    with tarfile.open(tmp_path / "upload.tar", "w") as archive:
        for name in ("config.json", "model.onnx"):
            archive.add(tmp_path / name, name)
    into = tmp_path / "normal.onnx"
    assert load_model(tmp_path / "upload.tar", "upload.tar", into, tmp_path).format.startswith("onnx_tar")


def _check_lengths(original: Any, converted: Path, inputs: list[str]) -> None:
    """With padding, at lengths and batch sizes that the export never saw, in the attention that transformers
    takes itself.
    """
    session = runtime.session(converted)
    for batch, length in ((1, 1), (1, 30), (4, 17)):
        feeds = _feeds(inputs, batch, length)
        have = next(iter(runtime.run(session, feeds).values()))
        with torch.no_grad():
            tensors = {name: torch.from_numpy(values) for name, values in feeds.items()}
            wanted = original(**tensors)[0].numpy()
        kept = feeds["attention_mask"].astype(bool) if wanted.shape[1:2] == (length,) else ...
        assert np.abs(have[kept] - wanted[kept]).max() < 1e-4 * np.abs(wanted).max()

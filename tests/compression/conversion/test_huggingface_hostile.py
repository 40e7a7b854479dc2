"""Hugging Face directories that mean harm, or lack something: refused with a code and a way out, unbuilt."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compression.errors import CompressionError
from compression.formats import load_model
from tests.compression.conversion import huggingface

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return huggingface.save("BertForSequenceClassification", tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "folder"))


def _refusal(folder: Path) -> CompressionError:
    path = huggingface.pack(folder, folder.parent / "upload.zip")
    with pytest.raises(CompressionError) as refusal:
        load_model(path, path.name, folder.parent / "model.onnx", folder.parent)
    return refusal.value


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"auto_map": {"AutoModel": "modeling_evil.Evil"}}, "remote_code_refused"),
    ({"architectures": ["EvilModel"]}, "architecture_refused"),
    ({"architectures": None}, "architecture_refused"),
    ({"architectures": [["BertModel"]]}, "architecture_refused"),
    ({"architectures": ["GPT2LMHeadModel"]}, "architecture_refused"),
    ({"is_decoder": True}, "architecture_refused"),
    ({"is_causal": False}, "architecture_refused"),
    ({"position_embedding_type": "relative_key"}, "architecture_refused"),
    ({"quantization_config": {"quant_method": "gptq"}}, "architecture_refused"),
    ({"hidden_size": 10**9}, "model_limits"),
    ({"vocab_size": 10**9}, "model_limits"),
    ({"intermediate_size": 10**30}, "model_limits"),
    ({"num_hidden_layers": 10**9}, "model_limits"),
    ({"num_attention_heads": 0}, "model_limits"),
    ({"num_labels": 10**9, "id2label": None}, "model_limits"),
    ({"max_position_embeddings": -1}, "model_limits"),
    ({"hidden_size": "32"}, "invalid_config"),
    ({"hidden_size": True}, "invalid_config"),
    ({"layer_norm_eps": float("nan")}, "invalid_config"),
    ({"hidden_act": "x" * 501}, "invalid_config"),
    ({"num_attention_heads": 5}, "conversion_failed"),
    ({"hidden_act": "evil"}, "conversion_failed"),
    ({"id2label": {"0": "a", "7": "b"}}, "invalid_config"),
    ({"id2label": {str(index): "x" for index in range(20_001)}}, "invalid_config"),
]


@pytest.mark.parametrize(("change", "code"), CONFIGS, ids=lambda value: str(value)[:40])
def test_a_config_that_is_not_taken(change: dict[str, Any], code: str, folder: Path) -> None:
    huggingface.edit(folder, change)
    started = time.process_time()
    assert _refusal(folder).code == code
    assert time.process_time() - started < 15


@pytest.mark.parametrize("name", ["Qwen2ForCausalLM", "GPT2LMHeadModel", "ConvNextForImageClassification"])
def test_sizes_of_each_kind_of_config_are_bounded(name: str, tmp_path: Path) -> None:
    folder = huggingface.save(name, tmp_path / "folder")
    layers = {"Qwen2ForCausalLM": "num_hidden_layers", "GPT2LMHeadModel": "n_layer"}.get(name)
    huggingface.edit(folder, {layers: 10**8} if layers else {"depths": [1, 10**8]})
    assert _refusal(folder).code == "model_limits"


def test_sizes_that_each_fit_but_not_together_are_bounded(folder: Path) -> None:
    """An axis of 300,000 is in the file: a network of 300,000 x 300,000 is not."""
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "long": torch.zeros(300_000)}, folder / "model.safetensors")
    huggingface.edit(folder, {"hidden_size": 300_000, "intermediate_size": 300_000})
    assert _refusal(folder).code == "model_limits"


def test_rope_that_follows_the_length_is_refused(tmp_path: Path) -> None:
    folder = huggingface.save("LlamaForCausalLM", tmp_path / "folder")
    huggingface.edit(folder, {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": None})
    assert _refusal(folder).code == "architecture_refused"


def test_what_is_missing_is_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.bias"]
    weights["extra.weight"] = torch.zeros(2)
    weights["bert.pooler.dense.bias"] = torch.zeros(7)
    save_file(weights, folder / "model.safetensors")
    refusal = _refusal(folder)
    assert refusal.code == "weights_mismatch"
    assert "missing: classifier.bias" in refusal.detail
    assert "not known to it: extra.weight" in refusal.detail
    assert "of another shape: bert.pooler.dense.bias [7] for [32]" in refusal.detail


def test_quantized_weights_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"].to(torch.int8)
    save_file(weights, folder / "model.safetensors")
    assert _refusal(folder).code == "weights_mismatch"


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"[" * 200_000], ids=repr)
def test_a_config_that_is_no_object(text: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(text)
    assert _refusal(folder).code == "invalid_config"


def test_pickled_weights_alone_are_refused_with_a_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refusal = _refusal(folder)
    assert (refusal.code, refusal.kind) == ("format_refused", "unsupported")
    assert "safe_serialization=True" in refusal.suggestions[0].title


def test_weights_alone_are_refused_with_a_way_out(folder: Path) -> None:
    (folder / "config.json").unlink()
    refusal = _refusal(folder)
    assert refusal.code == "format_refused"
    assert "config.json" in refusal.suggestions[0].title


def test_pickles_and_programs_beside_the_weights_are_never_opened(folder: Path) -> None:
    """They lie beside the weights in many a directory; the refusal here is of something else."""
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    huggingface.edit(folder, {"hidden_size": 10**9})
    assert _refusal(folder).code == "model_limits"
    assert not list(folder.parent.glob("huggingface/**/*.py"))


INDEXES: list[dict[str, Any]] = [
    {},
    {"weight_map": []},
    {"weight_map": {"a": "../../secret.safetensors"}},
    {"weight_map": {"a": "/etc/passwd"}},
    {"weight_map": {"a": "absent.safetensors"}},
    {"weight_map": {"a": "\x00"}},
    {"weight_map": {str(index): f"{index}.safetensors" for index in range(101)}},
]


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: str(index)[:50])
def test_an_index_that_leads_elsewhere(index: dict[str, Any], folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert _refusal(folder).code == "invalid_config"


def test_a_weight_that_lies_in_two_shards(folder: Path) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard in shards:
        shutil.copy(folder / "model.safetensors", folder / shard)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert _refusal(folder).code == "invalid_safetensors"


def test_a_member_outside_is_refused(folder: Path) -> None:
    path = huggingface.pack(folder, folder.parent / "upload.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../config.json", "{}")
    with pytest.raises(CompressionError, match="path_refused"):
        load_model(path, path.name, folder.parent / "model.onnx", folder.parent)


def test_a_link_in_a_tar_is_refused(folder: Path) -> None:
    """As a snapshot of the Hub's cache holds them."""
    path = folder.parent / "upload.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(folder / "config.json", "config.json")
        link = tarfile.TarInfo("model.safetensors")
        link.type, link.linkname = tarfile.SYMTYPE, "../../blobs/abc"
        archive.addfile(link)
    with pytest.raises(CompressionError, match="link_refused"):
        load_model(path, path.name, folder.parent / "model.onnx", folder.parent)


def test_nothing_is_written_and_nobody_called(tmp_path: Path) -> None:
    """transformers keeps caches at home, where a child has none."""
    code = (
        "import socket; socket.socket.connect = None\n"
        "from compression.conversion import huggingface_model\n"
        "import huggingface_hub\n"
        "print(huggingface_hub.constants.HF_HUB_OFFLINE)"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert not list(home.iterdir())

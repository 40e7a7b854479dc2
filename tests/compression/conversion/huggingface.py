"""Tiny networks of each architecture that is read, as their own framework saves them."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers
from torch import manual_seed

_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
_LLAMA = _BERT | {"num_key_value_heads": 2, "tie_word_embeddings": False}
_IMAGE = {"image_size": 16, "patch_size": 8}

NETWORKS: dict[str, dict[str, Any]] = {
    "BertForSequenceClassification": _BERT | {"id2label": {0: "bad", 1: "fair", 2: "good"}},
    "RobertaModel": _BERT,
    "XLMRobertaForMaskedLM": _BERT,
    "DistilBertForTokenClassification": {
        "dim": 32,
        "n_layers": 1,
        "n_heads": 4,
        "hidden_dim": 64,
        "vocab_size": 100,
    },
    "ViTForImageClassification": _IMAGE
    | {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64},
    "ConvNextForImageClassification": {
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "num_stages": 2,
        "image_size": 32,
    },
    "LlamaForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA | {"tie_word_embeddings": True},
    "Qwen3ForCausalLM": _LLAMA | {"head_dim": 8},
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 100, "n_positions": 64},
}


def build(name: str, **changed: Any) -> Any:
    """Random weights, the same each time."""
    manual_seed(0)
    cls = getattr(transformers, name)
    return cls(cls.config_class(**{**NETWORKS[name], **changed})).eval()


def save(name: str, folder: Path, **changed: Any) -> Path:
    build(name, **changed).save_pretrained(folder)
    return folder


def pack(folder: Path, into: Path, below: str = "") -> Path:
    """A zip of what lies in `folder`."""
    with zipfile.ZipFile(into, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{below}{path.relative_to(folder)}")
    return into


def edit(folder: Path, change: Callable[[dict[str, Any]], None] | Mapping[str, Any]) -> None:
    """Of config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if callable(change):
        change(config)
    else:
        config.update(change)
    path.write_text(json.dumps(config))

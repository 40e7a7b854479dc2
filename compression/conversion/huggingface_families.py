"""The networks that are read, of those that ship with transformers. A table: what is not in it is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Family:
    """One `model_type`. `sizes` and `layers` are fields of its configuration that decide how much is built:
    each of the sizes is an axis of some weight, or a part of one.
    """

    model_type: str
    config: str
    """Class of transformers."""
    sizes: tuple[str, ...]
    layers: str = "num_hidden_layers"
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Architecture:
    """One class of transformers; `labelled` where its configuration names the classes of `output`."""

    name: str
    family: Family
    output: Literal["logits", "last_hidden_state"] = "logits"
    labelled: bool = False
    build: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class."""


_ENCODER = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "max_position_embeddings",
    "type_vocab_size",
)
_DECODER = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
_BERT = Family("bert", "BertConfig", _ENCODER, inputs=("input_ids", "attention_mask", "token_type_ids"))
_ROBERTA = Family("roberta", "RobertaConfig", _ENCODER)
_XLM_ROBERTA = Family("xlm-roberta", "XLMRobertaConfig", _ENCODER)
_DISTILBERT = Family(
    "distilbert",
    "DistilBertConfig",
    ("vocab_size", "dim", "hidden_dim", "n_heads", "max_position_embeddings"),
    "n_layers",
)
_GPT2 = Family("gpt2", "GPT2Config", ("vocab_size", "n_embd", "n_inner", "n_head", "n_positions"), "n_layer")
_VIT = Family(
    "vit",
    "ViTConfig",
    ("hidden_size", "intermediate_size", "num_attention_heads", "patch_size", "num_channels"),
    inputs=("pixel_values",),
)
_CONVNEXT = Family(
    "convnext",
    "ConvNextConfig",
    ("hidden_sizes", "patch_size", "num_channels", "num_stages"),
    "depths",
    ("pixel_values",),
)


def _encoder(family: Family, prefix: str, build: Mapping[str, Any]) -> tuple[Architecture, ...]:
    return (
        Architecture(f"{prefix}Model", family, "last_hidden_state", build=build),
        Architecture(f"{prefix}ForMaskedLM", family),
        Architecture(f"{prefix}ForSequenceClassification", family, labelled=True),
        Architecture(f"{prefix}ForTokenClassification", family, labelled=True),
    )


_UNPOOLED = {"add_pooling_layer": False}
ARCHITECTURES = {
    known.name: known
    for known in (
        *_encoder(_BERT, "Bert", _UNPOOLED),
        *_encoder(_ROBERTA, "Roberta", _UNPOOLED),
        *_encoder(_XLM_ROBERTA, "XLMRoberta", _UNPOOLED),
        *_encoder(_DISTILBERT, "DistilBert", {}),
        Architecture("ViTForImageClassification", _VIT, labelled=True),
        Architecture("ConvNextForImageClassification", _CONVNEXT, labelled=True),
        Architecture("LlamaForCausalLM", Family("llama", "LlamaConfig", _DECODER)),
        Architecture("Qwen2ForCausalLM", Family("qwen2", "Qwen2Config", _DECODER)),
        Architecture("Qwen3ForCausalLM", Family("qwen3", "Qwen3Config", _DECODER)),
        Architecture("GPT2LMHeadModel", _GPT2),
    )
}

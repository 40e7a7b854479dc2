"""Hugging Face directories: a configuration and safetensors, built by transformers of its own classes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import torch
import transformers
from torch import Tensor, nn

from compression.conversion import huggingface_attention, huggingface_config, huggingface_weights
from compression.conversion.agreement import compare
from compression.conversion.convert import convert
from compression.conversion.failures import converting
from compression.conversion.huggingface_archive import Directory
from compression.conversion.huggingface_families import Architecture
from compression.conversion.original import Argument, Original
from compression.inspection import Conversion
from compression.quiet import quiet
from compression.validation.safetensors import Stored

_SLACK = 1 << 24
"""Weights that a configuration may ask for beyond those stored: what is missing is named then."""
_MAX_BUFFER_BYTES = 1 << 28
_OTHER_SIZES = ({"batch": 1, "sequence": 1}, {"batch": 2, "sequence": 11})
_UNDECLARED = ("id2label", "num_labels", "rope_theta", "rope_scaling", "partial_rotary_factor", "head_dim")
"""Settings that transformers reads without declaring them for each class."""


def load(directory: Directory, into: Path, scratch: Path) -> Mapping[str, Any]:
    """Takes the files of weights away. Errors: CompressionError."""
    architecture = huggingface_config.architecture(directory.config)
    stored = huggingface_weights.stored(directory.weights)
    config = _config(architecture, directory.config, stored)
    model = _load(architecture, config, directory.weights, stored)
    names = huggingface_config.labels(directory.config) if architecture.labelled else ()
    for weights in directory.weights:
        weights.unlink()  # the model holds them: room for what it becomes
    original = _original(architecture, config, model)
    conversion = convert(original, into, scratch)["conversion"]
    return {"conversion": _compared(original, into, conversion), "classes": names}


def _compared(original: Original, into: Path, first: Conversion) -> Conversion:
    """At other sizes, too: one of each, which exporters are apt to take for special, and a longer text.

    Errors: CompressionError `conversion_differs`.
    """
    found = [first, *(compare(original, into, sizes) for sizes in _OTHER_SIZES)]
    difference = max(each.difference for each in found)
    samples = sum(each.samples for each in found)
    return first.model_copy(update={"difference": difference, "samples": samples})


def _config(architecture: Architecture, given: Mapping[str, Any], stored: Mapping[str, Stored]) -> Any:
    """Of what the class declares itself; the rest is for training, generation or other software.

    Errors: CompressionError `model_limits`, `invalid_config`.
    """
    family = architecture.family
    cls = getattr(transformers, family.config)
    kept = _declared(cls).union(_UNDECLARED) & set(given)
    values = {name: given[name] for name in kept}
    largest = max((max(tensor.shape, default=1) for tensor in stored.values()), default=1)
    huggingface_config.check(values, family.sizes, family.layers, largest)
    huggingface_config.labels(given)
    if "use_cache" in _declared(cls):
        values["use_cache"] = False
    try:
        with quiet():
            return cls(**values)
    except Exception as error:
        raise huggingface_config.invalid(_sentence(error)) from error


def _declared(cls: Any) -> set[str]:
    own, common = cls.__dataclass_fields__, transformers.PreTrainedConfig.__dataclass_fields__
    return {name for name in own if name not in common and not name.startswith("_")}


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _load(
    architecture: Architecture, config: Any, files: Sequence[Path], stored: Mapping[str, Stored]
) -> nn.Module:
    """All weights from the files, and all of the files' weights used.

    Errors: CompressionError `model_limits`, `weights_mismatch`, `conversion_failed`.
    """
    cls = getattr(transformers, architecture.name)
    with converting("building it in transformers"), quiet():
        _check_size(cls, config, architecture, stored)
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with converting("reading it in transformers"), quiet(), huggingface_weights.opened(files) as weights:
        model, report = cls.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            attn_implementation=huggingface_attention.NAME,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **architecture.build,
        )
    huggingface_weights.check_report(report)
    return model.eval()  # type: ignore[no-any-return]


def _check_size(cls: Any, config: Any, architecture: Architecture, stored: Mapping[str, Stored]) -> None:
    """Built without memory for its weights."""
    with torch.device("meta"):
        empty = cls(config, **architecture.build)
    asked = sum(weight.numel() for weight in empty.parameters())
    held = sum(tensor.elements for tensor in stored.values())
    if asked > held * 2 + _SLACK:
        raise huggingface_config.limits(f"it asks for {asked} weights, and the files hold {held}")
    if sum(buffer.nbytes for buffer in empty.buffers()) > _MAX_BUFFER_BYTES:
        raise huggingface_config.limits(f"its tables take more than {_MAX_BUFFER_BYTES} bytes")


class _Inference(nn.Module):
    """Tensors in the order of the inputs; one output."""

    def __init__(self, model: nn.Module, architecture: Architecture) -> None:
        super().__init__()
        self.model, self.names = model, architecture.family.inputs
        self.output = architecture.output

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        named = dict(zip(self.names, tensors, strict=True))
        return (getattr(self.model(**named, return_dict=True), self.output),)


def _original(architecture: Architecture, config: Any, model: nn.Module) -> Original:
    arguments = tuple(_argument(name, config) for name in architecture.family.inputs)
    module = _Inference(model, architecture).eval()
    return Original("transformers", transformers.__version__, module, arguments, (architecture.output,))


def _argument(name: str, config: Any) -> Argument:
    """Masks are drawn at random, too: what is masked must not matter in either."""
    if name == "pixel_values":
        size = config.image_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return Argument(name, "float32", ("batch", config.num_channels, height, width))
    below = {"input_ids": config.vocab_size, "attention_mask": 2}.get(name)
    return Argument(name, "int64", ("batch", "sequence"), below or config.type_vocab_size)

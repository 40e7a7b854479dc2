"""Hugging Face directories: a configuration and safetensors, built by transformers of its own classes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import torch
import transformers
from safetensors import safe_open
from torch import Tensor, nn

from compression.conversion import huggingface_attention, huggingface_config
from compression.conversion.agreement import compare
from compression.conversion.convert import convert
from compression.conversion.failures import converting
from compression.conversion.huggingface_archive import Directory
from compression.conversion.huggingface_families import Architecture
from compression.conversion.original import Argument, Original
from compression.errors import CompressionError
from compression.inspection import Conversion
from compression.quiet import quiet
from compression.validation import safetensors
from compression.validation.limits import MAX_BYTES
from compression.validation.safetensors import Stored

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_SLACK = 1 << 24
"""Weights that a configuration may ask for beyond those stored: what is missing is named then."""
_MAX_BUFFER_BYTES = 1 << 28
_UNREAD = ("position_ids", "attn.bias", "attn.masked_bias", "inv_freq", "num_batches_tracked")
"""Endings of what older versions stored and newer ones compute."""
_UNUSED = ("pooler.", "cls.seq_relationship.")
"""Heads that no output here needs."""
_OTHER_SIZES = ({"batch": 1, "sequence": 1}, {"batch": 2, "sequence": 11})
_SHOWN = 8
_UNDECLARED = ("id2label", "num_labels", "rope_theta", "rope_scaling", "partial_rotary_factor", "head_dim")
"""Settings that transformers reads without declaring them for each class."""


def load(directory: Directory, into: Path, scratch: Path) -> Mapping[str, Any]:
    """Takes the files of weights away. Errors: CompressionError."""
    architecture = huggingface_config.architecture(directory.config)
    stored = _stored(directory.weights)
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


def _stored(files: Sequence[Path]) -> dict[str, Stored]:
    """Errors: CompressionError `invalid_safetensors`, `limit_tensors`, `limit_decoded_bytes`."""
    found: dict[str, Stored] = {}
    for file in files:
        held = safetensors.check(file)
        if found.keys() & held.keys():
            raise safetensors.invalid(f"{min(found.keys() & held.keys())[:80]!r} lies in two files")
        found |= held
    if sum(tensor.elements for tensor in found.values()) * 4 > MAX_BYTES:
        raise CompressionError(
            "limit_decoded_bytes", f"as float32 the weights take more than {MAX_BYTES} bytes"
        )
    for name, tensor in found.items():
        if tensor.dtype not in _FLOATS and not name.endswith(_UNREAD):
            raise _mismatch(f"{name[:80]!r} is of type {tensor.dtype}: quantized weights are not read")
    return found


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
    with converting("reading it in transformers"), quiet(), _opened(files) as weights:
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
    _check_report(report)
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


@contextmanager
def _opened(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Slices by name: each is read when its weight is filled, and not a moment before."""
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        yield {name: file.get_slice(name) for file in opened for name in file.keys()}  # noqa: SIM118  no mapping


def _check_report(report: Mapping[str, Any]) -> None:
    missing = sorted(report["missing_keys"])
    unexpected = sorted(
        name
        for name in report["unexpected_keys"]
        if not name.startswith(_UNUSED) and not name.endswith(_UNREAD) and ".pooler." not in name
    )
    shapes = [f"{name} {list(have)} for {list(wanted)}" for name, have, wanted in report["mismatched_keys"]]
    found = {"missing": missing, "not known to it": unexpected, "of another shape": sorted(shapes)}
    said = [f"{what}: {_listed(names)}" for what, names in found.items() if names]
    if said:
        raise _mismatch("weights " + "; ".join(said))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:120] for name in names[:_SHOWN]) + more


def _mismatch(why: str) -> CompressionError:
    return CompressionError("weights_mismatch", f"the weights do not fit config.json: {why}")


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

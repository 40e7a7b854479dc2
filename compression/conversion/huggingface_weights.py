"""Weights of Hugging Face directories: all that a network asks for, and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from compression.errors import CompressionError
from compression.validation import safetensors
from compression.validation.limits import MAX_BYTES
from compression.validation.safetensors import Stored

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_UNREAD = ("position_ids", "attn.bias", "attn.masked_bias", "inv_freq")
"""Endings of what older versions stored and newer ones compute."""
_UNUSED = ("pooler.", "cls.seq_relationship.")
"""Heads that no output here needs."""
_SHOWN = 8


def stored(files: Sequence[Path]) -> dict[str, Stored]:
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


@contextmanager
def opened(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Slices by name: each is read when its weight is filled, and not a moment before."""
    with ExitStack() as stack:
        sources = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        yield {name: file.get_slice(name) for file in sources for name in file.keys()}  # noqa: SIM118  no mapping


def check_report(report: Mapping[str, Any]) -> None:
    """What transformers says of loading. Errors: CompressionError `weights_mismatch`."""
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

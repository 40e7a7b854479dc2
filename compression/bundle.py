"""A bundle: the exported file with all that is needed to run it and to know what it is, in one zip."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from compression import packages
from compression.export_check import ExportCheck
from compression.exports import EXPORTS, Export, packing
from compression.inspection import TensorSpec
from compression.measurement import Measurements, Metric, Ratio
from compression.preprocessing import DatasetOptions

_RUN = '''\
"""Runs {filename} with NumPy and {package} alone: python run.py [input.npy ...], else on zeros."""

import json
import sys
from itertools import zip_longest
from pathlib import Path

import numpy as np
{opening}

feeds = {{}}
for spec, given in zip_longest(card["inputs"], sys.argv[1:]):
    shape = [size if isinstance(size, int) else 64 if axis else 1 for axis, size in enumerate(spec["shape"])]
    array = np.load(given, allow_pickle=False) if given else np.zeros(shape)
    feeds[spec["name"]] = array.astype(spec["dtype"])
for name, output in run(feeds).items():
    print(name, output.dtype, output.shape)
    if output.ndim == 2:
        for row in output[:8]:
            labels = card["labels"] if len(card["labels"]) == len(row) else list(range(len(row)))
            print("  top:", [(labels[i], float(row[i])) for i in np.argsort(-row)[:5]])
'''
_HERE = """
here = Path(__file__).parent
card = json.loads((here / "pare.json").read_text())
"""
_LIMITS = (
    "Measured on the machine that made it; another processor has other times. Rows unlike those of the data "
    "set were not tried."
)


class Card(BaseModel):
    """What pare.json holds: plain JSON, in the model's own names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    check: ExportCheck | None = Field(
        default=None, description="null for the ONNX file itself, which the measurements are of"
    )
    labels: tuple[str, ...] = Field(default=(), description="names of the classes, by index")
    preprocessing: DatasetOptions | None = Field(
        default=None, description="what was done to the data set's upload; the same is to be done to inputs"
    )
    measurements: Measurements | None = None
    provenance: dict[str, Any] = Field(default={}, description="versions, recipe, digests of what went in")


def write(exported: Path, card: Card, into: Path) -> None:
    """The same bytes for the same file and card."""
    export = EXPORTS[card.format]
    texts: dict[str, Path | str] = {
        "pare.json": json.dumps(card.model_dump(mode="json") | {"runtime": _runtime(export)}, indent=2),
        "README.md": _readme(export, card),
        "run.py": program(export),
    }
    if not export.archive:
        packing.write(into, {export.filename: exported, **texts})
        return
    folder = into.with_name(f"{into.name}.parts")
    with zipfile.ZipFile(exported) as archive:  # our own: openvino_ir wrote it
        parts = {name: Path(archive.extract(name, folder)) for name in archive.namelist()}
    packing.write(into, {**parts, **texts})
    for part in parts.values():
        part.unlink()
    folder.rmdir()


def program(export: Export) -> str:
    """run.py of a format."""
    imports, _, body = export.program.format(filename=export.filename).partition("\n")
    opening = f"{imports}\n{_HERE}{body.rstrip()}"
    return _RUN.format(filename=export.filename, package=export.package, opening=opening)


def _runtime(export: Export) -> Mapping[str, str | None]:
    made_with = packages.version(export.package)
    return {"package": export.package, "minimum": export.minimum, "checked_with": made_with}


def _readme(export: Export, card: Card) -> str:
    warnings = card.check.warnings if card.check else ()
    lines = [
        f"# {card.name}",
        "",
        f"A network compressed by Pare, as {export.title}: `{export.filename}`.",
        "",
        "## Run it",
        "",
        "```sh",
        f'pip install numpy "{export.package}>={export.minimum}"',
        "python run.py input.npy",
        "```",
        "",
        "## Before and after",
        "",
        *_table(card.measurements),
        "",
        *([_checked(card.check), ""] if card.check else []),
        "## Limits",
        "",
        _LIMITS,
        *(["", *(f"- {warning}" for warning in warnings)] if warnings else []),
        "",
        "## Licence",
        "",
        "That of the original model and of the data it learnt from: compression changes neither.",
        "",
    ]
    return "\n".join(lines)


def _checked(check: ExportCheck) -> str:
    return (
        f"In {check.runtime} {check.runtime_version}, on {check.samples} samples: agrees with ONNX Runtime "
        f"on {check.agreement:.2%}, largest difference {check.difference:.2g} of the outputs' scale, "
        f"{_metrics(check)}{_ratio(check.latency)} as fast as ONNX Runtime on the same model."
    )


def _metrics(check: ExportCheck) -> str:
    if check.metric is None or check.source_metric is None:
        return ""
    return f"{check.metric.name} {_metric(check.metric)} against {_metric(check.source_metric)}, "


def _table(measured: Measurements | None) -> list[str]:
    if measured is None:
        return ["Not measured."]
    rows = ["| | original | compressed |", "|---|---|---|"]
    before, after = measured.original, measured.compressed
    rows.append(f"| bytes | {before.bytes:,} | {after.bytes:,} |")
    if before.metric and after.metric:
        own = (before.metric, after.metric), *zip(before.metrics, after.metrics, strict=True)
        rows += [f"| {one.name} | {_metric(one)} | {_metric(other)} |" for one, other in own]
    if speed := measured.ratios.get("latency"):
        rows.append(f"| speed | 1 | {_ratio(speed)} |")
    return rows


def _metric(metric: Metric) -> str:
    low, high = metric.ci95
    return f"{metric.value:.4f} ({low:.4f}-{high:.4f})"


def _ratio(ratio: Ratio) -> str:
    interval = f" ({ratio.ci95[0]:.2f}-{ratio.ci95[1]:.2f})" if ratio.ci95 else ""
    return f"{ratio.value:.2f}x{interval}"

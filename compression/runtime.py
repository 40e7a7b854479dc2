"""The plain runtime: the one place that makes ONNX Runtime sessions and turns its exceptions into ours."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as capi

from compression import mapped
from compression.dataset import Split
from compression.errors import CompressionError, ErrorKind
from compression.inspection import TensorSpec
from compression.memory import give_back_at_once

Array = np.ndarray[Any, np.dtype[Any]]

_ERRORS = (
    capi.EngineError,
    capi.EPFail,
    capi.Fail,
    capi.InvalidArgument,
    capi.InvalidGraph,
    capi.InvalidProtobuf,
    capi.NoModel,
    capi.NoSuchFile,
    capi.NotFound,
    capi.NotImplemented,
    capi.RuntimeException,
    ValueError,
    RuntimeError,
)
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "Available memory")
ort.set_default_logger_severity(4)
ort.disable_telemetry_events()


@contextmanager
def running(what: str = "run") -> Iterator[None]:
    """Errors: CompressionError E_MODEL_RUN, or E_SANDBOX_OOM where memory was the reason."""
    try:
        yield
    except MemoryError as error:
        raise _out_of_memory() from error
    except _ERRORS as error:
        reason = str(error)
        if any(sign in reason for sign in _OUT_OF_MEMORY):
            raise _out_of_memory() from error
        raise CompressionError(
            "E_MODEL_RUN", f"ONNX Runtime cannot {what} the model: {_shown(reason)}"
        ) from error


def _out_of_memory() -> CompressionError:
    return CompressionError(
        "E_SANDBOX_OOM", "the model asks for more memory than a job may use", ErrorKind.RESOURCE
    )


def _shown(reason: str) -> str:
    """The runtime's own sentence, without its codes and the source paths it puts in front."""
    sentence = reason.rpartition("[ONNXRuntimeError]")[2].split(" : ", 3)[-1]
    return " ".join(word for word in sentence.split() if "/" not in word or word.count("/") == 1)[:400]


class _Session(ort.InferenceSession):  # type: ignore[misc]
    """Holds the mapped weights that its kernels read."""

    weights: Sequence[ort.OrtValue] = ()


def session(
    model: onnx.ModelProto | bytes | Path,
    *,
    threads: int = 1,
    optimise: bool = True,
    profile: Path | None = None,
    prepack: bool = False,
) -> ort.InferenceSession:
    """On CPU, without spinning threads and without telemetry; `profile` starts the name of a file of timings.

    Mapped weights (`compression.mapped`) are read where they lie. Kernels copy weights into a layout of their
    own, which takes as much memory again: those of a large model do so only if told to `prepack`, as they do
    for whoever opens the file in production.

    Errors: CompressionError E_MODEL_RUN.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    weights = map_weights(model, options, prepack=prepack) if isinstance(model, onnx.ModelProto) else []
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    source = str(source) if isinstance(source, Path) else source
    with running("load"):
        made = _Session(source, options, providers=["CPUExecutionProvider"])
    made.weights = weights
    return made


def map_weights(
    model: onnx.ModelProto, options: ort.SessionOptions, *, prepack: bool = False
) -> Sequence[ort.OrtValue]:
    """Has a session use mapped weights without a copy. It reads them through the values given back, which
    must outlive it.
    """
    tensors = [tensor for tensor in model.graph.initializer if mapped.is_mapped(tensor)]
    if not tensors:
        return ()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", mapped.ROOT)
    if mapped.size(model) >= mapped.LARGE:
        give_back_at_once()
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    values = []
    for tensor in tensors:
        array = mapped.array(tensor)
        if array.dtype.isbuiltin == 1:  # the runtime maps the others itself
            values.append(ort.OrtValue.ortvalue_from_numpy(array))
            options.add_initializer(tensor.name, values[-1])
    return values


def run(
    model: ort.InferenceSession, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> dict[str, Array]:
    """Outputs by name, all of them by default.

    Errors: CompressionError E_MODEL_RUN.
    """
    names = list(outputs) if outputs is not None else [output.name for output in model.get_outputs()]
    with running():
        return dict(zip(names, model.run(names, dict(feeds)), strict=True))


def run_split(
    model: ort.InferenceSession,
    split: Split,
    inputs: Sequence[TensorSpec],
    *,
    size: int = 64,
    outputs: Sequence[str] | None = None,
) -> Iterator[dict[str, Array]]:
    """Outputs of batch after batch. A last batch too short for a fixed batch is filled up and cut again."""
    batch = split.batch_size(inputs, size)
    fixed = any(spec.shape[:1] == (batch,) for spec in inputs)
    for start, feeds in zip(range(0, split.n, batch), split.batches(inputs, size), strict=True):
        have = min(batch, split.n - start)
        missing = batch - have if fixed else 0
        results = run(model, _filled(feeds, missing), outputs)
        yield {
            name: value[:have] if missing and len(value) == batch else value
            for name, value in results.items()
        }


def _filled(feeds: Mapping[str, Array], missing: int) -> dict[str, Array]:
    if not missing:
        return dict(feeds)
    return {
        name: np.concatenate([value, np.repeat(value[-1:], missing, axis=0)]) for name, value in feeds.items()
    }

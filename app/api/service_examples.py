"""Of the answers about the service itself."""

from app.api.examples import LATER, NOW, Example

WORKERS: Example = {
    "data": [
        {
            "id": "wrk_01m86bdc6vhzd76fm7ac6hrap2",
            "alive": True,
            "queues": ["cpu"],
            "concurrency": 1,
            "hardware": {"cores": 2, "memory_bytes": 25179869184},
            "versions": {"onnxruntime": "1.32.0"},
            "sandbox": "S2",
            "started_at": NOW,
            "seen_at": LATER,
        }
    ]
}
_LACKING: Example = {"available": False, "install": "install pare-server[openvino]"}


def _format(title: str, name: str, file: str) -> Example:
    return {"title": title, "names": [name], "files": [file], "available": True, "install": None}


CAPABILITIES: Example = {
    "version": "0.1.0",
    "techniques": ["dynamic_quantization", "graph_optimization", "half_precision", "static_quantization"],
    "model_formats": [_format("ONNX", "onnx", ".onnx")],
    "dataset_formats": [_format("NumPy .npz", "npz", ".npz")],
    "artifact_formats": [
        {**_format("OpenVINO IR", "openvino", "model.openvino.zip"), **_LACKING},
    ],
    "targets": ["cpu"],
    "limits": {"max_model_bytes": 2147483648, "max_dataset_bytes": 8589934592, "job_timeout_seconds": 14400},
}
HEALTH: Example = {"status": "ok", "version": "0.1.0"}
READINESS: Example = {
    "ready": True,
    "checks": {"database": True, "redis": True, "blobs": True, "worker": True},
}

"""What the OpenAPI document shows. The bodies of requests work as they are once the ids are one's own."""

from typing import Any

Example = dict[str, Any]

MODEL_ID = "mdl_01m86bdbztbb7vpy2x4c6jsp0h"
DATASET_ID = "dst_01m86bdbztbb7vpy2x4c6jsp0k"
UPLOAD_ID = "upl_01m86bdby0q6bv9jnynqw4wzfr"
JOB_ID = "job_01m86bdc2bs1w8vc1cby0m2yaz"
ARTIFACT_ID = "art_01m86bdc656mbrnc37d13nxvhb"
_SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
NOW = "2026-11-24T09:00:00.000Z"
LATER = "2026-11-24T09:00:07.412Z"

UPLOAD_REQUESTS = (
    ("a model", {"filename": "fashion_mnist_resnet.onnx", "bytes": 2846113, "purpose": "model"}),
    ("a data set", {"filename": "fashion_mnist.npz", "bytes": 4630122, "purpose": "dataset"}),
)
UPLOAD: Example = {
    "id": UPLOAD_ID,
    "state": "pending",
    "purpose": "model",
    "filename": "fashion_mnist_resnet.onnx",
    "bytes": 2846113,
    "sha256": None,
    "content_url": f"/v1/uploads/{UPLOAD_ID}/content",
    "created_at": NOW,
    "completed_at": None,
}
UPLOAD_COMPLETED: Example = {**UPLOAD, "state": "completed", "sha256": _SHA, "completed_at": LATER}

REGISTER_REQUEST: Example = {
    "upload_id": "(id of a completed upload)",
    "name": "fashion",
    "labels": {"team": "vision"},
}
_TABLE = {"labels": "species", "splits": {"train": 0.7, "calibration": 0.1, "test": 0.2}}
_IMAGES = {"image": {"resize": [32, 32], "mean": [0.5], "std": [0.25]}, "max_broken": 10}
DATASET_REQUESTS = (
    ("an upload", REGISTER_REQUEST),
    ("a table", {**REGISTER_REQUEST, "options": _TABLE}),
    ("an archive of images", {**REGISTER_REQUEST, "options": _IMAGES}),
)
CHANGE_REQUEST: Example = {"name": "fashion", "labels": {"team": "vision"}}
_TENSOR = {"name": "image", "dtype": "float32", "shape": ["batch", 1, 28, 28]}
MODEL_INSPECTION: Example = {
    "format": "onnx",
    "opset": 20,
    "ir_version": 10,
    "producer": "pytorch",
    "inputs": [_TENSOR],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}],
    "operators": {"Conv": 9, "Relu": 9, "Add": 4, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    "nodes": 25,
    "params": 701466,
    "macs": 31200256,
    "bytes": 2846113,
    "traits": [],
}
DATASET_INSPECTION: Example = {
    "format": "npz",
    "arrays": [{"name": "image", "split": "test", "dtype": "uint8", "shape": [10000, 1, 28, 28]}],
    "splits": {"calibration": 512, "test": 10000},
    "labelled": True,
    "bytes": 8251392,
}
DATASET_PREVIEW: Example = {
    "splits": [
        {
            "split": "test",
            "columns": [
                {"name": "image", "low": 0.0, "high": 255.0, "rows": [[0.0, 13.0]], "thumbnails": []}
            ],
            "class_counts": [1000] * 10,
        }
    ]
}
_PROCESSING: Example = {
    "state": "processing",
    "labels": {"team": "vision"},
    "source_sha256": _SHA,
    "source_bytes": 2846113,
    "sha256": None,
    "bytes": None,
    "error": None,
    "created_at": NOW,
    "ready_at": None,
    "inspection": None,
}
_READY: Example = {**_PROCESSING, "state": "ready", "sha256": _SHA, "bytes": 2846113, "ready_at": LATER}
_MODEL = {"id": MODEL_ID, "name": "fashion", "filename": "fashion_mnist_resnet.onnx"}
_DATASET = {"id": DATASET_ID, "name": "fashion", "filename": "fashion_mnist.npz"}
MODEL: Example = {**_PROCESSING, **_MODEL}
MODEL_READY: Example = {**_READY, **_MODEL, "inspection": MODEL_INSPECTION}
DATASET: Example = {**_PROCESSING, **_DATASET}
DATASET_READY: Example = {**_READY, **_DATASET, "inspection": DATASET_INSPECTION}
INSPECTED_MODEL: Example = {
    "inspection": MODEL_INSPECTION,
    "techniques": [
        {
            "technique": "static_quantization",
            "possible": True,
            "reason": None,
            "abilities": {"layers": 16, "macs_share": 1.0},
        }
    ],
}

JOB_REQUESTS = (
    (
        "int8, with proof",
        {
            "model_id": "(id of a ready model)",
            "dataset_id": "(id of a ready data set)",
            "recipe": {"steps": [{"technique": "static_quantization"}]},
        },
    ),
    (
        "half precision, without data",
        {"model_id": "(id of a ready model)", "recipe": {"steps": [{"technique": "half_precision"}]}},
    ),
    (
        "everything said",
        {
            "model_id": "(id of a ready model)",
            "dataset_id": "(id of a ready data set)",
            "recipe": {
                "steps": [{"technique": "graph_optimization"}, {"technique": "static_quantization"}],
                "max_metric_drop": 0.005,
            },
            "seed": 0,
            "cache": "use",
            "target": "cpu",
            "timeout_seconds": 3600,
            "labels": {"team": "vision"},
            "formats": ["onnx", "openvino"],
        },
    ),
)
CONVERSION_REQUEST: Example = {"formats": ["ort"]}
ARTIFACT: Example = {
    "id": ARTIFACT_ID,
    "job_id": JOB_ID,
    "format": "onnx",
    "filename": "model.onnx",
    "sha256": _SHA,
    "bytes": 741221,
    "bytes_zstd": 655360,
    "runtime": {"name": "onnxruntime", "minimum_version": "1.17"},
    "provenance": {"model_sha256": _SHA, "job_id": JOB_ID},
    "proof": None,
    "content_url": f"/v1/artifacts/{ARTIFACT_ID}/content",
    "bundle_url": f"/v1/artifacts/{ARTIFACT_ID}/bundle",
    "bundle_bytes": 745010,
    "created_at": LATER,
}
JOB: Example = {
    "id": JOB_ID,
    "state": "queued",
    "phase": "queued",
    "progress": 0.0,
    "queue": "cpu",
    "queue_position": 1,
    "model_id": MODEL_ID,
    "dataset_id": DATASET_ID,
    "recipe": {
        "steps": [{"technique": "static_quantization"}],
        "max_metric_drop": 0.01,
        "min_agreement": 0.9,
        "task": "auto",
    },
    "seed": 0,
    "cache": "use",
    "cache_hits": [],
    "target": "cpu",
    "timeout_seconds": 3600,
    "labels": {},
    "formats": ["onnx"],
    "failed_formats": [],
    "artifact_id": None,
    "search_id": None,
    "trial": None,
    "attempts": 0,
    "outcome": None,
    "outcome_reasons": [],
    "measurements": None,
    "artifacts": [],
    "environment": None,
    "error": None,
    "created_at": NOW,
    "started_at": None,
    "finished_at": None,
}
CONVERSION: Example = {**JOB, **CONVERSION_REQUEST, "artifact_id": ARTIFACT_ID}
JOB_CANCELLING: Example = {
    **JOB,
    "state": "cancelling",
    "phase": "static_quantization",
    "queue_position": None,
}
_BEFORE: Example = {
    "bytes": 2846113,
    "bytes_zstd": 2621440,
    "params": 701466,
    "nonzero_params": 701466,
    "macs": 31200256,
    "peak_activation_bytes": 401408,
    "latency_ms": {"p50": 1.21, "p90": 1.24, "p99": 1.31, "n": 200},
    "metric": {"name": "accuracy", "value": 0.9371, "ci95": [0.9322, 0.9417], "n": 10000},
}
_AFTER: Example = {
    **_BEFORE,
    "bytes": 741221,
    "bytes_zstd": 655360,
    "latency_ms": {"p50": 0.52, "p90": 0.54, "p99": 0.58, "n": 200},
    "metric": {"name": "accuracy", "value": 0.937, "ci95": [0.9321, 0.9416], "n": 10000},
    "agreement": 0.9978,
    "kl": 0.0004,
    "sqnr_db": 36.9,
}
_SLICE: Example = {
    "label": 6,
    "name": "shirt",
    "n": 1000,
    "original": 0.812,
    "compressed": 0.808,
    "drop": 0.004,
    "ci95": [-0.0018, 0.0098],
    "flagged": False,
}
JOB_SUCCEEDED: Example = {
    **JOB,
    "state": "succeeded",
    "phase": "finished",
    "progress": 1.0,
    "queue_position": None,
    "attempts": 1,
    "outcome": "met",
    "measurements": {
        "original": _BEFORE,
        "compressed": _AFTER,
        "ratios": {"bytes": {"value": 3.84}, "latency": {"value": 2.32, "ci95": [2.27, 2.36]}},
        "drop": {"metric": "accuracy", "value": 0.0001, "ci95": [-0.0008, 0.001], "n": 10000},
        "slices": [_SLICE],
    },
    "artifacts": [ARTIFACT],
    "environment": {"versions": {"onnxruntime": "1.32.0"}, "hardware": {"cores": 2}, "sandbox": "S2"},
    "started_at": NOW,
    "finished_at": LATER,
}
STEP: Example = {
    "index": 0,
    "technique": "static_quantization",
    "parameters": {"technique": "static_quantization"},
    "state": "completed",
    "cache_hit": False,
    "output_sha256": _SHA,
    "details": {"excluded": []},
    "inspection": MODEL_INSPECTION,
    "measurements": JOB_SUCCEEDED["measurements"],
    "started_at": NOW,
    "completed_at": LATER,
}
STEPS: Example = {"data": [STEP]}
REPORT: Example = {**JOB_SUCCEEDED, "steps": [STEP]}
EVENTS: Example = {
    "data": [{"id": 1, "type": "job.created", "timestamp": NOW, "data": {}}],
    "has_more": False,
    "next_cursor": "1",
}
TECHNIQUE: Example = {
    "name": "half_precision",
    "version": 1,
    "summary": "Weights and activations in float16.",
    "description": "Weights and activations in float16.",
    "guidance": "Halves the file.",
    "needs": [],
    "promises": ["smaller"],
    "refuses": {"quantized": "the model is quantized already"},
    "parameters": {"type": "object", "properties": {"technique": {"const": "half_precision"}}},
}


def listed(*items: Example) -> Example:
    return {"data": list(items), "has_more": False, "next_cursor": None}

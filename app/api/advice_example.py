"""What the OpenAPI document shows of advice."""

from app.api.examples import DATASET_ID, JOB_ID, MODEL_ID, Example

_STEP: Example = {"technique": "static_quantization"}


def _estimated(value: float) -> Example:
    return {"value": value, "basis": "estimated", "ci95": None, "job_id": None}


def _measured(value: float, low: float | None = None, high: float | None = None) -> Example:
    interval = None if low is None else [low, high]
    return {"value": value, "basis": "measured", "ci95": interval, "job_id": JOB_ID}


_EXPECTED: Example = {
    "file": _measured(3.78),
    "download": _measured(3.9),
    "latency": _measured(2.83, 2.81, 2.86),
    "drop": _measured(0.0004, -0.0004, 0.0012),
}
_BOTH: Example = {
    "file": _estimated(17.4),
    "download": _estimated(17.9),
    "latency": _estimated(8.77),
    "drop": _estimated(0.0024),
}
_WHY = "int8 weights and activations: a quarter of the size, calibrated without labels in seconds"
_CUT: Example = {"technique": "channel_pruning", "ratio": 0.7}
ADVICE: Example = {
    "architecture": "convolutional",
    "objective": "latency",
    "summary": "This is a convolutional network of 695 k parameters and 80.5 M multiply-accumulates. For the "
    "least time: channel_pruning (ratio 0.7), then static_quantization.",
    "notes": [],
    "recommendations": [
        {
            "technique": "static_quantization",
            "stage": "precision",
            "why": _WHY,
            "when": "The first thing to try for convolutional networks on a CPU.",
            "strengths": [{"step": _STEP, "expected": _EXPECTED, "confidence": "high"}],
            "chosen": True,
        }
    ],
    "left_out": [
        {
            "technique": "magnitude_pruning",
            "reason": "helps with download, not with what is asked for",
            "way_out": "ask with objective=download",
        }
    ],
    "recipe": {
        "request": {
            "model_id": MODEL_ID,
            "dataset_id": DATASET_ID,
            "recipe": {"steps": [_CUT, _STEP], "max_metric_drop": 0.01},
        },
        "expected": _BOTH,
        "confidence": "medium",
        "why": f"static_quantization: {_WHY}",
    },
    "bolder": None,
    "search": {
        "request": {
            "model_id": MODEL_ID,
            "dataset_id": DATASET_ID,
            "budget": {"max_metric_drop": 0.01, "objective": "latency", "seconds": 1200},
        },
        "why": "tries combinations and strengths on this very model and keeps the best that was measured",
    },
}

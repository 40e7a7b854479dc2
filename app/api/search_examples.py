"""What the OpenAPI document shows of searches."""

from app.api.examples import DATASET_ID, JOB_ID, JOB_SUCCEEDED, LATER, MODEL_ID, NOW, Example

SEARCH_ID = "sch_01m86bdc2bs1w8vc1cby0m2yaz"
_IDS = {"model_id": "(id of a ready model)", "dataset_id": "(id of a ready data set)"}
_BUDGET = {"max_metric_drop": 0.01, "objective": "latency", "seconds": 600, "trials": 20}
SEARCH_REQUESTS = (
    ("as fast as a point allows", {**_IDS, "budget": _BUDGET}),
    (
        "small enough for a device",
        {
            **_IDS,
            "budget": {"max_metric_drop": 0.01, "max_bytes": 500000, "max_latency_ratio": 0.33},
            "formats": ["onnx", "litert"],
        },
    ),
    ("without labels", {**_IDS, "budget": {"min_agreement": 0.98, "objective": "bytes", "seconds": 600}}),
)
RESUME_REQUEST: Example = {"seconds": 600, "trials": 20}
MATERIALIZE_REQUESTS = (
    ("the smallest within half a point", {"budget": {"max_metric_drop": 0.005, "objective": "bytes"}}),
    ("a trial", {"trial": 0, "formats": ["onnx", "openvino"]}),
)
SEARCH: Example = {
    "id": SEARCH_ID,
    "state": "running",
    "progress": 0.0,
    "model_id": MODEL_ID,
    "dataset_id": DATASET_ID,
    "budget": _BUDGET,
    "seed": 0,
    "cache": "use",
    "target": "cpu",
    "labels": {},
    "formats": ["onnx"],
    "judged_by": "calibration",
    "trials": {},
    "cache_hits": 0,
    "elapsed_seconds": 0.0,
    "chosen": None,
    "proof_job_id": None,
    "proof": None,
    "outcome": None,
    "outcome_reasons": [],
    "notes": [],
    "error": None,
    "created_at": NOW,
    "finished_at": None,
}
SEARCH_CANCELLING: Example = {**SEARCH, "state": "cancelling", "trials": {"succeeded": 3, "cancelling": 1}}
SEARCH_SUCCEEDED: Example = {
    **SEARCH,
    "state": "succeeded",
    "progress": 1.0,
    "trials": {"succeeded": 19, "failed": 1},
    "cache_hits": 12,
    "elapsed_seconds": 571.2,
    "chosen": 17,
    "proof_job_id": JOB_ID,
    "proof": {**JOB_SUCCEEDED, "search_id": SEARCH_ID},
    "outcome": "met",
    "finished_at": LATER,
}
TRIAL: Example = {
    "number": 17,
    "job_id": JOB_ID,
    "state": "succeeded",
    "recipe": JOB_SUCCEEDED["recipe"],
    "share": 1.0,
    "seconds": 96.3,
    "cache_hits": 1,
    "measurements": JOB_SUCCEEDED["measurements"],
    "point": {"metric": 0.004, "latency": 0.21, "bytes": 0.12},
    "broken": [],
    "error": None,
    "started_at": NOW,
    "finished_at": LATER,
}
TRIALS: Example = {"data": [TRIAL], "has_more": False, "next_cursor": None}
FRONTIER: Example = {"axes": ["metric", "latency", "bytes"], "data": [TRIAL]}

"""The problem that the OpenAPI document shows for each status."""

from app.api.examples import JOB_ID, Example
from app.domain.errors import title

_CODES = {
    400: ("invalid_json", "The body is not valid JSON."),
    401: ("unauthorized", "No valid API key was sent."),
    404: ("not_found", f"There is no job '{JOB_ID}' in this project."),
    409: ("model_not_ready", "The model is still being inspected."),
    413: ("too_large", "The body may have 1048576 bytes at most."),
    415: ("format_refused", "pickle: it runs code when loaded; export to ONNX."),
    422: ("validation_error", "The request is not valid."),
    503: ("database_unavailable", "The database does not answer."),
    507: ("storage_full", "The store is full; nothing was kept."),
}


def problem(status: int) -> Example:
    code, detail = _CODES[status]
    pointers = [{"pointer": "/recipe/steps/0/bits", "detail": "Input should be less than or equal to 8"}]
    return {
        "type": f"urn:pare:problem:{code}",
        "title": title(code),
        "status": status,
        "detail": detail,
        "instance": "/v1/jobs",
        "code": code,
        "errors": pointers if status == 422 else [],
        "suggestions": [],
        "retryable": status in {503, 507},
        "request_id": "req_01m86bdc8xz6e2fjptzmzj647d",
    }

"""Swagger UI, from files of ours: nothing is loaded from elsewhere."""

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.api import render

STATIC = Path(__file__).parent / "static"
router = APIRouter(include_in_schema=False)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Pare</title>
<link rel="icon" href="/static/swagger-ui/favicon-32x32.png">
<link rel="stylesheet" href="/static/swagger-ui/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/static/swagger-ui/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script>
</body>
</html>
"""
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"


@router.get("/")
async def root() -> Response:
    return RedirectResponse("/docs", 307)


@router.get("/docs")
async def page() -> Response:
    return HTMLResponse(
        _PAGE, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    )


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    return render.answer(request.app.openapi())

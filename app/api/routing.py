"""Routers whose operations are named by their functions."""

from fastapi import APIRouter
from fastapi.routing import APIRoute


def resource(prefix: str, tag: str) -> APIRouter:
    return APIRouter(prefix=prefix, tags=[tag], generate_unique_id_function=_name)


def _name(route: APIRoute) -> str:
    return route.name

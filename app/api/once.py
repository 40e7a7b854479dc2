"""Idempotency-Key on a POST: the first answer is given again, whatever happened to it on the way."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Header, Request
from pydantic_core import to_json
from sqlalchemy import Connection
from starlette.responses import Response

from app.api.context import Wired, context
from app.services.idempotency import AlreadyDone, Answer, IdempotencyService, Record, in_flight, unrecorded
from app.services.idempotency import Once as Key

T = TypeVar("T")
Act = Callable[[Record[T]], T]
_PATIENCE = 2.0

Header_ = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="the same key and body within 24 h get the first answer, and nothing is done twice",
    ),
]


@dataclass(frozen=True)
class Once:
    """`once(act, encode, status, location)` runs `act`, which records the answer in its transaction."""

    key: Key | None
    service: IdempotencyService
    _flights: "Flights" = field(repr=False)

    def __call__(
        self, act: Act[T], encode: Callable[[T], object], status: int, at: Callable[[T], str]
    ) -> Response:
        def answered(result: T) -> Answer:
            return Answer(status, to_json(encode(result)).decode(), at(result))

        if self.key is None:
            return _response(answered(act(unrecorded)))
        with self._flights.one(self.key):
            return self._keyed(self.key, act, answered)

    def about(self, content: bytes) -> "Once":
        """For bodies whose bytes differ each time they are sent, as forms do: what tells them apart."""
        if self.key is None:
            return self
        return replace(self, key=replace(self.key, fingerprint=hashlib.sha256(content).hexdigest()))

    def _keyed(self, key: Key, act: Act[T], answered: Callable[[T], Answer]) -> Response:
        if stored := self.service.find(key):
            return _response(stored, replayed=True)

        def record(connection: Connection, result: T) -> None:
            self.service.store(connection, key, answered(result))

        try:
            return _response(answered(act(record)))
        except AlreadyDone:  # by another process, between our look and our write
            return _response(cast("Answer", self.service.find(key)), replayed=True)


class Flights:
    """Requests at work in this process: a second one with the same key waits a little for the first."""

    def __init__(self) -> None:
        self._keys: set[tuple[str, str, str, str]] = set()
        self._changed = threading.Condition()

    @contextmanager
    def one(self, key: Key) -> Iterator[None]:
        """Errors: Conflict `idempotency_key_in_flight`."""
        name = (key.project_id, key.api_key_id, key.route, key.key)
        with self._changed:
            if not self._changed.wait_for(lambda: name not in self._keys, _PATIENCE):
                raise in_flight()
            self._keys.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._keys.remove(name)
                self._changed.notify_all()


async def _once(request: Request, services: Wired, idempotency_key: Header_ = None) -> Once:
    flights: Flights = request.app.state.flights
    known = context(request.scope)
    if idempotency_key is None or known.principal is None:
        return Once(None, services.idempotency, flights)
    fingerprint = hashlib.sha256(known.body).hexdigest()
    route = f"{request.method} {request.url.path}"
    who = known.principal
    return Once(
        Key(who.project_id, who.key_id, route, idempotency_key, fingerprint), services.idempotency, flights
    )


Guard = Annotated[Once, Depends(_once)]


def _response(answer: Answer, *, replayed: bool = False) -> Response:
    headers = {"Location": answer.location} if answer.location else {}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(answer.body.encode(), answer.status, headers, "application/json")

"""Wake-ups: an id on a Redis channel tells whoever waits for that row to look again. Losing one costs a
second.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

_CHANNEL = "pare:wake"
_PAUSE = 2.0


class Notifier(Protocol):
    def send(self, id: str) -> None:  # noqa: A002
        """Never fails and never blocks for long."""


class RedisNotifier:
    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_connect_timeout=0.3, socket_timeout=0.5)
        self._retry_at = 0.0

    def send(self, id: str) -> None:  # noqa: A002
        if time.monotonic() < self._retry_at:
            return
        try:
            self._redis.publish(_CHANNEL, id)
        except RedisError:
            self._retry_at = time.monotonic() + _PAUSE

    def close(self) -> None:
        self._redis.close()


class Listener:
    """One subscription per process, shared by all that wait."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    @contextlib.contextmanager
    def listening(self, id: str) -> Iterator[asyncio.Event]:  # noqa: A002
        """An event that is set at each wake-up of `id`; clear it before looking."""
        event = asyncio.Event()
        self._waiting[id].add(event)
        try:
            yield event
        finally:
            self._waiting[id].discard(event)
            if not self._waiting[id]:
                del self._waiting[id]

    async def run(self) -> None:
        """Until cancelled. After an outage everybody is woken: what was missed is unknown."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                async for subject in self._messages():
                    for event in self._waiting.get(subject, ()):
                        event.set()
            self._wake_all()
            await asyncio.sleep(1)

    async def _messages(self) -> AsyncIterator[str]:
        redis = AsyncRedis.from_url(self._url, decode_responses=True, socket_connect_timeout=1)
        async with redis, redis.pubsub() as channel:
            await channel.subscribe(_CHANNEL)
            self._wake_all()
            async for message in channel.listen():
                if message["type"] == "message":
                    yield message["data"]

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

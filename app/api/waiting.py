"""Long polls: look, sleep until woken, look again."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Query, Request

from app.adapters.notify import Listener

T = TypeVar("T")
_LOOK_EVERY = 2.0  # also without a wake-up: Redis may be away

Wait = Annotated[
    float,
    Query(ge=0, le=60, description="seconds to wait for it to be over; the answer comes as soon as it is"),
]


async def look_until(
    request: Request, subject: str, look: Callable[[], T], done: Callable[[T], bool], seconds: float
) -> T:
    """The first look that is `done`, or the last one before the time is up."""
    readers: CapacityLimiter = request.app.state.readers
    if not seconds:
        return await run_sync(look, limiter=readers)
    listener: Listener = request.app.state.listener
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    with listener.listening(subject) as woken:
        while True:
            woken.clear()
            found = await run_sync(look, limiter=readers)
            left = deadline - loop.time()
            if done(found) or left <= 0:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), min(left, _LOOK_EVERY))

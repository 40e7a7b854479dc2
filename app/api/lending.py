"""Large bodies are read from the socket itself. A uvicorn protocol lends it to an endpoint that asks: the
bytes go from kernel to file past event loop, parser and five copies, and are hashed and written while more
arrive. A server without this protocol, TLS and chunked bodies take the ordinary way.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.bodies import Pace, too_slow
from app.services.uploads import Receiving
from compression.errors import CompressionError

_EXTENSION = "pare.lent_socket"
_BUFFER = 4 << 20


@dataclass(frozen=True)
class Lent:
    """What has arrived of the body, and the socket that the rest comes from."""

    leading: bytes
    socket: socket.socket

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)


class LendingProtocol(HttpToolsProtocol):
    def on_headers_complete(self) -> None:
        self.scope["extensions"] = {_EXTENSION: self._lend}  # type: ignore[dict-item]  # ASGI leaves the value open
        super().on_headers_complete()

    def _lend(self) -> Lent | None:
        """The loop reads no more from this connection, which must be closed after the answer."""
        cycle, transport = self.cycle, self.transport
        if not cycle.more_body or transport.get_extra_info("sslcontext") is not None:
            return None
        self.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        leading, cycle.body = bytes(cycle.body), bytearray()
        return Lent(leading, socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())))


def borrow(scope: Scope) -> Lent | None:
    lend: Callable[[], Lent | None] | None = scope.get("extensions", {}).get(_EXTENSION)
    return lend() if lend else None


def drain(lent: Lent, receiving: Receiving, pace: Pace) -> None:
    """Blocking, for a thread. Errors: those of `Receiving.write`; `request_timeout`; `bad_request` if the
    client left.
    """
    writing: Future[None] | None = None
    with lent.socket, ThreadPoolExecutor(1, "upload") as writer:
        for piece in _pieces(lent, receiving.upload.bytes, pace):
            if writing is not None:
                writing.result()  # with it the other buffer is free
            writing = writer.submit(receiving.write, [piece])
        if writing is not None:
            writing.result()


def _pieces(lent: Lent, length: int, pace: Pace) -> Iterator[bytes | memoryview]:
    """Two buffers in turn: one is filled while the other is written."""
    buffers = [memoryview(bytearray(_BUFFER)) for _ in range(2)]
    total = len(lent.leading)
    if lent.leading:
        yield lent.leading
    while total < length:
        buffers.reverse()
        room = buffers[0][: min(_BUFFER, length - total)]
        filled = 0
        while filled < len(room):
            filled += _receive(lent.socket, room[filled:], pace)
            pace.received(total + filled)
        total += filled
        yield room


def _receive(source: socket.socket, room: memoryview, pace: Pace) -> int:
    left = pace.left()
    if left <= 0:
        raise too_slow()
    source.settimeout(left)
    try:
        count = source.recv_into(room)
    except TimeoutError:
        raise too_slow() from None
    except OSError:
        count = 0
    if not count:
        raise CompressionError("bad_request", "The client left in the middle of the body; nothing was kept.")
    return count

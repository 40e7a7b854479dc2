import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from app.migration import migrate
from app.settings import Settings
from app.valkey import Valkey
from tests import servers


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
    name = f"test_{uuid4().hex}"
    postgres_server.run(f"CREATE DATABASE {name} TEMPLATE template")
    yield postgres_server.url(name)
    postgres_server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Of a migrated database of the test's own."""
    (tmp_path / "data").mkdir()
    shutil.copy(sqlite_template, tmp_path / "data" / "pare.db")
    return f"sqlite:///{tmp_path}/data/pare.db"


@pytest.fixture
def s3(s3_server: servers.S3) -> dict[str, Any]:
    """Settings of a bucket of the test's own."""
    bucket = f"test-{uuid4().hex}"
    client = servers.s3_client(s3_server)
    client.create_bucket(Bucket=bucket)
    client.close()
    return {
        "blobs_url": f"s3://{bucket}",
        "s3_endpoint_url": s3_server.endpoint,
        "s3_access_key": s3_server.access_key,
        "s3_secret_key": s3_server.secret_key,
    }


@pytest.fixture(params=["embedded", "full"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, valkey_url: str) -> Settings:
    """Both ways to run the same code: SQLite with local blobs, and PostgreSQL with S3."""
    if request.param == "embedded":
        own = {"database_url": request.getfixturevalue("sqlite_url")}
    else:
        own = {"database_url": request.getfixturevalue("postgres_url"), **request.getfixturevalue("s3")}
    return Settings(data_dir=tmp_path / "data", redis_url=valkey_url, disk_floor_bytes=0, **own)


@pytest.fixture
def services(settings: Settings) -> Iterator[Any]:
    from app.bootstrap import bootstrap  # noqa: PLC0415

    made = bootstrap(settings)
    yield made
    made.close()

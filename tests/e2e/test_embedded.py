"""`pare-server serve`: everything on one machine, under one supervisor."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.compression import networks
from tests.conftest import NewSettings
from tests.programs import environment, eventually
from tests.service import Service, images, serving

SERVE = [str(Path(sys.executable).parent / "pare-server"), "serve"]


@contextlib.contextmanager
def embedded(data_dir: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    env = {"PATH": os.environ["PATH"], "PARE_DATA_DIR": str(data_dir), "PARE_PORT": str(port)}
    output = data_dir.with_suffix(".out")
    with output.open("ab") as file:
        process = subprocess.Popen(SERVE, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process, output
    finally:
        process.kill()  # and all of it is gone, as the processes are tethered
        process.wait()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parts(process: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    names = {"valkey": "valkey-server", "api": "uvicorn", "worker": "workers"}
    found = {}
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):
            line = " ".join(child.cmdline())
            found |= {name: child for name, sign in names.items() if sign in line and "tether.py" not in line}
    return found


def test_what_dies_is_started_again_and_nothing_outlives_it(tmp_path: Path, port: int) -> None:
    with embedded(tmp_path / "data", port) as (process, output):
        eventually(lambda: b"API key" in output.read_bytes())
        before = eventually(lambda: len(found := parts(process)) == 3 and found)
        key = (tmp_path / "data" / "api-key").read_text().strip()
        assert key in output.read_text()
        assert (tmp_path / "data" / "api-key").stat().st_mode & 0o777 == 0o600
        for part in before.values():
            part.kill()
        killed = {part.pid for part in before.values()}  # those may be listed for a moment yet
        assert eventually(lambda: len({p.pid for p in parts(process).values()} - killed) == 3)

        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            eventually(lambda: _ready(client))
            service = Service(None, None, client, None, output)  # type: ignore[arg-type]  only its HTTP side
            assert service.model(networks.cnn().SerializeToString())["state"] == "ready"

        family = [*psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert not psutil.wait_procs(family, 5)[1]


def test_later_starts_say_where_the_key_lies(tmp_path: Path, port: int) -> None:
    for _ in range(2):
        with embedded(tmp_path / "data", port) as (process, output):
            eventually(lambda: b"API key" in output.read_bytes())
            said = output.read_text()
            family = [*psutil.Process(process.pid).children(recursive=True)]
            process.kill()
            process.wait()
            assert not psutil.wait_procs(family, 5)[1]  # killed, it leaves nothing either
            output.unlink()
    assert f"API key: in {tmp_path}/data/api-key" in said
    assert (tmp_path / "data" / "api-key").read_text().strip() not in said


def test_a_busy_port_is_told(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), embedded(tmp_path / "data", port) as (process, output):
        assert process.wait(20) == 1
        assert output.read_text().startswith(f"Cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.slow
def test_serve_uses_the_servers_it_is_given(
    tmp_path: Path, port: int, new_settings: NewSettings, valkey_url: str
) -> None:
    settings = new_settings("full", tmp_path / "data", valkey_url)
    env = environment(settings) | {"PARE_PORT": str(port)}
    with (tmp_path / "out").open("wb") as output:
        process = subprocess.Popen(SERVE, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: b"API key" in (tmp_path / "out").read_bytes())
        assert eventually(lambda: len(parts(process)) == 2)
        key = (tmp_path / "data" / "api-key").read_text().strip()
        demo = [
            sys.executable,
            "examples/demo.py",
            "--url",
            f"http://127.0.0.1:{port}",
            "--out",
            str(tmp_path / "demo"),
        ]
        subprocess.run(demo, env={"PATH": os.environ["PATH"], "PARE_API_KEY": key}, check=True, timeout=100)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def _ready(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/readyz").is_success
    return False


def test_serving_leaves_no_directory(tmp_path: Path, new_settings: NewSettings, valkey_url: str) -> None:
    settings = new_settings("embedded", tmp_path / "data", valkey_url)
    with serving(settings, tmp_path / "log") as service:
        service.dataset(images())
    assert list((settings.data_dir / "work").iterdir()) == []

"""What the service holds on this machine, its client beside it. Prints a Markdown table.

    make load                                  everything; needs `wrk` and `nginx` on the PATH
    make load ARGS="--only submit read"        some of: start submit read files overhead

Every server is started here on free ports of 127.0.0.1 and stopped at the end. Uploads and downloads are
measured in turn with nginx on the same disk; a lone figure of a shared machine says little, a ratio of
interleaved runs more.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
from sqlalchemy import select

from app.adapters import tables
from app.bootstrap import Services, bootstrap
from app.migration import migrate
from app.settings import Settings
from app.valkey import free_port
from tests import servers

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
SERVER = str(Path(sys.executable).parent / "pare-server")
MIB = 1 << 20


class Row(NamedTuple):
    figure: str
    hold: str
    measured: str


class Service(NamedTuple):
    """A running API, with what is needed to speak to it and to look behind it."""

    url: str
    key: str
    services: Services
    process: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes] | None
    environment: dict[str, str]

    @property
    def auth(self) -> tuple[str, str]:
        return "-H", f"Authorization: Bearer {self.key}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=120)

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


def main() -> int:
    options = _options()
    rows: list[Row] = []
    for part in options.only:
        for row in PARTS[part](options):
            rows.append(row)
            print(f"| {row.figure} | {row.hold} | {row.measured} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n")
    return 0


@contextlib.contextmanager
def service(database: str = "sqlite", *, worker: bool = False) -> Iterator[Service]:
    """An API on a fresh database and fresh local blobs, with a real Valkey and, if asked, a worker."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pare-load-")))
        url = f"sqlite:///{home}/pare.db"
        if database == "postgresql":
            server = stack.enter_context(servers.postgres())
            server.run("CREATE DATABASE pare")
            url = server.url("pare")
        port = free_port()
        own = {"PARE_DATA_DIR": str(home), "PARE_DATABASE_URL": url, "PARE_PORT": str(port)}
        own |= {"PARE_REDIS_URL": stack.enter_context(servers.valkey()).url, "PARE_DISK_FLOOR_BYTES": "0"}
        own |= {"PARE_DISK_FLOOR_FRACTION": "0", "PARE_LOG_FORMAT": "json"}
        environment = {**os.environ, **own}
        migrate(url)
        services = bootstrap(
            Settings.model_validate(
                {name.removeprefix("PARE_").lower(): value for name, value in own.items()}
            )
        )
        stack.callback(services.database.close)
        key = services.keys.create(services.keys.project(), "load")
        api = stack.enter_context(_process([SERVER, "api"], environment))
        crew = stack.enter_context(_process([SERVER, "worker"], environment)) if worker else None
        made = Service(f"http://127.0.0.1:{port}", key, services, api, crew, environment)
        _until(lambda: httpx.get(f"{made.url}/healthz").is_success)
        if worker:
            _until(lambda: httpx.get(f"{made.url}/readyz").is_success)
        yield made


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _until(ready: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if ready():
                return
        time.sleep(0.02)
    raise TimeoutError


def start(_options: argparse.Namespace) -> Iterator[Row]:
    """From the command to the first answer, and what is loaded by then."""
    seconds = []
    with service() as running:
        for _ in range(5):
            port = free_port()
            begun = time.perf_counter()
            with _process([SERVER, "api"], {**running.environment, "PARE_PORT": str(port)}):
                _until(lambda port=port: httpx.get(f"http://127.0.0.1:{port}/healthz").is_success)
                seconds.append(time.perf_counter() - begun)
    yield Row("API ready", "<= 2 s", f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")
    probe = "import sys, app.main; print(sorted({'torch', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout
    yield Row("tensor libraries loaded by `import app.main`", "none", loaded.strip())


def submit(options: argparse.Namespace) -> Iterator[Row]:
    """Durable submissions with a fresh Idempotency-Key each, 32 connections; every 202 must be a row."""
    for database, hold in (("sqlite", 150), ("postgresql", 200)):
        with service(database, worker=True) as running, running.client() as client:
            body = {"model_id": _model(client), "recipe": {"steps": [{"technique": "graph_optimization"}]}}
            assert running.worker is not None
            running.worker.terminate()  # the submission is measured, not who works on it
            running.worker.wait(30)
            report = _wrk(running, options.seconds, "/v1/jobs", body)
            with running.services.database.read() as connection:
                rows = connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one()
            speed = (
                f"{report['statuses'].get('202', 0) / report['seconds']:.0f}/s, p99 {report['p99_ms']:.0f} ms"
            )
            found = f"answers {report['statuses']}, rows {rows}; API {running.memory() / MIB:.0f} MiB"
            yield Row(f"submit, {database}", f">= {hold}/s, p99 <= 400 ms, 0 lost", f"{speed}; {found}")


def read(options: argparse.Namespace) -> Iterator[Row]:
    """GET of one job, 32 connections."""
    with service(worker=True) as running, running.client() as client:
        job = _job(client, _model(client))
        report = _wrk(running, options.seconds, f"/v1/jobs/{job['id']}", None)
        speed = f"{report['requests'] / report['seconds']:.0f}/s, p99 {report['p99_ms']:.0f} ms"
        yield Row("read a job", ">= 800/s, p99 <= 100 ms", f"{speed}; answers {report['statuses']}")


def files(options: argparse.Namespace) -> Iterator[Row]:
    """One large file up and down, in turn with nginx on the same disk; sha256 and fsync are ours alone."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pare-nginx-", dir=options.disk)))
        running = stack.enter_context(service(worker=True))
        client = stack.enter_context(running.client())
        nginx = stack.enter_context(_nginx(home))
        idle = running.memory()
        source = home / "source"
        times: dict[str, list[float]] = {"up": [], "up nginx": [], "down": [], "down nginx": []}
        for round_ in range(options.rounds):
            _random_file(source, options.mib)
            upload = _upload(client, source)
            times["up nginx"].append(_curl("-T", str(source), f"{nginx}/file{round_}"))
            times["up"].append(
                _curl("-T", str(source), *running.auth, f"{running.url}/v1/uploads/{upload}/content")
            )
            artifact = _artifact(running, _job(client, _model(client))["id"], upload)
            content = f"{running.url}/v1/artifacts/{artifact}/content"
            _curl(*running.auth, content)  # the first download checks the bytes against their digest
            times["down nginx"].append(_curl(f"{nginx}/file{round_}"))
            times["down"].append(_curl(*running.auth, content))
        for way in ("up", "down"):
            ratios = [n / p for n, p in zip(times[f"{way} nginx"], times[way], strict=True)]
            speed = options.mib / statistics.median(times[way])
            ratio = f"{statistics.median(ratios):.2f} of nginx ({min(ratios):.2f}-{max(ratios):.2f})"
            yield Row(f"{way}load of {options.mib} MiB", ">= 0.9 of nginx", f"{ratio}, {speed:.0f} MiB/s")
        yield Row(
            "API memory",
            "<= 250 MB, flat",
            f"{idle / 1e6:.0f} MB before, {running.memory() / 1e6:.0f} MB after",
        )


def overhead(options: argparse.Namespace) -> Iterator[Row]:
    """What the service adds to the core's own time, and how long a job waits for an idle, warm worker."""
    with service(worker=True) as running, running.client() as client:
        model = _model(client)
        jobs = [_job(client, model) for _ in range(options.jobs)]
        waits = [_seconds(job, "created_at", "started_at") * 1000 for job in jobs]
        added = [_seconds(job, "created_at", "finished_at") - _core(job) for job in jobs]
        yield Row(
            "submitted -> started",
            "p50 <= 50 ms",
            f"p50 {statistics.median(waits):.0f} ms, worst {max(waits):.0f} ms",
        )
        yield Row(
            "overhead of a job", "<= 1 s", f"p50 {statistics.median(added):.2f} s, worst {max(added):.2f} s"
        )


PARTS = {"start": start, "submit": submit, "read": read, "files": files, "overhead": overhead}


def _model(client: httpx.Client) -> str:
    return _ready(client, "models", _upload(client, EXAMPLES / "fashion_mnist_resnet.onnx", send=True))


def _upload(client: httpx.Client, path: Path, *, send: bool = False) -> str:
    body = {"filename": path.with_suffix(".onnx").name, "bytes": path.stat().st_size, "purpose": "model"}
    upload = client.post("/v1/uploads", json=body).raise_for_status().json()
    if send:
        client.put(f"/v1/uploads/{upload['id']}/content", content=path.read_bytes()).raise_for_status()
    return str(upload["id"])


def _ready(client: httpx.Client, kind: str, upload: str) -> str:
    item = client.post(f"/v1/{kind}", json={"upload_id": upload}).raise_for_status().json()
    while item["state"] == "processing":
        item = client.get(f"/v1/{kind}/{item['id']}?wait=30").raise_for_status().json()
    return str(item["id"])


def _job(client: httpx.Client, model: str) -> dict[str, Any]:
    """A small job, from start to end and without the step cache."""
    recipe = {"steps": [{"technique": "graph_optimization"}]}
    body = {"model_id": model, "recipe": recipe, "cache": "off"}
    job: dict[str, Any] = client.post("/v1/jobs", json=body).raise_for_status().json()
    while job["state"] in {"queued", "running"}:
        job = client.get(f"/v1/jobs/{job['id']}?wait=30").raise_for_status().json()
    assert job["state"] == "succeeded", job["error"]
    return job


def _seconds(item: dict[str, Any], begin: str, end: str) -> float:
    first, last = (datetime.fromisoformat(item[name]) for name in (begin, end))
    return (last - first).total_seconds()


def _core(job: dict[str, Any]) -> float:
    """Seconds that the operations took inside their sandboxes."""
    return float(job["environment"]["core_seconds"])


def _artifact(running: Service, job: str, upload: str) -> str:
    """Registers uploaded bytes as an artifact of a job: the size of a real one cannot be chosen."""
    artifact = f"art_load{upload[-12:]}"
    with running.services.database.write() as connection:
        source = connection.execute(select(tables.uploads).where(tables.uploads.c.id == upload)).one()
        values = {
            "id": artifact,
            "project_id": source.project_id,
            "job_id": job,
            "format": "onnx",
            "runtime": {},
        }
        values |= {
            "filename": "load.onnx",
            "sha256": source.blob_sha256,
            "bytes": source.bytes,
            "provenance": {},
        }
        connection.execute(tables.artifacts.insert().values(created_at=source.created_at, **values))
    return artifact


def _random_file(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))


def _curl(*arguments: str) -> float:
    """Seconds of one transfer. A refusal fails."""
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--output",
        os.devnull,
        "--write-out",
        "%{time_total}",
    ]
    return float(subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout)


def _wrk(running: Service, seconds: int, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    environment = {**os.environ, "PARE_KEY": running.key, "PARE_PATH": path}
    environment |= {"PARE_BODY": json.dumps(body)} if body else {}
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(HERE / "load.lua"), running.url]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


_NGINX = """
daemon off; pid {home}/pid; error_log {home}/error.log; {user}
events {{}}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {home}/body; sendfile on;
  server {{ listen 127.0.0.1:{port}; root {home}/www; location / {{ dav_methods PUT; }} }}
}}
"""


@contextlib.contextmanager
def _nginx(home: Path) -> Iterator[str]:
    """Serves and takes files (WebDAV PUT); temporary files lie on the same disk: a rename, no copy."""
    port = free_port()
    (home / "www").mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(_NGINX.format(home=home, port=port, user=user))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with _process([program, "-c", str(home / "nginx.conf"), "-p", str(home)], dict(os.environ)):
        _until(lambda: httpx.get(f"http://127.0.0.1:{port}/").status_code)
        yield f"http://127.0.0.1:{port}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=int, default=15, help="of each request load")
    parser.add_argument("--mib", type=int, default=1024, help="size of the file that goes up and down")
    parser.add_argument("--rounds", type=int, default=5, help="of uploads and downloads")
    parser.add_argument("--jobs", type=int, default=20, help="to measure the overhead with")
    parser.add_argument("--disk", type=Path, help="where the files lie (default: the temporary directory)")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

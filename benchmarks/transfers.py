"""One large file up and down, in turn with nginx on the same disk; sha256 and fsync are ours alone."""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
from sqlalchemy import select

from app.adapters import tables
from app.valkey import free_port
from benchmarks.rows import Row
from benchmarks.service import Service, announce, process, run_job, send_model, service, until

MIB = 1 << 20


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
            upload = announce(client, source)
            times["up nginx"].append(_curl("-T", str(source), f"{nginx}/file{round_}"))
            times["up"].append(
                _curl("-T", str(source), *running.auth, f"{running.url}/v1/uploads/{upload}/content")
            )
            artifact = _artifact(running, run_job(client, send_model(client))["id"], upload)
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
    with process([program, "-c", str(home / "nginx.conf"), "-p", str(home)], dict(os.environ)):
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/").status_code)
        yield f"http://127.0.0.1:{port}"

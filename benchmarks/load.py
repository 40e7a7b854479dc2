"""What the service holds on this machine, its client beside it. Prints a Markdown table.

    make load                                  everything; needs `wrk` and `nginx` on the PATH
    make load ARGS="--only submit read"        some of: start submit read files overhead

Every server is started here on free ports of 127.0.0.1 and stopped at the end. Uploads and downloads are
measured in turn with nginx on the same disk; a lone figure of a shared machine says little, a ratio of
interleaved runs more.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from app.valkey import free_port
from benchmarks.rows import Row
from benchmarks.service import RECIPE, SERVER, Service, process, run_job, send_model, service, until
from benchmarks.transfers import MIB, files

HERE = Path(__file__).parent


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


def start(_options: argparse.Namespace) -> Iterator[Row]:
    """From the command to the first answer, and what is loaded by then."""
    seconds = []
    with service() as running:
        for _ in range(5):
            port = free_port()
            begun = time.perf_counter()
            with process([SERVER, "api"], {**running.environment, "PARE_PORT": str(port)}):
                until(lambda port=port: httpx.get(f"http://127.0.0.1:{port}/healthz").is_success)
                seconds.append(time.perf_counter() - begun)
    yield Row("API ready", "<= 2 s", f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")
    probe = "import sys, app.main; print(sorted({'torch', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout
    yield Row("tensor libraries loaded by `import app.main`", "none", loaded.strip())


def submit(options: argparse.Namespace) -> Iterator[Row]:
    """Durable submissions with a fresh Idempotency-Key each, 32 connections; every 202 must be a row."""
    for database, hold in (("sqlite", 150), ("postgresql", 200)):
        with service(database, worker=True) as running, running.client() as client:
            body = {"model_id": send_model(client), "recipe": RECIPE}
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
        job = run_job(client, send_model(client))
        report = _wrk(running, options.seconds, f"/v1/jobs/{job['id']}", None)
        speed = f"{report['requests'] / report['seconds']:.0f}/s, p99 {report['p99_ms']:.0f} ms"
        yield Row("read a job", ">= 800/s, p99 <= 100 ms", f"{speed}; answers {report['statuses']}")


def overhead(options: argparse.Namespace) -> Iterator[Row]:
    """What the service adds to the core's own time, and how long a job waits for an idle, warm worker."""
    with service(worker=True) as running, running.client() as client:
        model = send_model(client)
        jobs = [run_job(client, model) for _ in range(options.jobs)]
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


def _seconds(item: dict[str, Any], begin: str, end: str) -> float:
    first, last = (datetime.fromisoformat(item[name]) for name in (begin, end))
    return (last - first).total_seconds()


def _core(job: dict[str, Any]) -> float:
    """Seconds that the operations took inside their sandboxes."""
    return float(job["environment"]["core_seconds"])


def _wrk(running: Service, seconds: int, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    environment = {**os.environ, "PARE_KEY": running.key, "PARE_PATH": path}
    environment |= {"PARE_BODY": json.dumps(body)} if body else {}
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(HERE / "load.lua"), running.url]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


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

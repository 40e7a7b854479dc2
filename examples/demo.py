"""The main job over HTTP, as any client does it: upload, compress, prove, download. Once to int8, once to
half the multiply-accumulates and int8.

    python examples/demo.py                              starts a service of its own and stops it
    python examples/demo.py --url http://host:8000       uses a running one; the key comes from PARE_API_KEY

Leaves original.onnx, and an .onnx and a .json report of each job, in demo-out/.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
MODEL = HERE / "fashion_mnist_resnet.onnx"
DATA = HERE / "fashion_mnist.npz"
QUANTIZE = {"technique": "static_quantization"}
PRUNE = {
    "technique": "channel_pruning",
    "ratio": 0.5,
    "training": {"epochs": 4, "augmentation": {"horizontal_flip": True, "shift": 2}},
}
RECIPES: dict[str, list[dict[str, Any]]] = {"int8": [QUANTIZE], "pruned-int8": [PRUNE, QUANTIZE]}
OVER = {"succeeded", "failed", "cancelled"}


def main() -> int:
    given = options(__doc__)
    console = Console(record=True, width=104, highlight=False)
    with service(given.url) as (url, key), connected(url, key) as client:
        ids = {
            "model_id": ready(client, "models", upload(client, MODEL, "model")),
            "dataset_id": ready(client, "datasets", upload(client, DATA, "dataset")),
        }
        console.print(f"{MODEL.name} -> {ids['model_id']}\n{DATA.name} -> {ids['dataset_id']}")
        jobs = {name: compress(client, console, ids, steps) for name, steps in RECIPES.items()}
        given.out.mkdir(exist_ok=True)
        shutil.copy(MODEL, given.out / "original.onnx")
        for name, job in jobs.items():
            save(client, job, given.out / name)
    console.print(table(jobs))
    outcomes = ", ".join(f"{name} [bold]{job['outcome']}[/bold]" for name, job in jobs.items())
    console.print(f"outcome: {outcomes}   files: {given.out}/")
    picture(console, given.svg, "make demo")
    return 0 if all(job["outcome"] == "met" for job in jobs.values()) else 1


def compress(
    client: httpx.Client, console: Console, ids: dict[str, str], steps: list[dict[str, Any]]
) -> dict[str, Any]:
    """Posts the job and follows it; the finished job."""
    return follow(
        client, console, answer_of(client.post("/v1/jobs", json={**ids, "recipe": {"steps": steps}}))
    )


def follow(client: httpx.Client, console: Console, job: dict[str, Any]) -> dict[str, Any]:
    console.print(f"job {job['id']}: {' -> '.join(step['technique'] for step in job['recipe']['steps'])}")
    phase = ""
    while job["state"] not in OVER:
        if job["phase"] != phase:
            phase = job["phase"]
            console.print(f"  {job['state']}: {phase}")
        job = answer_of(client.get(f"/v1/jobs/{job['id']}", params={"wait": 1}))
    console.print(f"  {job['state']}")
    if job["state"] != "succeeded":
        console.print_json(json.dumps(job["error"]))
        sys.exit(1)
    return job


def upload(client: httpx.Client, path: Path, purpose: str) -> str:
    made = answer_of(
        client.post(
            "/v1/uploads", json={"filename": path.name, "bytes": path.stat().st_size, "purpose": purpose}
        )
    )
    if made["state"] != "completed":  # the same bytes may be there already
        with path.open("rb") as file:
            made = answer_of(client.put(f"/v1/uploads/{made['id']}/content", content=file))
    return str(made["id"])


def ready(client: httpx.Client, kind: str, upload_id: str) -> str:
    """Registers an upload as a model or data set and waits for its inspection."""
    item = answer_of(client.post(f"/v1/{kind}", json={"upload_id": upload_id}))
    while item["state"] == "processing":
        item = answer_of(client.get(f"/v1/{kind}/{item['id']}", params={"wait": 30}))
    if item["state"] != "ready":
        sys.exit(f"{kind}: {json.dumps(item['error'], indent=2)}")
    return str(item["id"])


def save(client: httpx.Client, job: dict[str, Any], path: Path) -> None:
    """The artifact and the report, under the path with their own suffixes."""
    report = answer_of(client.get(f"/v1/jobs/{job['id']}/report"))
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    artifact = next(a for a in job["artifacts"] if a["format"] == "onnx")
    with client.stream("GET", f"/v1/artifacts/{artifact['id']}/content", follow_redirects=True) as answer:
        answer.raise_for_status()
        with path.with_suffix(".onnx").open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)


def table(jobs: dict[str, dict[str, Any]]) -> Table:
    """The original beside each result, which was measured with it in one run."""
    shown = Table(title="Fashion-MNIST residual CNN, ONNX Runtime, batch 1, one thread", title_justify="left")
    for heading in ("", "original", *jobs):
        shown.add_column(heading, justify="left" if not heading else "right")
    measured = [job["measurements"] for job in jobs.values()]
    before = measured[0]["original"]
    for name, unit, key in (("file", "bytes", "bytes"), ("multiply-accumulates", "", "macs")):
        cells = [f"{m['compressed'][key]:,} ({_times(m['ratios'][key], 'less')})" for m in measured]
        shown.add_row(f"{name}, {unit}".rstrip(", "), f"{before[key]:,}", *cells)
    times = [
        f"{m['compressed']['latency_ms']['p50']:.3f} ({_times(m['ratios']['latency'], 'faster')})"
        for m in measured
    ]
    shown.add_row("latency p50, ms", f"{before['latency_ms']['p50']:.3f}", *times)
    metric = before["metric"]
    cells = [_metric(metric["value"], m["compressed"]["metric"]["value"]) for m in measured]
    shown.add_row(f"{metric['name']}, {metric['n']:,} samples", f"{100 * metric['value']:.2f} %", *cells)
    agreement = [f"{100 * m['compressed']['agreement']:.2f} %" for m in measured]
    shown.add_row("agreement with original", "", *agreement)
    return shown


def _metric(before: float, after: float) -> str:
    return f"{100 * after:.2f} % ({100 * (after - before):+.2f})"


def _times(ratio: dict[str, Any], word: str) -> str:
    return f"{ratio['value']:.2f}x {word}"


@contextlib.contextmanager
def service(url: str | None) -> Iterator[tuple[str, str]]:
    """Address and key of a running service, or of one started here in a directory deleted afterwards."""
    if url is not None:
        yield url, os.environ["PARE_API_KEY"]
        return
    with tempfile.TemporaryDirectory(prefix="pare-demo-") as data, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        log = Path(data) / "service.log"
        environment = {**os.environ, "PARE_DATA_DIR": data, "PARE_PORT": str(port), "PARE_HOST": "127.0.0.1"}
        command = [str(Path(sys.executable).parent / "pare-server"), "serve"]
        with log.open("wb") as output:
            server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, server, log)
            yield address, (Path(data) / "api-key").read_text().strip()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the service did not start:\n{log.read_text()}")


def connected(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def answer_of(answer: httpx.Response) -> Any:
    if answer.is_error:
        sys.exit(f"{answer.request.method} {answer.request.url}: {answer.status_code}\n{answer.text}")
    return answer.json()


def picture(console: Console, path: Path | None, title: str) -> None:
    """Of all that was printed; it loads nothing."""
    if path is not None:
        path.write_text(re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL))


def options(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a running service; its key in PARE_API_KEY")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--svg", type=Path, help="also a picture of what is printed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""The main job over HTTP, as any client does it: upload, compress to int8, prove, download.

    python examples/demo.py                              starts a service of its own and stops it
    python examples/demo.py --url http://host:8000       uses a running one; the key comes from PARE_API_KEY

Leaves original.onnx, model.onnx and report.json in demo-out/.
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
RECIPE = {"steps": [{"technique": "static_quantization"}]}
OVER = {"succeeded", "failed", "cancelled"}


def main() -> int:
    options = _options()
    console = Console(record=True, width=92, highlight=False)
    with _service(options.url) as (url, key), _client(url, key) as client:
        job = compress(client, console)
        if job["state"] != "succeeded":
            console.print_json(json.dumps(job["error"]))
            return 1
        options.out.mkdir(exist_ok=True)
        save(client, job, options.out)
    console.print(table(job))
    files = f"{options.out}/original.onnx, model.onnx, report.json"
    console.print(f"outcome: [bold]{job['outcome']}[/bold]   files: {files}")
    if options.svg:
        picture = console.export_svg(title="make demo")
        options.svg.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))  # loads nothing
    return 0 if job["outcome"] == "met" else 1


def compress(client: httpx.Client, console: Console) -> dict[str, Any]:
    """Uploads model and data, posts the job and follows it; the finished job."""
    model_id = _ready(client, "models", _upload(client, MODEL, "model"))
    data_id = _ready(client, "datasets", _upload(client, DATA, "dataset"))
    body = {"model_id": model_id, "dataset_id": data_id, "recipe": RECIPE}
    job: dict[str, Any] = _json(client.post("/v1/jobs", json=body))
    console.print(f"{MODEL.name} -> {model_id}\n{DATA.name} -> {data_id}\njob {job['id']}")
    phase = ""
    while job["state"] not in OVER:
        if job["phase"] != phase:
            phase = job["phase"]
            console.print(f"  {job['state']}: {phase}")
        job = _json(client.get(f"/v1/jobs/{job['id']}", params={"wait": 1}))
    console.print(f"  {job['state']}")
    return job


def _upload(client: httpx.Client, path: Path, purpose: str) -> str:
    upload = _json(
        client.post(
            "/v1/uploads", json={"filename": path.name, "bytes": path.stat().st_size, "purpose": purpose}
        )
    )
    if upload["state"] != "completed":  # the same bytes may be there already
        with path.open("rb") as file:
            upload = _json(client.put(f"/v1/uploads/{upload['id']}/content", content=file))
    return str(upload["id"])


def _ready(client: httpx.Client, kind: str, upload_id: str) -> str:
    """Registers an upload as a model or data set and waits for its inspection."""
    item = _json(client.post(f"/v1/{kind}", json={"upload_id": upload_id}))
    while item["state"] == "processing":
        item = _json(client.get(f"/v1/{kind}/{item['id']}", params={"wait": 30}))
    if item["state"] != "ready":
        sys.exit(f"{kind}: {json.dumps(item['error'], indent=2)}")
    return str(item["id"])


def save(client: httpx.Client, job: dict[str, Any], out: Path) -> None:
    """The artifact, the report and, to compare with, the original."""
    shutil.copy(MODEL, out / "original.onnx")
    (out / "report.json").write_text(
        json.dumps(_json(client.get(f"/v1/jobs/{job['id']}/report")), indent=2) + "\n"
    )
    artifact = next(a for a in job["artifacts"] if a["format"] == "onnx")
    with client.stream("GET", f"/v1/artifacts/{artifact['id']}/content", follow_redirects=True) as answer:
        answer.raise_for_status()
        with (out / "model.onnx").open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)


def table(job: dict[str, Any]) -> Table:
    """Before and after, with what the ratio's interval is where one was measured."""
    before, after, ratios = (job["measurements"][k] for k in ("original", "compressed", "ratios"))
    shown = Table(title="Fashion-MNIST residual CNN, ONNX Runtime, batch 1, one thread", title_justify="left")
    for heading in ("", "original", "compressed", "gain"):
        shown.add_column(heading, justify="left" if not heading else "right")
    shown.add_row(
        "file, bytes", f"{before['bytes']:,}", f"{after['bytes']:,}", _times(ratios["bytes"], "smaller")
    )
    p50 = [m["latency_ms"]["p50"] for m in (before, after)]
    shown.add_row("latency p50, ms", f"{p50[0]:.3f}", f"{p50[1]:.3f}", _times(ratios["latency"], "faster"))
    metric = [m["metric"] for m in (before, after)]
    drop = 100 * (metric[0]["value"] - metric[1]["value"])
    name = f"{metric[0]['name']}, {metric[0]['n']:,} samples"
    shown.add_row(name, *(f"{100 * m['value']:.2f} %" for m in metric), f"{-drop:+.2f} points")
    shown.add_row("agreement with original", "", f"{100 * after['agreement']:.2f} %", "")
    shown.add_row("output SQNR, dB", "", f"{after['sqnr_db']:.1f}", "")
    return shown


def _times(ratio: dict[str, Any], word: str) -> str:
    interval = ratio.get("ci95")
    return f"{ratio['value']:.2f}x {word}" + (f" ({interval[0]:.2f}-{interval[1]:.2f})" if interval else "")


@contextlib.contextmanager
def _service(url: str | None) -> Iterator[tuple[str, str]]:
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


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _json(answer: httpx.Response) -> Any:
    if answer.is_error:
        sys.exit(f"{answer.request.method} {answer.request.url}: {answer.status_code}\n{answer.text}")
    return answer.json()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a running service; its key in PARE_API_KEY")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--svg", type=Path, help="also a picture of what is printed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

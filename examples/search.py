"""Automated search over HTTP: one POST with a budget, trials as they arrive, the frontier as a table, and two
points of it as artifacts.

    python examples/search.py                            starts a service of its own and stops it
    python examples/search.py --url http://host:8000     uses a running one; the key comes from PARE_API_KEY

A quarter of the example's test images becomes the calibration split: the network was not trained on them, so
trials are judged by them. The proof has the others. Leaves search-fastest.onnx and search-smallest.onnx, with
their reports, in demo-out/.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from demo import (
    DATA,
    MODEL,
    OVER,
    answer_of,
    connected,
    follow,
    options,
    picture,
    ready,
    save,
    service,
    upload,
)
from rich.console import Console
from rich.table import Table

BUDGET = {"max_metric_drop": 0.01, "objective": "latency", "seconds": 240, "trials": 24}
CALIBRATION = 2500
"""Test images."""
POINTS: dict[str, dict[str, Any]] = {
    "search-fastest": {"objective": "latency"},
    "search-smallest": {"objective": "download"},
}
Json = dict[str, Any]


def main() -> int:
    given = options(__doc__)
    console = Console(record=True, width=104, highlight=False)
    with (
        tempfile.TemporaryDirectory() as scratch,
        service(given.url) as (url, key),
        connected(url, key) as http,
    ):
        data = validated(DATA, Path(scratch))
        ids = {
            "model_id": ready(http, "models", upload(http, MODEL, "model")),
            "dataset_id": ready(http, "datasets", upload(http, data, "dataset")),
        }
        search: Json = answer_of(http.post("/v1/searches", json={**ids, "budget": BUDGET}))
        console.print(
            f"search {search['id']}: at most a point lost, as fast as possible, {BUDGET['seconds']} s"
        )
        search = watched(http, console, search)
        if search["state"] != "succeeded":
            console.print_json(data=search["error"])
            return 1
        frontier = answer_of(http.get(f"/v1/searches/{search['id']}/frontier"))["data"]
        console.print(frontier_table(frontier, search["chosen"]))
        jobs = {name: materialized(http, console, search, limits) for name, limits in POINTS.items()}
        given.out.mkdir(exist_ok=True)
        for name, job in jobs.items():
            save(http, job, given.out / name)
    console.print(proof_table(jobs))
    console.print(f"outcome: [bold]{search['outcome']}[/bold]   files: {given.out}/")
    picture(console, given.svg, "make demo BUDGET=1")
    return 0 if search["outcome"] == "met" else 1


def validated(source: Path, folder: Path) -> Path:
    """The same data, with so many of the test images as the calibration split."""
    with np.load(source) as arrays:
        members = dict(arrays)
    order = np.random.default_rng(0).permutation(len(members["test/label"]))
    rows = {"calibration": np.sort(order[:CALIBRATION]), "test": np.sort(order[CALIBRATION:])}
    for name in ("image", "label"):
        whole = members[f"test/{name}"]
        members |= {f"{split}/{name}": whole[chosen] for split, chosen in rows.items()}
    into = folder / source.name
    np.savez(into, **members)
    return into


def watched(http: httpx.Client, console: Console, search: Json) -> Json:
    """Prints each trial when it is over; the search when it is."""
    path, shown = f"/v1/searches/{search['id']}", -1
    while True:
        search = answer_of(http.get(path))
        for trial in answer_of(http.get(f"{path}/trials", params={"after": shown}))["data"]:
            if trial["state"] not in OVER:
                break
            console.print(line(trial))
            shown = trial["number"]
        if search["state"] in OVER:
            return search
        time.sleep(1)


def line(trial: Json) -> str:
    """A trial, on the samples that the search chooses by."""
    head = f"  {trial['number']:>3}  {named(trial):<58}"
    if not trial["point"]:
        return f"{head} {trial['error']['code'] if trial['error'] else trial['state']}"
    point = trial["point"]
    times = f"{1 / point['latency']:5.2f}x faster {1 / point['download']:5.2f}x smaller"
    return f"{head} {times} {100 * -point['metric']:+6.2f}"


def named(trial: Json) -> str:
    steps = " + ".join(strength(step) for step in trial["recipe"]["steps"])
    share = "" if trial["share"] == 1 else f", {trial['share']:.0%} trained"
    return (steps + share)[:58]


def strength(step: Json) -> str:
    number = next((step[name] for name in ("ratio", "sparsity", "width", "clusters") if step.get(name)), "")
    return f"{step['technique']} {number}".strip()


def frontier_table(frontier: list[Json], chosen: int) -> Table:
    shown = Table(title="Frontier: nothing that was tried beats these", title_justify="left")
    for heading in ("trial", "pipeline", "points", "faster", "smaller"):
        shown.add_column(heading, justify="left" if heading == "pipeline" else "right")
    for trial in frontier:
        point = trial["point"]
        mark = " *" if trial["number"] == chosen else ""
        cells = (
            f"{-100 * point['metric']:+.2f}",
            f"{1 / point['latency']:.2f}x",
            f"{1 / point['bytes']:.2f}x",
        )
        shown.add_row(f"{trial['number']}{mark}", named(trial), *cells)
    return shown


def materialized(http: httpx.Client, console: Console, search: Json, limits: Json) -> Json:
    """Another point of the search, proved: nothing is searched or trained again."""
    body = {"budget": limits}
    return follow(http, console, answer_of(http.post(f"/v1/searches/{search['id']}/materialize", json=body)))


def proof_table(jobs: dict[str, Json]) -> Table:
    shown = Table(title="Proved on 7,500 test images that no trial has seen", title_justify="left")
    for heading in ("", *jobs):
        shown.add_column(heading, justify="left" if not heading else "right")
    measured = [job["measurements"] for job in jobs.values()]
    for name, ratio in (("faster", "latency"), ("smaller", "bytes"), ("smaller download", "bytes_zstd")):
        shown.add_row(name, *(f"{each['ratios'][ratio]['value']:.2f}x" for each in measured))
    before = measured[0]["original"]["metric"]["value"]
    after = [each["compressed"]["metric"]["value"] for each in measured]
    shown.add_row("accuracy", *(f"{100 * before:.2f} -> {100 * value:.2f} %" for value in after))
    return shown


if __name__ == "__main__":
    sys.exit(main())

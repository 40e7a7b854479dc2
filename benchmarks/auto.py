"""Automated search on real models, by the service itself: what a budget gives, and whether its frontier beats
each technique alone.

    python -m benchmarks.auto --data DIR [--work DIR] [--seconds 1200] [--only resnet] [--json FILE]
    python -m benchmarks.auto --only example --trials 40 --seconds 7200 --cores 0    (then --cores 0 1)

DIR holds fashion-mnist/*.gz, ppocr-v4/*.onnx and mobilenet_v2/*.pth. One search for each subject, one seed,
one worker that trains on all cores, or one on each of `--cores`; latency at batch 1 on one thread, as every
job measures it. The figures of the chosen model are those of its proof, on a test split that no trial has
seen. A technique alone is a trial of one step with all its training; it is beaten if some trial loses no more
than it, by the 95 % interval of what it loses, and is both as small and as fast. Idle: the part of the
workers' time, before the proof, in which no trial ran. Again: steps that were computed though an earlier
trial had.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks import searched
from benchmarks.service import ready, service

Json = dict[str, Any]
_OVER = {"succeeded", "failed", "cancelled"}
_HEADER = (
    "| model | trials | chosen | lost (proof) | faster x (95 %) | smaller x | by zstd | alone, beaten "
    "| searched s | idle % | again |"
)


def _upload(client: httpx.Client, path: Path, purpose: str) -> str:
    body = {"filename": path.name, "bytes": path.stat().st_size, "purpose": purpose}
    made = client.post("/v1/uploads", json=body).raise_for_status().json()
    if made["state"] != "completed":
        with path.open("rb") as file:
            client.put(f"/v1/uploads/{made['id']}/content", content=file).raise_for_status()
    return ready(client, f"{purpose}s", made["id"])


def _searched(client: httpx.Client, model: Path, data: Path, budget: Mapping[str, Any]) -> Json:
    """The search when it is over, with its trials."""
    ids = {"model_id": _upload(client, model, "model"), "dataset_id": _upload(client, data, "dataset")}
    answer = client.post("/v1/searches", json={**ids, "budget": budget})
    if answer.is_error:
        raise SystemExit(answer.text)
    path = f"/v1/searches/{answer.json()['id']}"
    while (search := client.get(path).raise_for_status().json())["state"] not in _OVER:
        time.sleep(2)
    return {**search, "tried": _trials(client, path)}


def _trials(client: httpx.Client, path: str) -> list[Json]:
    found: list[Json] = []
    more = True
    while more:
        after = found[-1]["number"] if found else -1
        page = client.get(f"{path}/trials", params={"after": after}).raise_for_status().json()
        found += page["data"]
        more = page["has_more"]
    return found


def _alone(tried: list[Json]) -> list[Json]:
    """Single techniques with all their training."""
    return [
        each
        for each in tried
        if each["state"] == "succeeded" and each["share"] == 1 and len(each["recipe"]["steps"]) == 1
    ]


def _beaten(one: Json, tried: list[Json]) -> bool:
    drop = one["measurements"]["drop"]
    most = one["point"]["metric"] if not drop or not drop["ci95"] else drop["ci95"][1]
    return any(
        other["point"].get("metric", 1) <= most
        and all(other["point"][axis] <= one["point"][axis] for axis in ("latency", "bytes"))
        and (
            other["point"]["latency"] < one["point"]["latency"]
            or other["point"]["bytes"] < one["point"]["bytes"]
        )
        for other in tried
        if other["state"] == "succeeded" and other is not one
    )


def _row(name: str, search: Json) -> str:
    proof = search["proof"]
    if proof is None or proof["measurements"] is None:
        return f"| {name} | {search['trials']} | {search['error'] and search['error']['detail']} |" + " |" * 8
    measured = proof["measurements"]
    ratios, drop = measured["ratios"], measured["drop"]
    steps = " + ".join(_named(step) for step in proof["recipe"]["steps"])
    low, high = ratios["latency"]["ci95"]
    lost = (
        f"{100 * drop['value']:.2f} points"
        if drop
        else f"agreement {measured['compressed']['agreement']:.4f}"
    )
    alone = _alone(search["tried"])
    beaten = sum(_beaten(one, search["tried"]) for one in alone)
    cells = (
        name,
        str(sum(search["trials"].values())),
        steps,
        f"{lost} ({search['outcome']})",
        f"{ratios['latency']['value']:.2f} ({low:.2f}-{high:.2f})",
        f"{ratios['bytes']['value']:.2f}",
        f"{ratios['bytes_zstd']['value']:.2f}",
        f"{beaten} of {len(alone)}",
        f"{search['elapsed_seconds']:.0f}",
        f"{100 * _idle(search):.1f}",
        str(_again(search)),
    )
    return f"| {' | '.join(cells)} |"


def _idle(search: Json) -> float:
    """Of the seats together."""
    ran = sum(trial["seconds"] or 0 for trial in search["tried"])
    return float(1 - ran / (search["elapsed_seconds"] * search["seats"]))


def _again(search: Json) -> int:
    """Steps that were computed, less those that differ."""
    done = [trial for trial in search["tried"] if trial["state"] == "succeeded"]
    prefixes = [
        json.dumps(trial["recipe"]["steps"][: at + 1], sort_keys=True)
        for trial in done
        for at in range(len(trial["recipe"]["steps"]))
    ]
    hits = sum(trial["cache_hits"] for trial in done)
    return max(int(len(prefixes) - hits - len(set(prefixes))), 0)  # equal models are cached by content


def _named(step: Json) -> str:
    number = next((step[name] for name in ("ratio", "sparsity", "clusters") if step.get(name)), "")
    return f"{step['technique']} {number}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("benchmark-data"))
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=int, default=1200)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=60_000, help="trained on, at most")
    parser.add_argument("--objective", default="latency")
    parser.add_argument("--cores", nargs="*", type=int, default=[], help="one worker on each, of one thread")
    parser.add_argument("--encoder", type=Path, help="unpacked all-MiniLM-L6-v2")
    parser.add_argument("--only", nargs="*", choices=searched.MAKERS, default=["resnet", "direction"])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    budget = {"objective": options.objective, "seconds": options.seconds, "trials": options.trials}
    done: Json = {}
    print(_HEADER + "\n" + "|---" * (_HEADER.count("|") - 1) + "|", flush=True)
    for subject in (searched.MAKERS[name](options) for name in options.only):
        with service(worker=not options.cores, cores=options.cores) as running, running.client() as client:
            found = _searched(client, subject.model, subject.data, {**budget, "task": subject.task})
        done[subject.name] = {**found, "seats": max(len(options.cores), 1)}
        print(_row(subject.name, done[subject.name]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    main()

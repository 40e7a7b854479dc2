"""Techniques that train, in a confined child: what torch needs is there, what it takes is bounded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from compression import mapped
from tests.compression import networks
from tests.service import images, npz
from tests.workers.test_sandbox import LIMITS, children, inspected, quiet
from workers import examination
from workers.checkpoints import Checkpoints
from workers.frames import Progress
from workers.operations import Apply, Examine, InspectDataset
from workers.sandbox import Done, Sandbox

LIMITS = LIMITS.model_copy(update={"seconds": 90, "threads": 2})


@pytest.fixture
def cnn(sandbox: Sandbox, tmp_path: Path) -> Path:
    return inspected(sandbox, tmp_path, networks.cnn().SerializeToString())


@pytest.fixture
def data(sandbox: Sandbox, tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(images())
    operation = InspectDataset(source=tmp_path / "data", filename="d.npz")
    output = sandbox.run(operation, LIMITS, tmp_path, quiet).output
    assert output is not None
    return output


def finetune(model: Path, data: Path, threads: int = 2, **training: object) -> Apply:
    step = {"technique": "finetune", "training": {"epochs": 2, "batch_size": 16, **training}}
    return Apply(step=step, model=model, data=data, seed=0, threads=threads, original=model)


def details(done: Done) -> dict[str, object]:
    return dict(done.result.model_dump()["details"])


def test_the_warm_process_has_torch_and_one_thread(sandbox: Sandbox) -> None:
    sandbox._greet()
    assert sandbox._process is not None
    warm = psutil.Process(sandbox._process.pid)
    assert any("libtorch_cpu" in loaded.path for loaded in warm.memory_maps())
    assert warm.num_threads() == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_flow_under_confinement(
    sandbox: Sandbox, cnn: Path, data: Path, tmp_path: Path, precision: str
) -> None:
    told: list[Progress] = []
    done = sandbox.run(
        finetune(cnn, data, epochs=200, precision=precision),
        LIMITS,
        tmp_path,
        lambda progress: told.append(progress) if progress else None,
    )

    assert details(done)["precision"] == precision
    assert done.output is not None
    assert done.output.read_bytes() != cnn.read_bytes()
    assert {"step", "loss", "learning_rate"} <= set().union(*(progress.numbers for progress in told))


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_threads_compute_as_the_step_was_given(
    sandbox: Sandbox, cnn: Path, data: Path, tmp_path: Path, threads: int
) -> None:
    seconds: list[float] = [0, 0]

    def look(_progress: Progress | None) -> None:
        for child in children(sandbox):
            found = sorted((thread.user_time for thread in child.threads()), reverse=True)
            seconds[:] = max(seconds, [*found, 0])

    sandbox.run(finetune(cnn, data, threads, epochs=400), LIMITS, tmp_path, look)

    first, second, *_ = seconds
    assert (second > first / 20) == (threads == 2), seconds  # batches are made in a thread, too


def test_memory_gives_out_in_the_child_before_the_guard_kills_it(
    sandbox: Sandbox, cnn: Path, tmp_path: Path
) -> None:
    """So a training goes on with fewer samples at once."""
    (tmp_path / "many").write_bytes(npz(train__image=np.zeros((8192, 1, 12, 12), np.float32)))
    many = sandbox.run(InspectDataset(source=tmp_path / "many", filename="d.npz"), LIMITS, tmp_path, quiet)
    assert many.output is not None
    little = LIMITS.model_copy(update={"memory_bytes": 448 << 20})
    operation = finetune(cnn, many.output, epochs=1, batch_size=8192, validation=0)

    found = details(sandbox.run(operation, little, tmp_path, quiet))

    assert (found["steps"], found["samples"]) == (1, 8192)
    assert 128 <= int(str(found["samples_at_once"])) <= 4096


def test_what_a_child_shares_with_the_warm_process_is_not_its_own(
    sandbox: Sandbox, cnn: Path, data: Path, tmp_path: Path
) -> None:
    assert sandbox._warm > 64 << 20
    little = LIMITS.model_copy(update={"memory_bytes": sandbox._warm // 2})
    assert sandbox.run(finetune(cnn, data, threads=1), little, tmp_path, quiet).output


def test_a_second_child_goes_on_from_the_last_checkpoint(
    sandbox: Sandbox, cnn: Path, data: Path, tmp_path: Path
) -> None:
    operation = finetune(cnn, data, epochs=200)
    undisturbed = sandbox.run(operation, LIMITS, tmp_path, quiet)
    stored: list[int] = []
    killed: list[int] = []

    def kill(_progress: Progress | None) -> None:
        for child in children(sandbox):
            if stored and not killed:
                killed.append(child.pid)
                child.kill()

    with Checkpoints(tmp_path, LIMITS.disk_bytes, lambda path: stored.append(path.stat().st_size)) as taken:
        done = sandbox.run(operation, LIMITS, tmp_path, kill, taken)

    assert len(killed) == 1
    assert undisturbed.output is not None
    assert done.output is not None
    assert done.output.read_bytes() == undisturbed.output.read_bytes()


def test_a_model_is_examined(sandbox: Sandbox, cnn: Path, tmp_path: Path) -> None:
    said = sandbox.run(Examine(model=cnn), LIMITS, tmp_path, quiet).result.model_dump()["abilities"]
    assert all(isinstance(found, dict) and found for found in said.values())


def test_of_a_large_model_only_the_outline_is_examined(cnn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs all weights in memory has nothing to say, the others say the same."""
    monkeypatch.setattr(examination, "SECONDS", 60)
    whole = examination.run(Examine(model=cnn)).abilities
    for name in ("FROM", "LEAST", "LARGE"):
        monkeypatch.setattr(mapped, name, 1)
    large = examination.run(Examine(model=cnn)).abilities
    assert {"static_quantization", "magnitude_pruning"} <= large.keys()
    assert "channel_pruning" in whole.keys() - large.keys()
    assert all(found == whole[name] for name, found in large.items())


def test_without_torch_a_worker_does_all_but_train(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from workers import forkserver; forkserver._load()\n"
        "from compression.techniques.finetune import Finetune\n"
        "from compression.step import _applied\n"
        "_applied(Finetune(), None, None)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "CompressionError: engine_missing: finetune runs in torch" in run.stderr

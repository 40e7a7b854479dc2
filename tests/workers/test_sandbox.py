import os
import time
from pathlib import Path

import psutil
import pytest

from compression.errors import CompressionError
from tests.compression import networks
from tests.service import images
from tests.workers.endless import endless
from workers.frames import Progress
from workers.operations import Apply, InspectDataset, InspectModel, Limits, Measure
from workers.sandbox import Sandbox

LIMITS = Limits(memory_bytes=1 << 30, disk_bytes=64 << 20, seconds=30)


def quiet(_progress: Progress | None) -> None: ...


@pytest.fixture
def cnn(sandbox: Sandbox, tmp_path: Path) -> Path:
    return inspected(sandbox, tmp_path, networks.cnn().SerializeToString())


@pytest.fixture
def loop(sandbox: Sandbox, tmp_path: Path) -> Path:
    return inspected(sandbox, tmp_path, endless())


def inspected(sandbox: Sandbox, directory: Path, content: bytes) -> Path:
    source = directory / "upload"
    source.write_bytes(content)
    output = sandbox.run(InspectModel(source=source, filename="m.onnx"), LIMITS, directory, quiet).output
    assert output is not None
    return output


def test_self_test_denies_everything(sandbox: Sandbox, tmp_path: Path) -> None:
    denied = sandbox._probe(tmp_path).denied
    assert denied == dict.fromkeys(denied, True)
    assert len(denied) == 12
    assert sandbox.isolation.level == "S2"


def test_warm_process_holds_no_secret(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARE_S3_SECRET_KEY", "canary")
    again = Sandbox()
    try:
        again._greet()
        assert again._process is not None
        environment = Path(f"/proc/{again._process.pid}/environ").read_bytes()
    finally:
        again.stop()
    assert b"canary" not in environment
    assert b"PARE_" not in environment


def test_operations_give_results_and_files(sandbox: Sandbox, cnn: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(images())
    data = sandbox.run(InspectDataset(source=tmp_path / "data", filename="d.npz"), LIMITS, tmp_path, quiet)
    step = {"technique": "graph_optimization"}
    applied = sandbox.run(
        Apply(step=step, model=cnn, data=data.output, seed=0, threads=1), LIMITS, tmp_path, quiet
    )
    assert applied.output is not None
    measure = Measure(original=cnn, compressed=[applied.output], data=data.output, seed=0)
    told: list[Progress] = []
    measured = sandbox.run(
        measure, LIMITS, tmp_path, lambda progress: told.append(progress) if progress else None
    )

    assert measured.result.model_dump()["measurements"][0]["compressed"]["agreement"] == 1
    assert [p.stat().st_uid for p in tmp_path.iterdir()] == [os.geteuid()] * 5
    assert not list(tmp_path.glob("child-*/"))  # only the files that were collected are left


def test_child_that_takes_too_long_is_killed(sandbox: Sandbox, loop: Path, tmp_path: Path) -> None:
    endless_step = Apply(step={"technique": "graph_optimization"}, model=loop, data=None, seed=0, threads=1)
    started = time.monotonic()
    with pytest.raises(CompressionError, match="E_SANDBOX_TIMEOUT"):
        sandbox.run(endless_step, LIMITS.model_copy(update={"seconds": 1}), tmp_path, quiet)
    assert time.monotonic() - started < 4
    assert not children(sandbox)


def test_watch_ends_native_code(sandbox: Sandbox, loop: Path, tmp_path: Path) -> None:
    def stop(_progress: Progress | None) -> None:
        if children(sandbox):
            raise KeyboardInterrupt

    operation = Measure(original=loop, compressed=[loop], data=None, seed=0)
    with pytest.raises(KeyboardInterrupt):
        sandbox.run(operation, LIMITS, tmp_path, stop)
    assert not children(sandbox)


def test_memory_is_bounded(sandbox: Sandbox, cnn: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(images(2000))
    little = LIMITS.model_copy(update={"memory_bytes": 1 << 20})
    with pytest.raises(CompressionError, match="E_SANDBOX_OOM"):
        sandbox.run(Measure(original=cnn, compressed=[cnn], data=None, seed=0), little, tmp_path, quiet)


def test_disk_is_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(images(2000))
    little = LIMITS.model_copy(update={"disk_bytes": 1 << 16})
    with pytest.raises(CompressionError, match="E_SANDBOX_DISK"):
        sandbox.run(InspectDataset(source=tmp_path / "data", filename="d.npz"), little, tmp_path, quiet)


def test_signal_is_tried_once_more(sandbox: Sandbox, loop: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(_progress: Progress | None) -> None:
        for child in children(sandbox):
            if child.pid not in killed:
                killed.append(child.pid)
                child.kill()

    operation = Measure(original=loop, compressed=[loop], data=None, seed=0)
    with pytest.raises(CompressionError, match="E_SANDBOX_CRASH"):
        sandbox.run(operation, LIMITS, tmp_path, kill)
    assert len(killed) == 2


def test_dead_warm_process_is_replaced(cnn: Path, tmp_path: Path) -> None:
    own = Sandbox()
    try:
        own.examine(tmp_path)
        assert own._process is not None
        own._process.kill()
        own._process.wait()
        operation = Measure(original=cnn, compressed=[cnn], data=None, seed=0)
        assert own.run(operation, LIMITS, tmp_path, quiet).result
    finally:
        own.stop()


def test_warm_process_that_dies_under_a_child_is_not_the_models_fault(loop: Path, tmp_path: Path) -> None:
    own = Sandbox()

    def kill(_progress: Progress | None) -> None:
        if own._process is not None and children(own):
            own._process.kill()

    try:
        own.examine(tmp_path)
        with pytest.raises(CompressionError, match="E_SANDBOX_LOST"):
            own.run(Measure(original=loop, compressed=[loop], data=None, seed=0), LIMITS, tmp_path, kill)
    finally:
        own.stop()


def children(sandbox: Sandbox) -> list[psutil.Process]:
    assert sandbox._process is not None
    return psutil.Process(sandbox._process.pid).children()

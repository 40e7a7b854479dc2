"""The worker against a child that lies: our protocol, spoken by a hostile peer."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import BlobsUnavailable
from compression.errors import CompressionError
from workers import supervision
from workers.checkpoints import Checkpoints
from workers.operations import KILL, InspectModel, Limits, Request
from workers.private import collect, remove
from workers.supervision import Supervision

REQUEST = Request(
    operation=InspectModel(source=Path("m.onnx"), filename="m.onnx"),
    private=Path("/nonexistent"),
    limits=Limits(memory_bytes=1 << 40, disk_bytes=1 << 20, seconds=5),  # the child is this process
    uid=None,
    landlock=True,
    seccomp=True,
)
Peer = Callable[[socket.socket, int], None]


def converse(peer: Peer, code: int = 0) -> Any:
    """What the worker makes of a child that does `peer` and ends with `code`."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def act() -> None:
        _, (status, output, log), _, _ = socket.recv_fds(theirs, 1 << 16, 3)
        with socket.socket(fileno=status) as said:
            said.send(json.dumps({"pid": os.getpid()}).encode())
            with contextlib.suppress(OSError):
                peer(said, output)
            os.close(output)
            os.close(log)
            with contextlib.suppress(OSError):
                said.send(json.dumps({"code": code}).encode())

    thread = threading.Thread(target=act)
    thread.start()
    try:
        return Supervision(control, REQUEST, 0, lambda _: None).run()
    finally:
        thread.join(10)
        control.close()
        theirs.close()


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


ERROR = {"code": "invalid_onnx", "detail": "no", "kind": "input"}
LIES = [
    b"not json\n",
    b"\xff\xfe\n",
    b"[]\n",
    b"{" * 100_000 + b"\n",
    line({"result": {"format": "onnx"}}),
    line({"result": {}, "pid": 1}),
    line({"error": {**ERROR, "kind": "infrastructure"}}),
    line({"error": {**ERROR, "code": "x" * 100}}),
    line({"error": {**ERROR, "detail": "x" * 5000}}),
    line({"error": {**ERROR, "code": "../../etc"}}),
    line({"progress": {"fraction": 2, "message": ""}}),
    b'{"progress": {"fraction": NaN, "message": ""}}\n',
    b'{"progress": {"fraction": 0, "message": "", "numbers": {"loss": Infinity}}}\n',
    line({"progress": {"fraction": 0, "message": "", "numbers": {"<b>": 1}}}),
    line({"progress": {"fraction": 0, "message": "", "numbers": {f"n{i}": i for i in range(17)}}}),
    b"",
]


@pytest.mark.parametrize("said", LIES)
def test_nonsense_is_a_crash(said: bytes) -> None:
    with pytest.raises(CompressionError, match="E_SANDBOX_CRASH"):
        converse(lambda _status, output: write(output, said))


def test_too_long_a_line_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_LINE", 1 << 12)
    with pytest.raises(CompressionError, match="E_SANDBOX_CRASH"):
        converse(lambda _status, output: write(output, b"x" * (1 << 15)))


def test_a_refusal_arrives() -> None:
    with pytest.raises(CompressionError, match="invalid_onnx: no"):
        converse(lambda _status, output: write(output, line({"error": ERROR})))


def test_a_result_counts_only_if_the_child_ended_well() -> None:
    with pytest.raises(CompressionError, match="E_SANDBOX_CRASH"):
        converse(lambda _status, output: write(output, line({"error": ERROR})), code=-11)


def test_a_silent_child_is_killed_in_time() -> None:
    heard: list[bytes] = []
    with pytest.raises(CompressionError, match="E_SANDBOX_TIMEOUT"):
        converse(lambda status, _output: heard.append(status.recv(16)))
    assert heard == [KILL]


def write(output: int, content: bytes) -> None:
    while content:
        content = content[os.write(output, content) :]


def link(private: Path, target: Path) -> None:
    (private / "out").symlink_to(target)


def hard_link(private: Path, target: Path) -> None:
    (private / "out").hardlink_to(target)


def fifo(private: Path, _target: Path) -> None:
    os.mkfifo(private / "out")


def folder(private: Path, _target: Path) -> None:
    (private / "out").mkdir()


def empty(private: Path, _target: Path) -> None:
    (private / "out").touch()


def large(private: Path, _target: Path) -> None:
    (private / "out").write_bytes(b"x" * 101)


def nothing(_private: Path, _target: Path) -> None: ...


@pytest.mark.parametrize("leave", [link, hard_link, fifo, folder, empty, large, nothing])
def test_only_a_plain_file_of_a_sane_size_is_collected(
    leave: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    secret, private = tmp_path / "secret", tmp_path / "private"
    secret.write_bytes(b"canary")
    private.mkdir()
    leave(private, secret)
    with pytest.raises(CompressionError, match="E_SANDBOX_CRASH"):
        collect(private, "out", tmp_path, 100)


@pytest.mark.parametrize("leave", [link, hard_link, fifo, folder, empty, large, nothing])
def test_no_other_file_is_taken_for_a_checkpoint(leave: Callable[[Path, Path], None], tmp_path: Path) -> None:
    secret, private = tmp_path / "secret", tmp_path / "private"
    secret.write_bytes(b"canary")
    private.mkdir()
    leave(private, secret)
    stored: list[Path] = []
    with Checkpoints(tmp_path, 100, stored.append) as checkpoints:
        checkpoints.look(private / "out")
        assert checkpoints.latest is None
    assert stored == []


def test_checkpoints_are_copied_in_the_background_each_once(tmp_path: Path) -> None:
    given = tmp_path / "given"
    stored, free = [], threading.Event()

    def store(path: Path) -> None:
        free.wait(10)
        stored.append(path.read_bytes())

    def leave(content: bytes) -> None:
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(given)

    with Checkpoints(tmp_path, 100, store) as checkpoints:
        leave(b"first")
        checkpoints.look(given)  # and does not wait for what blocks
        leave(b"second")
        checkpoints.look(given)
        free.set()
        latest = checkpoints.latest
        assert latest is not None
        assert latest.read_bytes() == b"first"
        for _ in range(2):
            checkpoints.look(given)
            assert checkpoints.latest == latest
        assert latest.read_bytes() == b"second"
    assert stored == [b"first", b"second"]
    assert not latest.exists()


def test_a_store_that_is_away_costs_a_checkpoint_only(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"checkpoint")

    def store(_path: Path) -> None:
        raise BlobsUnavailable

    with Checkpoints(tmp_path, 100, store) as checkpoints:
        checkpoints.look(tmp_path / "given")
        assert checkpoints.latest is not None  # good for a second child on this machine


def test_a_directory_made_deep_on_purpose_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.mkdir("closed", 0, dir_fd=fd)
    os.symlink(tmp_path, "up", dir_fd=fd)
    os.close(fd)
    top.chmod(0)
    remove(top)
    assert list(tmp_path.iterdir()) == []

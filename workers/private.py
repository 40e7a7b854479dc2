"""The one directory that a child may write to, and what is taken out of it: nothing there can be trusted."""

import contextlib
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workers.supervision import crashed


@contextlib.contextmanager
def private(directory: Path, uid: int | None) -> Iterator[Path]:
    """A new one for a child that runs as this user; gone afterwards."""
    made = Path(tempfile.mkdtemp(dir=directory, prefix="child-"))
    (made / "scratch").mkdir(0o700)
    if uid is not None:
        os.chown(made, uid, uid)
        os.chown(made / "scratch", uid, uid)
    try:
        yield made
    finally:
        remove(made)


def remove(directory: Path) -> None:
    """Also one that was made deep, or unreadable, on purpose. Follows no link."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except (RecursionError, OSError):
        _flatten(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _flatten(top: Path) -> None:
    """Brings every directory up to the first level, so that no path gets long, and removes all else."""
    names = itertools.count()
    top.chmod(0o700)
    while inner := [Path(e.path) for e in os.scandir(top) if e.is_dir(follow_symlinks=False)]:
        for directory in inner:
            directory.chmod(0o700)
            for entry in list(directory.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    entry.chmod(0o700)  # its entry `..` changes: who is not root needs to write to it
                    entry.rename(top / f".{next(names)}")
                else:
                    entry.unlink()
            directory.rmdir()


def collect(private: Path, name: str | None, directory: Path, limit: int) -> Path | None:
    """The child is gone; what it left is taken for a plain file of a sane size or not at all."""
    if name is None:
        return None
    with opened(private / name, limit) as file:
        os.fchmod(file.fileno(), 0o600)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), 0, 0)
    target = directory / f"{private.name}-{name}"
    (private / name).rename(target)
    return target


def opened(path: Path, limit: int) -> BinaryIO:
    """What a child left, if that is a plain file of its own, of at most so many bytes. Errors: ChildDeath."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise crashed("the runtime left no result") from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not 0 < found.st_size <= limit:
        os.close(fd)
        raise crashed("what the runtime left is no file")
    return os.fdopen(fd, "rb")

"""What a child gives up before it touches a user's bytes."""

import ctypes
import os
import resource
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from app import tether
from workers import landlock, seccomp
from workers.operations import Request

_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_READ_SEARCH = 1 << 2
_READABLE = (
    "/proc/cpuinfo",
    "/proc/self/cmdline",  # TensorFlow ends the process where it cannot read its own
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
)
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")


def confine(request: Request, parent: int, filters: bytes) -> None:
    """`filters` is what `seccomp.compile_filter` gave.

    Errors: OSError; a child that cannot be confined must not run.
    """
    _limit(request)
    signal.signal(
        signal.SIGXFSZ, signal.SIG_DFL
    )  # too large a file ends the child: no library may explain it away
    if request.uid is not None:
        _become(request.uid)
    tether.die_with_parent(parent)  # after the change of user, which forgets it
    if request.landlock:
        landlock.restrict([*libraries(), *request.operation.inputs], [request.private])
    if request.seccomp:
        seccomp.restrict(filters)


def libraries() -> list[Path]:
    """The interpreter and our own code: modules may be imported late."""
    own = [
        Path(spec.origin).parent
        for name in ("compression", "workers")
        if (spec := find_spec(name)) and spec.origin
    ]
    roots = [Path(sys.prefix), Path(sys.base_prefix)]
    return (
        [Path(path) for path in (*_READABLE, *_LIBRARIES)]
        + own
        + [root for root in roots if len(root.parts) > 1]
    )


def _limit(request: Request) -> None:
    """Memory counts from here: what the warm process holds already is shared and no part of the job."""
    limits = request.limits
    data = _data_bytes() + limits.memory_bytes
    # a training prepares the next batch, in as many threads, beside the step: wall time is what ends it
    cpu = int(limits.seconds * 2 * max(1, limits.threads)) + 10
    bounds = {
        resource.RLIMIT_DATA: data,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_FSIZE: limits.disk_bytes,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if request.uid is not None:
        bounds[resource.RLIMIT_NPROC] = (
            256  # counts all of a user's threads, so only where the user is the child's own
        )
    for kind, bound in bounds.items():
        hard = resource.getrlimit(kind)[1]
        allowed = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _data_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:")) << 10


def _become(uid: int) -> None:
    """A user of its own, with one capability left: to read what the modes of files would hide from it, such
    as an interpreter below root's home. Landlock, not modes, decides what a child may read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)(
        _CAP_DAC_READ_SEARCH, _CAP_DAC_READ_SEARCH
    )  # effective, permitted; the rest empty
    if libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

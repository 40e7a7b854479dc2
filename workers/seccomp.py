"""Seccomp: system calls a computation has no use for fail from now on. Through libseccomp, by name."""

import ctypes
import errno
import os
import tempfile

# Programs, users, other processes, network, file metadata, mounts, what outlives a process, kernel, machine.
_DENIED = """
execve execveat fork vfork uselib personality seccomp landlock_create_ruleset
setsid setpgid setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset
vhangup
ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_open pidfd_getfd pidfd_send_signal
kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo sched_setscheduler sched_setattr setpriority ioprio_set
migrate_pages move_pages
socket socketpair bind listen accept accept4 connect sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg
shutdown
chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr setxattrat
removexattr lremovexattr fremovexattr removexattrat utime utimes utimensat futimesat mknod mknodat
name_to_handle_at open_by_handle_at fanotify_init fanotify_mark inotify_init inotify_init1
inotify_add_watch memfd_create memfd_secret quotactl quotactl_fd
chroot pivot_root mount umount umount2 move_mount open_tree fsopen fspick fsconfig fsmount mount_setattr
statmount listmount setns unshare
shmget shmat shmctl msgget msgsnd msgctl semget semop semctl mq_open mq_unlink add_key request_key keyctl
bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register io_setup io_submit
init_module finit_module delete_module kexec_load kexec_file_load iopl ioperm modify_ldt ustat sysfs
lookup_dcookie nfsservctl syslog
reboot swapon swapoff acct sethostname setdomainname settimeofday clock_settime clock_adjtime adjtimex
"""
_CLONE_THREAD = 0x00010000
_TIOCSTI = 0x5412
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_MODE_FILTER = 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def compile_filter() -> bytes:
    """The kernel's program, made once. Errors: ImportError or RuntimeError without libseccomp."""
    import pyseccomp  # noqa: PLC0415  it fails where the library is not installed, and that is an answer

    denied = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _DENIED.split():
        if (number := pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)) >= 0:
            rules.add_rule(denied, number)
    argument = pyseccomp.Arg
    rules.add_rule(
        denied, "clone", argument(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, 0)
    )  # threads, no processes
    rules.add_rule(
        pyseccomp.ERRNO(errno.ENOSYS), "clone3"
    )  # its flags are out of sight: libc falls back to clone
    rules.add_rule(denied, "prlimit64", argument(2, pyseccomp.NE, 0))
    rules.add_rule(denied, "ioctl", argument(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, _TIOCSTI))
    rules.add_rule(denied, "prctl", argument(0, pyseccomp.EQ, _PR_SET_PDEATHSIG))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def restrict(program: bytes) -> None:
    """For every thread this process will have; it has one now. Errors: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    filter_program = _Program(len(program) // 8, program)
    if (
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filter_program), 0, 0) != 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

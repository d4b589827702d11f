"""Commands under strace: which system calls they make, killed at any of them, or with any of them failing."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from processes import PATIENCE
from required import missing, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CHANGING = (
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,openat,write,pwrite64,pwritev2,sendfile,"
    "copy_file_range,ftruncate,fallocate,fchmod,fsync,fdatasync,syncfs"
)
"""What changes a filesystem or makes changes durable; of ``openat``, the calls that create."""

READING = "read,pread64,readv,preadv,preadv2,lseek,newfstatat,fstat,statx,flock,fcntl,mmap,getdents64"
"""What looks at a filesystem and changes nothing. Python itself makes most of these calls, for its modules."""

_BARRIER = "getppid"
"""A call that nothing makes but what waits to be traced: strace answers the first one itself."""
_TRACED = 1 << 30
"""What it answers; no process has that number."""

_PR_SET_PTRACER = 0x59616D61
"""prctl(2): lets a process that is no ancestor trace this one, which some systems forbid otherwise."""


def require_strace() -> None:
    require("strace", install="apt-get install strace")


def traced(
    command: Callable[..., object], *arguments: object, options: Sequence[str | Path], calls: str = CHANGING
) -> int:
    """Run the command in a forked process under strace, which sees nothing but the command; how it ended.

    Negative: the signal that killed it.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.dont_write_bytecode = True  # only the first run of a command would have those calls
            _await_tracer(writable)
            command(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writable)
    os.read(readable, 1)
    os.close(readable)
    # Without --seccomp-bpf, under which no signal is injected.
    strace = subprocess.run(
        [
            *("strace", "-f", "-qq", "-e", f"trace={calls},{_BARRIER}"),
            f"--inject={_BARRIER}:retval={_TRACED}:when=1",
            *options,
            *("-p", str(child)),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if "attach" in strace.stderr:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        missing(strace.stderr.strip())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _await_tracer(ready: int) -> None:
    """Wait to be traced.

    That a process has a tracer, which /proc tells, does not yet mean that its calls are seen: on a busy machine it can
    make dozens before strace stops it for the first time. So strace has to answer one of them.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    os.write(ready, b"!")
    while os.getppid() != _TRACED:
        time.sleep(0.001)


def all_calls(command: Callable[..., object], *arguments: object, log: Path) -> list[tuple[str, int, bool]]:
    """The traced system calls of the command: the name, the how many-th of that name, whether it changes something."""
    assert traced(command, *arguments, options=("-o", log)) == 0
    found, counts = [], Counter[str]()
    for line in log.read_text().split("\n"):
        name = line.split("(")[0].split()[-1] if "(" in line else "resumed"
        if "resumed" in name or name == _BARRIER:
            continue
        counts[name] += 1
        found.append((name, counts[name], name != "openat" or "O_CREAT" in line))
    return found


def reads(command: Callable[..., object], *arguments: object, log: Path, below: Path) -> list[tuple[str, int]]:
    """The calls of the command that look at something below that directory: the name, the how many-th of that name."""
    assert traced(command, *arguments, options=("-y", "-s", "4096", "-o", log), calls=READING) == 0
    found, counts = [], Counter[str]()
    for line in log.read_text(errors="replace").split("\n"):
        name = line.split("(")[0].split()[-1] if "(" in line else "resumed"
        if "resumed" in name or name == _BARRIER or "=" not in line:
            continue
        counts[name] += 1
        if str(below) in line:
            found.append((name, counts[name]))
    return found


def calls(command: Callable[..., object], *arguments: object, log: Path) -> list[tuple[str, int]]:
    """The system calls of the command that change something: of each its name, and the how many-th of that name."""
    return [(name, number) for name, number, changes in all_calls(command, *arguments, log=log) if changes]


def killed(command: Callable[..., object], *arguments: object, at: tuple[str, int]) -> bool:
    """Run the command and kill it at that system call; whether it came to that."""
    name, number = at
    status = traced(command, *arguments, options=(f"--inject={name}:signal=KILL:when={number}",))
    assert status in {0, -signal.SIGKILL}
    return status != 0


def failing(
    command: Callable[..., object], *arguments: object, at: tuple[str, int], error: str, calls: str = CHANGING
) -> int:
    """Run the command, with that one system call failing; its exit status."""
    name, number = at
    return traced(command, *arguments, options=(f"--inject={name}:error={error}:when={number}",), calls=calls)

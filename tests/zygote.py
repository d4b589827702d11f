"""A Python that has imported all packages, which takes half a second, and forks a process for each piece of code.

It does nothing but fork, so what it forks is what a new interpreter is once it has imported the packages: no store was
ever opened in it and no thread started. Its children become those of this process, which waits for them as for its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType

_PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): what is left by a parent that ends becomes a child of this process, and not of the first one of all."""

_MESSAGE = 1 << 17
"""Bytes that a request may have."""


class Process:
    """A child of this process, with as much of what subprocess.Popen can do as is needed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """How it ended; negative: the signal that killed it."""
        if self.returncode is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                ended = select.select([descriptor], [], [], timeout)[0]
            finally:
                os.close(descriptor)
            if not ended:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The one that is forked, as this process sees it. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A request must fit at once.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MESSAGE)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", "exec(__import__('zygote').serve())", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def run(
        self,
        code: str,
        arguments: Sequence[str],
        *,
        streams: tuple[int, int, int],
        environment: Mapping[str, str],
        directory: str | None = None,
        unbuffered: bool = False,
    ) -> Process:
        """Run the code in a new process, which gets these three descriptors as its standard streams.

        Args:
            code: what it runs.
            arguments: its ``sys.argv[1:]``.
            streams: descriptors of this process.
            environment: all of its environment.
            directory: where it works; None for where this process does.
            unbuffered: whether what it prints comes at once.
        """
        mask = os.umask(0o077)
        os.umask(mask)
        request = {
            "code": code,
            "arguments": arguments,
            "environment": dict(environment),
            "directory": os.getcwd() if directory is None else directory,
            "path": ["", *filter(None, sys.path)],
            "umask": mask,
            "unbuffered": unbuffered,
        }
        message = json.dumps(request).encode()
        if len(message) > _MESSAGE:
            raise ValueError(f"a request of {len(message)} bytes")
        with self._mutex, _subreaper():
            socket.send_fds(self._socket, [message], streams)
            answer = self._socket.recv(64)
        if not answer:
            raise RuntimeError(f"the zygote ended with {self._process.wait(60)}")
        return Process(int(answer))

    def close(self) -> None:
        self._socket.close()
        self._process.wait(60)


_zygotes: dict[int, Zygote] = {}
"""By the process whose it is: what is forked from this one inherits it, and can make nothing of it."""
_starting = threading.Lock()


def zygote() -> Zygote:
    """That of this process, started when it is first needed."""
    with _starting:
        if os.getpid() not in _zygotes:
            _zygotes[os.getpid()] = Zygote()
        return _zygotes[os.getpid()]


def close() -> None:
    """End it, if this process has one."""
    with _starting:
        if os.getpid() in _zygotes:
            _zygotes.pop(os.getpid()).close()


@contextlib.contextmanager
def _subreaper() -> Any:
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(0), 0, 0, 0)


# What runs in the other process.


def serve() -> CodeType:
    """Fork for each request, until nobody can ask any more. Returns in what is forked, with the code to run."""
    for each in pkgutil.walk_packages(importlib.import_module("ocistore").__path__, "ocistore."):
        if not each.name.endswith("__main__") and "_migrations" not in each.name:
            importlib.import_module(each.name)
    for name in ("alembic.command", "alembic.config"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        while True:
            message, streams, _, _ = socket.recv_fds(ours, _MESSAGE, 3)
            if not message:
                sys.exit()
            child = _fork_for_another()
            if child == 0:
                break
            for each in streams:
                os.close(each)
            ours.send(str(child).encode())
    return _begin(json.loads(message), streams)


def _fork_for_another() -> int:
    """Fork a process that is not a child of this one: 0 in it, here its number."""
    readable, writable = os.pipe()
    between = os.fork()
    if between == 0:
        child = os.fork()
        if child == 0:
            os.close(readable)
            os.close(writable)
            return 0
        os.write(writable, str(child).encode())
        os._exit(0)
    os.close(writable)
    os.waitpid(between, 0)
    child = int(os.read(readable, 64))
    os.close(readable)
    return child


def _begin(request: dict[str, Any], streams: Sequence[int]) -> CodeType:
    """Make this what an interpreter started for the code would be."""
    for wanted, given in enumerate(streams):
        os.dup2(given, wanted)
        os.close(given)
    if request["unbuffered"]:
        for name, number in (("stdout", 1), ("stderr", 2)):
            raw = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115
            setattr(sys, name, io.TextIOWrapper(raw, write_through=True))
            setattr(sys, f"__{name}__", getattr(sys, name))
    os.umask(request["umask"])
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = ["-c", *request["arguments"]]
    sys.path[:] = request["path"]
    return compile(request["code"], "<string>", "exec", dont_inherit=True)

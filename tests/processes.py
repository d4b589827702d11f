"""Other processes: real ones, that run a piece of Python with this one's packages, or the command line.

They are forked from one that has ocistore imported already (:mod:`zygote`), because importing it takes longer than most
of what is tried in them. Where it matters what is imported, or from where, ``fresh`` makes an interpreter start for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING

from zygote import Process, zygote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATIENCE = 60.0
"""Seconds until a child that says nothing is taken for stuck."""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run_python(code: str, *arguments: object, patience: float = PATIENCE, fresh: bool = False) -> str:
    """What the code prints. Its ``sys.argv[1:]`` are the arguments."""
    given = [str(argument) for argument in arguments]
    if fresh:
        command = [sys.executable, "-W", "error", "-c", code, *given]
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=patience)
    else:
        done = run_to_end(code, *given, patience=patience)
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMAND_LINE = """
import runpy
runpy.run_module("ocistore", run_name="__main__", alter_sys=True)
"""


def run_command(
    *arguments: object, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with streams and an end of its own."""
    return run_to_end(COMMAND_LINE, *arguments, stdin=stdin, environment=environment)


def run_to_end(
    code: str,
    *arguments: object,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Run the code in a process of its own, however it ends: what it said, and its exit status.

    Args:
        code: what it runs.
        arguments: its ``sys.argv[1:]``.
        stdin: what it can read.
        environment: all of its environment; None for that of this process.
        patience: seconds until it is taken for stuck and killed.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        streams = (given.fileno(), out.fileno(), errors.fileno())
        process = zygote().run(
            code, words, streams=streams, environment=_environment() if environment is None else environment
        )
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
            raise
        return subprocess.CompletedProcess([code, *words], process.returncode, _text(out), _text(errors))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class Child:
    """A running process, spoken to line by line."""

    def __init__(self, process: Process | subprocess.Popen[str], stdin: IO[str] | None, stdout: IO[str] | None) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout = stdout

    def says(self) -> str:
        """Its next line."""
        assert self._stdout is not None
        line = self._stdout.readline()
        assert line, f"the child ended with {self._process.wait(PATIENCE)}"
        return line.strip()

    def tell(self, line: str = "") -> None:
        assert self._stdin is not None
        self._stdin.write(line + "\n")
        self._stdin.flush()

    def kill(self) -> None:
        """As ``kill -9`` does: nothing in the child runs any more."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def die(self) -> None:
        """Wait until it has killed itself."""
        assert self._process.wait(PATIENCE) == -signal.SIGKILL

    def stop(self) -> None:
        """As SIGSTOP does: it stands still, wherever it is."""
        self._process.send_signal(signal.SIGSTOP)

    def wait_until_stopped(self) -> None:
        """Wait until it stands still, by :meth:`stop` or by itself."""
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """After :meth:`stop`."""
        self._process.send_signal(signal.SIGCONT)

    def finish(self) -> None:
        """Wait for a good end."""
        assert self._process.wait(PATIENCE) == 0


@contextlib.contextmanager
def python(code: str, *arguments: object, fresh: bool = False) -> Iterator[Child]:
    """The code in a process of its own, which is killed if it still runs when the block ends."""
    given = [str(argument) for argument in arguments]
    if fresh:
        process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", "-c", code, *given],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield Child(process, process.stdin, process.stdout)
            finally:
                process.kill()
        return
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    with open(ours_in, "w") as stdin, open(ours_out) as stdout:
        try:
            process = zygote().run(
                code, given, streams=(theirs_in, theirs_out, 2), environment=_environment(), unbuffered=True
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        try:
            yield Child(process, stdin, stdout)
        finally:
            process.kill()
            process.wait(PATIENCE)

"""Other processes: real ones, that run a piece of Python with this one's packages."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0
"""Seconds until a child that says nothing is taken for stuck."""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run_python(code: str, *arguments: object, patience: float = PATIENCE) -> str:
    """What the code prints. Its ``sys.argv[1:]`` are the arguments."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=patience,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Child:
    """A running process, spoken to line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def says(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the child ended with {self._process.wait(PATIENCE)}"
        return line.strip()

    def tell(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

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

    def go_on(self) -> None:
        """After :meth:`stop`."""
        self._process.send_signal(signal.SIGCONT)

    def finish(self) -> None:
        """Wait for a good end."""
        assert self._process.wait(PATIENCE) == 0


@contextlib.contextmanager
def python(code: str, *arguments: object) -> Iterator[Child]:
    """The code in a process of its own, which is killed if it still runs when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", code, *map(str, arguments)],
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Child(process)
        finally:
            process.kill()

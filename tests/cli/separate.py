"""The command line in processes of their own, with the streams that they are given or that are closed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING

from processes import COMMAND_LINE, PATIENCE
from zygote import zygote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from zygote import Process

_CLOSE = """
import os, sys
for number in {numbers}:
    os.close(number)
    name = ("stdin", "stdout", "stderr")[number]
    setattr(sys, name, None)  # as an interpreter has it that finds them closed
    setattr(sys, "__" + name + "__", None)
"""


def begin(
    *arguments: object,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    closed: Collection[int] = (),
    code: str = COMMAND_LINE,
) -> Process:
    """Start a command that has no input, with these outputs; of the descriptors 0 to 2, some may be closed."""
    with open(os.devnull, "rb") as null:
        streams = tuple(each if isinstance(each, int) else each.fileno() for each in (null, stdout, stderr))
        return zygote().run(
            _CLOSE.format(numbers=sorted(closed)) + code,
            [os.fspath(each) if isinstance(each, os.PathLike) else str(each) for each in arguments],
            streams=streams,
            environment=dict(os.environ),
        )


@contextlib.contextmanager
def ended(process: Process) -> Iterator[Process]:
    """Kill it if it does not end within the block."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


def run(
    *arguments: object, stdout: IO[bytes] | None = None, stderr: IO[bytes] | None = None, closed: Collection[int] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end.

    Standard output that is not given is a pipe, standard error a file, and what went there comes back as bytes.
    """
    with contextlib.ExitStack() as stack:
        errors = stderr or stack.enter_context(tempfile.TemporaryFile())
        if stdout is None:
            readable, writable = os.pipe()
            reader = stack.enter_context(open(readable, "rb"))
            with open(writable, "wb") as writer:
                process = begin(*arguments, stdout=writer, stderr=errors, closed=closed)
        else:
            process = begin(*arguments, stdout=stdout, stderr=errors, closed=closed)
        stack.enter_context(ended(process))
        out = reader.read() if stdout is None else None
        process.wait(PATIENCE)
        if stderr is None:
            errors.seek(0)
        return subprocess.CompletedProcess(
            [*arguments], process.returncode, out, errors.read() if stderr is None else None
        )

"""Progress: a bar on a terminal, nothing on a pipe."""

import os
import pty
import sys
import time

import pytest

from ocistore.cli.commands import ocistore


@pytest.fixture
def commands(tmp_path):
    """The long commands, as arguments, in an order in which each can succeed."""
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    return [
        ["push", "notes:v1", f"{tmp_path}/file"],
        ["pull", "notes:v1", "-o", f"{tmp_path}/out"],
        ["export", "notes:v1", f"{tmp_path}/layout"],
        ["import", f"{tmp_path}/layout", "copy"],
    ]


def test_a_pipe_gets_no_bar(run, commands):
    for command in commands:
        result = run.try_(*command)
        assert result.exit_code == 0
        assert command[0] not in result.stderr


def test_a_terminal_gets_a_bar_that_ends_at_all_of_it(store, commands, capsys, monkeypatch):
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with open(ours, "rb", buffering=0) as shown, open(theirs, "w") as screen:
        for command in commands:
            with monkeypatch.context() as patched:
                patched.setattr(sys, "stderr", screen)
                ocistore.main(["--store", str(store.root), *command], prog_name="ocistore", standalone_mode=False)
            seen, until = b"", time.monotonic() + 30  # a terminal hands on what it was given when there is time for it
            while b"100%" not in seen and time.monotonic() < until:
                seen += shown.read(100_000) or b""
                time.sleep(0.001)
            assert b"100%" in seen
            assert "%" not in capsys.readouterr().out

"""Names of files that are no ASCII, where the locale knows nothing else: their bytes stay what they are."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest
from processes import COMMAND_LINE, PATIENCE
from zygote import Zygote, zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF_8 = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
NAME = "naïve ☃.txt"


@pytest.fixture
def run() -> Iterator[Callable[..., bytes]]:
    """Run a command in a locale, as bytes in and out, on the store of the directory where it is run."""
    # What is forked has the locale that the interpreter was started in, as this one was.
    zygotes = {"C.UTF-8": zygote()} if sys.getfilesystemencoding() == "utf-8" else {}

    def run(locale: dict[str, str], *arguments: str) -> bytes:
        name = locale["LC_ALL"]
        if name not in zygotes:
            with pytest.MonkeyPatch.context() as patched:
                for variable, value in locale.items():
                    patched.setenv(variable, value)
                zygotes[name] = Zygote()
        # As such an interpreter has the words that it is given in UTF-8.
        encoding = "ascii" if locale is ASCII else "utf-8"
        words = [each.encode().decode(encoding, "surrogateescape") for each in arguments]
        with open(os.devnull) as null, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            process = zygotes[name].run(
                COMMAND_LINE,
                ["--store", "store", *words],
                streams=(null.fileno(), out.fileno(), errors.fileno()),
                environment={**os.environ, **locale},
            )
            process.wait(PATIENCE)
            for file in (out, errors):
                file.seek(0)
            assert process.returncode == 0, errors.read().decode(errors="replace")
            return out.read()

    yield run
    for each in zygotes.values():
        if each is not zygote():
            each.close()


def test_files_keep_the_bytes_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., bytes]
) -> None:
    for there, back in ((ASCII, UTF_8), (UTF_8, ASCII)):
        here = tmp_path / there["LC_ALL"]
        directory = here / f"d-{NAME}"
        directory.mkdir(parents=True)
        monkeypatch.chdir(here)
        (here / NAME).write_bytes(b"a file")
        (directory / NAME).write_bytes(b"inside")
        (directory / f"link to {NAME}").symlink_to(NAME)
        (directory / f"twice {NAME}").hardlink_to(directory / NAME)
        run(there, "push", "docs/names:v1", "--tar", NAME, directory.name, "--media-type", f"{NAME}=text/plain")
        run(back, "pull", "docs/names:v1", "--output", "out")
        out = here / "out"
        assert (out / NAME).read_bytes() == b"a file"
        assert (out / directory.name / NAME).read_bytes() == b"inside"
        assert os.readlink(out / directory.name / f"link to {NAME}") == NAME
        assert (out / directory.name / f"twice {NAME}").read_bytes() == b"inside"
        listed = run(back, "ls-files", "docs/names:v1")
        assert (NAME if back is UTF_8 else r"na\xefve \u2603.txt").encode() in listed
        assert run(back, "cat", f"docs/names:v1:{NAME}") == b"a file"

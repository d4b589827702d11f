"""Names of files that are no ASCII, where the locale knows nothing else: their bytes stay what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF_8 = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
NAME = "naïve ☃.txt"

@pytest.fixture
def run(tmp_path: Path) -> Callable[..., bytes]:
    """Run a command in a locale, as bytes in and out."""

    def run(locale: dict[str, str], *arguments: str) -> bytes:
        environment = {**os.environ, **locale}
        command = [sys.executable, "-m", "ocistore", "--store", str(tmp_path / "store"), *arguments]
        done = subprocess.run(
            [each.encode() for each in command], env=environment, cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    return run


@pytest.mark.parametrize(("there", "back"), [(ASCII, UTF_8), (UTF_8, ASCII)])
def test_files_keep_the_bytes_of_their_names(
    tmp_path: Path, run: Callable[..., bytes], there: dict[str, str], back: dict[str, str]
) -> None:
    directory = tmp_path / f"d-{NAME}"
    directory.mkdir()
    (tmp_path / NAME).write_bytes(b"a file")
    (directory / NAME).write_bytes(b"inside")
    (directory / f"link to {NAME}").symlink_to(NAME)
    (directory / f"twice {NAME}").hardlink_to(directory / NAME)
    run(there, "push", "docs/names:v1", NAME, directory.name, "--media-type", f"{NAME}=text/plain")
    run(back, "pull", "docs/names:v1", "--output", "out")
    out = tmp_path / "out"
    assert (out / NAME).read_bytes() == b"a file"
    assert (out / directory.name / NAME).read_bytes() == b"inside"
    assert os.readlink(out / directory.name / f"link to {NAME}") == NAME
    assert (out / directory.name / f"twice {NAME}").read_bytes() == b"inside"
    listed = run(back, "ls-files", "docs/names:v1")
    assert (NAME if back is UTF_8 else r"na\xefve \u2603.txt").encode() in listed
    assert run(back, "cat", f"docs/names:v1:{NAME}") == b"a file"

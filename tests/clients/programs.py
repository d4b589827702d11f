"""Running clients, what they say when they cannot, and the servers on this machine that some of them bring along."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120
"""Seconds until a client is taken for stuck."""
START = 30
"""Seconds that a server has to come up."""
LONGEST = 150
"""Characters of an error that the page shows."""


class ClientError(Exception):
    """A client ended with an error; the text is its own, without what differs from run to run."""


def run(*command: object, inside: Path) -> str:
    """Run a client to its end; what it wrote to standard output.

    Raises:
        ClientError: it failed. Paths below ``inside`` are left out of its text.
    """
    home = str(inside)
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "HOME": home, "XDG_RUNTIME_DIR": home}
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
    )
    if done.returncode != 0:
        raise ClientError(said(done.stderr, inside))
    return done.stdout


def said(text: str, inside: Path) -> str:
    """The last line of an error, short, and the same in every run."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # podman lists what it tried to read an archive as: only of one of these the reason means something.
    lines = [line for line in lines if not line.startswith("* ") or line.startswith("* oci-archive:")]
    line = lines[-1] if lines else "it failed and said nothing"
    if (message := re.search(r'msg="((?:[^"\\]|\\.)*)"', line)) is not None:
        line = message[1].replace('\\"', '"')
    line = line.removeprefix("* oci-archive: ")
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    line = re.sub(r"^(Error( response from registry)?:|\u2a2f|ctr:|FATA\[\d+\])\s*", "", line)
    line = re.sub(re.escape(str(inside)) + r"(/[\w.-]+)?", "DIR", line)
    line = re.sub(r"\b(sha256|sha512)([:/-])[0-9a-f]{64,128}", r"\1\2…", line)
    line = re.sub(r"\b[0-9a-f]{64,128}\b", "…", line)
    line = re.sub(r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:PORT", line)
    line = re.sub(r"\s+", " ", line).replace("`", "'").replace("|", "/")
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


# --- servers ----------------------------------------------------------------------------------------------------------


class Registry:
    """The registry that crane brings along, on a port of this machine: for clients that only copy to and from one."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        with open(directory / "registry.log", "wb") as log:
            command = ["crane", "registry", "serve", "--address", self.address]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            until(lambda: _answers(port), self._process)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Containerd:
    """A containerd of our own, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "socket")
        config = directory / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\naddress = "{self.address}"\n'
        )
        self._log = directory / "log"
        with open(self._log, "wb") as log:
            command = ["containerd", "--config", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            until(lambda: _ready(self.address), self._process)
        except TimeoutError as error:
            self.close()
            raise ClientError(said(self._log.read_text(), directory)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def until(holds, process: subprocess.Popen[bytes]) -> None:
    """Wait until something holds, or the process ended, or is too late."""
    deadline = time.monotonic() + START
    while not holds():
        if process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(process.args)
        time.sleep(0.02)


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _ready(address: str) -> bool:
    asked = ["ctr", "--address", address, "--connect-timeout", "1s", "version"]
    return os.path.exists(address) and subprocess.run(asked, capture_output=True).returncode == 0

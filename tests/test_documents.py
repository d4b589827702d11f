"""The examples in README.md and docs/ run as they stand there."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import COMMAND_LINE
from zygote import zygote

HERE = Path(__file__).parents[1]
DOCUMENTS = [HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SETS_UP = "python3 -m venv "
"""How commands begin that install the project and run these tests: the project's CI runs those."""


class Example(NamedTuple):
    """A fenced block that is meant to be run."""

    language: str
    line: int
    code: str


def examples(document):
    """The blocks of a document that are Python or commands of a shell, in their order."""
    text = document.read_text()
    blocks = (Example(match[1], text[: match.start(2)].count("\n"), match[2]) for match in FENCED.finditer(text))
    return [block for block in blocks if block.language in {"python", "sh"} and not block.code.startswith(SETS_UP)]


ASKING = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect({address!r})
    request = [os.getcwd(), dict(os.environ), sys.argv[1:]]
    socket.send_fds(asking, [json.dumps(request).encode()], [0, 1, 2])
    sys.exit(int(asking.recv(16)))
"""
"""A program that lets a process do it that has imported everything already."""


@pytest.fixture
def program(tmp_path):
    """A directory with ``ocistore`` in it."""
    directory, address = tmp_path / "bin", f"\0{uuid.uuid4()}"
    directory.mkdir()
    script = directory / "ocistore"
    script.write_text(ASKING.format(python=sys.executable, address=address))
    script.chmod(0o755)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()

    def answer():
        while True:
            asked, _ = listening.accept()
            with asked:
                message, streams, _, _ = socket.recv_fds(asked, 1 << 17, 3)
                if not message:
                    return
                where, environment, arguments = json.loads(message)
                process = zygote().run(
                    COMMAND_LINE, arguments, streams=streams, environment=environment, directory=where
                )
                for descriptor in streams:
                    os.close(descriptor)
                asked.send(str(process.wait(60)).encode())

    answering = threading.Thread(target=answer)
    answering.start()

    yield directory
    with listening:
        with socket.socket(socket.AF_UNIX) as ending:
            ending.connect(address)
        answering.join()


@pytest.fixture
def _logging_as_before(monkeypatch):
    """Take back the handlers that an example adds."""
    monkeypatch.setattr(logging.getLogger("ocistore"), "handlers", [logging.NullHandler()])


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize("document", [path for path in DOCUMENTS if examples(path)], ids=lambda path: path.name)
def test_the_examples_of_a_document_run_one_after_the_other(document, tmp_path, program, monkeypatch):
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    environment = {key: value for key, value in os.environ.items() if key != "OCISTORE_STORE"}
    environment["PATH"] = f"{program}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    namespace = {"__name__": "__main__"}
    for language, line, code in examples(document):
        if language == "python":
            exec(compile("\n" * line + code, document, "exec"), namespace)
            continue
        done = subprocess.run(["sh", "-eu", "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{document.name}, line {line}: {done.stderr}"


def test_the_documents_that_show_how_it_is_used_have_examples():
    with_examples = {path.name for path in DOCUMENTS if examples(path)}
    assert {"README.md", "artifacts.md", "building.md", "layouts.md", "operating.md"} <= with_examples


def test_every_document_that_a_document_links_to_is_there():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_table_of_rooms_names_every_room_and_no_other():
    package = HERE / "ocistore"
    section = (HERE / "docs" / "architecture.md").read_text().partition("## The rooms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    there = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    there |= {path.name for path in package.glob("[!_]*.py")}
    assert {name for row in rows for name in re.findall(r"`(.+?)`", row)} == there

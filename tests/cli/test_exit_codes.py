"""Errors: one line on standard error, and an exit code that says which."""

import inspect
import os
import signal
import subprocess
import sys
import tempfile
import time

import click
import pytest
import separate
from click.testing import CliRunner
from images import note, push
from processes import PATIENCE, run_python

from ocistore import Digest, OCIStoreError, __version__, errors
from ocistore.cli.commands import ocistore
from ocistore.cli.program import Program

ABSENT = Digest.of(b"absent")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["tags", "Upper"], 10),
        (["show", "library/app"], 10),
        (["show", "none:v1"], 11),
        (["show", "library/app@sha256:12"], 12),
        (["cat", f"library/app@{ABSENT}"], 15),
        (["show", "library/app:none"], 16),
        (["push", "a:b", __file__, "--artifact-type", "none"], 18),
        (["tag", "library/app:v1", "v1", "--expected", "none"], 22),
        (["import", "/dev"], 23),
        (["push", "a:b", "/dev/null"], 24),
        (["--store", "/dev", "repos"], 32),
        (["push", "a:b", "/nowhere/at all"], 1),
        (["frobnicate"], 2),
        (["show"], 2),
        (["show", "--frobnicate"], 2),
        (["db"], 2),
        (["repos", "--limit", "many"], 2),
        (["--store", __file__, "repos"], 2),
    ],
)
def test_each_error_is_one_line_and_has_its_exit_code(run, repository, arguments, code):
    push(repository, note(1), "v1")
    result = run.try_(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def _error_classes():
    return [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, OCIStoreError)]


@pytest.mark.parametrize("error", _error_classes(), ids=lambda error: error.__name__)
def test_every_class_of_error_ends_with_its_own_exit_code(error):
    @click.group(cls=Program)
    def program():
        pass

    @program.command()
    def fail():
        said = type("Said", (error,), {"__str__": lambda _: "first line\nsecond line"})
        raise OCIStoreError.__new__(said)

    result = CliRunner(catch_exceptions=False).invoke(program, ["fail"])
    assert result.exit_code == error.exit_code
    assert result.stderr == "Error: first line\\nsecond line\n"


def test_no_two_classes_of_error_share_an_exit_code():
    codes = [error.exit_code for error in _error_classes()]
    assert len(set(codes)) == len(codes)
    assert not {0, 2, 130} & set(codes)


def test_a_usage_error_says_where_help_is(run):
    assert "(see: ocistore show --help)" in run.try_("show").stderr


def invoke(*arguments, store=None):
    """Run a command with the store that the environment names."""
    environment = {"OCISTORE_STORE": store}
    return CliRunner(catch_exceptions=False).invoke(ocistore, arguments, env=environment, prog_name="ocistore")


def test_without_a_store_it_says_what_to_do():
    for empty in (None, ""):
        done = invoke("repos", store=empty)
        assert done.exit_code == 2
        assert "--store DIR" in done.stderr
        assert "OCISTORE_STORE" in done.stderr


def test_the_store_comes_from_the_environment_and_the_option_wins(store, tmp_path):
    push(store.repository("here"), note(1), "v1")
    for options, named in (([], store.root), (["--store", str(store.root)], tmp_path / "other")):
        assert invoke(*options, "repos", store=str(named)).stdout == "here\n"


def test_help_and_version_need_no_store():
    for arguments in ([], ["--help"], ["push", "--help"], ["--version"]):
        done = invoke(*arguments)
        assert done.exit_code == 0
        assert "ocistore" in done.stdout
        assert done.stderr == ""


def test_the_package_can_be_run(command):
    done = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ocistore {__version__}\n", "")


def test_a_reader_that_goes_away_is_no_news(store):
    with store.transaction() as transaction:
        repository = transaction.repository("many")
        for number in range(20):
            push(repository, note(number), *(f"tag-{number}-{count}-{'x' * 100}" for count in range(100)))
    readable, writable = os.pipe()
    with open(readable, "rb", buffering=0) as reader, tempfile.TemporaryFile() as errors:
        with open(writable, "wb") as writer:
            process = separate.begin("--store", store.root, "tags", "many", stdout=writer, stderr=errors)
        with separate.ended(process):
            assert reader.read(1)
            reader.close()
            assert process.wait(PATIENCE) == 1
        errors.seek(0)
        assert errors.read() == b""


def test_interrupted_it_says_nothing_and_exits_130(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        "import click, sys; from ocistore.cli.program import Program\n"
        "@click.group(cls=Program)\ndef program(): pass\n"
        "@program.command()\ndef wait():\n with open(sys.argv[2]) as fifo: fifo.read()\n"
        "program(['wait'])"
    )
    with open(tmp_path / "errors", "wb") as errors:
        process = separate.begin("wait", fifo, stdout=errors, stderr=errors, code=code)
    with separate.ended(process), open(fifo, "wb"):  # opening waits until the command reads
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert "Traceback" not in (tmp_path / "errors").read_text()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["repos"], ["repos", "--help"], ["cat", "here:v1"], ["tags", "here", "--json"]])
def test_a_full_standard_output_is_an_error(store, unbuffered, arguments):
    push(store.repository("here"), note(1), "v1")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ocistore", "--store", store.root, *arguments],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"Error: No space left on device\n"


def test_importing_the_library_imports_no_command_line():
    code = (
        "import sys, ocistore\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'click', 'alembic'})\n"
        "import click\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'click', 'alembic'})\n"
    )
    assert run_python(code, fresh=True) == "set()\n{'click'}\n"


@pytest.mark.parametrize(
    ("command", "closed", "said"),
    [
        ("import", 0, "standard input: Bad file descriptor"),
        ("export", 1, "standard output: Bad file descriptor"),
    ],
)
def test_a_closed_stream_is_one_line(store, command, closed, said):
    done = separate.run("--store", store.root, command, "-", closed={closed})
    assert (done.returncode, done.stderr) == (1, f"Error: {said}\n".encode())

"""What people expect of any command line: -h, options in any place, lengths of time, colours, and what they meant."""

import os
import pty

import pytest
from click.testing import CliRunner
from processes import run_python

from ocistore.cli.commands import ocistore
from ocistore.cli.printing import progress_words


def invoke(*arguments, **environment):
    return CliRunner(catch_exceptions=False).invoke(
        ocistore, [*map(str, arguments)], env={"OCISTORE_STORE": None, **environment}, prog_name="ocistore"
    )


@pytest.mark.parametrize("command", [[], ["tags"], ["db", "check"], ["uploads"], ["completion"]])
def test_h_is_help_everywhere(command):
    assert invoke(*command, "-h").stdout == invoke(*command, "--help").stdout != ""


def test_the_store_may_be_named_after_the_command(store):
    for command in (["repos"], ["db", "check"], ["uploads"]):
        assert invoke("--store", store.root, *command).exit_code == 0
        assert invoke(*command, "--store", store.root).exit_code == 0
    assert invoke("db", "--store", store.root, "check").exit_code == 0
    assert invoke("repos").exit_code == 2


def test_what_stands_after_the_command_is_the_store(store, tmp_path):
    assert invoke("--store", tmp_path / "absent", "repos", "--store", store.root).exit_code == 0
    assert invoke("--store", store.root, "repos", "--store", tmp_path / "absent").exit_code == 32


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_click_gives_to_the_shell(shell):
    assert invoke("completion", shell).stdout == invoke(_OCISTORE_COMPLETE=f"{shell}_source").stdout


@pytest.mark.parametrize("given", ["0", "90s", "1h30m", "1d12h5m3s", "500ms"])
def test_lengths_of_time_may_have_several_units(run, given):
    assert run.try_("gc", "--grace", given).exit_code == 0


@pytest.mark.parametrize("given", ["5", "1h30", "h", "1 h", "-1h", "1y", "999999999w1s", ""])
def test_what_is_no_length_of_time_is_refused(run, given):
    result = run.try_("gc", f"--grace={given}")
    assert result.exit_code == 2
    assert "too long" in result.stderr or "1h30m" in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"), [("tgs", "tags"), ("ls", "repos"), ("delete", "rm"), ("inspect", "show"), ("psuh", "push")]
)
def test_a_command_that_does_not_exist_is_answered_with_the_one_that_is_meant(typed, meant):
    result = invoke(typed)
    assert result.exit_code == 2
    assert f"No such command '{typed}'. Did you mean {meant}" in result.stderr


def test_a_word_that_means_nothing_is_answered_with_the_help():
    assert invoke("qqqqqq").stderr == "Error: No such command 'qqqqqq'. (see: ocistore --help)\n"


def test_every_answer_to_another_word_is_a_command():
    from ocistore.cli.program import OTHER_WORDS

    assert {answer for answer in OTHER_WORDS.values() if answer not in ocistore.commands} == set()
    assert {word for word in OTHER_WORDS if word in ocistore.commands} == set()


def test_a_misspelt_option_is_answered_with_the_one_that_is_meant(store):
    assert "--dry-run" in invoke("--store", store.root, "gc", "--dry-rum").stderr


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["tag", "app:v1"], "Usage: ocistore tag REF NEWTAG"),
        (["push", "app:v1"], "Usage: ocistore push REF FILE..."),
        (["repos", "app"], "Usage: ocistore repos"),
        (["show"], "Usage: ocistore show REF"),
    ],
)
def test_wrong_arguments_are_answered_with_the_right_ones(run, arguments, right):
    result = run.try_(*arguments)
    assert result.exit_code == 2
    assert right in result.stderr
    assert result.stderr.count("\n") == 1


RED = "\x1b[31m"


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
    ],
)
def test_in_a_pipe_colours_are_as_the_environment_says(environment, coloured):
    names = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR")
    result = invoke("repos", **{**dict.fromkeys(names), **environment})
    assert (RED in result.stderr) == coloured


def on_terminal(**environment):
    """What a command that fails shows on a terminal."""
    ours, theirs = pty.openpty()
    try:
        run_python(
            f"import os, sys; os.environ.update({environment!r}); sys.argv = ['x', 'qqqqqq']\n"
            f"os.dup2(os.open({os.ttyname(theirs)!r}, os.O_RDWR | os.O_NOCTTY), 2)\n"
            "from ocistore.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass",
            fresh=True,
        )
        return os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_errors_are_red_on_a_terminal_unless_that_is_switched_off():
    assert RED in on_terminal(TERM="xterm")
    for environment in ({"NO_COLOR": "1"}, {"CLICOLOR": "0"}, {"TERM": "dumb"}):
        shown = on_terminal(**environment)
        assert RED not in shown
        assert "Error:" in shown


def test_a_bar_says_how_much_how_fast_and_how_long():
    assert progress_words(1024, 4096, 1024, 2.0) == "1.0 KiB of 4.0 KiB, 512 B/s, 0:00:06 left"
    assert progress_words(4096, 4096, 4096, 2.0) == "4.0 KiB of 4.0 KiB, 2.0 KiB/s"
    assert progress_words(1024, 4096, 1024, 0.1) == "1.0 KiB of 4.0 KiB"
    assert progress_words(1024, 4096, 0, 9.0) == "1.0 KiB of 4.0 KiB"

"""Completion of repositories and tags, as a shell asks for it."""

import os
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from images import note, push

from ocistore.cli.commands import ocistore

BASH = shutil.which("bash")


@pytest.fixture
def filled(store):
    for name in ("library/alpine", "library/app", "tools"):
        push(store.repository(name), note(name), "v1", "v2", "latest")
    return store


def ask(shell, environment, store=None):
    """What the command line answers to a shell, for a line and the store of the environment."""
    given = {
        "_OCISTORE_COMPLETE": shell,
        "OCISTORE_STORE": None if store is None else str(store),
        **environment,
    }
    done = CliRunner(catch_exceptions=False).invoke(ocistore, env=given, prog_name="ocistore")
    assert done.stderr == ""
    return done.stdout


def bash(line, store, breaks=" :="):
    """What bash is offered at the end of a line."""
    answer = ask("bash_complete", {"COMP_LINE": line, "COMP_WORDBREAKS": breaks}, store)
    return [text.removeprefix("plain,") for text in answer.splitlines() if text]


def test_repositories_are_completed(filled):
    assert bash("ocistore tags lib", filled.root) == ["library/alpine", "library/app"]
    assert bash("ocistore show ", filled.root) == ["library/alpine", "library/app", "tools"]


def test_tags_are_completed_behind_a_colon_and_where_one_repository_is_left(filled):
    assert bash("ocistore show tools:v", filled.root, breaks=" ") == ["tools:v1", "tools:v2"]
    assert bash("ocistore show too", filled.root, breaks=" ") == ["tools", "tools:latest", "tools:v1", "tools:v2"]


def test_bash_is_given_only_what_follows_the_colon(filled):
    assert bash("ocistore show tools:", filled.root) == ["latest", "v1", "v2"]
    assert bash("ocistore push x f --subject=tools:v", filled.root) == ["v1", "v2"]


def test_commands_and_options_are_completed():
    assert bash("ocistore unt", None) == ["untag"]
    assert "--subject" in bash("ocistore push --s", None)
    assert bash("ocistore db c", None) == ["check", "compact", "current"]


def test_the_store_may_be_given_on_the_line(filled):
    assert bash(f"ocistore --store {filled.root} tags to", None) == ["tools"]


@pytest.mark.parametrize("line", ["ocistore show x", "ocistore show UPPER:", "ocistore tags a b c"])
def test_completion_never_fails(filled, tmp_path, line):
    (tmp_path / "file").write_bytes(b"no store")
    for root in (None, tmp_path / "absent", tmp_path / "file", filled.root):
        assert bash(line, root) == []
    assert not (tmp_path / "absent").exists()


def test_other_shells_are_given_whole_references(filled):
    asked = {"COMP_WORDS": "ocistore show tools:v", "COMP_CWORD": "tools:v"}
    assert ask("fish_complete", asked, filled.root).count("tools:v") == 2
    asked = {"COMP_WORDS": "ocistore show tools:v", "COMP_CWORD": "2"}
    assert ask("zsh_complete", asked, filled.root).count("tools:v") == 2


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
def test_the_script_works_in_bash(command, filled, tmp_path):
    program = tmp_path / "bin" / "ocistore"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {command[0]} -W error -m ocistore\n")
    program.chmod(0o755)
    (tmp_path / "completion").write_text(ask("bash_source", {}))
    script = """
        source "$1"
        COMP_LINE="ocistore show tools:v trailing" COMP_POINT=21
        _ocistore_completion ocistore tools:v show
        printf '%s\\n' "${COMPREPLY[@]}"
        COMP_LINE="ocistore show nothing" COMP_POINT=21
        _ocistore_completion ocistore nothing show
        echo ${#COMPREPLY[@]}
        complete -p ocistore
    """
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "OCISTORE_STORE": str(filled.root),
        "PYTHONPATH": os.getcwd(),
    }
    done = subprocess.run(
        [BASH, "--norc", "-c", script, "bash", tmp_path / "completion"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout == "v1\nv2\n0\ncomplete -F _ocistore_completion ocistore\n"

"""Paths that nothing can have, wherever one is given: one sentence, and nothing is done elsewhere instead."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from state import unchanged

from ocistore import InvalidNameError, StorageError, Store, rebuild
from ocistore.artifacts import pull_files, push_files
from ocistore.cli.commands import ocistore

HELLO = b"hello"


class Given(NamedTuple):
    """Something that takes a path."""

    name: str
    act: Callable[[Store, str], object]


GIVEN = [
    Given("an import", lambda store, path: store.import_(path)),
    Given("an export", lambda store, path: store.export(path)),
    Given("a base", lambda store, path: store.export("out", base=[path])),
    Given("a backup", lambda store, path: store.backup(path)),
    Given("a scrub", lambda store, path: store.scrub(heal_from=[path])),
    Given("a copy", lambda store, path: store.copy_to(path)),
    Given("a pull", lambda store, path: pull_files(store, "files:v1", path)),
    Given("a rebuild", lambda _, path: rebuild(path)),
]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: given.name)
def test_a_path_that_nothing_can_have_is_one_sentence_wherever_it_is_given(store, tmp_path, monkeypatch, given):
    (tmp_path / "file").write_bytes(HELLO)
    push_files(store, "files:v1", [tmp_path / "file"])
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with unchanged(store.root):
        for path, said in (("", "it is empty"), ("a\0b", "NUL character")):
            with pytest.raises(InvalidNameError, match=said):
                given.act(store, path)
        (tmp_path / "gone").rmdir()
        with pytest.raises(StorageError, match="the working directory"):
            given.act(store, "relative")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--store", "", "init"),
        ("--store", "STORE", "import", ""),
        ("--store", "STORE", "export", ""),
        ("--store", "STORE", "export", "out", "--base", ""),
        ("--store", "STORE", "backup", ""),
        ("--store", "STORE", "scrub", "--heal-from", ""),
        ("--store", "STORE", "pull", "files:v1", "-o", ""),
        ("--store", "STORE", "push", "files:v2", ""),
        ("copy", "STORE", ""),
        ("copy", "", "out"),
    ],
    ids=" ".join,
)
def test_a_variable_that_is_not_set_is_not_the_working_directory(store, tmp_path, monkeypatch, arguments):
    (tmp_path / "file").write_bytes(HELLO)
    push_files(store, "files:v1", [tmp_path / "file"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = CliRunner().invoke(ocistore, [str(store.root) if each == "STORE" else each for each in arguments])
    assert result.exit_code in {2, 10}
    assert "it is empty" in result.output
    assert not any((tmp_path / "here").iterdir())

"""ocistore backup and ocistore rebuild."""

import json

import pytest
from click.testing import CliRunner
from images import APP, push
from invariants import check
from state import pool

from ocistore import Digest, Store
from ocistore.cli.commands import ocistore


@pytest.fixture
def run(store):
    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(ocistore, ["--store", str(store.root), *arguments], prog_name="ocistore")
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


def test_backup_makes_a_store_and_says_what_it_holds(run, store, repository, tmp_path):
    push(repository, APP, "v1")
    assert run("backup", str(tmp_path / "copy")).startswith("blobs  3, ")
    assert json.loads(run("backup", str(tmp_path / "copy"), "--mode", "link", "--json"))["removed"] == 0
    assert pool(tmp_path / "copy") == pool(store.root)


def test_backup_names_what_is_damaged_and_exits_2(run, store, repository, tmp_path):
    push(repository, APP, "v1")
    digest = Digest.of(APP.config)
    (store.root / "blobs" / "sha256" / digest.encoded).unlink()
    assert f"damaged: {digest}" in run("backup", str(tmp_path / "copy"), exit_code=2)


def test_rebuild_brings_a_lost_catalog_back_and_a_person_lets_collection_go_on(run, store, repository):
    push(repository, APP, "v1")
    push(repository, APP)
    run("gc")
    store.close()
    (store.root / "catalog.db").unlink()
    assert "ocistore rebuild" in run("tags", repository.name, exit_code=35)
    assert "ocistore gc --confirm" in run("rebuild")
    run("gc", exit_code=41)
    run("gc", "--confirm")
    assert check(store.root, hashes=True) == []
    assert "good" in run("rebuild", exit_code=43)


def test_rebuild_names_what_is_missing_and_exits_2(run, store, repository):
    push(repository, APP, "v1")
    store.close()
    digest = Digest.of(APP.config)
    (store.root / "blobs" / "sha256" / digest.encoded).unlink()
    (store.root / "catalog.db").unlink()
    found = json.loads(run("rebuild", "--json", exit_code=2))
    assert found["missing"] == [digest]
    assert found["foundManifests"] == 1
    with Store.open(store.root) as again:
        assert list(again.repositories()) == ["lost-and-found"]
        push(again.repository("lost-and-found"), APP)

"""What is big is made visible by one small step: no transaction, in which every other writer waits, grows with it."""

import contextlib
from datetime import timedelta

import pytest
from images import APP, artifact, image, index, push
from invariants import check
from processes import python
from state import catalog

from ocistore import RepositoryNotFoundError, Store, UploadNotFoundError
from ocistore.catalog import repositories
from ocistore.catalog.engine import Catalog

TABLES = ["repositories", "repository_blobs", "repository_manifests", "repository_edges", "tags", "uploads"]
NOTHING = dict.fromkeys([*TABLES, "lease_blobs", "deleted_repositories"], 0)


@contextlib.contextmanager
def changed_rows(monkeypatch):
    """Give a list of how many rows each write transaction changed."""
    found = []
    write = Catalog.write

    @contextlib.contextmanager
    def counted(self):
        with write(self) as connection:
            before = connection.driver.total_changes
            yield connection
            found.append(connection.driver.total_changes - before)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "write", counted)
        yield found


def counts(root, tables=NOTHING):
    with catalog(root) as connection:
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


# --- deleting a repository --------------------------------------------------------------------------------------------


def fill(repository, number):
    """Tags, an index, artifacts, an upload session and a lease's content."""
    for i in range(number):
        push(repository, image(i), f"v{i:03}", "latest")
    push(repository, index([image(0), image(1)]), "both")
    push(repository, artifact(subject=image(0)))
    repository.start_upload().close()


def test_a_large_repository_is_deleted_in_small_transactions(store, repository, monkeypatch):
    limit = 20
    fill(repository, 40)
    push(store.repository("other"), image(0), "v1")
    monkeypatch.setattr(repositories, "EMPTIED_AT_ONCE", limit)
    with changed_rows(monkeypatch) as changed:
        store.delete_repository(repository.name)
    assert len(changed) > 10
    assert max(changed) <= 2 * limit + 5  # a membership is deleted, and its blob queued
    assert list(store.repositories()) == ["other"]
    assert counts(store.root) == NOTHING | {
        "repositories": 1, "repository_blobs": 2, "repository_manifests": 1, "repository_edges": 2, "tags": 1
    }  # fmt: skip
    assert list((store.root / "uploads").iterdir()) == []
    assert check(store) == []


def test_a_small_repository_is_deleted_in_one_transaction(store, repository, monkeypatch):
    fill(repository, 3)
    with changed_rows(monkeypatch) as changed:
        store.delete_repository(repository.name)
    assert len(changed) == 1
    assert counts(store.root) == NOTHING


class Killed(BaseException):
    """As a kill would be: nothing of ours handles it."""


@pytest.fixture
def half_deleted(store, repository, monkeypatch):
    """A repository of which the process that deletes it does not survive the first transaction."""
    fill(repository, 5)
    upload = repository.start_upload()
    upload.close()
    monkeypatch.setattr(repositories, "EMPTIED_AT_ONCE", 2)

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("ocistore.store.empty_deleted", killed)
        with pytest.raises(Killed):
            store.delete_repository(repository.name)
    assert counts(store.root)["tags"] > 0
    return upload.id


def test_nobody_sees_anything_of_a_repository_that_is_deleted_and_not_emptied(store, repository, half_deleted):
    assert list(store.repositories()) == []
    for call in (
        lambda: list(repository.tags()),
        lambda: list(repository.manifests()),
        lambda: list(repository.uploads()),
        lambda: list(repository.history()),
        lambda: repository.resolve("latest"),
        lambda: repository.resolve(image(0).digest),
        lambda: repository.stat_blob(image(0).layers and index([image(0)]).digest),
        lambda: repository.referrers(image(0).digest),
        lambda: store.delete_repository(repository.name),
    ):
        with pytest.raises(RepositoryNotFoundError):
            call()
    with pytest.raises(UploadNotFoundError):
        repository.upload(half_deleted)
    usage = store.usage()
    assert (usage.repositories, usage.tags, usage.manifests, usage.uploads) == (0, 0, 0, 0)
    assert check(store) == []


def test_a_collection_completes_the_deletion(store, repository, half_deleted):
    zero = timedelta(0)
    expected = store.gc(grace=zero, keep_untagged=zero, dry_run=True)
    taken = store.gc(grace=zero, keep_untagged=zero)
    assert (taken.blobs, taken.manifests) == (expected.blobs, expected.manifests)
    assert counts(store.root) == NOTHING
    store.gc(grace=zero, keep_untagged=zero)
    assert store.usage().blobs == 0
    assert counts(store.root, ["blobs", "manifests", "edges"]) == {"blobs": 0, "manifests": 0, "edges": 0}
    assert check(store) == []


def test_the_removal_of_tags_is_older_than_what_happens_to_a_new_repository_of_that_name(
    store, repository, half_deleted
):
    push(repository, APP, "latest", "v000")
    repository.untag("v000")
    store.gc()
    assert counts(store.root, ["deleted_repositories"]) == {"deleted_repositories": 0}
    new = [(event.old, event.new) for event in repository.history("latest")]
    assert new[:2] == [(None, APP.digest), (image(4).digest, None)]
    assert [event.new for event in repository.history("v000")] == [None, APP.digest, None, image(0).digest]
    assert check(store) == []


KILLED = """
import os, sys
from ocistore import Store
from ocistore.catalog import repositories
repositories.EMPTIED_AT_ONCE = 3
store = Store.open(sys.argv[1])
done, empty = 0, repositories.empty
def counted(*arguments, **options):
    global done
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    done += 1
    return empty(*arguments, **options)
repositories.empty = counted
store.delete_repository("app")
"""


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_killed_anywhere_in_a_deletion_it_has_happened_or_not(tmp_path, steps):
    root = tmp_path / "store"
    with Store.open(root) as store:
        fill(store.repository("app"), 5)
    with python(KILLED, root, steps) as child, pytest.raises(AssertionError):
        child.finish()
    with Store.open(root) as store:
        assert list(store.repositories()) == (["app"] if steps == 0 else [])
        assert check(store) == []
        store.gc()
        assert check(store) == []
        if steps:
            assert counts(root) == NOTHING

"""What is big is made visible by one small step: no transaction, in which every other writer waits, grows with it."""

import contextlib
import shutil
import tracemalloc
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from images import APP, artifact, image, index, note, push
from invariants import check
from processes import python
from state import catalog, staged

from benchmarks.harness import memory_growth
from ocistore import (
    BlobNotFoundError,
    Digest,
    ManifestBlobUnknownError,
    ManifestNotFoundError,
    OCIStoreError,
    ReferencedError,
    RepositoryNotFoundError,
    Store,
    TagConflictError,
    UploadNotFoundError,
    largechanges,
    largedeletions,
)
from ocistore.catalog import batches, leases, refs, repositories
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.changes import PutManifest
from ocistore.core import Core
from ocistore.layouts import copying, transfer
from ocistore.layouts.imports import planning
from ocistore.upkeep import gc

pytestmark = pytest.mark.every_pool

TABLES = ["repositories", "repository_blobs", "repository_manifests", "repository_edges", "tags", "uploads"]
NOTHING = dict.fromkeys([*TABLES, "lease_blobs", "deleted_repositories"], 0)


@contextlib.contextmanager
def changed_rows(monkeypatch):
    """Give a list of how many rows each write transaction changed."""
    found = []
    write = SQLiteCatalog.write

    @contextlib.contextmanager
    def counted(self, **options):
        with write(self, **options) as connection:
            before = connection.driver.total_changes
            yield connection
            found.append(connection.driver.total_changes - before)

    with monkeypatch.context() as patch:
        patch.setattr(SQLiteCatalog, "write", counted)
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
    assert staged(store.root) == []
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
        patch.setattr("ocistore.core.empty_deleted", killed)
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


# --- deleting a manifest ----------------------------------------------------------------------------------------------


def much_referred_to(repository, number=40):
    """A manifest with very many tags, and referrers."""
    push(repository, image("much"), *(f"v{i:03}" for i in range(number)))
    for i in range(number):
        push(repository, artifact({"n": str(i)}, subject=image("much")))
    push(repository, APP, "other")
    return image("much").digest


def test_a_manifest_with_many_tags_and_referrers_is_deleted_in_small_transactions(store, repository, monkeypatch):
    monkeypatch.setattr(largedeletions, "MANY", 10)
    digest = much_referred_to(repository)
    with changed_rows(monkeypatch) as changed:
        repository.delete_manifest(digest)
    assert max(changed) <= 3 * 10 + 5  # a tag, its event, and once more what it pointed at
    assert len(changed) >= 8
    assert list(repository.tags()) == ["other"]
    assert {event.tag: (event.old, event.new) for event in repository.history() if event.new is None} == {
        f"v{i:03}": (digest, None) for i in range(40)
    }
    assert check(store) == []
    zero = timedelta(0)
    store.gc(grace=zero, keep_untagged=zero)
    assert [manifest.digest for manifest in repository.manifests()] == [APP.digest]


def test_a_manifest_that_may_not_be_deleted_keeps_its_tags(store, repository, monkeypatch):
    monkeypatch.setattr(largedeletions, "MANY", 10)
    digest = much_referred_to(repository)
    push(repository, index([image("much")]), "index")
    before = all_rows(store.root)
    with pytest.raises(ReferencedError):
        repository.delete_manifest(digest)
    assert all_rows(store.root) == before


def test_killed_while_its_tags_go_a_manifest_is_deleted_by_deleting_it_again(store, repository, monkeypatch):
    monkeypatch.setattr(largedeletions, "MANY", 10)
    digest = much_referred_to(repository)

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("ocistore.core.commit", killed)
        with pytest.raises(Killed):
            repository.delete_manifest(digest)
    assert "v039" not in repository.tags()
    assert repository.resolve(digest).digest == digest
    assert check(store) == []
    repository.delete_manifest(digest)
    assert list(repository.tags()) == ["other"]
    assert check(store) == []


# --- committing in parts ----------------------------------------------------------------------------------------------

NUMBER = 12


@pytest.fixture
def small_parts(monkeypatch):
    """What is in parts begins with twenty rows, and each part has ten."""
    monkeypatch.setattr(largechanges, "LARGE", 20)
    monkeypatch.setattr(largechanges, "AT_ONCE", 10)


def put(transaction, *names, number=NUMBER):
    for name in names:
        for i in range(number):
            push(transaction.repository(name), image((name, i)), f"v{i}", "latest")
        push(transaction.repository(name), index([image((name, 0)), image((name, 1))]), "both")


def all_rows(root):
    """Everything, but for keys and times."""
    with catalog(root) as connection:
        return {
            name: sorted(connection.execute(query), key=repr)
            for name, query in {
                "tags": "SELECT r.name, t.name, b.digest FROM tags t JOIN repositories r ON r.id = t.repository_id"
                " JOIN blobs b ON b.id = t.manifest_id",
                "manifests": "SELECT r.name, b.digest FROM repository_manifests m"
                " JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.manifest_id",
                "blobs": "SELECT r.name, b.digest FROM repository_blobs m"
                " JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.blob_id",
                "edges": "SELECT r.name, p.digest, c.digest, e.role FROM repository_edges e"
                " JOIN repositories r ON r.id = e.repository_id JOIN blobs p ON p.id = e.parent_id"
                " JOIN blobs c ON c.id = e.child_id",
                "events": "SELECT repository, tag, old_digest, new_digest FROM tag_events",
                "live": "SELECT digest FROM blobs WHERE state = 'live'",
            }.items()
        }


def nothing_is_left_over(root):
    tables = ["batches", "staged_repositories", "deleted_repositories"]
    assert counts(root, tables) == dict.fromkeys(tables, 0)


@pytest.mark.parametrize("before", [(), ("app",), ("app", "more/app")])
def test_in_parts_comes_the_same_about_as_at_once(tmp_path, monkeypatch, before):
    found = []
    for large in (10**9, 20):
        monkeypatch.setattr(largechanges, "LARGE", large)
        monkeypatch.setattr(largechanges, "AT_ONCE", 10)
        with Store.open(tmp_path / str(large)) as store:
            for name in before:
                push(store.repository(name), image((name, 3)), "v3", "latest", "old")
            with changed_rows(monkeypatch) as changed, store.transaction() as transaction:
                put(transaction, "app", "more/app")
            assert (len(changed) > 10) is (large == 20)
            found.append(all_rows(store.root))
            assert check(store, hashes=True) == []
            nothing_is_left_over(store.root)
    # Of a tag that is there already and moves several times in one commit, only the last move is an event.
    events = [set(each.pop("events")) for each in found]
    assert {event[1] for event in events[0] ^ events[1]} <= ({"latest"} if before else set())
    assert found[0] == found[1]


def test_nobody_sees_a_part(store, small_parts, monkeypatch):
    push(store.repository("old"), APP, "v1")
    seen = []
    apply = largechanges._LargeChange._apply

    def look(self, *arguments, **options):
        with Store.open(store.root, read_only=True) as other:
            usage = other.usage()
            seen.append((list(other.repositories()), usage.tags, usage.manifests, usage.repositories))
            assert list(other.repository("old").tags()) == ["v1"]
            assert len(list(other.repository("old").history())) == 1
            assert list(other.repository("old").manifests()) == [other.repository("old").resolve("v1")]
            assert check(store, idle=False) == []
        return apply(self, *arguments, **options)

    monkeypatch.setattr(largechanges._LargeChange, "_apply", look)
    with store.transaction() as transaction:
        put(transaction, "old", "new")
    assert len(seen) > 10
    assert set(map(repr, seen)) == {repr((["old"], 1, 1, 1))}
    assert list(store.repositories()) == ["new", "old"]
    assert store.repository("old").resolve("v3").digest == image(("old", 3)).digest
    assert check(store, hashes=True) == []


def during(monkeypatch, act, *, at=5):
    """Do something before the part of that number is written, once."""
    apply = largechanges._LargeChange._apply
    done = []

    def interrupted(self, *arguments, **options):
        done.append(None)
        if len(done) == at:
            act()
        return apply(self, *arguments, **options)

    monkeypatch.setattr(largechanges._LargeChange, "_apply", interrupted)


def test_a_collection_takes_nothing_of_it(store, small_parts, monkeypatch):
    zero = timedelta(0)
    during(monkeypatch, lambda: store.gc(grace=zero, keep_untagged=zero), at=8)
    with store.transaction() as transaction:
        put(transaction, "new")
    assert len(list(store.repository("new").manifests())) == NUMBER + 1
    assert check(store, hashes=True) == []


def test_a_repository_that_came_to_be_meanwhile_is_given_it(store, small_parts, monkeypatch):
    during(monkeypatch, lambda: push(store.repository("new"), APP, "latest", "theirs"))
    with store.transaction() as transaction:
        put(transaction, "new")
    assert store.repository("new").resolve("theirs").digest == APP.digest
    assert [event.old for event in store.repository("new").history("latest")][-2:] == [APP.digest, None]
    assert check(store, hashes=True) == []
    nothing_is_left_over(store.root)


@pytest.mark.parametrize("act", ["manifest", "repository", "again"])
def test_what_it_relied_on_is_looked_at_again_when_it_was_deleted_meanwhile(store, small_parts, monkeypatch, act):
    repository = store.repository("app")
    child = push(repository, image("child"), "child")
    whole = index([image("child")])

    def delete():
        if act == "manifest":
            repository.delete_manifest(child.digest)
        else:
            store.delete_repository("app")
        if act == "again":
            push(repository, APP, "v1")

    during(monkeypatch, delete, at=12)
    with pytest.raises(ManifestBlobUnknownError) as caught, store.transaction() as transaction:
        transaction.repository("app").put_manifest(whole.manifest, tags=["whole"])
        put(transaction, "app")
    assert caught.value.missing == (child.digest,)
    assert check(store, hashes=True) == []
    nothing_is_left_over(store.root)


def test_a_manifest_may_refer_to_what_is_there_already(store, small_parts):
    repository = store.repository("app")
    push(repository, image("child"), "child")
    with store.transaction() as transaction:
        transaction.repository("app").put_manifest(index([image("child")]).manifest, tags=["whole"])
        put(transaction, "app")
    assert repository.resolve("whole").digest == index([image("child")]).digest
    assert check(store, hashes=True) == []


def test_a_change_that_is_refused_leaves_nothing(store, small_parts):
    push(store.repository("app"), APP, "v1")
    before = all_rows(store.root)
    for refuse in (
        lambda pending: pending.repository("app").tag("v1", APP.digest, expected=None),
        lambda pending: pending.repository("new").tag("wrong", image("nowhere").digest),
        lambda pending: pending.repository("new").put_manifest(image("nowhere").manifest),
    ):
        with pytest.raises(OCIStoreError), store.transaction() as transaction:
            put(transaction, "app", "new")
            refuse(transaction)
        assert all_rows(store.root) | {"live": before["live"]} == before
        assert check(store, hashes=True) == []
        nothing_is_left_over(store.root)


def test_expectations_and_removals_are_part_of_it(store, small_parts):
    push(store.repository("app"), APP, "v1", "gone")
    with store.transaction() as transaction:
        put(transaction, "app")
        transaction.repository("app").tag("v1", APP.digest, expected=image(("app", 1)).digest)
        transaction.repository("app").untag("gone")
        put(transaction, "late")
    assert store.repository("app").resolve("v1").digest == APP.digest
    assert "gone" not in store.repository("app").tags()
    assert list(store.repositories()) == ["app", "late"]
    assert check(store, hashes=True) == []


def test_the_newest_event_changes_when_it_is_revealed(store, small_parts, monkeypatch):
    found = []

    def newest():
        with store._core.catalog.read() as connection:
            found.append(refs.newest_event(connection))

    during(monkeypatch, newest, at=8)
    with store.transaction() as transaction:
        put(transaction, "new")
    newest()
    assert found[0] < found[1]


def test_a_copy_keeps_what_it_reads_in_small_transactions(tmp_path, store, small_parts, monkeypatch):
    monkeypatch.setattr(copying, "_KEPT_AT_ONCE", 5)
    monkeypatch.setattr(leases, "ENDED_AT_ONCE", 5)
    with store.transaction() as transaction:
        put(transaction, "app", number=40)
    with Store.open(tmp_path / "other") as other:
        with changed_rows(monkeypatch) as changed:
            store.copy_to(other)
        assert max(changed) <= 2 * 10 + 5
        assert {tag: other.repository("app").resolve(tag).digest for tag in other.repository("app").tags()} == {
            tag: store.repository("app").resolve(tag).digest for tag in store.repository("app").tags()
        }
        assert check(other, hashes=True) == []
    assert counts(store.root, ["leases", "lease_blobs"]) == {"leases": 0, "lease_blobs": 0}


@pytest.mark.parametrize("act", ["manifest", "repository"])
def test_what_goes_while_a_copy_keeps_the_rest_is_not_copied(tmp_path, store, monkeypatch, act):
    monkeypatch.setattr(copying, "_KEPT_AT_ONCE", 2)
    push(store.repository("other"), APP, "v1")
    for i in range(7):
        push(store.repository("app"), image(i), f"v{i}")
    rest, rested = copying.rest, []

    def gone(began):
        rested.append(began)
        if len(rested) == 1:
            if act == "manifest":
                for digest in sorted(manifest.digest for manifest in store.repository("app").manifests())[:6]:
                    store.repository("app").delete_manifest(digest)
            else:
                store.delete_repository("app")
            store.gc(grace=timedelta(0), keep_untagged=timedelta(0))
        rest(began)

    monkeypatch.setattr(copying, "rest", gone)
    with Store.open(tmp_path / "copied") as copied:
        store.copy_to(copied)
        expected = {"other": ["v1"]}
        if act == "manifest":
            expected["app"] = list(store.repository("app").tags())
        assert {name: list(copied.repository(name).tags()) for name in copied.repositories()} == expected
        assert check(copied, hashes=True) == []
    assert rested


def test_a_lease_keeps_what_comes_in_parts(store, small_parts):
    zero = timedelta(0)
    with store.lease(ttl=timedelta(hours=1)):
        with store.transaction() as transaction:
            for i in range(NUMBER):
                push(transaction.repository("new"), image(i))
                push(transaction.repository("new"), image(i), "latest")
        store.gc(grace=zero, keep_untagged=zero)
        assert len(list(store.repository("new").manifests())) == NUMBER
    assert check(store) == []


KILLED_IN_PARTS = """
import os, sys
from ocistore import Store, largechanges
largechanges.LARGE, largechanges.AT_ONCE, largechanges.TTL = 20, 10, 1
sys.path.insert(0, sys.argv[3])
from images import image, push
store = Store.open(sys.argv[1])
store._core.catalog.now = lambda: 10**12
done, apply = 0, largechanges._LargeChange._apply
def counted(*arguments, **options):
    global done
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    done += 1
    return apply(*arguments, **options)
largechanges._LargeChange._apply = counted
with store.transaction() as transaction:
    for i in range(12):
        push(transaction.repository("new"), image(i), f"v{i}")
        push(transaction.repository("old"), image(i), f"v{i}")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("steps", [0, 1, 9, 18, 10**6])
def test_killed_in_parts_all_of_it_is_there_or_nothing(tmp_path, steps):
    root = tmp_path / "store"
    with Store.open(root) as store:
        push(store.repository("old"), APP, "v1")
        before = all_rows(root)
    with python(KILLED_IN_PARTS, root, steps, Path(__file__).parent) as child, pytest.raises(AssertionError):
        child.finish()
    with Store.open(root) as store:
        assert check(store, idle=False) == []
        assert list(store.repositories()) == (["new", "old"] if steps == 10**6 else ["old"])
        zero = timedelta(0)
        store.gc(grace=zero, keep_untagged=zero)
        store.gc(grace=zero, keep_untagged=zero)
        assert check(store, idle=False) == []
        nothing_is_left_over(root)
        after = all_rows(root)
    if steps != 10**6:
        assert after == before


# --- in parts, what removes, mounts or expects something --------------------------------------------------------------


def filled(repository, number):
    """Artifacts that share a config, some of an index, with tags; and blobs that nothing refers to."""
    for i in range(number):
        push(repository, artifact(i), f"v{i}")
        repository.put_blob(f"{i}".encode())
    push(repository, index([artifact(0), artifact(1)]), "both")


def emptied(transaction, number, name="app"):
    """Delete all of that but the index and its children, and the tags that are moved away."""
    pending = transaction.repository(name)
    for i in range(2, number):
        if i % 3 == 0:
            pending.tag(f"v{i}", artifact(0).digest, expected=artifact(i).digest)
        pending.delete_manifest(artifact(i).digest)
        pending.delete_blob(Digest.of(f"{i}".encode()))
        pending.delete_blob(Digest.of(artifact(i).layers[0]))


def is_emptied(store, number):
    repository = store.repository("app")
    moved = {f"v{i}" for i in range(2, number) if i % 3 == 0}
    assert set(repository.tags()) == {"v0", "v1", "both", *moved}
    assert len(list(repository.manifests())) == 3
    assert all(repository.resolve(tag).digest == artifact(0).digest for tag in moved)
    for content in (b"2", artifact(2).layers[0]):
        with pytest.raises(BlobNotFoundError):
            repository.stat_blob(Digest.of(content))
    repository.stat_blob(Digest.of(b"{}"))


def test_what_is_removed_at_once_does_not_grow_with_the_change(store, monkeypatch):
    monkeypatch.setattr(largechanges, "LARGE", 20)
    monkeypatch.setattr(largechanges, "AT_ONCE", 20)
    most = {}
    for number in (40, 80):
        filled(store.repository("app"), number)
        with changed_rows(monkeypatch) as changed, store.transaction() as transaction:
            emptied(transaction, number)
        most[number] = max(changed)
        is_emptied(store, number)
        nothing_is_left_over(store.root)
        assert check(store) == []
        zero = timedelta(0)
        store.gc(grace=zero, keep_untagged=zero, force=True)
        assert check(store) == []
        store.delete_repository("app")
    assert most[80] <= most[40] + 5


@pytest.mark.slow
def test_at_scale_no_transaction_changes_more_than_a_part(store, monkeypatch):
    number = 4000
    images = [note(i) for i in range(number)]
    with changed_rows(monkeypatch) as changed:
        with store.transaction() as transaction:
            for i, each in enumerate(images):
                push(transaction.repository("app"), each, f"v{i}")
        with store.transaction() as transaction:
            for i, each in enumerate(images):
                transaction.repository("app").tag(f"v{i}", images[i - 1].digest, expected=each.digest)
        with store.transaction() as transaction:
            for each in images[1:]:
                transaction.repository("app").delete_manifest(each.digest)
    assert len(changed) > 3 * number / largechanges.AT_ONCE
    assert max(changed) <= 5 * largechanges.AT_ONCE
    assert list(store.repository("app").tags()) == ["v1"]
    assert check(store) == []


def test_nobody_sees_what_is_removed_before_it_is_revealed(store, small_parts, monkeypatch):
    filled(store.repository("app"), NUMBER)
    before, found = all_rows(store.root), []
    seen_before = seen(store)
    during(monkeypatch, lambda: found.extend([seen(store), check(store, idle=False)]), at=8)
    with store.transaction() as transaction:
        emptied(transaction, NUMBER)
    assert found == [seen_before, []]
    assert all_rows(store.root) != before
    is_emptied(store, NUMBER)


def test_a_change_in_the_smallest_parts_ends(store, monkeypatch):
    """Also one that is refused, of which each step takes one row back."""
    monkeypatch.setattr(largechanges, "LARGE", 4)
    monkeypatch.setattr(largechanges, "AT_ONCE", 1)
    filled(store.repository("app"), 6)
    before = all_rows(store.root)
    with pytest.raises(ManifestNotFoundError), store.transaction() as transaction:
        emptied(transaction, 6)
        push(transaction.repository("new"), APP, "v1")
        transaction.repository("app").untag("nowhere")
    assert all_rows(store.root) | {"live": before["live"]} == before
    with store.transaction() as transaction:
        emptied(transaction, 6)
        push(transaction.repository("new"), APP, "v1")
    is_emptied(store, 6)
    nothing_is_left_over(store.root)
    assert check(store) == []


@pytest.mark.parametrize("wrong", ["referrer", "absent", "twice", "blob", "expected"])
def test_a_removal_that_is_refused_removes_nothing(store, small_parts, wrong):
    repository = store.repository("app")
    filled(repository, NUMBER)
    before = all_rows(store.root)
    refused = {
        "referrer": (ReferencedError, lambda pending: pending.delete_manifest(artifact(1).digest)),
        "absent": (ManifestNotFoundError, lambda pending: pending.delete_manifest(image("nowhere").digest)),
        "twice": (ManifestNotFoundError, lambda pending: pending.delete_manifest(artifact(3).digest)),
        "blob": (BlobNotFoundError, lambda pending: pending.delete_blob(Digest.of(b"3"))),
        "expected": (TagConflictError, lambda pending: pending.tag("v4", artifact(0).digest, expected=APP.digest)),
    }
    with pytest.raises(refused[wrong][0]), store.transaction() as transaction:
        emptied(transaction, NUMBER)
        refused[wrong][1](transaction.repository("app"))
    assert all_rows(store.root) | {"live": before["live"]} == before
    assert check(store, hashes=True) == []
    nothing_is_left_over(store.root)


def meanwhile(store):
    """What others do with something that is being removed, by what it is."""
    repository = store.repository("app")
    return {
        "tag": lambda: repository.tag("theirs", artifact(4).digest),
        "index": lambda: push(repository, index([artifact(4)]), "theirs"),
        "part": lambda: repository.put_manifest(artifact(4, annotations={"a": "b"}).manifest, tags=["theirs"]),
        "again": lambda: push(repository, artifact(4), "theirs"),
        "blob": lambda: repository.put_blob(artifact(4).layers[0]),
        "delete": lambda: repository.delete_manifest(artifact(4).digest),
        "move": lambda: repository.tag("v4", artifact(0).digest),
        "untag": lambda: repository.untag("v4"),
        "promote": lambda: promote(store, artifact(4)),
    }


def promote(store, pushed):
    push(store.repository("staging"), pushed, "theirs")
    store.repository("app").copy_from(store.repository("staging"), "theirs", tags=["theirs"])


@pytest.mark.parametrize("act", ["tag", "index", "part", "again", "blob", "delete", "move", "untag", "promote"])
def test_others_come_before_a_removal_that_is_not_revealed(tmp_path, store, small_parts, monkeypatch, act):
    with Store.open(tmp_path / "serial") as serial:
        outcomes = []
        for each, at in ((serial, 0), (store, 9)):
            filled(each.repository("app"), NUMBER)
            if at:
                during(monkeypatch, meanwhile(each)[act], at=at)
            else:
                meanwhile(each)[act]()

            def change(each=each):
                with each.transaction() as transaction:
                    emptied(transaction, NUMBER)

            outcomes.append(tried(change))
            nothing_is_left_over(each.root)
            assert check(each) == []
        assert outcomes[0] is outcomes[1]
        assert seen(serial) == seen(store)


@pytest.mark.parametrize("act", ["index", "part"])
def test_a_removal_that_does_not_ask_what_others_did_is_caught(store, small_parts, monkeypatch, act):
    filled(store.repository("app"), NUMBER)
    during(monkeypatch, meanwhile(store)[act], at=9)
    monkeypatch.setattr(batches, "overtake", lambda *_: None)
    with store.transaction() as transaction:
        emptied(transaction, NUMBER)
    assert check(store, idle=False) != []


@pytest.mark.parametrize("act", ["tag", "index", "part", "again", "blob", "delete", "move", "untag", "promote"])
def test_others_come_after_a_removal_that_is_revealed_and_not_settled(tmp_path, store, small_parts, monkeypatch, act):
    with Store.open(tmp_path / "serial") as serial:
        outcomes = []
        for each in (serial, store):
            filled(each.repository("app"), NUMBER)
            with monkeypatch.context() as patch:
                if each is store:
                    patch.setattr(largechanges, "_end", lambda *_: None)
                with each.transaction() as transaction:
                    emptied(transaction, NUMBER)
            assert check(each, idle=False) == []
            outcomes.append(tried(meanwhile(each)[act]))
            assert check(each, idle=False) == []
        assert counts(store.root, ["batches"]) == {"batches": 1}
        assert outcomes[0] is outcomes[1]
        assert seen(serial) == seen(store)
        assert settled(serial.root) == settled(store.root)


def test_a_large_mount_fails_where_its_source_loses_the_blob_meanwhile(store, small_parts, monkeypatch):
    source = store.repository("source")
    for i in range(40):
        source.put_blob(b"%d" % i)
    push(store.repository("app"), APP, "v1")
    before = all_rows(store.root)

    def change():
        with store.transaction() as transaction:
            for i in range(40):
                transaction.repository("app").mount_blob(Digest.of(b"%d" % i), "source")

    with monkeypatch.context() as patch:
        during(patch, lambda: source.delete_blob(Digest.of(b"0")), at=4)
        with pytest.raises(BlobNotFoundError):
            change()
    assert check(store) == []
    source.put_blob(b"0")
    assert all_rows(store.root)["blobs"] == before["blobs"]
    with changed_rows(monkeypatch) as changed:
        change()
    assert max(changed) <= 20
    nothing_is_left_over(store.root)


def test_a_manifest_with_many_tags_is_deleted_in_a_transaction_that_nobody_sees_half_of(store, monkeypatch):
    monkeypatch.setattr(largechanges, "MANY", 10)
    monkeypatch.setattr(largechanges, "AT_ONCE", 10)
    digest = much_referred_to(store.repository("app"))
    before, found = seen(store), []
    during(monkeypatch, lambda: found.append(seen(store)), at=2)
    with changed_rows(monkeypatch) as changed, store.transaction() as transaction:
        transaction.repository("app").untag("other")
        transaction.repository("app").delete_manifest(digest)
    assert found == [before]
    assert max(changed) <= 3 * 10 + 8
    assert list(store.repository("app").tags()) == []
    nothing_is_left_over(store.root)
    assert check(store) == []
    zero = timedelta(0)
    store.gc(grace=zero, keep_untagged=zero)
    assert list(store.repository("app").manifests()) == []
    assert check(store) == []


@pytest.mark.parametrize("killed", [False, True])
def test_many_new_repositories_are_revealed_at_once(store, small_parts, monkeypatch, killed):
    monkeypatch.setattr(batches, "NAMED_AT_ONCE", 5)
    push(store.repository("app"), APP, "v1")
    number = 25
    with monkeypatch.context() as patch:
        if killed:
            patch.setattr(largechanges, "_end", lambda *_: None)
        with changed_rows(patch) as changed, store.transaction() as transaction:
            for i in range(number):
                push(transaction.repository(f"new/{i:02}"), note(i), "v1")
        assert max(changed) <= number + 3  # a name each
    assert list(store.repositories()) == ["app", *(f"new/{i:02}" for i in range(number))]
    assert check(store) == []
    push(store.repository("new/01"), APP, "v2")
    store.delete_repository("new/02")
    assert (counts(store.root, ["batches"]) == {"batches": 1}) is killed
    zero = timedelta(0)
    store.gc(grace=zero, keep_untagged=zero)
    nothing_is_left_over(store.root)
    assert sorted(store.repository("new/01").tags()) == ["v1", "v2"]
    assert len(list(store.repositories())) == number
    assert check(store) == []


@pytest.mark.parametrize("tagged", [False, True])
def test_a_manifest_with_many_referrers_is_collected_in_small_transactions(store, repository, monkeypatch, tagged):
    for name in ("_EDGES", "_REFERRERS", "_ROWS", "_FILES"):
        monkeypatch.setattr(gc, name, 10)
    monkeypatch.setattr(gc, "_MANIFESTS", 3)
    digest = much_referred_to(repository)
    for i in range(40):
        repository.untag(f"v{i:03}")
    if tagged:
        repository.tag("kept", digest)
    zero = timedelta(0)
    with changed_rows(monkeypatch) as changed:
        taken = store.gc(grace=zero, keep_untagged=zero, force=True)
    assert taken.manifests == (0 if tagged else 41)
    assert max(changed) <= 32
    assert check(store) == []


def test_one_may_not_be_deleted_names_a_thousand_at_most(store, repository, monkeypatch):
    push(repository, image("child"))
    with store.transaction() as transaction:
        for i in range(1010):
            manifest = index([image("child")], annotations={"n": str(i)}).manifest
            transaction.repository(repository.name).put_manifest(manifest)
    with pytest.raises(ReferencedError) as caught:
        repository.delete_manifest(image("child").digest)
    assert len(caught.value.referrers) == 1000
    assert list(caught.value.referrers) == sorted(caught.value.referrers)


# --- in parts, into what exists, while others change it ---------------------------------------------------------------


class Event(NamedTuple):
    tag: str
    old: str | None
    new: str | None


def settled(root):
    """All that is seen, but for what a collection may take at any time."""
    with Store.open(root) as store:
        zero = timedelta(0)
        for _ in range(2):
            store.gc(grace=zero, keep_untagged=zero, force=True)
        nothing_is_left_over(root)
        assert check(store, hashes=True) == []
        return {
            name: {
                "tags": {tag: str(repository.resolve(tag).digest) for tag in repository.tags()},
                "manifests": sorted(str(each.digest) for each in repository.manifests()),
                "last": {tag: next(iter(repository.history(tag))).new for tag in repository.tags()},
            }
            for name in store.repositories()
            for repository in [store.repository(name)]
        }


def there(root):
    with Store.open(root) as store:
        for name in ("app", "more/app"):
            for i in range(6):
                push(store.repository(name), image((name, i)), f"v{i}", f"old{i}", f"swap{i}")
            push(store.repository(name), index([image((name, 0)), image((name, 1))]), "both")
        for i in range(6):
            push(store.repository("source"), image(("source", i)), f"v{i}")


def others(random):
    """Something that somebody else does in one of the repositories."""
    name = random.choice(["app", "app", "more/app"])
    number, other, tag = (random.randrange(9) for _ in range(3))
    digest = image((name, number)).digest
    tag = random.choice([f"v{tag}", f"old{tag}", f"swap{tag}", "latest", "fresh"])
    return random.choice(
        [
            lambda store: store.repository(name).tag(tag, digest),
            lambda store: store.repository(name).tag(tag, digest),
            lambda store: store.repository(name).untag(tag),
            lambda store: store.repository(name).untag(tag),
            lambda store: push(store.repository(name), image((name, number)), tag),
            lambda store: push(store.repository(name), image((name, number, other)), tag),
            lambda store: push(store.repository(name), index([image((name, number))]), tag),
            lambda store: store.repository(name).delete_manifest(digest),
            lambda store: store.repository(name).put_blob(image((name, number)).layers[0]),
            lambda store: store.repository(name).delete_blob(blob((name, number))),
            lambda store: store.delete_repository(name),
        ]
    )


def large(random):
    """A large change, as what it does with a transaction."""
    steps = []
    for name in ("app", "more/app"):
        for i in random.sample(range(9), 6):
            tags = [random.choice([f"v{random.randrange(9)}", "latest", f"new{i}"]) for _ in range(2)]
            steps.append(lambda there, name=name, i=i, tags=tags: push(there.repository(name), image((name, i)), *tags))
        for i in random.sample(range(6), 2):
            steps.append(lambda there, name=name, i=i: there.repository(name).untag(f"old{i}"))
        for i in random.sample(range(6), 2):
            digest = image((name, i)).digest
            steps.append(lambda there, name=name, i=i, digest=digest: there.repository(name).tag(f"more{i}", digest))
    random.shuffle(steps)
    if random.random() < 0.8:
        for step in removing(random, random.choice(["app", "more/app"])):
            # At the end mostly: what refers to something that is gone is refused, and all of it with that.
            place = random.choice([len(steps), len(steps), random.randrange(len(steps))])
            steps.insert(place, step)
    return steps


def removing(random, name):
    """Steps that remove something, mount something, or expect something."""
    i, j, k = random.sample(range(2, 6), 3)
    gone, kept = image((name, i)), image((name, j))
    expected = random.choice([kept.digest, kept.digest, image((name, k)).digest, None])
    steps = [
        lambda there: there.repository(name).delete_manifest(gone.digest),
        lambda there: there.repository(name).delete_blob(blob((name, i))),
        lambda there: push(there.repository(name), gone, "back"),
        lambda there: there.repository(name).tag(f"swap{j}", image((name, 1)).digest, expected=expected),
        lambda there: there.repository(name).mount_blob(blob(("source", k)), "source"),
        lambda there: there.repository(name).tag("fresh", image((name, 1)).digest, expected=None),
    ]
    return [step for step in steps if random.random() < 0.5]


def blob(name):
    return Digest.of(image(name).layers[0])


def tried(call, *arguments):
    try:
        call(*arguments)
    except OCIStoreError as error:
        return type(error)
    return None


def seeds(short, long):
    return [*range(short), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(short, long))]


# 39: somebody removes a tag that the change found in place.
@pytest.mark.parametrize("seed", [39, *(each for each in seeds(3, 120) if getattr(each, "values", None) != (39,))])
def test_in_parts_a_change_comes_after_all_that_others_do_meanwhile(tmp_path, monkeypatch, seed):
    random = Random(seed)
    steps = large(random)
    acts = [others(random) for _ in range(random.randrange(1, 6))]
    places = sorted(random.sample(range(3, 30), len(acts)))
    roots = {name: tmp_path / name for name in ("serial", "parts")}
    there(roots["serial"])
    shutil.copytree(roots["serial"], roots["parts"])

    def change(store):
        with store.transaction() as transaction:
            for step in steps:
                step(transaction)

    found = {}
    monkeypatch.setattr(largechanges, "LARGE", 5)
    monkeypatch.setattr(largechanges, "AT_ONCE", 4)
    apply, count, done = largechanges._LargeChange._apply, 0, []

    def interrupted(self, *arguments, **options):
        nonlocal count
        count += 1
        while places and count >= places[0]:
            places.pop(0)
            with Store.open(roots["parts"]) as other:
                largechanges.LARGE = 10**9
                done.append((acts[len(done)], tried(acts[len(done)], other)))
                other.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
                largechanges.LARGE = 5
                assert check(other, idle=False) == []
        return apply(self, *arguments, **options)

    monkeypatch.setattr(largechanges._LargeChange, "_apply", interrupted)
    with Store.open(roots["parts"]) as store:
        found["parts"] = tried(change, store)
        assert check(store, idle=False) == []
    monkeypatch.setattr(largechanges, "LARGE", 10**9)
    with Store.open(roots["serial"]) as store:
        for act, outcome in done:
            assert tried(act, store) is outcome
        found["serial"] = tried(change, store)
    assert done or found["serial"] is not None
    assert found["parts"] is found["serial"]
    assert settled(roots["parts"]) == settled(roots["serial"])


def unsettled(monkeypatch, store, change):
    """Make a large change, as a process does that is killed as soon as it is revealed."""
    with monkeypatch.context() as patch:
        patch.setattr(largechanges, "LARGE", 5)
        patch.setattr(largechanges, "AT_ONCE", 4)
        patch.setattr(largechanges, "_end", lambda *_: None)
        change(store)
    assert counts(store.root, ["batches"]) == {"batches": 1}


@pytest.mark.parametrize("seed", seeds(3, 60))
def test_killed_before_it_is_settled_a_change_has_happened(tmp_path, monkeypatch, seed):
    random = Random(seed)
    steps = large(random)
    acts = [others(random) for _ in range(4)]
    roots = {name: tmp_path / name for name in ("at once", "revealed")}
    there(roots["at once"])
    shutil.copytree(roots["at once"], roots["revealed"])

    def change(store):
        with store.transaction() as transaction:
            for step in steps:
                step(transaction)

    with Store.open(roots["revealed"]) as store:
        if tried(unsettled, monkeypatch, store, change) is not None:
            return
        with Store.open(roots["at once"]) as other:
            change(other)
            for act in acts:
                assert tried(act, store) is tried(act, other)
                assert seen(store) == seen(other)
                assert check(store, idle=False) == []
    assert settled(roots["revealed"]) == settled(roots["at once"])


def seen(store):
    """Everything that there is to see, but for times and the order of what happened in different tags."""
    repositories = [store.repository(name) for name in store.repositories()]
    usage = store.usage()
    return (
        usage.repositories,
        usage.tags,
        usage.manifests,
        {
            repository.name: (
                {tag: str(repository.resolve(tag).digest) for tag in repository.tags()},
                sorted(str(each.digest) for each in repository.manifests()),
                {tag: [(each.old, each.new) for each in repository.history(tag)] for tag in repository.tags()},
            )
            for repository in repositories
        },
    )


@pytest.mark.parametrize("act", ["another", "import", "gc", "backup", "export", "delete"])
def test_before_it_is_settled_everything_works(tmp_path, store, monkeypatch, act):
    def change(store, first=0):
        with store.transaction() as transaction:
            for i in range(first, first + 9):
                push(transaction.repository("app"), image(i), f"v{i % 9}", f"n{i}")
            if first == 0:
                transaction.repository("app").untag("gone")

    push(store.repository("app"), APP, "v1", "v2", "gone", "stays")
    unsettled(monkeypatch, store, change)
    expected = {**{f"{kind}{i}": image(i).digest for kind in "vn" for i in range(9)}, "stays": APP.digest}
    if act == "another":
        monkeypatch.setattr(largechanges, "LARGE", 5)
        monkeypatch.setattr(largechanges, "AT_ONCE", 4)
        change(store, 9)
        nothing_is_left_over(store.root)
        expected |= {f"v{i % 9}": image(i).digest for i in range(9, 18)}
        expected |= {f"n{i}": image(i).digest for i in range(9, 18)}
    elif act == "gc":
        store.gc()
        nothing_is_left_over(store.root)
    elif act == "delete":
        store.delete_repository("app")
        store.gc()
        nothing_is_left_over(store.root)
        assert list(store.repositories()) == []
        assert {event.old for event in _history(store.root)} >= set(expected.values())
        return
    else:
        getattr(store, act)(tmp_path / "there") if act != "import" else store.export(tmp_path / "there")
        if act == "backup":
            store = Store.open(tmp_path / "there")
            store.gc()
        else:
            store = Store.open(tmp_path / "imported")
            store.import_(tmp_path / "there")
    repository = store.repository("app")
    assert {tag: repository.resolve(tag).digest for tag in repository.tags()} == expected
    assert check(store, idle=False) == []


def _history(root):
    with catalog(root) as connection:
        return [Event(*row) for row in connection.execute("SELECT tag, old_digest, new_digest FROM tag_events")]


def test_what_is_revealed_at_once_does_not_grow_with_the_change(store, monkeypatch):
    """Into a repository that exists: new manifests and tags, some that are there, tags that move, and tags that go."""
    monkeypatch.setattr(largechanges, "LARGE", 20)
    monkeypatch.setattr(largechanges, "AT_ONCE", 20)
    most = {}
    for number in (30, 120):
        repository = store.repository(f"app{number}")
        for i in range(0, number, 2):
            push(repository, image((number, i)), f"v{i}", f"old{i}", f"gone{i}")
        with changed_rows(monkeypatch) as changed, store.transaction() as transaction:
            for i in range(number):
                push(transaction.repository(repository.name), image((number, i)), f"v{i}")
            for i in range(0, number, 2):
                transaction.repository(repository.name).tag(f"old{i}", image((number, i + 1)).digest)
            for i in range(0, number, 2):
                transaction.repository(repository.name).untag(f"gone{i}")
        most[number] = max(changed)
        assert len(changed) > number / 5
        assert len(list(repository.tags())) == number + number // 2
        assert check(store) == []
    assert most[120] <= most[30] + 5


def test_a_large_change_leaves_the_lock_to_others_before_each_of_its_transactions(store, monkeypatch):
    monkeypatch.setattr(largechanges, "LARGE", 20)
    monkeypatch.setattr(largechanges, "AT_ONCE", 20)
    ends, rested = [0.0], []

    def end_of_rest(began):
        assert began > 0
        ends.append(ends[-1] + 1)
        return ends[-1]

    monkeypatch.setattr(largechanges, "end_of_rest", end_of_rest)
    monkeypatch.setattr(largechanges, "rest_until", rested.append)
    with store.transaction() as transaction:
        for i in range(30):
            push(transaction.repository("app"), image(i), f"v{i}")
    assert rested == ends[:-1]
    assert len(rested) > 5


# --- memory -----------------------------------------------------------------------------------------------------------


def test_an_import_keeps_little_of_each_manifest_in_memory(tmp_path, store, monkeypatch):
    number, held = 400, 8
    for module in (planning, transfer):
        monkeypatch.setattr(module, "HELD_PARSED", held)
    with Store.open(tmp_path / "other") as other:
        with other.transaction() as transaction:
            for i in range(number):
                push(transaction.repository("app"), image(i), f"v{i}")
        other.export(tmp_path / "layout")
    commit = Core.commit
    found = []

    def measured(self, changes):
        found.append(tracemalloc.get_traced_memory()[0])
        manifests = [change.manifest for change in changes if isinstance(change, PutManifest)]
        parsed = [manifest for manifest in manifests if manifest._parsed]
        assert 0 < sum(manifest.edge_count for manifest in parsed) <= held
        assert all(isinstance(manifest._held, bytes) == (manifest in parsed) for manifest in manifests)
        commit(self, changes)

    store.import_(tmp_path / "layout", "warm", dry_run=True)
    monkeypatch.setattr(Core, "commit", measured)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        store.import_(tmp_path / "layout")
    finally:
        tracemalloc.stop()
    assert (found[0] - before) / number < 4096
    assert store.usage().manifests == number


def grown(work):
    """By how many bytes what a call takes at most grows with each manifest that has a tag."""
    most = []
    for number in (300, 1300):
        tracemalloc.start()
        try:
            work(number)
            most.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return (most[1] - most[0]) / 1000


@pytest.fixture
def few_parsed(monkeypatch):
    """Let imports hold as few manifests as they were parsed as make no difference to what grows with the others."""
    for module in (planning, transfer):
        monkeypatch.setattr(module, "HELD_PARSED", 20)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """Stores of so many small artifacts, each with a tag; by number."""
    stores = {}
    for number in (300, 1300):
        stores[number] = Store.open(tmp_path_factory.mktemp(f"tagged{number}") / "store")
        with stores[number].transaction() as transaction:
            for i in range(number):
                push(transaction.repository("app"), artifact(annotations={"n": str(i)}), f"v{i}")
    yield stores
    for each in stores.values():
        each.close()


@pytest.mark.slow
@pytest.mark.needs_files
@pytest.mark.usefixtures("few_parsed")
@pytest.mark.parametrize("form", ["dir", "oci-archive"])
def test_the_most_memory_that_an_import_takes_grows_by_little_for_each_manifest(tmp_path, store, tagged, form):
    """100 MiB for 50,000 would be 2,097 bytes. The allocator and SQLite take more than what is counted here."""
    for number in tagged:
        tagged[number].export(tmp_path / f"layout{number}", format=form)
    store.import_(tmp_path / "layout300", "warm", dry_run=True)
    assert grown(lambda number: store.import_(tmp_path / f"layout{number}", f"new{number}")) < 1500


@pytest.mark.parametrize(
    ("form", "references"),
    [
        ("dir", ["app:v*"]),
        pytest.param("dir", None, marks=pytest.mark.slow),
        pytest.param("oci-archive", None, marks=pytest.mark.slow),
        pytest.param("oci-archive", ["app:v*"], marks=pytest.mark.slow),
    ],
)
def test_the_most_memory_that_an_export_takes_grows_by_little_for_each_reference(tmp_path, tagged, form, references):
    """100 MiB for 50,000 would be 2,097 bytes, and up to 10,000 copies have names of 260 bytes that wait besides."""
    tagged[300].export(tmp_path / "warm", references, format=form, dry_run=True)

    def export(number):
        tagged[number].export(tmp_path / f"layout{number}", references, format=form)

    assert grown(export) < 2000


@pytest.mark.slow
@pytest.mark.usefixtures("few_parsed")
@pytest.mark.parametrize("options", [{"references": ["app:v*"]}, {"platforms": ["linux/amd64"]}])
def test_of_what_is_chosen_an_import_holds_as_little(tmp_path, store, tagged, options):
    for number in tagged:
        tagged[number].export(tmp_path / f"layout{number}")
    store.import_(tmp_path / "layout300", "warm", dry_run=True, **options)

    def take_in(number):
        store.import_(tmp_path / f"layout{number}", f"new{number}", **options)

    assert grown(take_in) < 2000


@pytest.mark.slow
def test_50_000_references_go_out_and_come_in_with_100_mebibytes(tmp_path):
    with Store.open(tmp_path / "store") as store, store.transaction() as transaction:
        for i in range(50_000):
            push(transaction.repository("library/big"), artifact(annotations={"n": str(i)}), f"v{i}")
    # The table of an archive's members is held besides.
    for layout, bound in ((tmp_path / "layout", 100), (tmp_path / "layout.tar", 110)):
        assert memory_growth(tmp_path / "store", layout, "export") < 100
        assert memory_growth(tmp_path / f"from-{layout.name}", layout, "archive") < bound

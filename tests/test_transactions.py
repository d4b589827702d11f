"""Transactions: everything in one appears in one commit or not at all, across repositories, in its order."""

import os
import threading

import pytest
from images import APP, artifact, image, index, note, push
from processes import python, run_python
from state import catalog, descriptors, pool, rows, strays, unchanged

from ocistore import (
    BlobNotFoundError,
    Digest,
    DigestMismatchError,
    InvalidNameError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    ManifestNotFoundError,
    ReferencedError,
    RepositoryNotFoundError,
    Store,
    StoreClosedError,
    TagConflictError,
)

pytestmark = pytest.mark.every_pool

HELLO = b"hello"
ONE, TWO, THREE = (note(number).digest for number in (1, 2, 3))


class ChangedMyMindError(Exception):
    pass


@pytest.fixture
def stocked(repository):
    """A repository with three manifests, of which the first has the tag ``v1``."""
    for number in (1, 2, 3):
        push(repository, note(number))
    repository.tag("v1", ONE)
    return repository


# --- all ... ----------------------------------------------------------------------------------------------------------


def test_a_manifest_and_its_blobs_go_together(store):
    with store.transaction() as transaction:
        put = push(transaction.repository("library/app"), APP, "v1")
    repository = store.repository("library/app")
    assert repository.resolve("v1") == put
    assert repository.get_manifest("v1").content == APP.manifest
    assert sorted(pool(store.root).values()) == sorted([APP.manifest, *APP.blobs])
    assert strays(store.root) == []


def test_an_index_and_its_children_and_their_referrers_go_together(store):
    platforms = [image("arm64"), image("amd64")]
    whole = index([index(platforms), *platforms])
    with store.transaction() as transaction:
        repository = transaction.repository("library/app")
        push(repository, artifact(subject=whole))
        push(repository, whole, "all")
    assert len(list(store.repository("library/app").manifests())) == 5
    assert len(store.repository("library/app").referrers(whole.digest)) == 1


def test_tags_in_several_repositories_move_in_one_commit(store):
    for name in ("a", "b", "c"):
        push(store.repository(name), note(1), "stable")
    with store.transaction() as transaction:
        for name in ("a", "b", "c"):
            push(transaction.repository(name), note(2), "stable")
    assert {store.repository(name).resolve("stable").digest for name in ("a", "b", "c")} == {TWO}


def test_nothing_is_visible_before_the_end_and_everything_after(store, stocked):
    with store.transaction() as transaction:
        repository = transaction.repository("library/app")
        repository.tag("v1", TWO)
        repository.put_blob(HELLO)
        push(transaction.repository("new"), APP, "v1")
        assert stocked.resolve("v1").digest == ONE
        assert list(store.repositories()) == ["library/app"]
        with pytest.raises(BlobNotFoundError):
            stocked.stat_blob(Digest.of(HELLO))
    assert stocked.resolve("v1").digest == TWO
    assert list(store.repositories()) == ["library/app", "new"]
    assert stocked.stat_blob(Digest.of(HELLO)).size == 5


def test_another_process_never_sees_half_a_transaction(store):
    for name in ("a", "b"):
        push(store.repository(name), note(1), "stable")
        push(store.repository(name), note(2))
    code = """
import sqlite3, sys, threading
done = threading.Event()
threading.Thread(target=lambda: (input(), done.set()), daemon=True).start()
connection = sqlite3.connect(f"file:{sys.argv[1]}/catalog.db?mode=ro", uri=True)
seen = set()
print("looking")
while not done.is_set():
    seen.add(tuple(connection.execute("SELECT manifest_id FROM tags ORDER BY repository_id").fetchall()))
print(sorted(len(set(pair)) for pair in seen))
"""
    with python(code, store.root) as child:
        assert child.says() == "looking"
        for number in range(40):
            with store.transaction() as transaction:
                for name in ("a", "b"):
                    transaction.repository(name).tag("stable", (ONE, TWO)[number % 2])
        child.tell()
        assert child.says() == "[1, 1]"  # both targets were seen, and never two at once


def test_a_transaction_is_one_commit(store, stocked):
    with catalog(store.root) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        with store.transaction() as transaction:
            transaction.repository("library/app").tag("v1", TWO)
            transaction.repository("other").put_blob(HELLO)
            assert connection.execute("PRAGMA data_version").fetchone() == before
        assert connection.execute("PRAGMA data_version").fetchone() != before


def test_a_transaction_of_nothing_changes_nothing(store, stocked):
    with unchanged(store.root), store.transaction() as transaction:
        transaction.repository("never")


def test_the_events_of_a_transaction_have_one_moment_and_the_order_of_its_changes(store, stocked):
    with store.transaction() as transaction:
        repository = transaction.repository("library/app")
        repository.tag("z", TWO)
        repository.untag("v1")
        repository.tag("a", THREE)
    events = list(stocked.history(limit=3))
    assert [event.tag for event in events] == ["a", "v1", "z"]
    assert len({event.at for event in events}) == 1


# --- ... or nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ChangedMyMindError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_block_drops_everything(store, stocked, error):
    with unchanged(store.root), pytest.raises(error), store.transaction() as transaction:
        repository = transaction.repository("library/app")
        push(repository, APP, "v1", "v2")
        push(transaction.repository("new"), APP)
        repository.delete_manifest(THREE)
        raise error


def test_a_source_that_fails_drops_everything_unless_it_is_caught(store, stocked):
    def failing():
        yield HELLO
        raise ChangedMyMindError

    with unchanged(store.root), pytest.raises(ChangedMyMindError), store.transaction() as transaction:
        transaction.repository("library/app").put_blob(b"first")
        transaction.repository("library/app").put_blob(failing())


def test_what_was_refused_and_caught_is_no_part_of_the_transaction(store, stocked):
    with store.transaction() as transaction:
        repository = transaction.repository("library/app")
        with pytest.raises(DigestMismatchError):
            repository.put_blob(b"wrong", digest=Digest.of(HELLO))
        with pytest.raises(ManifestInvalidError):
            repository.put_manifest(b"{}")
        repository.put_blob(HELLO)
    assert stocked.stat_blob(Digest.of(HELLO)).size == 5
    with pytest.raises(BlobNotFoundError):
        stocked.stat_blob(Digest.of(b"wrong"))


AT_THE_CALL = {
    "a bad repository name": (InvalidNameError, lambda transaction: transaction.repository("..")),
    "a bad tag": (InvalidNameError, lambda transaction: transaction.repository("a").tag("..", ONE)),
    "a bad manifest": (ManifestInvalidError, lambda transaction: transaction.repository("a").put_manifest(b"")),
    "a wrong digest": (
        DigestMismatchError,
        lambda transaction: transaction.repository("a").put_blob(HELLO, digest=ONE),
    ),
    "a mount from nowhere": (
        RepositoryNotFoundError,
        lambda transaction: transaction.repository("a").mount_blob(ONE, "nowhere"),
    ),
}


@pytest.mark.parametrize("case", AT_THE_CALL)
def test_what_can_be_known_at_once_is_refused_at_the_call(store, stocked, case):
    error, call = AT_THE_CALL[case]
    reached = []
    with unchanged(store.root), pytest.raises(error), store.transaction() as transaction:
        transaction.repository("library/app").tag("v2", ONE)
        call(transaction)
        reached.append("the line behind it")
    assert reached == []


AT_THE_END = {
    # case: error, the last call
    "a lost compare and swap": (TagConflictError, lambda it: it.tag("v1", TWO, expected=None)),
    "missing blobs": (ManifestBlobUnknownError, lambda it: it.put_manifest(APP.manifest)),
    "a tag to a manifest that is not here": (ManifestNotFoundError, lambda it: it.tag("v2", Digest.of(b"x"))),
    "removing a tag that is not there": (ManifestNotFoundError, lambda it: it.untag("v2")),
    "deleting a manifest that is not here": (ManifestNotFoundError, lambda it: it.delete_manifest(APP.digest)),
    "deleting a blob that is not here": (BlobNotFoundError, lambda it: it.delete_blob(Digest.of(b"x"))),
}


@pytest.mark.parametrize("case", AT_THE_END)
def test_what_no_longer_holds_at_the_end_is_refused_there_and_drops_everything(store, stocked, case):
    error, call = AT_THE_END[case]
    reached = []
    with unchanged(store.root), pytest.raises(error), store.transaction() as transaction:
        transaction.repository("new").put_blob(HELLO)
        transaction.repository("library/app").tag("v3", THREE)
        call(transaction.repository("library/app"))
        reached.append("the line behind it")
    assert reached == ["the line behind it"]


def test_an_expectation_that_somebody_else_broke_meanwhile_is_refused(store, stocked):
    with pytest.raises(TagConflictError) as caught, store.transaction() as transaction:
        transaction.repository("library/app").tag("v1", TWO, expected=ONE)
        stocked.tag("v1", THREE)
    assert (caught.value.expected, caught.value.actual) == (ONE, THREE)
    assert stocked.resolve("v1").digest == THREE


def test_all_missing_blobs_of_a_manifest_are_listed(store):
    with pytest.raises(ManifestBlobUnknownError) as caught, store.transaction() as transaction:
        transaction.repository("a").put_manifest(APP.manifest)
    assert caught.value.missing == tuple(Digest.of(blob) for blob in APP.blobs)


def test_a_failed_transaction_can_be_tried_again(store):
    with pytest.raises(ManifestBlobUnknownError), store.transaction() as transaction:
        transaction.repository("a").put_manifest(APP.manifest, tags=["v1"])
    with store.transaction() as transaction:
        push(transaction.repository("a"), APP, "v1")
    assert store.repository("a").get_manifest("v1").content == APP.manifest


# --- order ------------------------------------------------------------------------------------------------------------


def test_what_a_manifest_refers_to_comes_before_it(store):
    with pytest.raises(ManifestBlobUnknownError), store.transaction() as transaction:
        transaction.repository("a").put_manifest(APP.manifest)
        for blob in APP.blobs:
            transaction.repository("a").put_blob(blob)
    with pytest.raises(ManifestBlobUnknownError), store.transaction() as transaction:
        transaction.repository("a").put_manifest(index([note(1)]).manifest)
        push(transaction.repository("a"), note(1))


def test_a_blob_deleted_and_put_again_is_there_and_put_and_deleted_is_not(store, repository):
    repository.put_blob(HELLO)
    with store.transaction() as transaction:
        part = transaction.repository("library/app")
        part.delete_blob(Digest.of(HELLO))
        part.put_blob(HELLO)
        part.put_blob(b"short-lived")
        part.delete_blob(Digest.of(b"short-lived"))
    assert repository.stat_blob(Digest.of(HELLO)).size == 5
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(Digest.of(b"short-lived"))


def test_a_manifest_put_and_deleted_takes_its_tag_along(store, stocked):
    with store.transaction() as transaction:
        part = transaction.repository("library/app")
        push(part, APP, "short-lived")
        part.delete_manifest(APP.digest)
    assert list(stocked.tags()) == ["v1"]
    assert [(event.tag, event.new) for event in stocked.history(limit=2)] == [
        ("short-lived", None),
        ("short-lived", APP.digest),
    ]


def test_a_manifest_deleted_and_put_again_is_there_without_its_tags(store, stocked):
    with store.transaction() as transaction:
        part = transaction.repository("library/app")
        part.delete_manifest(ONE)
        push(part, note(1), "v2")
    assert list(stocked.tags()) == ["v2"]
    assert stocked.get_manifest(ONE).content == note(1).manifest


def test_an_index_deleted_first_frees_its_child(store, repository):
    parent = index([note(1)])
    push(repository, parent)
    with pytest.raises(ReferencedError), store.transaction() as transaction:
        transaction.repository("library/app").delete_manifest(ONE)
        transaction.repository("library/app").delete_manifest(parent.digest)
    with store.transaction() as transaction:
        transaction.repository("library/app").delete_manifest(parent.digest)
        transaction.repository("library/app").delete_manifest(ONE)
    assert list(repository.manifests()) == []


def test_changes_of_one_tag_happen_in_their_order(store, stocked):
    with store.transaction() as transaction:
        part = transaction.repository("library/app")
        part.tag("v1", TWO, expected=ONE)
        part.tag("v1", THREE, expected=TWO)
        part.untag("v1")
        part.tag("v1", TWO, expected=None)
    assert stocked.resolve("v1").digest == TWO
    assert [event.new for event in stocked.history(limit=4)] == [TWO, None, THREE, TWO]


def test_a_tag_created_twice_in_one_transaction_conflicts_with_itself(store, stocked):
    with unchanged(store.root), pytest.raises(TagConflictError) as caught, store.transaction() as transaction:
        transaction.repository("library/app").tag("v2", TWO, expected=None)
        transaction.repository("library/app").tag("v2", TWO, expected=None)
    assert caught.value.actual == TWO


def test_a_tag_removed_twice_in_one_transaction_is_missing_the_second_time(store, stocked):
    with unchanged(store.root), pytest.raises(ManifestNotFoundError), store.transaction() as transaction:
        transaction.repository("library/app").untag("v1")
        transaction.repository("library/app").untag("v1")


def test_the_same_blob_and_the_same_manifest_twice_are_there_once(store):
    with store.transaction() as transaction:
        for name in ("a", "b", "a"):
            push(transaction.repository(name), APP, "v1")
    assert sorted(pool(store.root).values()) == sorted([APP.manifest, *APP.blobs])
    assert store.repository("b").get_manifest("v1").content == APP.manifest
    assert strays(store.root) == []


def test_bytes_put_as_a_blob_and_as_a_manifest_are_both(store):
    with store.transaction() as transaction:
        transaction.repository("a").put_blob(note(1).manifest)
        push(transaction.repository("a"), note(1), "v1")
    assert store.repository("a").stat_blob(ONE).size == store.repository("a").resolve("v1").size


def test_a_mount_takes_what_is_committed_and_what_the_transaction_put_before(store, repository):
    digest = Digest.of(HELLO)
    with pytest.raises(RepositoryNotFoundError), store.transaction() as transaction:
        transaction.repository("b").mount_blob(digest, "a")
    with store.transaction() as transaction:
        transaction.repository("a").put_blob(HELLO)
        assert transaction.repository("b").mount_blob(digest, "a").size == len(HELLO)
        transaction.repository("c").mount_blob(digest, "b")
    assert {name: store.repository(name).stat_blob(digest).size for name in "abc"} == dict.fromkeys("abc", len(HELLO))


def test_a_forked_child_that_leaves_the_block_ends_no_transaction(store, repository):
    with store.transaction() as transaction:
        transaction.repository("b").put_blob(HELLO)
        child = os.fork()
        if child == 0:
            try:
                transaction.__exit__(None, None, None)
                with pytest.raises(StoreClosedError):
                    transaction.repository("c")
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert list(store.repositories()) == []
    assert store.repository("b").stat_blob(Digest.of(HELLO)).size == len(HELLO)


def test_a_mount_whose_source_is_deleted_before_the_end_is_refused(store, repository):
    repository.put_blob(HELLO)
    with pytest.raises(BlobNotFoundError), store.transaction() as transaction:
        transaction.repository("b").mount_blob(Digest.of(HELLO), "library/app")
        repository.delete_blob(Digest.of(HELLO))
    assert list(store.repositories()) == ["library/app"]


@pytest.mark.needs_files
def test_a_mount_whose_file_is_gone_before_the_end_is_refused(store, repository):
    repository.put_blob(HELLO)
    with pytest.raises(BlobNotFoundError), store.transaction() as transaction:
        transaction.repository("b").mount_blob(Digest.of(HELLO), "library/app")
        (store.root / "blobs" / "sha256" / Digest.of(HELLO).encoded).unlink()
    assert list(store.repositories()) == ["library/app"]


# --- while it is open -------------------------------------------------------------------------------------------------


def test_an_open_transaction_keeps_nobody_waiting(store, stocked):
    with store.transaction() as transaction:
        transaction.repository("library/app").put_blob(HELLO)
        finished = threading.Event()
        threading.Thread(target=lambda: (stocked.tag("v2", TWO), finished.set()), daemon=True).start()
        assert finished.wait(10)
    assert sorted(stocked.tags()) == ["v1", "v2"]


def test_two_transactions_open_at_once_both_succeed_where_they_do_not_conflict(store, stocked):
    with store.transaction() as first, store.transaction() as second:
        push(first.repository("library/app"), APP, "first")
        push(second.repository("library/app"), APP, "second")
    assert list(stocked.tags()) == ["first", "second", "v1"]


# --- after it ---------------------------------------------------------------------------------------------------------

AFTER = {
    "repository": lambda transaction, part: transaction.repository("a"),
    "again": lambda transaction, part: transaction.__enter__(),
    "put_blob": lambda transaction, part: part.put_blob(HELLO),
    "put_manifest": lambda transaction, part: push(part, note(9)),
    "tag": lambda transaction, part: part.tag("v2", TWO),
    "untag": lambda transaction, part: part.untag("v1"),
    "delete_manifest": lambda transaction, part: part.delete_manifest(ONE),
    "delete_blob": lambda transaction, part: part.delete_blob(ONE),
}


@pytest.mark.parametrize("raised", [False, True], ids=["committed", "dropped"])
@pytest.mark.parametrize("use", AFTER.values(), ids=AFTER)
def test_a_transaction_cannot_be_used_after_its_end(store, stocked, use, raised):
    try:
        with store.transaction() as transaction:
            part = transaction.repository("library/app")
            if raised:
                raise ChangedMyMindError
    except ChangedMyMindError:
        pass
    with unchanged(store.root), pytest.raises(StoreClosedError, match="transaction"):
        use(transaction, part)


def test_a_store_closed_inside_commits_nothing(store, stocked):
    with pytest.raises(StoreClosedError), store.transaction() as transaction:
        transaction.repository("library/app").tag("v1", TWO)
        store.close()
    with Store.open(store.root) as again:
        assert again.repository("library/app").resolve("v1").digest == ONE


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.needs_files
def test_1_000_blobs_in_one_transaction_fit_256_open_files(store):
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from ocistore import Store
with Store.open(sys.argv[1]) as store, store.transaction() as transaction:
    for number in range(1000):
        transaction.repository("a").put_blob(b"blob %d" % number)
"""
    run_python(code, store.root)
    assert store.usage().blobs == 1_000
    assert len(pool(store.root)) == 1_000
    assert len(rows(store.root)["repository_blobs"]) == 1_000
    assert os.listdir(store.root / "uploads") == []


def test_a_transaction_keeps_no_file_open_after_its_end(store):
    before = len(descriptors())
    with pytest.raises(ChangedMyMindError), store.transaction() as transaction:
        for number in range(100):
            transaction.repository("a").put_blob(b"%d" % number)
        raise ChangedMyMindError
    assert len(descriptors()) <= before + 8  # directories and connections, which stay with the store

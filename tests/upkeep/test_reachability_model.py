"""Garbage collection leaves exactly what the model of reachability says, whatever was done before."""

import contextlib
import contextvars
import shutil
import sqlite3
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import artifact, image, index
from invariants import check

from ocistore import Digest, OCIStoreError, Store, clock
from ocistore.catalog import gc, manifests, reachability
from ocistore.testing.reachability import Contents, ModelLease, ModelState, References, collected

SECOND = 1000
START = 1_700_000_000 * SECOND

A, B, C, D = (image(name, layers=2) for name in "abcd")
SHARED = index([A, B])
NOTE = artifact("note", subject=A)
CONTENTS = {
    "a": A,
    "b": B,
    "index": SHARED,
    "nested": index([SHARED, B]),
    "other index": index([A, C]),
    "sparse": index([A, image("absent")]),
    "note": NOTE,
    "note on a note": artifact("second", subject=NOTE),
    "note on an index": artifact("third", subject=SHARED),
    "note on nothing here": artifact("fourth", subject=image("absent")),
    "ring": index([C], subject=C),
    "long ring": index([index([D]), NOTE], subject=D),
    "index as a blob": index([D], subject=NOTE),
}
REPOSITORIES = ("here", "there")
TAGS = ("v1", "v2")

repositories = st.sampled_from(REPOSITORIES)
contents = st.sampled_from(sorted(CONTENTS))
DURATIONS = (0, 1, 3, 6, 10**6)
"""Whole seconds, and half a second more: nothing is ever due to the very millisecond."""

numbers = st.integers(0, 30)
"""Which of what is there."""

pushes = st.one_of(
    st.tuples(st.just("push"), repositories, contents, st.sampled_from([None, *TAGS])),
    st.tuples(st.just("push leased"), repositories, contents, st.sampled_from([2, 5, 20])),
)
changes = st.one_of(
    st.tuples(st.just("tag"), repositories, numbers, st.sampled_from(TAGS)),
    st.tuples(st.just("untag"), repositories, numbers),
    st.tuples(st.just("untag"), repositories, numbers),
    st.tuples(st.just("delete manifest"), repositories, numbers),
    st.tuples(st.just("delete a blob"), repositories, numbers),
    st.tuples(st.just("put as a blob"), repositories, contents),
    st.tuples(st.just("mount"), repositories, numbers),
    st.tuples(st.just("end a lease")),
    st.tuples(st.just("delete repository"), st.just("there")),
)
passing = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 8)),
    st.tuples(st.just("collect"), st.sampled_from(DURATIONS), st.sampled_from(DURATIONS)),
)
steps = st.one_of(pushes, changes, passing)


def second(since):
    """The second in which something was let go of: manifests that wait for each other have a millisecond more each."""
    return None if since is None else since - since % SECOND


def found(root):
    """The rows of a store as the model has them."""
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection:

        def grouped(sql):
            rows = {}
            for key, *row in connection.execute(sql):
                rows.setdefault(key, []).append(row)
            return rows

        digests = dict(connection.execute("SELECT id, digest FROM blobs"))
        names = dict(connection.execute("SELECT id, name FROM repositories WHERE name IS NOT NULL"))
        tags = grouped("SELECT repository_id, name, manifest_id FROM tags")
        manifests = grouped("SELECT repository_id, manifest_id, unreferenced_since FROM repository_manifests")
        blobs = grouped("SELECT repository_id, blob_id, unreferenced_since FROM repository_blobs")
        edges = grouped("SELECT parent_id, role, child_id FROM edges")
        leases = grouped("SELECT lease_id, repository_id, blob_id FROM lease_blobs")
        every_manifest = [digests[key] for (key,) in connection.execute("SELECT blob_id FROM manifests")]

        def children(parent, *roles):
            return frozenset(digests[child] for role, child in edges.get(parent, []) if role in roles)

        ids = {digest: key for key, digest in digests.items()}
        return ModelState(
            repositories={
                name: Contents(
                    tags={tag: digests[target] for tag, target in tags.get(key, [])},
                    manifests={digests[each]: second(since) for each, since in manifests.get(key, [])},
                    blobs={digests[each]: second(since) for each, since in blobs.get(key, [])},
                )
                for key, name in names.items()
            },
            references={
                digest: References(
                    children(ids[digest], "manifest"),
                    children(ids[digest], "config", "layer"),
                    next(iter(children(ids[digest], "subject")), None),
                )
                for digest in every_manifest
            },
            leases={
                key: ModelLease(expires, frozenset((names[here], digests[each]) for here, each in leases.get(key, [])))
                for key, expires in connection.execute("SELECT id, expires FROM leases")
            },
            pool={
                digest: second(since)
                for digest, since in connection.execute(
                    "SELECT digest, unreferenced_since FROM blobs WHERE state = 'live'"
                )
            },
        )


class History:
    """A store, a clock that stands still between steps, and what was done last to each manifest."""

    def __init__(self, store, monkeypatch):
        self.store = store
        self.now = START
        self.touched = {}
        self.leases = []
        self.ended = 0
        monkeypatch.setattr(clock, "time", SimpleNamespace(time_ns=lambda: self.now * 1_000_000))

    def do(self, step):
        name, *arguments = step
        if name == "collect":
            self.collect(*arguments)
            return
        with contextlib.suppress(OCIStoreError):
            getattr(self, name.replace(" ", "_"))(*arguments)

    def push(self, repository, content, tag):
        self._push(self.store.repository(repository), CONTENTS[content], *filter(None, [tag]))

    def _push(self, repository, pushed, *tags):
        for child in pushed.children:
            if child.digest != image("absent").digest:
                self._push(repository, child)
        for blob in pushed.blobs:
            repository.put_blob(blob)
        repository.put_manifest(pushed.manifest, tags=tags, missing="children" if pushed.children else "refuse")
        self.touched[repository.name, pushed.digest] = self.now

    def push_leased(self, repository, content, seconds):
        lease = self.store.lease(ttl=timedelta(seconds=seconds))
        context = contextvars.copy_context()
        context.run(lease.__enter__)
        self.leases.append((lease, context))
        with lease.use():
            self.push(repository, content, None)

    def end_a_lease(self):
        if self.leases:
            lease, context = self.leases.pop()
            context.run(lease.__exit__, None, None, None)

    def tag(self, repository, number, tag):
        with contextlib.suppress(OCIStoreError):
            self._lets_go(repository, tag)
        self.store.repository(repository).tag(tag, self._one_of(repository, "manifests", number))

    def untag(self, repository, number):
        tag = self._one_of(repository, "tags", number)
        self._lets_go(repository, tag)
        self.store.repository(repository).untag(tag)

    def _lets_go(self, repository, tag):
        self.touched[repository, self.store.repository(repository).resolve(tag).digest] = self.now

    def delete_manifest(self, repository, number):
        self.store.repository(repository).delete_manifest(self._one_of(repository, "manifests", number))

    def delete_a_blob(self, repository, number):
        self.store.repository(repository).delete_blob(self._one_of(repository, "blobs", number))

    def put_as_a_blob(self, repository, content):
        self.store.repository(repository).put_blob(CONTENTS[content].manifest)

    def mount(self, repository, number):
        [other] = set(REPOSITORIES) - {repository}
        self.store.repository(repository).mount_blob(self._one_of(other, "blobs", number), other)

    def _one_of(self, repository, kind, number):
        """One of the tags, or digests, of a repository; of one that has none, something that nobody has."""
        there = sorted(getattr(found(self.store.root).repositories.get(repository, Contents()), kind))
        return there[number % len(there)] if there else "none" if kind == "tags" else Digest.of(b"of nobody")

    def delete_repository(self, repository):
        self.store.delete_repository(repository)

    def wait(self, seconds):
        self.now += seconds * SECOND

    def collect(self, grace, keep_untagged):
        grace, keep_untagged = (each * SECOND + SECOND // 2 * (each > 0) for each in (grace, keep_untagged))
        before = found(self.store.root)
        times = {
            "grace": timedelta(milliseconds=grace),
            "keep_untagged": timedelta(milliseconds=keep_untagged),
        }
        expected = collected(before, now=self.now, grace=grace, keep_untagged=keep_untagged)
        explained = {
            (each.repository, str(digest)): bool(each.kept_by)
            for digest in before.pool
            for each in self.store.explain(digest, **times).repositories
            if each.repository is not None
        }
        self.store.gc(force=True, **times)
        after = found(self.store.root)
        assert after == expected
        self.ended += 1
        kept = {
            (name, digest): digest in after.repositories[name].manifests or digest in after.repositories[name].blobs
            for name, each in before.repositories.items()
            for digest in (*each.manifests, *each.blobs)
        }
        both = {
            (name, digest)
            for name, each in before.repositories.items()
            for digest in each.manifests.keys() & each.blobs.keys()
        }
        assert {key: each for key, each in explained.items() if key not in both} == {
            key: each for key, each in kept.items() if key not in both
        }
        for name, each in before.repositories.items():
            for digest in each.manifests.keys() - after.repositories[name].manifests.keys():
                assert self.touched[name, digest] <= self.now - keep_untagged


@pytest.mark.parametrize("examples", [25, pytest.param(2000, marks=pytest.mark.slow)])
def test_it_leaves_what_the_model_says_and_that_is_what_is_explained(empty_store, tmp_path, examples):
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(pushes, min_size=2, max_size=6), st.lists(steps, min_size=6, max_size=50))
    def run(pushed, done):
        root = tmp_path / "store"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(empty_store, root)
        with pytest.MonkeyPatch.context() as patch, Store.open(root) as store:
            history = History(store, patch)
            # At the end some leases run out that kept what nothing else keeps any more; then all of them end.
            for step in (*pushed, *done, ("collect", 0, 0), ("wait", 6), ("collect", 3, 3), ("collect", 0, 0)):
                history.do(step)
            while history.leases:
                history.end_a_lease()
            history.collect(0, 0)
        assert check(root) == []

    run()


def test_what_is_only_the_subject_of_a_manifest_is_in_use_until_that_goes(store, monkeypatch):
    history = History(store, monkeypatch)
    history.push("here", "index as a blob", None)
    history.put_as_a_blob("here", "note")  # the subject of that index, and no manifest here
    history.wait(2)
    history.collect(1, 0)  # removes the index
    assert NOTE.digest in found(store.root).repositories["here"].blobs
    history.wait(2)
    history.collect(1, 0)
    assert NOTE.digest not in found(store.root).repositories["here"].blobs


def test_what_a_lease_kept_begins_to_wait_when_the_next_collection_ends_it(store, monkeypatch):
    history = History(store, monkeypatch)
    history.push_leased("here", "a", 5)
    history.wait(10**7)
    [explained] = store.explain(A.digest).repositories
    assert explained.kept_by == ()  # it was pushed long ago, and is in the queue since then
    history.now = START
    history.collect(0, 0)  # takes it out of the queue, because of the lease
    history.wait(10**7)
    [explained] = store.explain(A.digest).repositories
    assert len(explained.kept_by) == 1
    assert explained.due.timestamp() * SECOND == history.now + timedelta(days=14) / timedelta(milliseconds=1)
    history.collect(3, 3)
    assert found(store.root).repositories["here"].manifests.keys() == {str(A.digest)}


def _referrers_are_forgotten(patch):
    patch.setattr(manifests, "queue_referrers", lambda *_, **__: 0)


def _leases_are_forgotten(patch):
    alive = reachability.alive
    patch.setattr(reachability, "alive", lambda *which, now, **more: alive(*which, now=now + 10**9, **more))


def _grace_is_forgotten(patch):
    due = gc.due_blobs
    patch.setattr(gc, "due_blobs", lambda connection, *, before, **more: due(connection, before=10**15, **more))


def _blobs_that_are_needed_go(patch):
    due = gc.due_blob_memberships
    patch.setattr(gc, "due_blob_memberships", lambda *which, **more: [(row, False) for row, _ in due(*which, **more)])


@pytest.mark.parametrize(
    ("wrong", "steps"),
    [
        (
            _referrers_are_forgotten,
            [("push", "here", "a", "v1"), ("push", "here", "note", None), ("collect", 0, 0), ("untag", "here", 0)],
        ),
        (_leases_are_forgotten, [("push leased", "here", "a", 20)]),
        (
            _grace_is_forgotten,
            [("push", "there", "a", None), ("delete repository", "there"), ("push", "here", "b", None)],
        ),
        (_blobs_that_are_needed_go, [("push", "here", "a", "v1")]),
    ],
)
def test_a_collection_that_is_wrong_does_not_leave_what_the_model_says(store, monkeypatch, wrong, steps):
    grace = 10**6 if wrong is _grace_is_forgotten else 0
    history = History(store, monkeypatch)
    for step in steps:
        history.do(step)
    shutil.copytree(store.root, store.root.parent / "copy")
    with monkeypatch.context() as patch, Store.open(store.root.parent / "copy") as copy:
        wrong(patch)
        history.store = copy
        with pytest.raises(AssertionError):
            history.collect(grace, 0)
    history.store = store
    history.collect(grace, 0)

"""Random operations on a store and on a few dictionaries, which must always agree."""

import contextlib
import contextvars
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from images import artifact, image, index, note
from invariants import check, unqueue
from model import Model, Operation, everything_of, transact
from state import POOLS, files, pool

from ocistore import (
    ANY,
    Digest,
    DigestMismatchError,
    ManifestBlobUnknownError,
    OCIStoreError,
    Store,
    StoreBusyError,
    StoreClosedError,
    UploadNotFoundError,
    UploadRangeError,
)
from ocistore.testing.memory import MemoryPool

NAMES = ("a", "a-b")
TAGS = ("V", "latest", "v1")
A, B, LOST = image("a"), image("b", layers=2), image("lost")
IMAGES = (
    A,
    B,
    image("c", subject=A),
    index([A, B]),
    index([index([A]), B], subject=B),
    artifact("s", subject=A),
    artifact("t", subject=LOST, annotations={"k": "v"}),
    note("n"),
)
LOOSE = (b"", b"loose", A.manifest)  # a manifest put as a blob is none
BLOBS = tuple(dict.fromkeys([*LOOSE, *(blob for each in IMAGES for blob in each.blobs)]))
SPARSE = index([A, B, LOST])  # which nobody can put whole
MANIFESTS = (*(each.manifest for each in IMAGES), SPARSE.manifest)
BLOB_DIGESTS = (*map(Digest.of, BLOBS), Digest.of(b"loose", "sha512"), Digest.of(b"never"))
MANIFEST_DIGESTS = (*map(Digest.of, MANIFESTS), LOST.digest)
DIGESTS = tuple(dict.fromkeys([*BLOB_DIGESTS, *MANIFEST_DIGESTS]))

names = st.sampled_from(NAMES)
tags = st.sampled_from(TAGS)
algorithms = st.sampled_from(["sha256", "sha512"])
manifests = st.sampled_from(MANIFESTS)
digests = st.sampled_from(DIGESTS)
some_tags = st.lists(tags, max_size=3).map(tuple)
manifest_digests = st.sampled_from(MANIFEST_DIGESTS)


def operation(method, *arguments, **options):
    return st.builds(
        lambda name, given, named: Operation(method, name, given, tuple(sorted(named.items()))),
        names,
        st.tuples(*arguments),
        st.fixed_dictionaries({}, optional=options),
    )


operations = st.one_of(
    operation("put_blob", st.sampled_from(BLOBS)),
    operation(
        "put_blob",
        st.sampled_from(LOOSE),
        digest=st.sampled_from(BLOB_DIGESTS[:3]),
        size=st.sampled_from([0, 5]),
    ),
    operation("put_blob", st.just(b"loose"), algorithm=st.just("sha512")),
    operation("mount_blob", st.sampled_from(BLOB_DIGESTS), names),
    operation("delete_blob", digests),
    operation("put_manifest", manifests, tags=some_tags, missing=st.sampled_from(["refuse", "children", "all"])),
    operation("delete_manifest", digests),
    operation("tag", tags, manifest_digests, expected=st.sampled_from([ANY, None, *MANIFEST_DIGESTS])),
    operation("untag", tags),
)
brought = st.one_of(
    operation("put_blob", st.sampled_from(BLOBS)),
    operation("mount_blob", st.sampled_from(BLOB_DIGESTS), names),
    operation("put_manifest", manifests, tags=some_tags),
)
pushes = st.builds(
    lambda name, pushed, tagged: [
        *(replace(each, repository=name) for each in everything_of(pushed)),
        Operation("put_manifest", name, (pushed.manifest,), (("tags", tagged),)),
    ],
    names,
    st.sampled_from(IMAGES),
    some_tags,
)


KINDS = ("push", "likely", "random", "deleted")
HOW = ("write", "write wrongly", "close", "commit", "commit wrongly", "cancel")


class Unwanted(Exception):
    """What a transaction is broken off with."""


class Machine(RuleBasedStateMachine):
    """Two stores open on one directory, either of which does the work; a third one reads.

    Sessions are drawn in the order in which they were started: their ids are different each time.
    """

    template: Path
    in_memory = False
    """Whether the blobs are in memory."""

    def __init__(self):
        super().__init__()
        # Beside the other directories of this run, which pytest removes: Hypothesis drops some machines unused.
        self.directory = Path(tempfile.mkdtemp(dir=self.template.parent))
        self.root = self.directory / "store"
        self.model = Model()
        self.open_uploads = {}
        self.ended_uploads = []
        self.leases = {}
        self.pool = None

    @initialize()
    def begin(self):
        shutil.copytree(self.template, self.root)
        if self.in_memory:
            self.pool = POOLS[self.root] = MemoryPool()
            (self.root / "pool").write_text(self.pool.identity)
        self._open()

    def _open(self):
        self.stores = (Store.open(self.root, pool=self.pool), Store.open(self.root, pool=self.pool))
        self.reader = Store.open(self.root, pool=self.pool, read_only=True)

    def _close(self):
        for upload in (*(upload for _, upload in self.open_uploads.values()), *self.ended_uploads):
            upload.close()
        self.open_uploads.clear()
        self.ended_uploads.clear()
        for store in (*self.stores, self.reader):
            store.close()

    def teardown(self):
        if self.root.exists():
            self._close()
            assert check(self.root, hashes=True) == []
        POOLS.pop(self.root, None)
        shutil.rmtree(self.directory)

    # Changes.

    @rule(operation=operations, which=st.integers(0, 1))
    def change(self, operation, which):
        wanted, error = outcome(self.model.run, operation)
        found, failed = outcome(operation.run, self.stores[which].repository(operation.repository))
        assert same_error(failed, error), (failed, error)
        assert plain(found) == wanted

    @precondition(lambda self: self.model.repositories)
    @rule(which=st.integers(0, 1), data=st.data())
    def change_what_is_there(self, which, data):
        self.change(self._likely(data), which)

    @precondition(lambda self: self.model.repositories)
    @rule(which=st.integers(0, 1), data=st.data())
    def delete_what_is_there(self, which, data):
        self.change(self._likely(data, ("delete_blob", "delete_manifest", "untag")), which)

    def _likely(self, data, methods=("delete_blob", "mount_blob", "put_manifest", "delete_manifest", "tag", "untag")):
        """An operation on something that exists, which random ones seldom meet."""
        name = data.draw(st.sampled_from(sorted(self.model.repositories)))
        contents = self.model.repositories[name]
        blobs, pushed, tagged = sorted(contents.blobs), sorted(contents.manifests), sorted(contents.tags)
        method = data.draw(st.sampled_from(methods))
        if method == "delete_blob" and blobs:
            return Operation(method, name, (data.draw(st.sampled_from(blobs)),))
        if method == "mount_blob" and blobs:
            return Operation(method, data.draw(names), (data.draw(st.sampled_from(blobs)), name))
        if method == "put_manifest" and pushed:
            content = contents.manifests[data.draw(st.sampled_from(pushed))]
            missing = data.draw(st.sampled_from(["refuse", "children", "all"]))
            return Operation(
                method, data.draw(names), (content,), (("missing", missing), ("tags", data.draw(some_tags)))
            )
        if method == "delete_manifest" and pushed:
            return Operation(method, name, (data.draw(st.sampled_from(pushed)),))
        if method == "untag" and tagged:
            return Operation(method, name, (data.draw(st.sampled_from(tagged)),))
        if method == "tag" and pushed:
            tag = data.draw(tags)
            expected = data.draw(st.sampled_from([ANY, None, contents.tags.get(tag), *pushed]))
            return Operation(method, name, (tag, data.draw(st.sampled_from(pushed))), (("expected", expected),))
        return data.draw(operations)

    @rule(pushed=pushes, which=st.integers(0, 1))
    def push(self, pushed, which):
        for each in pushed:
            self.model.run(each)
        with self.stores[which].transaction() as transaction:
            for each in pushed:
                each.run(transaction.repository(each.repository))

    @rule(kinds=st.lists(st.sampled_from(KINDS), max_size=4), which=st.integers(0, 1), data=st.data())
    def transact(self, kinds, which, data):
        broken_off = data.draw(st.integers(0, 4)) == 0
        changes = []
        for kind in kinds:
            if kind == "push":
                changes.append(data.draw(pushes))
            elif kind == "likely" and self.model.repositories:
                changes.append([self._likely(data)])
            elif kind == "deleted" and self.model.repositories:
                first = self._likely(data, ("delete_manifest",))
                digest = first.arguments[0] if first.method == "delete_manifest" else A.digest
                digest = data.draw(st.one_of(st.just(digest), manifest_digests))
                changes.append([first, Operation("tag", first.repository, (data.draw(tags), digest))])
            else:
                changes.append([data.draw(operations)])
        changes = [each for group in changes for each in group]
        before = self.model if not broken_off else Model(**vars(self.model))
        possible = transact(before, changes)
        try:
            with self.stores[which].transaction() as transaction:
                for each in changes:
                    each.run(transaction.repository(each.repository))
                if broken_off:
                    raise Unwanted
        except (Unwanted, OCIStoreError) as error:
            failed = error
        else:
            failed = None
        if broken_off and not isinstance(failed, OCIStoreError):  # which a mount may raise inside the block
            assert isinstance(failed, Unwanted)
        else:
            assert (type(failed) in possible) if possible else (failed is None), (failed, possible)

    @rule(name=names, which=st.integers(0, 1))
    def delete_repository(self, name, which):
        _, error = outcome(self.model.delete_repository, name)
        _, failed = outcome(self.stores[which].delete_repository, name)
        assert same_error(failed, error), (failed, error)
        for key in [key for key, (owner, _) in self.open_uploads.items() if owner == name]:
            self.ended_uploads.append(self.open_uploads.pop(key)[1])

    # Leases.

    @precondition(lambda self: len(self.leases) < 3)
    @rule(which=st.integers(0, 1))
    def begin_a_lease(self, which):
        lease = self.stores[which].lease(ttl=timedelta(hours=1))
        contextvars.copy_context().run(lease.__enter__)
        self.leases[lease.id] = (which, lease)
        self.model.leases[lease.id] = set()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def push_under_a_lease(self, data):
        which, lease = self.leases[data.draw(st.sampled_from(list(self.leases)))]
        pushed = data.draw(st.one_of(pushes, st.builds(lambda each: [each], brought)))
        with lease.use():
            for each in pushed:
                wanted, error = outcome(self.model.run, each)
                found, failed = outcome(each.run, self.stores[which].repository(each.repository))
                assert same_error(failed, error), (failed, error)
                assert plain(found) == wanted
                if found is not None:
                    self.model.keep(each.repository, lease.id, found.digest)

    @precondition(lambda self: self.leases)
    @rule(name=names, digest=digests, data=st.data())
    def keep(self, name, digest, data):
        _, lease = self.leases[data.draw(st.sampled_from(list(self.leases)))]
        _, error = outcome(self.model.keep, name, lease.id, digest)
        _, failed = outcome(lease.keep, name, digest)
        assert same_error(failed, error), (failed, error)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def end_a_lease(self, data):
        _, lease = self.leases.pop(data.draw(st.sampled_from(list(self.leases))))
        contextvars.copy_context().run(lease.__exit__, None, None, None)
        del self.model.leases[lease.id]

    def _forget_leases(self):
        """As those of somebody who died, a while later."""
        with contextlib.closing(sqlite3.connect(self.root / "catalog.db", isolation_level=None)) as connection:
            connection.execute("UPDATE leases SET expires = 1")
        self.leases.clear()
        self.model.leases.clear()

    # Upload sessions.

    @rule(name=names, algorithm=algorithms, which=st.integers(0, 1))
    def start_upload(self, name, algorithm, which):
        upload = self.stores[which].repository(name).start_upload(algorithm=algorithm)
        self.model.start_upload(name, upload.id)
        self.open_uploads[upload.id] = (name, upload)

    @precondition(lambda self: self.open_uploads)
    @rule(how=st.sampled_from(HOW), data=st.data())
    def use_upload(self, how, data):
        name, upload = self.open_uploads[data.draw(st.sampled_from(list(self.open_uploads)))]
        content = self.model.find_upload(name, upload.id)
        assert upload.offset == len(content)
        if how == "write":
            chunk = data.draw(st.sampled_from([b"", b"loo", b"se"]))
            offset = data.draw(st.sampled_from([None, len(content)]))
            assert upload.write(chunk, offset=offset) == self.model.write_upload(name, upload.id, chunk)
        elif how == "write wrongly":
            with pytest.raises(UploadRangeError) as caught:
                upload.write(b"more", offset=len(content) + 1)
            assert (caught.value.offset, caught.value.given) == (len(content), len(content) + 1)
        elif how.startswith("commit"):
            digest = Digest.of(content if how == "commit" else b"wrong", data.draw(algorithms))
            wanted, error = outcome(self.model.commit_upload, name, upload.id, digest)
            found, failed = outcome(upload.commit, digest)
            assert same_error(failed, error), (failed, error)
            assert plain(found) == wanted
        elif how == "cancel":
            upload.cancel()
            self.model.cancel_upload(name, upload.id)
        else:
            upload.close()
        if how in {"commit", "cancel", "close"}:
            del self.open_uploads[upload.id]
            with pytest.raises(StoreClosedError):
                upload.write(b"more")

    @rule(name=names, which=st.integers(0, 1), data=st.data())
    def resume_upload(self, name, which, data):
        known = [id_ for contents in self.model.repositories.values() for id_ in contents.uploads]
        id_ = data.draw(st.sampled_from([*known, "0" * 32]))
        _, error = outcome(self.model.find_upload, name, id_)
        found, failed = outcome(self.stores[which].repository(name).upload, id_)
        if error is None and id_ in self.open_uploads:
            assert type(failed) is StoreBusyError
            return
        assert same_error(failed, error), (failed, error)
        if found is not None:
            self.open_uploads[id_] = (name, found)

    @precondition(lambda self: self.ended_uploads)
    @rule(how=st.sampled_from(["write", "commit", "cancel", "close"]))
    def use_an_upload_whose_repository_was_deleted(self, how):
        upload = self.ended_uploads.pop()
        if how in {"write", "commit"}:
            with pytest.raises((UploadNotFoundError, DigestMismatchError) if how == "commit" else UploadNotFoundError):
                upload.write(b"more") if how == "write" else upload.commit(Digest.of(b""))
        upload.cancel() if how == "cancel" else upload.close()

    @rule()
    def look_through_the_queue(self):
        unqueue(self.root)

    @rule(how=st.sampled_from(["at once", "in slices", "with default times"]), which=st.integers(0, 1))
    def collect(self, how, which):
        if how == "with default times":
            assert self.stores[which].gc().blobs == 0
            return
        dry = self.stores[which].gc(grace=timedelta(0), keep_untagged=timedelta(0), dry_run=True)
        bounds = {"maximum_batches": 1} if how == "in slices" else {}
        gone = 0
        with pytest.MonkeyPatch.context() as patch:
            for each in ("_MANIFESTS", "_ROWS", "_FILES") if bounds else ():
                patch.setattr(f"ocistore.upkeep.gc.{each}", 2)
            while True:
                report = self.stores[which].gc(grace=timedelta(0), keep_untagged=timedelta(0), **bounds)
                gone += report.blobs
                if report.complete:
                    break
                assert check(self.root) == []
        assert sorted(each.digest for each in dry.candidates) == self.model.collect()
        assert gone == dry.blobs == len(dry.candidates)
        assert set(pool(self.root)) == set(self.model.live)
        assert [name for name in files(self.root) if name.startswith("trash/")] == []

    # Looking.

    @rule()
    def reopen(self):
        self._close()
        self._forget_leases()
        self._open()

    @rule(name=names, prefix=st.sampled_from(["", "v", "l"]), after=tags, limit=st.integers(0, 3))
    def page(self, name, prefix, after, limit):
        repository = self.reader.repository(name)
        for tag in (None, after):
            wanted, error = outcome(self.model.history, name, tag)
            found, failed = outcome(repository.history, tag, limit=limit)
            assert same_error(failed, error), (failed, error)
            if error is not None:
                return
            assert [(event.tag, event.old, event.new) for event in found] == [event[1:] for event in wanted][:limit]
        every = sorted(self.model.repositories[name].tags)
        wanted = [tag for tag in every if tag.startswith(prefix) and tag > after]
        assert list(repository.tags(prefix=prefix, after=after, limit=limit)) == wanted[:limit]
        listed = list(repository.manifests())
        for position, descriptor in enumerate(listed):
            rest = list(repository.manifests(after=descriptor.digest, limit=limit))
            assert rest == listed[position + 1 :][:limit]
        known = sorted(self.model.repositories)
        wanted = [name for name in known if name.startswith("a") and name > after]
        assert list(self.reader.repositories(prefix="a", after=after, limit=limit)) == wanted[:limit]

    @invariant()
    def they_agree(self):
        if not self.root.exists():
            return
        assert list(self.reader.repositories()) == sorted(self.model.repositories)
        for name in NAMES:
            self._agree_on(name)
        usage = self.reader.usage()
        contents = self.model.repositories.values()
        assert usage.repositories == len(self.model.repositories)
        assert usage.tags == sum(len(each.tags) for each in contents)
        assert usage.uploads == sum(len(each.uploads) for each in contents)
        assert usage.manifests == len({digest for each in contents for digest in each.manifests})
        assert (usage.blobs, usage.blob_bytes) == (len(self.model.live), sum(self.model.live.values()))

    def _agree_on(self, name):
        repository = self.reader.repository(name)
        for digest in DIGESTS:
            wanted, error = outcome(self.model.stat_blob, name, digest)
            found, failed = outcome(repository.stat_blob, digest)
            assert same_error(failed, error), (failed, error)
            assert plain(found) == wanted
        for reference in (*TAGS, *MANIFEST_DIGESTS):
            wanted, error = outcome(self.model.resolve, name, reference)
            found, failed = outcome(repository.get_manifest, reference)
            assert same_error(failed, error), (failed, error)
            if found is not None:
                assert found.content == self.model.repositories[name].manifests[wanted]
                assert repository.resolve(reference) == found.descriptor
        if name not in self.model.repositories:
            return
        contents = self.model.repositories[name]
        assert list(repository.tags()) == sorted(contents.tags)
        assert {each.digest for each in repository.manifests()} == set(contents.manifests)
        assert {each.id for each in repository.uploads()} == set(contents.uploads)
        for digest in MANIFEST_DIGESTS:
            assert [each.digest for each in repository.referrers(digest)] == self.model.referrers(name, digest)

    @invariant()
    def the_store_is_whole(self):
        if self.root.exists():
            assert check(self.root) == []


def outcome(call, *arguments, **options):
    try:
        return call(*arguments, **options), None
    except OCIStoreError as error:
        return None, error


def same_error(found, wanted):
    """Whether two errors are of one class and say the same with their fields."""
    if type(found) is not type(wanted):
        return False
    if isinstance(found, ManifestBlobUnknownError):
        return (set(found.missing), found.repository) == (set(wanted.missing), wanted.repository)
    return found is None or vars(found) == vars(wanted)


def plain(descriptor):
    return None if descriptor is None else (descriptor.digest, descriptor.size)


@pytest.mark.parametrize(
    ("examples", "steps"), [(12, 25), pytest.param(300, 60, marks=pytest.mark.slow)], ids=["short", "long"]
)
@pytest.mark.parametrize("pool_kind", ["files", "memory"])
def test_a_store_and_a_few_dictionaries_always_agree(empty_store, empty_store_in_memory, pool_kind, examples, steps):
    class Here(Machine):
        template = empty_store if pool_kind == "files" else empty_store_in_memory
        in_memory = pool_kind == "memory"

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""Collection: what goes, what stays, and when."""

import contextlib
import itertools
import os
import sqlite3
from datetime import timedelta

import pytest
from images import APP, artifact, image, index, note, push
from invariants import check
from passing import Clock
from processes import python
from state import descriptors, pool, rows, staged, strays
from steps import counted_steps

from ocistore import (
    CollectionRefusedError,
    CorruptError,
    Digest,
    ManifestNotFoundError,
    Store,
    StoreBusyError,
    UploadNotFoundError,
    rebuild,
)
from ocistore.clock import milliseconds
from ocistore.upkeep import refsfile
from ocistore.upkeep.gc import _Run

pytestmark = pytest.mark.every_pool

NOW = timedelta(0)
DAY = timedelta(days=1)


def collect(store, **options):
    """A collection that waits for nothing."""
    return store.gc(**{"grace": NOW, "keep_untagged": NOW, **options})


def test_what_nothing_refers_to_goes_and_its_bytes_with_it(store, repository):
    push(repository, image("kept"), "v1")
    push(repository, image("gone", layers=2), "v2")
    repository.untag("v2")
    report = collect(store)
    gone = image("gone", layers=2)
    assert (report.manifests, report.memberships, report.blobs) == (1, 3, 4)
    assert report.bytes == len(gone.manifest) + sum(map(len, gone.blobs))
    assert set(pool(store.root)) == {Digest.of(each) for each in (image("kept").manifest, *image("kept").blobs)}
    assert check(store, hashes=True) == []
    assert report.complete
    assert not report.dry_run


def test_what_one_transaction_takes_is_bounded_by_edges_too(store, repository, monkeypatch):
    monkeypatch.setattr("ocistore.upkeep.gc._EDGES", 8)
    children = [image(number) for number in range(6)]
    with store.transaction() as together:
        for number in range(4):
            push(together.repository(repository.name), index([*children, image(f"own {number}")]))
    gone = [len(rows(store.root)["repository_manifests"])]
    while gone[-1]:
        collect(store, maximum_batches=1, force=True)
        gone.append(len(rows(store.root)["repository_manifests"]))
    # An index has seven edges; an image two, and one for each index that it is still in.
    assert max(before - after for before, after in itertools.pairwise(gone)) == 4
    assert len(gone) < 30
    batches = collect(store, force=True).batches
    assert batches > 14 * 4 // 8  # files of manifests too
    assert pool(store.root) == {}


@pytest.mark.needs_files
def test_the_longest_time_bounds_what_comes_after_the_transactions_too(store, repository):
    for where in ("uploads", "trash"):
        for number in range(3):
            (store.root / where / f"left{number}").write_bytes(b"x")
    with pytest.MonkeyPatch.context() as later:
        later.setattr("ocistore.upkeep.abandoned._STRAY_AGE", NOW - DAY)
        report = collect(store, maximum_duration=NOW)
        assert (report.complete, report.bytes, report.abandoned) == (False, 0, 0)
        report = collect(store, maximum_batches=0)
        assert (report.complete, report.bytes, report.abandoned) == (True, 6, 3)


@pytest.mark.needs_files
def test_a_snapshot_for_which_there_is_no_time_is_not_taken(store, repository, monkeypatch):
    push(repository, APP, "v1")
    push(repository, image("gone"))
    report = collect(store, maximum_duration=NOW)
    assert (report.complete, report.no_refs_file) == (False, "there was no time left for it")
    assert not (store.root / "catalog.snapshot").exists()
    assert os.listdir(store.root / "uploads") == []


def test_a_collection_that_finds_nothing_waits_for_no_writer_and_writes_nothing(store, repository):
    push(repository, APP)
    assert store.gc().batches == 0
    with store._core.catalog.file.locked():
        assert store.gc().batches == 0
    push(repository, APP, "again")
    repository.untag("again")
    with store._core.catalog.file.locked(), pytest.raises(StoreBusyError):
        collect(store)


@pytest.mark.needs_files
def test_a_collection_that_finds_nothing_refreshes_an_old_snapshot_once_an_hour(store, repository, monkeypatch):
    def taken():
        return refsfile.header(store._core.paths).taken

    push(repository, image("old"), "v1")
    store.gc()
    first = taken()
    later = first + 2 * 3_600_000
    monkeypatch.setattr("ocistore.upkeep.refsfile.milliseconds", lambda: later)
    push(repository, image("new"), "v1")
    assert store.gc().batches == 0
    assert taken() == first  # this process has just looked
    with Store.open(store.root) as another:
        assert another.gc().batches == 0
    assert taken() == later
    push(repository, image("newer"), "v1")
    later += 2 * 3_600_000
    store._core.next_look_at_refs -= 3600
    assert store.gc().batches == 0
    assert taken() == later


@pytest.mark.needs_files
def test_a_directory_in_the_place_of_the_snapshot_does_not_fail_a_collection_which_says_so(store, repository):
    (store.root / "catalog.snapshot").mkdir()
    for _ in range(2):
        push(repository, APP)
        report = collect(store)
        assert report.blobs == 3
        assert "catalog.snapshot" in report.no_refs_file
    opened = descriptors()
    collect(store)
    assert descriptors() == opened
    (store.root / "catalog.snapshot").rmdir()
    push(repository, APP, "v1")
    push(repository, image("gone"))
    assert collect(store).no_refs_file is None
    assert (store.root / "catalog.snapshot").is_file()


def test_an_empty_collection_writes_nothing(store, repository):
    push(repository, APP, "v1")
    collect(store)
    before = rows(store.root)
    report = collect(store)
    assert rows(store.root) == before
    assert (report.batches, report.blobs, report.bytes) == (0, 0, 0)


def test_the_default_times_keep_what_was_just_pushed_or_untagged(store, repository):
    push(repository, APP, "v1")
    repository.put_blob(b"loose")
    repository.untag("v1")
    assert store.gc().blobs == 0
    assert repository.get_manifest(APP.digest).content == APP.manifest


def test_the_old_digest_of_a_moved_tag_stays_readable_until_keep_untagged_has_passed(store, repository):
    push(repository, image("old"), "latest")
    push(repository, image("new"), "latest")
    store.gc(grace=NOW, keep_untagged=DAY)
    assert repository.get_manifest(image("old").digest).content == image("old").manifest
    collect(store)
    assert image("old").digest not in {each.digest for each in repository.manifests()}
    assert check(store) == []


def test_blobs_of_a_manifest_that_goes_have_their_grace_from_then(store, repository):
    push(repository, APP, "v1")
    repository.untag("v1")
    assert store.gc(keep_untagged=NOW).manifests == 1
    assert repository.stat_blob(Digest.of(APP.config)).size == len(APP.config)
    assert collect(store).blobs == 3


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_an_index_keeps_its_children_to_any_depth_and_they_go_together(store, repository, depth):
    pushed = image("leaf")
    for level in range(depth):
        pushed = index([pushed, image(level)])
    push(repository, pushed, "all")
    assert collect(store).blobs == 0
    repository.untag("all")
    assert collect(store).manifests == 2 * depth + 1
    assert pool(store.root) == {}


def test_referrers_stay_with_their_subject_and_go_with_it(store, repository):
    signature = artifact("signature", subject=APP)
    push(repository, APP, "v1")
    push(repository, signature)
    push(repository, artifact("of the signature", subject=signature))
    assert collect(store).blobs == 0
    repository.untag("v1")
    assert collect(store).manifests == 3
    assert pool(store.root) == {}


def test_a_referrer_without_its_subject_goes_when_it_is_untagged(store, repository):
    push(repository, artifact(subject=image("never pushed")))
    assert collect(store).manifests == 1
    assert rows(store.root)["blobs"] == []


def test_content_that_refers_to_each_other_in_a_ring_does_not_keep_itself(store, repository):
    ring = index([APP], subject=APP)
    push(repository, ring, "ring")
    assert collect(store).blobs == 0
    repository.untag("ring")
    assert collect(store).manifests == 2
    assert pool(store.root) == {}


def test_what_hangs_on_a_ring_has_its_grace_since_the_last_of_the_ring_was_let_go(store, repository, monkeypatch):
    clock = Clock(monkeypatch)
    ring = index([APP], subject=APP)
    referrer = artifact(subject=ring)
    push(repository, ring)
    push(repository, referrer)
    push(repository, artifact("of the referrer", subject=referrer))
    clock.pass_by(60_000)
    push(repository, APP)
    times = {"grace": timedelta(milliseconds=7), "keep_untagged": NOW}
    assert store.gc(dry_run=True, **times).blobs == 0
    report = store.gc(**times)
    assert (report.manifests, report.blobs) == (4, 0)
    clock.pass_by(7)
    assert store.gc(**times).blobs == 9


def test_a_tag_on_any_part_of_a_ring_keeps_all_of_it(store, repository):
    ring = index([APP], subject=APP)
    push(repository, ring, "ring")
    repository.tag("app", APP.digest)
    repository.untag("ring")
    assert collect(store).blobs == 0


def test_repositories_collect_for_themselves(store):
    one, other = store.repository("one"), store.repository("other")
    push(one, APP, "v1")
    push(other, APP, "v1")
    one.untag("v1")
    report = collect(store)
    assert (report.manifests, report.memberships, report.blobs) == (1, 2, 0)
    assert [each.digest for each in one.manifests()] == []
    assert other.get_manifest("v1").content == APP.manifest
    assert check(store, hashes=True) == []


def test_a_deleted_repository_leaves_nothing(store, repository):
    push(repository, index([APP, image("other")]), "v1")
    push(repository, artifact(subject=APP))
    store.delete_repository(repository.name)
    collect(store)
    assert pool(store.root) == {}
    assert rows(store.root)["blobs"] == []


def test_a_row_that_a_manifest_elsewhere_names_stays_without_bytes_and_goes_with_that(store):
    here, there = store.repository("here"), store.repository("there")
    push(here, APP, "v1")
    push(there, artifact(subject=APP), "note")
    here.untag("v1")
    collect(store)
    assert [row[1:4] for row in rows(store.root)["blobs"] if row[3] == "absent"] == [
        (APP.digest, len(APP.manifest), "absent")
    ]
    push(here, APP, "v1")
    assert here.get_manifest("v1").content == APP.manifest
    here.untag("v1")
    there.untag("note")
    collect(store)
    assert rows(store.root)["blobs"] == []


def test_pushing_again_after_a_collection_stores_it_again(store, repository):
    for _ in range(3):
        push(repository, APP, "v1")
        assert repository.get_manifest("v1").content == APP.manifest
        repository.untag("v1")
        assert collect(store).blobs == 3
    assert check(store, hashes=True) == []


def test_a_dry_run_says_what_would_go_and_why_and_changes_nothing(store, repository):
    push(repository, APP, "v1")
    repository.untag("v1")
    loose = repository.put_blob(b"loose")
    before = rows(store.root)
    report = collect(store, dry_run=True)
    assert rows(store.root) == before
    assert report.dry_run
    assert {each.digest for each in report.candidates} == {APP.digest, loose.digest, *map(Digest.of, APP.blobs)}
    assert report.bytes == sum(each.size for each in report.candidates)
    assert next(each.why for each in report.candidates if each.digest == loose.digest).startswith("no manifest")
    found = collect(store)
    assert (found.blobs, found.bytes, found.manifests, found.memberships) == (
        report.blobs, report.bytes, report.manifests, report.memberships,
    )  # fmt: skip


def test_a_dry_run_works_on_a_store_that_is_open_for_reading(store, repository):
    push(repository, APP)
    with Store.open(store.root, read_only=True) as reader:
        assert collect(reader, dry_run=True).blobs == 3


def test_a_dry_run_counts_what_an_earlier_collection_condemned(store, repository):
    push(repository, APP)
    for _ in range(3):  # manifests, parts, and condemning them
        collect(store, maximum_batches=1)
    assert {row[3] for row in rows(store.root)["blobs"]} == {"condemned"}
    report = collect(store, dry_run=True)
    assert {each.why for each in report.candidates} == {"an earlier collection condemned it"}
    assert (report.blobs, report.bytes) == (3, collect(store).bytes)


@pytest.mark.needs_files
def test_a_dry_run_counts_the_bytes_of_what_was_abandoned(store, repository):
    with repository.start_upload() as upload:
        upload.write(b"x" * 1000)
    expire_uploads(store)
    (store.root / "trash" / "left").write_bytes(b"y" * 50)
    report = collect(store, dry_run=True)
    assert (report.uploads, report.bytes) == (1, 1050)
    assert collect(store).bytes == report.bytes


def test_slices_put_together_are_a_whole_collection(store, repository):
    for number in range(5):
        push(repository, index([image(number)]))
    reports = [collect(store, maximum_batches=1)]
    while not reports[-1].complete:
        reports.append(collect(store, maximum_batches=1))
    assert len(reports) > 3
    assert all(report.batches <= 1 for report in reports)
    assert pool(store.root) == {}
    assert check(store) == []


RING = index([index([image("ring")])], subject=index([image("ring")]))  # its subject is its own child


@pytest.mark.parametrize(
    ("pushed", "then"),
    [
        (index([image("a"), index([image("b")])]), None),
        (APP, artifact("signature", subject=APP)),
        (RING, None),
        (RING, artifact("signature", subject=RING)),
    ],
    ids=["nested index", "referrer", "ring", "referrer of a ring"],
)
def test_what_is_tagged_between_two_slices_is_still_whole(store, repository, monkeypatch, pushed, then):
    for each in ("_MANIFESTS", "_ROWS", "_FILES"):
        monkeypatch.setattr(f"ocistore.upkeep.gc.{each}", 1)
    everything = [*([then] if then else []), pushed]
    slices = 0
    while True:
        for each in everything:
            push(repository, each)
        for _ in range(slices):
            collect(store, maximum_batches=1)
        assert check(store) == []
        try:
            repository.tag("saved", pushed.digest)
        except ManifestNotFoundError:
            break
        collect(store)
        assert {each.digest for each in repository.manifests()} >= {each.digest for each in everything}
        assert check(store) == []
        repository.untag("saved")
        slices += 1
    assert slices > 0
    collect(store)
    assert pool(store.root) == {}


def test_a_collection_without_time_does_nothing_and_says_so(store, repository):
    push(repository, APP)
    report = collect(store, maximum_duration=timedelta(0))
    assert (report.complete, report.blobs) == (False, 0)


def test_more_than_half_of_a_large_store_is_refused_without_force(store, repository, monkeypatch):
    monkeypatch.setattr("ocistore.upkeep.preflight._GUARDED_BLOBS", 2)
    push(repository, image("kept"), "v1")
    for number in range(3):
        push(repository, image(number))
    before = rows(store.root)
    with pytest.raises(CollectionRefusedError, match="more than half") as caught:
        collect(store)
    assert "--force" in caught.value.remedy
    assert rows(store.root) == before
    assert collect(store, force=True).blobs == 9
    assert repository.get_manifest("v1").content == image("kept").manifest


@pytest.mark.parametrize("read_only", [False, True])
def test_a_dry_run_says_that_it_would_be_too_much_without_force(store, repository, monkeypatch, read_only):
    monkeypatch.setattr("ocistore.upkeep.preflight._GUARDED_BLOBS", 2)
    push(repository, image("kept"), "v1")
    for number in range(3):
        push(repository, image(number))
    with Store.open(store.root, read_only=read_only) as looking:
        (reason,) = collect(looking, dry_run=True).refused
        assert collect(looking, dry_run=True, force=True).refused == ()
    with pytest.raises(CollectionRefusedError) as caught:
        collect(store)
    assert list(caught.value.reasons) == [reason]


def test_half_of_a_large_store_is_not_too_much(store, repository, monkeypatch):
    monkeypatch.setattr("ocistore.upkeep.preflight._GUARDED_BLOBS", 2)
    push(repository, image("a"), "v1")
    push(repository, image("b"))
    assert collect(store).blobs == 3


def test_an_older_catalog_that_was_put_back_is_not_collected_from(store, repository):
    push(repository, image("old"), "v1")
    store.close()
    older = (store.root / "catalog.db").read_bytes()
    with Store.open(store.root) as newer:
        push(newer.repository(repository.name), image("new"), "v2")
    (store.root / "catalog.db").write_bytes(older)
    with Store.open(store.root, read_only=True) as looking:
        assert ["older copy" in reason for reason in collect(looking, dry_run=True).refused] == [True]
    with Store.open(store.root) as restored:
        with pytest.raises(CollectionRefusedError, match="older copy") as caught:
            collect(restored)
        assert collect(restored, dry_run=True).refused == caught.value.reasons
        with Store.open(store.root) as again, pytest.raises(CollectionRefusedError, match="older copy"):
            collect(again)
    assert Digest.of(image("new").manifest) in pool(store.root)


@pytest.mark.parametrize("option", ["grace", "keep_untagged", "maximum_duration"])
def test_negative_times_are_refused(store, option):
    with pytest.raises(ValueError, match=option):
        store.gc(**{option: timedelta(seconds=-1)})


def test_a_note_of_its_own_is_kept_by_its_tag(store, repository):
    push(repository, note(1), "v1")
    assert collect(store).blobs == 0


# --- uploads ----------------------------------------------------------------------------------------------------------


def expire_uploads(store):
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE uploads SET touched = touched - expires + 1, expires = 1")


def test_an_expired_session_goes_with_its_bytes(store, repository):
    with repository.start_upload() as upload:
        upload.write(b"abandoned")
    with repository.start_upload() as kept:
        pass
    assert store.gc().uploads == 0
    expire_uploads(store)
    with store.repository(repository.name).upload(kept.id):  # touched again
        pass
    report = store.gc()
    assert (report.uploads, report.bytes) == (1, len(b"abandoned"))
    assert staged(store.root) == [kept.id]
    with pytest.raises(UploadNotFoundError):
        repository.upload(upload.id)


def test_a_session_that_is_being_written_does_not_expire(store, repository):
    with repository.start_upload() as upload:
        expire_uploads(store)
        assert store.gc().uploads == 0
        upload.write(b"still here")
        assert repository.stat_blob(upload.commit(Digest.of(b"still here")).digest)


@pytest.mark.needs_files
def test_files_that_whoever_staged_them_left_behind_go_after_a_day(store, repository, monkeypatch):
    (store.root / "uploads" / ("0" * 32)).write_bytes(b"left behind")
    with repository.start_upload() as upload:
        pass
    assert store.gc().abandoned == 0
    monkeypatch.setattr("ocistore.upkeep.abandoned._STRAY_AGE", timedelta(seconds=-60))
    report = store.gc()
    assert (report.abandoned, report.bytes) == (1, len(b"left behind"))
    assert os.listdir(store.root / "uploads") == [upload.id]


KILLED = """
import os, signal, sys
from ocistore import Store, Digest
from ocistore.blobs.filepool import FilePool
when, algorithm = sys.argv[2:]
store = Store.open(sys.argv[1])
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if when == "published":
    FilePool.holds = die
elif when == "committed":
    FilePool.discard = die
repository = store.repository("app")
if algorithm == "upload":
    with repository.start_upload() as upload:
        upload.write(b"x" * 100_000)
        upload.commit(Digest.of(b"x" * 100_000))
else:
    repository.put_blob(b"x" * 100_000, algorithm=algorithm)
"""


@pytest.mark.needs_files
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_what_a_killed_push_published_goes_with_its_anchor(store, monkeypatch, algorithm):
    with python(KILLED, store.root, "published", algorithm) as child:
        child.die()
    assert len(pool(store.root)) == 1
    assert store.gc().abandoned == 0  # it may not be dead
    monkeypatch.setattr("ocistore.upkeep.abandoned._STRAY_AGE", timedelta(seconds=-60))
    expected = store.gc(dry_run=True)
    report = store.gc()
    assert (report.abandoned, report.bytes) == (expected.abandoned, expected.bytes) == (1, 100_000)
    assert pool(store.root) == {}
    assert strays(store.root) == []


@pytest.mark.needs_files
def test_what_an_expired_session_published_goes_with_it(store):
    with python(KILLED, store.root, "published", "upload") as child:
        child.die()
    assert len(pool(store.root)) == 1
    expire_uploads(store)
    report = store.gc()
    assert (report.uploads, report.bytes) == (1, 100_000)
    assert pool(store.root) == {}
    assert strays(store.root) == []


@pytest.mark.needs_files
def test_what_a_push_committed_before_it_was_killed_stays(store, monkeypatch):
    with python(KILLED, store.root, "committed", "sha256") as child:
        child.die()
    monkeypatch.setattr("ocistore.upkeep.abandoned._STRAY_AGE", timedelta(seconds=-60))
    expected = store.gc(dry_run=True)
    report = store.gc()
    assert (report.abandoned, report.bytes) == (expected.abandoned, expected.bytes) == (1, 0)
    with store.repository("app").open_blob(Digest.of(b"x" * 100_000)) as reader:
        assert reader.read() == b"x" * 100_000
    assert strays(store.root) == []


@pytest.mark.needs_files
def test_what_another_push_published_since_stays(store, monkeypatch):
    with python(KILLED, store.root, "published", "sha256") as child:
        child.die()
    blob = store._core.paths.blob(Digest.of(b"x" * 100_000))
    blob.rename(store.root / "elsewhere")
    blob.write_bytes(b"x" * 100_000)
    blob.chmod(0o444)
    monkeypatch.setattr("ocistore.upkeep.abandoned._STRAY_AGE", timedelta(seconds=-60))
    assert store.gc().abandoned == 1
    assert blob.read_bytes() == b"x" * 100_000


@pytest.mark.needs_files
def test_nothing_is_taken_from_behind_a_symbolic_link(store, repository, tmp_path):
    push(repository, APP, "v1")
    repository.untag("v1")
    store.close()
    outside = tmp_path / "outside"
    (store.root / "blobs").rename(outside)
    (store.root / "blobs").symlink_to(outside)
    before = sorted(os.listdir(outside / "sha256"))
    with Store.open(store.root) as linked:
        get = linked.repository("library/app").get_manifest
        for work in (lambda: get(APP.digest), linked.scrub, lambda: collect(linked)):
            with pytest.raises(CorruptError, match="symbolic links are refused"):
                work()
    with pytest.raises(CorruptError, match="symbolic links are refused"):
        rebuild(store.root, force=True)
    assert sorted(os.listdir(outside / "sha256")) == before


@pytest.mark.needs_files
@pytest.mark.parametrize(
    "damage",
    [os.unlink, lambda path: (path.unlink(), path.symlink_to("/")), lambda path: (path.unlink(), os.mkfifo(path))],
    ids=["gone", "a symlink", "a fifo"],
)
def test_an_expired_session_whose_file_is_damaged_stops_no_collection(store, repository, damage):
    push(repository, APP, "v1")
    repository.untag("v1")
    with repository.start_upload() as upload:
        upload.write(b"some bytes")
    damage(store.root / "uploads" / upload.id)
    expire(store)
    report = collect(store)
    assert (report.uploads, report.blobs) == (1, 3)
    assert os.listdir(store.root / "uploads") == []


@pytest.mark.needs_files
def test_an_expired_session_with_a_directory_for_its_file_ends_and_the_directory_is_left(store, repository):
    with repository.start_upload() as upload:
        upload.write(b"some bytes")
    path = store.root / "uploads" / upload.id
    path.unlink()
    path.mkdir()
    expire(store)
    assert collect(store).uploads == 1
    assert list(repository.uploads()) == []
    path.rmdir()


def expire(store):
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE uploads SET touched = touched - expires + 1, expires = 1")


@pytest.mark.parametrize("length", [200, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("last", [False, True], ids=["the subject first", "the subject last"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_long_chain_of_referrers_is_climbed_once_for_each_batch_and_not_for_each_link(
    store, kept, length, last, dry_run
):
    with store.transaction() as transaction:
        repository = transaction.repository("app")
        links = [note("subject")]
        for number in range(length):
            links.append(index(subject=links[-1], annotations={"number": str(number)}))
        for link in reversed(links) if last else links:
            repository.put_manifest(link.manifest)
        repository.tag("v1", links[0].digest)
    if not kept:
        store.repository("app").untag("v1")
    with counted_steps() as counted:
        assert collect(store, dry_run=dry_run, force=True).manifests == (0 if kept else length + 1)
    assert counted.steps / length < 10_000  # 49,000 and 73,000 where each of 600 links was climbed from


def test_the_grace_of_a_blob_begins_when_its_manifest_goes_and_not_when_the_collection_began(
    store, repository, monkeypatch
):
    push(repository, APP)
    clock = [milliseconds() + 1]
    begin = _Run._end_leases

    def slowly(run):
        clock[0] += 60_000
        begin(run)

    monkeypatch.setattr(store._core.catalog, "now", lambda: clock[0])
    with monkeypatch.context() as patched:
        patched.setattr(_Run, "_end_leases", slowly)
        assert collect(store, grace=timedelta(seconds=30)).manifests == 1
    assert collect(store, grace=timedelta(seconds=30)).memberships == 0
    clock[0] += 31_000
    assert collect(store, grace=timedelta(seconds=30)).memberships == len(APP.blobs)

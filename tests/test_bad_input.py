"""Bad input: each entry point, each kind of nonsense, the error class with its fields, and that nothing changes."""

import fcntl
import os
import pwd
import shutil
import sqlite3

import pytest
from images import APP, index, note, push
from state import files, state, unchanged

from ocistore import (
    CorruptError,
    Descriptor,
    Digest,
    InvalidDigestError,
    InvalidNameError,
    ManifestInvalidError,
    ManifestNotFoundError,
    OCIStoreError,
    ReadOnlyStoreError,
    SchemaTooNewError,
    SchemaTooOldError,
    Store,
    StoreBusyError,
    StoreClosedError,
    StoreFullError,
    StoreNotFoundError,
    UnsupportedFilesystemError,
)
from ocistore.blobs import supportedfilesystems
from ocistore.catalog import sqlite

HELLO = Digest.of(b"hello")
ONE = note(1).digest


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A store with something of everything in it, which no test may change."""
    with Store.open(tmp_path_factory.mktemp("bad input") / "store") as store:
        stock(store)
        yield store


def stock(store):
    repository = store.repository("library/app")
    repository.put_blob(b"hello")
    push(repository, index([APP]), "all")
    push(repository, note(1), "v1")
    push(store.repository("other"), note(2), "v1")
    repository.start_upload().close()


# --- repository names -------------------------------------------------------------------------------------------------

BAD_REPOSITORIES = {
    "empty": "", "dots": "..", "climbs": "../etc", "climbs inside": "a/../b", "absolute": "/a", "ends with /": "a/",
    "empty part": "a//b", "upper case": "Library/app", "space": "a b", "newline": "library/app\n", "NUL": "a\0b",
    "256 characters": "a" * 256, "a megabyte": "a" * 1_000_000, "starts with -": "-a", "ends with _": "a_",
    "two dots": "a..b", "three underscores": "a___b", "colon": "a:b", "at": "a@b", "accent": "é",
    "full-width digit": "\uff11", "surrogate": "\ud800", }  # fmt: skip
TAKES_REPOSITORY = {
    "repository": lambda store, name: store.repository(name),
    "delete_repository": lambda store, name: store.delete_repository(name),
    "mount_blob": lambda store, name: store.repository("library/app").mount_blob(HELLO, name),
    "transaction": lambda store, name: store.transaction().repository(name),
}


@pytest.mark.parametrize("name", BAD_REPOSITORIES.values(), ids=BAD_REPOSITORIES)
@pytest.mark.parametrize("call", TAKES_REPOSITORY.values(), ids=TAKES_REPOSITORY)
def test_a_name_that_no_repository_can_have_is_refused(stocked, call, name):
    with unchanged(stocked.root), pytest.raises(InvalidNameError) as caught:
        call(stocked, name)
    assert (caught.value.name, caught.value.kind) == (name, "repository")
    assert len(str(caught.value)) < 1_000


# --- tags -------------------------------------------------------------------------------------------------------------

BAD_TAGS = {
    "empty": "", "dots": "..", "climbs": "../v1", "slash": "a/b", "starts with .": ".a", "starts with -": "-a",
    "space": "v 1", "newline": "v1\n", "NUL": "v1\0", "129 characters": "v" * 129, "256 characters": "v" * 256,
    "at": "v@1", "plus": "1.0+1", "accent": "é", "full-width digit": "\uff11", "surrogate": "\ud800",
}  # fmt: skip
TAKES_DIGEST_OR_TAG = {
    "get_manifest": lambda repository, reference: repository.get_manifest(reference),
    "resolve": lambda repository, reference: repository.resolve(reference),
}
TAKES_TAG = {
    "tag": lambda repository, name: repository.tag(name, ONE),
    "untag": lambda repository, name: repository.untag(name),
    "put_manifest": lambda repository, name: repository.put_manifest(note(3).manifest, tags=[name]),
    **TAKES_DIGEST_OR_TAG,
}


@pytest.mark.parametrize("name", BAD_TAGS.values(), ids=BAD_TAGS)
@pytest.mark.parametrize("call", TAKES_TAG.values(), ids=TAKES_TAG)
def test_a_name_that_no_tag_can_have_is_refused(stocked, call, name):
    with unchanged(stocked.root), pytest.raises(InvalidNameError) as caught:
        call(stocked.repository("library/app"), name)
    assert (caught.value.name, caught.value.kind) == (name, "tag")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("name", BAD_TAGS.values(), ids=BAD_TAGS)
def test_the_history_of_a_name_that_no_tag_can_have_is_refused(stocked, name):
    with pytest.raises(InvalidNameError) as caught:
        stocked.repository("library/app").history(name)
    assert (caught.value.name, caught.value.kind) == (name, "tag")


def test_one_text_in_the_place_of_a_list_of_tags_is_not_taken_for_its_letters(stocked):
    with unchanged(stocked.root), pytest.raises(TypeError):
        stocked.repository("library/app").put_manifest(note(3).manifest, tags="latest")


# --- digests ----------------------------------------------------------------------------------------------------------

BAD_DIGESTS = {
    "unknown algorithm": "md5:" + "0" * 32, "sha1": "sha1:" + "0" * 40, "sha384": "sha384:" + "0" * 96,
    "upper-case hex": "sha256:" + "A" * 64, "upper-case algorithm": "SHA256:" + "0" * 64,
    "too short": "sha256:" + "0" * 63, "too long": "sha256:" + "0" * 65, "no hex": "sha256:" + "g" * 64,
    "nothing behind": "sha256:", "newline": f"{HELLO}\n", "space": f" {HELLO}", "two colons": f"sha256:{HELLO}",
    "climbs": "sha256:../../../../../etc/passwd", "NUL": f"{HELLO}\0", "slash": "sha256/" + "0" * 64 + ":",
    "a megabyte": "sha256:" + "0" * 1_000_000, "full-width digits": "sha256:" + "\uff10" * 64,
    "surrogate": "sha256:" + "\ud800" * 64, "another alphabet": "sha256+b64u:" + "0" * 43,
}  # fmt: skip
NOT_DIGESTS = BAD_DIGESTS | {"empty": "", "a tag": "v1", "hex alone": "0" * 64}
NOT_TEXTS = {"bytes": HELLO.encode(), "None": None, "number": 7, "list": [HELLO]}
TAKES_DIGEST = {
    "open_blob": lambda repository, digest: repository.open_blob(digest),
    "stat_blob": lambda repository, digest: repository.stat_blob(digest),
    "delete_blob": lambda repository, digest: repository.delete_blob(digest),
    "mount_blob": lambda repository, digest: repository.mount_blob(digest, "other"),
    "delete_manifest": lambda repository, digest: repository.delete_manifest(digest),
    "referrers": lambda repository, digest: repository.referrers(digest),
    "tag": lambda repository, digest: repository.tag("v1", digest),
}
TAKES_DIGEST_OR_NOTHING = {
    "put_blob": lambda repository, digest: repository.put_blob(b"hello", digest=digest),
    "put_manifest": lambda repository, digest: repository.put_manifest(note(3).manifest, digest=digest),
    "expected": lambda repository, digest: repository.tag("v1", ONE, expected=digest),
}


def refused_as_digest(store, call, digest):
    with unchanged(store.root), pytest.raises(InvalidDigestError) as caught:
        call(store.repository("library/app"), digest)
    assert caught.value.digest == digest
    assert caught.value.reason
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("digest", NOT_DIGESTS.values(), ids=NOT_DIGESTS)
@pytest.mark.parametrize("call", TAKES_DIGEST.values(), ids=TAKES_DIGEST)
def test_what_is_no_digest_is_refused(stocked, call, digest):
    refused_as_digest(stocked, call, digest)


@pytest.mark.parametrize("digest", NOT_DIGESTS.values(), ids=NOT_DIGESTS)
@pytest.mark.parametrize("call", TAKES_DIGEST_OR_NOTHING.values(), ids=TAKES_DIGEST_OR_NOTHING)
def test_what_is_no_digest_is_refused_where_there_need_be_none(stocked, call, digest):
    refused_as_digest(stocked, call, digest)


@pytest.mark.parametrize("value", NOT_TEXTS.values(), ids=NOT_TEXTS)
@pytest.mark.parametrize("name", [*TAKES_DIGEST, *TAKES_DIGEST_OR_NOTHING, *TAKES_DIGEST_OR_TAG])
def test_what_is_neither_text_nor_a_descriptor_is_a_type_error_in_the_place_of_a_digest(stocked, name, value):
    if value is None and name in TAKES_DIGEST_OR_NOTHING:
        return
    call = {**TAKES_DIGEST, **TAKES_DIGEST_OR_NOTHING, **TAKES_DIGEST_OR_TAG}[name]
    argument = {"expected": "expected", "get_manifest": "reference", "resolve": "reference"}.get(name, "digest")
    with unchanged(stocked.root), pytest.raises(TypeError, match=f"{argument} must be .*, not {type(value).__name__}"):
        call(stocked.repository("library/app"), value)


@pytest.mark.parametrize("name", [*TAKES_DIGEST, *TAKES_DIGEST_OR_NOTHING, *TAKES_DIGEST_OR_TAG])
def test_a_descriptor_says_what_its_digest_says(stocked, name):
    call = {**TAKES_DIGEST, **TAKES_DIGEST_OR_NOTHING, **TAKES_DIGEST_OR_TAG}[name]
    repository = stocked.repository("library/app")
    digest = Digest.of(b"what no repository has")
    said = []
    for value in (digest, Descriptor("a/b", digest, 22)):
        try:
            said.append(call(repository, value))
        except OCIStoreError as error:
            said.append(str(error))
    assert said[0] == said[1]


@pytest.mark.parametrize("digest", BAD_DIGESTS.values(), ids=BAD_DIGESTS)
@pytest.mark.parametrize("call", TAKES_DIGEST_OR_TAG.values(), ids=TAKES_DIGEST_OR_TAG)
def test_what_has_a_colon_is_meant_as_a_digest_and_refused_as_one(stocked, call, digest):
    refused_as_digest(stocked, call, digest)


def test_what_is_neither_text_nor_a_descriptor_commits_no_upload(store, repository):
    with repository.start_upload() as upload:
        upload.write(b"hello")
        with unchanged(store.root), pytest.raises(TypeError, match="digest must be text or a Descriptor, not int"):
            upload.commit(7)
        assert upload.commit(Descriptor.of(b"hello")).size == 5


@pytest.mark.parametrize("digest", NOT_DIGESTS.values(), ids=NOT_DIGESTS)
def test_what_is_no_digest_commits_no_upload(store, repository, digest):
    with repository.start_upload() as upload:
        upload.write(b"hello")
        with unchanged(store.root), pytest.raises(InvalidDigestError) as caught:
            upload.commit(digest)
        assert caught.value.digest == digest
        assert upload.commit(HELLO).size == 5


@pytest.mark.parametrize("algorithm", ["", "md5", "SHA256", "sha256\n", "../sha256", "sha384"])
@pytest.mark.parametrize(
    "call",
    [
        lambda repository, algorithm: repository.put_blob(b"hello", algorithm=algorithm),
        lambda repository, algorithm: repository.start_upload(algorithm=algorithm),
    ],
    ids=["put_blob", "start_upload"],
)
def test_an_unknown_algorithm_is_refused(stocked, call, algorithm):
    with unchanged(stocked.root), pytest.raises(InvalidDigestError) as caught:
        call(stocked.repository("library/app"), algorithm)
    assert caught.value.digest == algorithm


# --- sizes, types, listings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["5", 5.0, True, b"5"])
def test_a_size_that_is_no_whole_number_is_a_type_error(stocked, size):
    with unchanged(stocked.root), pytest.raises(TypeError):
        stocked.repository("library/app").put_blob(b"hello", size=size)


@pytest.mark.parametrize("media_type", ["", "manifest", "a/b; c=d", "a/b\n", "a" * 200 + "/b", "é/x"])
def test_what_is_no_media_type_is_refused(stocked, media_type):
    with unchanged(stocked.root), pytest.raises(ManifestInvalidError) as caught:
        stocked.repository("library/app").put_manifest(note(3).manifest, media_type=media_type)
    assert "media type" in caught.value.reason


LISTINGS = {
    "repositories": lambda store, **options: store.repositories(**options),
    "tags": lambda store, **options: store.repository("library/app").tags(**options),
}
WITH_LIMIT = LISTINGS | {
    "manifests": lambda store, **options: store.repository("library/app").manifests(**options),
    "history": lambda store, **options: store.repository("library/app").history(**options),
}


@pytest.mark.parametrize("text", ["\ud800"])
@pytest.mark.parametrize("key", ["prefix", "after"])
@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_a_listing_is_not_narrowed_by_what_is_no_text(stocked, listing, key, text):
    with pytest.raises(InvalidNameError) as caught:
        listing(stocked, **{key: text})
    assert caught.value.name == text


@pytest.mark.parametrize("text", ["\ud800"])
def test_referrers_are_not_filtered_by_what_is_no_text(stocked, text):
    with pytest.raises(InvalidNameError) as caught:
        stocked.repository("library/app").referrers(ONE, artifact_type=text)
    assert (caught.value.name, caught.value.kind) == (text, "artifact type")


@pytest.mark.parametrize(("limit", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError)])
@pytest.mark.parametrize("listing", WITH_LIMIT.values(), ids=WITH_LIMIT)
def test_a_limit_that_is_none_is_refused_before_anything_is_listed(stocked, listing, limit, error):
    with pytest.raises(error):
        listing(stocked, limit=limit)


@pytest.mark.parametrize(
    "reference", ["v1; DROP TABLE tags", "v1' OR '1'='1", "%", "v_", "*"], ids=["statement", "or", "percent", "_", "*"]
)
def test_a_reference_is_never_a_pattern_or_a_statement(stocked, reference):
    with unchanged(stocked.root), pytest.raises((InvalidNameError, ManifestNotFoundError)):
        stocked.repository("library/app").resolve(reference)


# --- everything that changes something --------------------------------------------------------------------------------


def whole(reader):
    with reader:
        return reader.read()


CHANGES = {
    "put_blob": lambda store: store.repository("library/app").put_blob(b"new"),
    "mount_blob": lambda store: store.repository("new").mount_blob(HELLO, "library/app"),
    "delete_blob": lambda store: store.repository("library/app").delete_blob(HELLO),
    "start_upload": lambda store: store.repository("library/app").start_upload(),
    "upload": lambda store: store.repository("library/app").upload(next(store.repository("library/app").uploads()).id),
    "put_manifest": lambda store: store.repository("library/app").put_manifest(note(9).manifest, tags=["v9"]),
    "delete_manifest": lambda store: store.repository("library/app").delete_manifest(ONE),
    "tag": lambda store: store.repository("library/app").tag("v2", ONE),
    "untag": lambda store: store.repository("library/app").untag("v1"),
    "delete_repository": lambda store: store.delete_repository("library/app"),
    "transaction": lambda store: store.transaction(),
}
READS = {
    "repositories": lambda store: list(store.repositories()),
    "open_blob": lambda store: whole(store.repository("library/app").open_blob(HELLO)),
    "stat_blob": lambda store: store.repository("library/app").stat_blob(HELLO),
    "uploads": lambda store: list(store.repository("library/app").uploads()),
    "resolve": lambda store: store.repository("library/app").resolve("v1"),
    "get_manifest": lambda store: store.repository("library/app").get_manifest("v1").content,
    "manifests": lambda store: list(store.repository("library/app").manifests()),
    "referrers": lambda store: store.repository("library/app").referrers(ONE),
    "tags": lambda store: list(store.repository("library/app").tags()),
    "history": lambda store: list(store.repository("library/app").history()),
    "usage": lambda store: store.usage(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_read_only_store_refuses_every_change(stocked, change):
    with Store.open(stocked.root, read_only=True) as reader:
        assert reader.read_only
        with unchanged(stocked.root), pytest.raises(ReadOnlyStoreError) as caught:
            change(reader)
    assert caught.value.root == stocked.root


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_only_store_answers_every_question(stocked, read):
    with Store.open(stocked.root, read_only=True) as reader, unchanged(stocked.root):
        assert repr(read(reader)) == repr(read(stocked))


@pytest.mark.parametrize("call", [*CHANGES.values(), *READS.values()], ids=[*CHANGES, *READS])
def test_a_closed_store_refuses_every_call(stocked, call):
    closed = Store.open(stocked.root)
    closed.close()
    closed.close()
    with unchanged(stocked.root), pytest.raises(StoreClosedError):
        call(closed)


def test_while_a_writer_is_stuck_changes_are_refused_after_a_time_and_reads_go_on(store, repository, monkeypatch):
    push(repository, note(1), "v1")
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    with Store.open(store.root) as impatient, open(store.root / "write.lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with unchanged(store.root), pytest.raises(StoreBusyError) as caught:
            impatient.repository("library/app").untag("v1")
        assert 0.1 <= caught.value.waited < 10
        assert impatient.repository("library/app").resolve("v1").digest == ONE
        fcntl.flock(lock, fcntl.LOCK_UN)
        impatient.repository("library/app").untag("v1")


# --- roots ------------------------------------------------------------------------------------------------------------


def a_file(root):
    root.write_bytes(b"hello")


def a_child_of_a_file(root):
    root.parent.rmdir()
    root.parent.write_bytes(b"hello")


def a_directory_of_others(root):
    root.mkdir()
    (root / "thesis.odt").write_bytes(b"hello")


def a_layout(root):
    root.mkdir()
    (root / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    (root / "blobs").mkdir()


def no_database(root):
    root.mkdir()
    (root / "catalog.db").write_bytes(b"hello" * 1_000)


def an_empty_database(root):
    root.mkdir()
    (root / "catalog.db").write_bytes(b"")


def a_directory_for_a_database(root):
    (root / "catalog.db").mkdir(parents=True)


def a_link_for_a_database(root):
    a_database_of_others(root)
    (root / "catalog.db").rename(root / "elsewhere.db")
    (root / "catalog.db").symlink_to("elsewhere.db")


def a_database_of_others(root, *statements):
    root.mkdir()
    connection = sqlite3.connect(root / "catalog.db")
    for statement in ("CREATE TABLE mushrooms (name TEXT)", *statements):
        connection.execute(statement)
    connection.commit()
    connection.close()


def a_marked_database_of_others(root):
    a_database_of_others(root, "PRAGMA application_id = 252006673", "PRAGMA user_version = 3")  # that of Fossil


def nothing(root):
    pass


def an_empty_directory(root):
    root.mkdir()


ROOTS = [
    # what lies there, options, error, what its reason says
    (a_file, {}, StoreNotFoundError, "it is a file"),
    (a_file, {"create": False}, StoreNotFoundError, "it is a file"),
    (a_file, {"read_only": True}, StoreNotFoundError, "it is a file"),
    (a_child_of_a_file, {}, StoreNotFoundError, "parent is a file"),
    (a_directory_of_others, {}, StoreNotFoundError, "not empty"),
    (a_directory_of_others, {"create": False}, StoreNotFoundError, "no catalog.db"),
    (a_directory_of_others, {"read_only": True}, StoreNotFoundError, "no catalog.db"),
    (a_layout, {}, StoreNotFoundError, "OCI layout"),
    (no_database, {}, CorruptError, "not a database"),
    (no_database, {"read_only": True}, CorruptError, "not a database"),
    (an_empty_database, {"create": False}, StoreNotFoundError, "empty"),
    (an_empty_database, {"read_only": True}, StoreNotFoundError, "empty"),
    (a_directory_for_a_database, {}, CorruptError, "not a plain file"),
    (a_link_for_a_database, {}, CorruptError, "not a plain file"),
    (a_database_of_others, {}, StoreNotFoundError, "another application"),
    (a_database_of_others, {"read_only": True}, StoreNotFoundError, "another application"),
    (a_marked_database_of_others, {}, StoreNotFoundError, "another application"),
    (nothing, {"create": False}, StoreNotFoundError, "no catalog.db"),
    (nothing, {"read_only": True}, StoreNotFoundError, "no catalog.db"),
    (an_empty_directory, {"create": False}, StoreNotFoundError, "no catalog.db"),
    (an_empty_directory, {"read_only": True}, StoreNotFoundError, "no catalog.db"),
]


@pytest.mark.parametrize(("make", "options", "error", "reason"), ROOTS)
def test_what_is_no_store_is_not_opened_and_not_touched(tmp_path, make, options, error, reason):
    root = tmp_path / "parent" / "root"
    root.parent.mkdir()
    make(root)
    before = everything(tmp_path)
    with pytest.raises(error) as caught:
        Store.open(root, **options)
    assert reason in caught.value.reason
    if error is StoreNotFoundError:
        assert caught.value.root == root
    assert everything(tmp_path) == before


def everything(directory):
    databases = {str(path): path.read_bytes() for path in directory.rglob("catalog.db") if path.is_file()}
    return files(directory) | databases


def stored_revision(root, revision):
    connection = sqlite3.connect(root / "catalog.db")
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.commit()
    connection.close()
    return found


@pytest.mark.parametrize("options", [{}, {"create": False}, {"read_only": True}], ids=str)
def test_a_store_of_a_newer_version_is_not_opened_and_not_touched(tmp_path, empty_store, options):
    root = tmp_path / "store"
    shutil.copytree(empty_store, root)
    known = stored_revision(root, "9999")
    with unchanged(root), pytest.raises(SchemaTooNewError) as caught:
        Store.open(root, **options)
    assert (caught.value.root, caught.value.found, caught.value.known) == (root, "9999", known)


def test_a_store_of_an_older_version_is_not_read_without_the_upgrade(tmp_path, empty_store):
    root = tmp_path / "store"
    shutil.copytree(empty_store, root)
    needed = stored_revision(root, "0000")
    with unchanged(root), pytest.raises(SchemaTooOldError) as caught:
        Store.open(root, read_only=True)
    assert (caught.value.root, caught.value.found, caught.value.needed) == (root, "0000", needed)


@pytest.mark.parametrize("make", [nothing, an_empty_directory])
def test_a_network_filesystem_is_refused_and_nothing_is_made_on_it(small_disk, monkeypatch, make):
    tmpfs = 0x01021994  # statfs(2); what this test has at hand stands for what it has not
    monkeypatch.setitem(supportedfilesystems._NETWORK_FILESYSTEMS, tmpfs, "NFS")
    root = small_disk.root / "store"
    make(root)
    before = files(small_disk.root)
    with pytest.raises(UnsupportedFilesystemError) as caught:
        Store.open(root)
    assert (caught.value.root, caught.value.filesystem) == (root, "NFS")
    assert files(small_disk.root) == before


# --- disks ------------------------------------------------------------------------------------------------------------

WRITES = {
    "a large blob": lambda repository: repository.put_blob(bytes(1 << 20) for _ in range(16)),
    "a small blob": lambda repository: repository.put_blob(b"new"),
    "a manifest": lambda repository: repository.put_manifest(note(9).manifest, tags=["v9"]),
    "an upload": lambda repository: repository.start_upload(),
    "a tag": lambda repository: repository.tag("v2", ONE),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_full_disk_changes_nothing_and_the_store_goes_on_afterwards(small_disk, write):
    with Store.open(small_disk.root / "store") as store:
        stock(store)
        repository = store.repository("library/app")
        with small_disk.full():
            before = state(store.root)
            with pytest.raises(StoreFullError):
                write(repository)
            after = state(store.root)
            assert repository.get_manifest("v1").content == note(1).manifest
        assert after.rows == before.rows
        assert after.files == before.files
        repository.put_blob(b"new")
        repository.put_manifest(note(9).manifest, tags=["v9"])
        repository.start_upload().close()
        assert repository.resolve("v9").digest == note(9).digest
        assert repository.stat_blob(Digest.of(b"new")).size == 3


def test_a_blob_that_does_not_fit_leaves_the_disk_as_free_as_it_was(small_disk):
    with Store.open(small_disk.root / "store") as store:
        stock(store)
        free = os.statvfs(small_disk.root).f_bfree
        with unchanged(store.root), pytest.raises(StoreFullError):
            WRITES["a large blob"](store.repository("library/app"))
        assert os.statvfs(small_disk.root).f_bfree == free


def test_a_chunk_that_does_not_fit_is_not_kept_and_the_upload_goes_on(small_disk):
    with Store.open(small_disk.root / "store") as store, store.repository("library/app").start_upload() as upload:
        upload.write(b"hello")
        with pytest.raises(StoreFullError):
            upload.write(bytes(16 << 20))
        assert upload.offset == 5
        assert os.stat(store.root / "uploads" / upload.id).st_size == 5
        upload.write(b"!")
        assert upload.commit(Digest.of(b"hello!")).size == 6


def test_a_store_cannot_be_made_on_a_full_disk_and_can_be_later(small_disk):
    root = small_disk.root / "store"
    with small_disk.full(), pytest.raises(StoreFullError):
        Store.open(root)
    with Store.open(root) as store:
        store.repository("a").put_blob(b"hello")


def test_a_store_on_read_only_media_is_read_and_not_written(small_disk):
    root = small_disk.root / "store"
    with Store.open(root) as store:
        stock(store)
        expected = {name: repr(read(store)) for name, read in READS.items()}
    small_disk.remount_read_only()
    with pytest.raises(ReadOnlyStoreError) as caught:
        Store.open(root)
    assert caught.value.root == root
    with Store.open(root, read_only=True) as reader:
        assert {name: repr(read(reader)) for name, read in READS.items()} == expected
        for change in CHANGES.values():
            with pytest.raises(ReadOnlyStoreError):
                change(reader)


@pytest.mark.parametrize("actor", [None, 5, b"robot", "\ud800", "x" * 1025])
def test_an_actor_that_cannot_be_noted_is_refused_when_it_is_set(store, actor):
    with pytest.raises(InvalidNameError, match="valid actor"):
        store.actor = actor
    push(store.repository("app"), APP, "v1")


def test_a_login_name_that_is_no_text_is_noted_all_the_same(store, monkeypatch):
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("j\udcfcrgen", "", uid, 0, "", "", "")))
    with Store.open(store.root) as opened:
        push(opened.repository("app"), APP, "v1")
        [event] = opened.repository("app").history("v1")
    assert event.actor == "j?rgen"


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda store: store.export("out", platforms="linux/amd64"), "platforms"),
        (lambda store: store.export("out", base="earlier"), "base"),
        (lambda store: store.scrub(heal_from="earlier"), "heal_from"),
        (lambda store: store.import_("in", platforms="linux/amd64"), "platforms"),
        (lambda store: store.import_("in", references="app:v1"), "references"),
        (lambda store: store.export("out", "app:v1"), "references"),
    ],
)
def test_one_text_in_the_place_of_a_list_is_a_type_error(store, act, said):
    with pytest.raises(TypeError, match=f"{said} must be a list of .*, not one text"):
        act(store)

"""Every instant in a row is of the catalog's clock, and a write that concerns one repository says which."""

from datetime import timedelta

import pytest
from images import image, push
from state import rows

from ocistore import BlobNotFoundError, Store
from ocistore.catalog.sqlite import SQLiteCatalog

AHEAD = 4_000_000_000_000
"""An instant of a clock that no machine has."""

INSTANTS = {
    "repositories": [2],
    "repository_manifests": [2],
    "tags": [3],
    "tag_events": [5],
    "uploads": [4, 5],
    "leases": [2],
}
"""Which columns of which table say when something was written."""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """An open store whose clock is ahead, and what each write said about repositories."""
    said = []

    def write(catalog, *, wait=True, repositories=None):
        said.append(repositories)
        return actual(catalog, wait=wait, repositories=repositories)

    actual = SQLiteCatalog.write
    monkeypatch.setattr(SQLiteCatalog, "write", write)
    monkeypatch.setattr(SQLiteCatalog, "now", lambda _: AHEAD)
    with Store.open(tmp_path / "store") as store:
        yield store, said


def test_every_instant_in_a_row_is_of_the_clock_of_the_catalog(written):
    store, _ = written
    push(store.repository("app"), image("one"), "v1")
    store.repository("app").start_upload().close()
    with store.lease(ttl=timedelta(hours=1)):
        found = rows(store.root)
        for table, columns in INSTANTS.items():
            assert found[table], table
            assert {row[column] for row in found[table] for column in columns} == {AHEAD}, table
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0))
    assert store.repository("app").resolve("v1").digest == image("one").digest


def test_a_lease_that_has_run_out_by_the_clock_of_the_catalog_keeps_nothing(written, monkeypatch):
    store, _ = written
    with store.lease(ttl=timedelta(hours=1)):
        blob = store.repository("app").put_blob(b"kept")
        monkeypatch.setattr(SQLiteCatalog, "now", lambda _: AHEAD + 3_599_999)
        assert store.gc(grace=timedelta(0)).blobs == 0
        monkeypatch.setattr(SQLiteCatalog, "now", lambda _: AHEAD + 3_600_001)
        assert store.gc(grace=timedelta(0)).blobs == 1
    with pytest.raises(BlobNotFoundError):
        store.repository("app").stat_blob(blob.digest)


def test_a_write_that_concerns_one_repository_says_which(written):
    store, said = written
    repository = store.repository("app")
    push(repository, image("one"), "v1")
    repository.untag("v1")
    upload = repository.start_upload()
    upload.write(b"some")
    upload.close()
    with repository.upload(upload.id) as again:
        again.write(b" more")
    repository.delete_manifest(image("one").digest)
    assert {frozenset(each or ["any of them"]) for each in said} == {frozenset({"app"})}
    push(repository, image("two"), "v2")
    with store.lease(ttl=timedelta(hours=1)) as lease:
        said.clear()
        lease.keep("app", image("two").digest)
        assert [set(each) for each in said] == [{"app"}]

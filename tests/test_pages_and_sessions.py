"""Referrers in pages; upload sessions by digest and lifetime; leases listed, and ended by whoever keeps a store."""

from datetime import timedelta

import pytest
from images import APP, artifact, index, push

from ocistore import (
    BlobNotFoundError,
    Digest,
    DigestMismatchError,
    LeaseExpiredError,
    LeaseInfo,
    Store,
    StoreClosedError,
)

NOW = timedelta(0)
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.every_pool

# --- referrers --------------------------------------------------------------------------------------------------------


def test_referrers_are_listed_in_pages(repository):
    push(repository, APP)
    for number in range(7):
        push(repository, artifact(number, subject=APP, artifact_type=f"a/{'odd' if number % 2 else 'even'}"))
    whole = repository.referrers(APP.digest)
    assert len(whole) == 7
    pages, after = [], ""
    while page := repository.referrers(APP.digest, after=after, limit=3):
        pages += page
        after = page[-1]
    assert pages == whole
    even = repository.referrers(APP.digest, artifact_type="a/even")
    assert repository.referrers(APP.digest, artifact_type="a/even", after=even[0], limit=2) == even[1:3]
    assert repository.referrers(APP.digest, limit=0) == []
    with pytest.raises(ValueError, match="limit must not be negative"):
        repository.referrers(APP.digest, limit=-1)


# --- upload sessions --------------------------------------------------------------------------------------------------


def test_an_upload_knows_the_digest_of_what_has_arrived(store, repository):
    with repository.start_upload() as upload:
        assert upload.digest == Digest.of(b"")
        upload.write(b"one")
        assert upload.digest == Digest.of(b"one")
        upload.write(b"two")
    store._core.hash_states.pop(upload.id)  # as in another process
    with repository.upload(upload.id) as upload:
        assert upload.digest == Digest.of(b"onetwo")
        assert upload.commit() == repository.stat_blob(Digest.of(b"onetwo"))
    with pytest.raises(StoreClosedError):
        upload.digest  # noqa: B018


def test_an_upload_is_committed_by_the_algorithm_of_its_session(repository):
    upload = repository.start_upload(algorithm="sha512")
    upload.write(b"content")
    with pytest.raises(DigestMismatchError):
        upload.commit(Digest.of(b"other"))
    assert upload.commit().digest == Digest.of(b"content", "sha512")


def test_a_session_lives_as_long_as_was_said_when_it_began(store, repository):
    with repository.start_upload(ttl=HOUR) as upload:
        upload.write(b"content")
    first = repository.stat_upload(upload.id)
    assert first.expires - first.touched == HOUR
    repository.upload(upload.id).close()
    again = repository.stat_upload(upload.id)
    assert again.touched >= first.touched
    assert again.expires - again.touched == HOUR
    usual = repository.start_upload()
    usual.close()
    info = repository.stat_upload(usual.id)
    assert info.expires - info.started >= timedelta(days=7)


def test_a_session_that_was_left_for_longer_is_collected(store, repository, monkeypatch):
    with repository.start_upload(ttl=HOUR) as short, repository.start_upload(ttl=2 * HOUR) as long:
        pass
    catalog = type(store._core.catalog)
    now = catalog.now
    monkeypatch.setattr(catalog, "now", lambda self: now(self) + 5_400_000)
    store.gc()
    monkeypatch.undo()
    assert [info.id for info in repository.uploads()] == [long.id] != [short.id]


@pytest.mark.parametrize("ttl", [NOW, timedelta(seconds=-1), timedelta(days=36_501)])
def test_a_lifetime_that_is_none_is_refused(repository, ttl):
    with pytest.raises(ValueError, match=r"longer than|negative"):
        repository.start_upload(ttl=ttl)
    assert not repository.exists()


# --- leases -----------------------------------------------------------------------------------------------------------


def test_leases_in_force_are_listed_with_what_they_keep(store, repository):
    assert list(store.leases()) == []
    with store.lease(ttl=HOUR, reason="a build") as lease, store.lease(ttl=HOUR):
        push(repository, index([APP]))
        infos = {info.id: info for info in store.leases()}
        assert len(infos) == 2
        info = infos[lease.id]
        assert (info.reason, info.expires, info.expires - info.created) == ("a build", lease.expires, HOUR)
        assert (info.manifests, info.blobs) == (2, len(APP.blobs))
        assert LeaseInfo.from_json(info.to_json()) == info
    assert list(store.leases()) == []


def test_a_lease_that_has_run_out_is_not_listed(store, monkeypatch):
    with store.lease(ttl=HOUR):
        catalog = type(store._core.catalog)
        now = catalog.now
        monkeypatch.setattr(catalog, "now", lambda self: now(self) + 3_600_000)
        assert list(store.leases()) == []
        monkeypatch.undo()
        assert len(list(store.leases())) == 1


def test_a_lease_is_ended_by_its_id(store, repository):
    with store.lease(ttl=HOUR) as lease:
        blob = repository.put_blob(b"kept")
        store.gc(grace=NOW, force=True)
        assert repository.has_blob(blob)
        with Store.open(store.root) as other:
            other.end_lease(lease.id)
        assert list(store.leases()) == []
        store.gc(grace=NOW, force=True)
        with pytest.raises(BlobNotFoundError):
            repository.stat_blob(blob, renew=False)
        with pytest.raises(LeaseExpiredError):
            repository.put_blob(b"more")
        with pytest.raises(LeaseExpiredError):
            lease.renew()
        with pytest.raises(LeaseExpiredError):
            store.end_lease(lease.id)


def test_a_lease_that_never_was_cannot_be_ended(store):
    with pytest.raises(LeaseExpiredError):
        store.end_lease("no such lease")

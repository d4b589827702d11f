"""What is no length of time, no number or no path is refused by its name, before anything is done."""

from datetime import timedelta

import pytest
from images import image, push
from state import unchanged

from ocistore import Store

HOUR = timedelta(hours=1)

DURATIONS = {
    "grace": lambda store, given: store.gc(grace=given),
    "grace of a dry run": lambda store, given: store.gc(grace=given, dry_run=True),
    "keep_untagged": lambda store, given: store.gc(keep_untagged=given),
    "maximum_duration": lambda store, given: store.gc(maximum_duration=given),
    "maximum_duration of a scrub": lambda store, given: store.scrub(maximum_duration=given),
    "keep_for": lambda store, given: store.prune_history(keep_for=given),
    "ttl": lambda store, given: store.lease(ttl=given),
    "grace of an explanation": lambda store, given: store.explain(DIGEST, grace=given),
    "keep_untagged of an explanation": lambda store, given: store.explain(DIGEST, keep_untagged=given),
}
NUMBERS = {
    "maximum_batches": lambda store, given: store.gc(maximum_batches=given),
    "keep_last": lambda store, given: store.prune_history(keep_last=given),
    "rate": lambda store, given: store.scrub(rate=given),
    "subset": lambda store, given: store.scrub(subset=(given, 2)),
    "limit": lambda store, given: list(store.repositories(limit=given)),
    "limit of tags": lambda store, given: list(store.repository("app").tags(limit=given)),
    "limit of manifests": lambda store, given: list(store.repository("app").manifests(limit=given)),
    "limit of history": lambda store, given: list(store.repository("app").history(limit=given)),
    "size": lambda store, given: store.repository("app").put_blob(b"new", size=given),
}
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def filled(store):
    push(store.repository("app"), image("one"), "v1")
    return store


@pytest.mark.parametrize("given", [5, 0, 1.5, "1h", True])
@pytest.mark.parametrize("name", DURATIONS)
def test_what_is_no_length_of_time_is_refused(filled, name, given):
    with unchanged(filled.root), pytest.raises(TypeError, match=f"^{name.split()[0]} must be a datetime"):
        DURATIONS[name](filled, given)


@pytest.mark.parametrize("name", ["grace", "keep_untagged", "ttl", "grace of an explanation"])
def test_none_is_no_length_of_time_where_one_must_be_given(filled, name):
    with unchanged(filled.root), pytest.raises(TypeError, match=r"must be a datetime\.timedelta, .* not None"):
        DURATIONS[name](filled, None)


@pytest.mark.parametrize("name", DURATIONS)
def test_no_length_of_time_is_negative(filled, name):
    with unchanged(filled.root), pytest.raises(ValueError, match=f"^{name.split()[0]} must not be negative"):
        DURATIONS[name](filled, -HOUR)


def test_a_lease_is_renewed_for_a_length_of_time(filled):
    with filled.lease(ttl=HOUR) as lease:
        expires = lease.expires
        with pytest.raises(TypeError, match="ttl must be a datetime"):
            lease.renew(5)
        assert lease.expires == expires


@pytest.mark.parametrize("given", [1.5, "1", HOUR, True])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_whole_number_is_refused(filled, name, given):
    with unchanged(filled.root), pytest.raises(TypeError, match=f"^{name.split()[0]} must be an int, not "):
        NUMBERS[name](filled, given)


@pytest.mark.parametrize("name", ["maximum_batches", "keep_last", "limit", "limit of history", "subset", "rate"])
def test_no_number_is_negative(filled, name):
    with unchanged(filled.root), pytest.raises(ValueError, match=f"^{name.split()[0]} must "):
        NUMBERS[name](filled, -1)


def test_a_part_of_a_store_is_a_pair(filled):
    with pytest.raises(TypeError, match=r"subset must be a pair of numbers \(n, t\), not int"):
        filled.scrub(subset=5)


def test_a_chunk_starts_at_a_whole_number(filled):
    with filled.repository("app").start_upload() as upload, pytest.raises(TypeError, match="offset must be an int"):
        upload.write(b"x", offset="0")


@pytest.mark.parametrize(
    "call",
    [
        lambda store, path: Store.open(path),
        lambda store, path: store.export(path),
        lambda store, path: store.import_(path),
        lambda store, path: store.backup(path),
    ],
)
@pytest.mark.parametrize("path", [b"there", 5, None])
def test_what_is_no_path_is_refused(filled, call, path):
    with unchanged(filled.root), pytest.raises(TypeError, match=r"path|binary file"):
        call(filled, path)

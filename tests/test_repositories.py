"""Repositories of a store: made by their first content, listed in byte order, deleted with all they hold."""

from itertools import islice

import pytest
from images import APP, artifact, index, note, push
from state import catalog, pool, rows, staged, unchanged

from ocistore import BlobNotFoundError, Digest, ManifestNotFoundError, RepositoryNotFoundError, Store, Usage

pytestmark = pytest.mark.every_pool

ORDERED = ["0", "a", "a-b", "a.b", "a/b", "a/b/c", "a0", "a_b", "aa", "b"]


def fill(store, names):
    with store.transaction() as transaction:
        for name in names:
            transaction.repository(name).put_blob(b"x")


def test_naming_a_repository_touches_nothing(store):
    with unchanged(store.root):
        assert store.repository("library/app").name == "library/app"
    assert list(store.repositories()) == []


@pytest.mark.parametrize("name", ["a", "0", "a" * 255, "a/b/c/d", "a.b_c__d-e---f/0"])
def test_every_name_of_the_grammar_can_be_that_of_a_repository(store, name):
    push(store.repository(name), APP, "v1")
    assert list(store.repositories()) == [name]
    assert store.repository(name).get_manifest("v1").content == APP.manifest


def test_a_repository_and_one_inside_its_name_know_nothing_of_each_other(store):
    push(store.repository("a"), note(1), "v1")
    push(store.repository("a/b"), note(2), "v1")
    store.delete_repository("a")
    assert list(store.repositories()) == ["a/b"]
    assert store.repository("a/b").resolve("v1").digest == note(2).digest


# --- listing ----------------------------------------------------------------------------------------------------------


def test_repositories_are_listed_in_byte_order(store):
    fill(store, reversed(ORDERED))
    assert list(store.repositories()) == ORDERED == sorted(ORDERED, key=str.encode)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a_", "b", "c", "%", "A"])
def test_a_prefix_is_taken_literally(store, prefix):
    fill(store, ORDERED)
    assert list(store.repositories(prefix=prefix)) == [name for name in ORDERED if name.startswith(prefix)]


@pytest.mark.parametrize("limit", [0, 1, 3, 9, 10, 11])
@pytest.mark.parametrize("after", ["", "a", "a/", "a/a", "b", "z"])
def test_a_list_begins_behind_a_name_and_ends_at_the_limit(store, after, limit):
    fill(store, ORDERED)
    wanted = [name for name in ORDERED if name > after][:limit]
    assert list(store.repositories(after=after, limit=limit)) == wanted


def test_a_list_of_more_repositories_than_fit_one_page_is_whole(tmp_path):
    names = sorted(f"r{number}" for number in range(1_100))
    with Store.open(tmp_path / "store") as store:
        fill(store, names)
        assert list(store.repositories()) == names
        assert list(islice(store.repositories(after="r5"), 3)) == ["r50", "r500", "r501"]


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_repository_is_deleted_with_everything_it_holds_whatever_refers_to_what(store, repository):
    push(repository, index([APP]), "all")
    push(repository, artifact(subject=APP), "sbom")
    repository.put_blob(b"loose")
    repository.start_upload().close()
    store.delete_repository("library/app")
    assert list(store.repositories()) == []
    assert staged(store.root) == []
    for table in ("repositories", "tags", "repository_blobs", "repository_manifests", "uploads"):
        assert rows(store.root)[table] == [], table


def test_what_another_repository_serves_survives(store, repository):
    push(repository, index([APP]), "all")
    other = store.repository("other")
    push(other, index([APP]), "all")
    store.delete_repository("library/app")
    assert other.get_manifest("all").content == index([APP]).manifest
    assert other.get_manifest(APP.digest).content == APP.manifest
    for blob in APP.blobs:
        with other.open_blob(Digest.of(blob)) as reader:
            assert reader.read() == blob


def test_the_files_of_a_deleted_repository_are_left_to_a_collection_which_is_told_of_them(store, repository):
    push(repository, APP, "v1")
    before = pool(store.root)
    store.delete_repository("library/app")
    assert pool(store.root) == before
    with catalog(store.root) as connection:
        assert connection.execute("SELECT count(*) FROM blobs WHERE unreferenced_since IS NULL").fetchone() == (0,)


def test_a_deleted_repository_made_again_has_nothing_of_the_old_one(store, repository):
    push(repository, APP, "v1")
    store.delete_repository("library/app")
    repository.put_blob(b"new")
    assert list(repository.tags()) == []
    assert list(repository.manifests()) == []
    with pytest.raises(ManifestNotFoundError):
        repository.resolve(APP.digest)
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(Digest.of(APP.config))


def test_deleting_a_repository_that_does_not_exist_says_so(store):
    fill(store, ["other"])
    with unchanged(store.root), pytest.raises(RepositoryNotFoundError) as caught:
        store.delete_repository("library/app")
    assert caught.value.name == "library/app"


def test_usage_counts_each_content_once(store, repository):
    push(repository, APP, "v1", "v2")
    push(store.repository("other"), APP, "v1")
    repository.start_upload().close()
    total = len(APP.manifest) + sum(map(len, APP.blobs))
    assert store.usage() == Usage(repositories=2, tags=3, manifests=1, blobs=3, blob_bytes=total, uploads=1)

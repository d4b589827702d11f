"""Which repositories are equal, and that what belongs to an open store does not leave its process."""

import copy
import pickle

import pytest

from ocistore import Store


def test_repositories_are_equal_where_store_and_name_are(store, tmp_path):
    first, again = store.repository("a/b"), store.repository("a/b")
    assert first == again
    assert hash(first) == hash(again)
    assert len({first, again, store.repository("c")}) == 2
    assert first != store.repository("c")
    assert first != "a/b"
    with Store.open(tmp_path / "other") as other:
        assert other.repository("a/b") != first


def test_a_store_that_is_opened_twice_is_one_store(store):
    with Store.open(store.root) as again:
        assert again.repository("a") == store.repository("a")
        assert {again.repository("a"): 1}[store.repository("a")] == 1


def test_a_repository_in_a_transaction_is_another_thing(store):
    with store.transaction() as transaction:
        assert transaction.repository("a") != store.repository("a")


def test_repositories_of_a_store_that_was_closed_are_still_told_apart(store):
    first, again, other = store.repository("a"), store.repository("a"), store.repository("b")
    store.close()
    assert first == again != other


@pytest.mark.parametrize("leave", [pickle.dumps, copy.deepcopy])
def test_what_belongs_to_an_open_store_says_why_it_is_not_pickled(store, leave):
    repository = store.repository("a")
    with repository.start_upload() as upload, store.transaction() as transaction:
        for thing in (store, repository, upload, transaction):
            with pytest.raises(TypeError, match="neither copied nor pickled: open its root again"):
                leave(thing)

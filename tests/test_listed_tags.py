"""Tags with what they point at: by name, by date, in pages, with sizes."""

import time
from datetime import timedelta

import pytest
from images import artifact, image, index, note, push

from ocistore import RepositoryNotFoundError, TagInfo, largechanges

pytestmark = pytest.mark.every_pool

APP = index([image("a"), image("b")])


def names(listing):
    return [tag.name for tag in listing]


@pytest.fixture
def dated(store, repository):
    """A repository with three tags, made in the order b, c, a, each in a millisecond of its own."""
    for name in ("b", "c", "a"):
        push(repository, note(name), name)
        time.sleep(0.002)
    return repository


def test_a_listed_tag_says_what_it_points_at_since_when_and_by_whom(store, repository):
    store.actor = "ada"
    pushed = push(repository, APP, "v1")
    [event] = repository.history("v1")
    [tag] = repository.list_tags()
    assert tag == TagInfo("v1", pushed.digest, pushed.media_type, pushed.size, event.at, "ada")
    assert TagInfo.from_json(tag.to_json()) == tag


def test_tags_are_listed_by_name_or_by_date(dated):
    assert names(dated.list_tags()) == ["a", "b", "c"]
    assert names(dated.list_tags(sort="updated")) == ["a", "c", "b"]
    assert names(dated.list_tags(sort="updated", newest_first=False)) == ["b", "c", "a"]
    assert names(dated.list_tags(sort="updated", limit=2)) == ["a", "c"]


def test_a_tag_that_is_moved_is_the_newest(dated):
    dated.tag("c", dated.resolve("c").digest)
    assert names(dated.list_tags(sort="updated", limit=1)) == ["a"]
    dated.tag("c", dated.resolve("a").digest)
    assert names(dated.list_tags(sort="updated", limit=1)) == ["c"]
    dated.untag("c")
    assert names(dated.list_tags(sort="updated", limit=1)) == ["a"]


@pytest.mark.parametrize("order", [{}, {"sort": "updated"}, {"sort": "updated", "newest_first": False}])
def test_pages_put_together_are_the_whole_list(store, repository, order):
    for moment in range(3):  # in each, many are of one instant
        with store.transaction() as transaction:
            tags = [f"t{number}-{moment}" for number in range(7)]
            transaction.repository(repository.name).put_manifest(note(moment).manifest, tags=tags)
        time.sleep(0.002)
    whole = list(repository.list_tags(**order))
    assert len(whole) == 21
    pages, after = [], None
    while page := list(repository.list_tags(**order, after=after, limit=4)):
        pages += page
        after = page[-1]
        repository.untag(after.name)
    assert pages == whole


@pytest.mark.parametrize("order", [{}, {"sort": "updated"}, {"sort": "updated", "newest_first": False}])
def test_a_prefix_narrows_every_order(repository, order):
    for number in range(3):
        push(repository, note(number), *(f"{beginning}{number}" for beginning in ("a", "v", "v1.", "w")))
    whole = list(repository.list_tags(**order))
    for prefix in ("v", "v1.", "v1.2", "nothing"):
        assert list(repository.list_tags(**order, prefix=prefix)) == [
            tag for tag in whole if tag.name.startswith(prefix)
        ]
    first = next(repository.list_tags(**order, prefix="v"))
    assert len(list(repository.list_tags(**order, prefix="v", after=first))) == 5


def test_a_list_by_name_begins_after_any_name(dated):
    assert names(dated.list_tags(after="aa")) == ["b", "c"]
    assert names(dated.list_tags(after="a", prefix="c")) == ["c"]
    with pytest.raises(ValueError, match="after must be a TagInfo"):
        dated.list_tags(sort="updated", after="a")


def test_tags_of_another_repository_are_not_listed(store, dated):
    push(store.repository("other"), note("theirs"), "theirs")
    assert "theirs" not in names(dated.list_tags(sort="updated"))
    assert names(store.repository("other").list_tags(sort="updated")) == ["theirs"]
    with pytest.raises(RepositoryNotFoundError):
        store.repository("nobody").list_tags()
    with pytest.raises(ValueError, match="sort must be name or updated"):
        dated.list_tags(sort="size")


def test_the_total_size_counts_each_content_once_and_no_referrers(store, repository):
    push(repository, APP, "v1")
    push(repository, artifact(subject=APP), "note")
    everything = {APP.manifest} | {each for child in APP.children for each in (child.manifest, *child.blobs)}
    [note_, tag] = repository.list_tags(total_size=True)
    assert tag.total_size == sum(map(len, everything))
    assert note_.total_size < tag.total_size


def test_who_moved_a_tag_is_not_known_once_that_is_forgotten(store, dated):
    time.sleep(0.002)
    store.prune_history(keep_for=timedelta(0))
    listed = list(dated.list_tags(sort="updated"))
    assert [tag.actor for tag in listed][1:] == [None, None]
    assert listed[0].actor == store.actor  # the newest event of a store is never forgotten


def test_tags_that_a_large_change_moves_are_as_new_as_its_end(store, dated, monkeypatch):
    monkeypatch.setattr(largechanges, "LARGE", 2)
    monkeypatch.setattr(largechanges, "AT_ONCE", 2)
    before = {tag.name: tag for tag in dated.list_tags()}
    with store.transaction() as transaction:
        part = transaction.repository(dated.name)
        part.tag("b", dated.resolve("a").digest)
        part.tag("c", dated.resolve("c").digest)
        for name in ("x", "y"):
            part.tag(name, dated.resolve("a").digest)
    after = {tag.name: tag for tag in dated.list_tags()}
    assert after["c"] == before["c"]
    assert after["b"].updated > before["a"].updated
    assert {after[name].updated for name in ("b", "x", "y")} == {after["b"].updated}
    assert set(names(dated.list_tags(sort="updated", limit=3))) == {"b", "x", "y"}

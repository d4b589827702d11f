"""Tags: listing in byte order, compare and swap, moving, removing, and their history."""

import threading
import time
from datetime import UTC, datetime
from itertools import islice

import pytest
from images import APP, index, note, push
from state import unchanged

from ocistore import (
    ANY,
    Digest,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    Store,
    TagConflictError,
)

pytestmark = pytest.mark.every_pool

ONE, TWO, THREE = (note(number).digest for number in (1, 2, 3))


@pytest.fixture
def stocked(repository):
    """A repository with three manifests and no tag."""
    for number in (1, 2, 3):
        push(repository, note(number))
    return repository


def tag_all(store, names, *, repository="library/app"):
    with store.transaction() as transaction:
        part = transaction.repository(repository)
        part.put_manifest(note(1).manifest, tags=names)


# --- listing ----------------------------------------------------------------------------------------------------------

# In byte order: digits, upper case, underscore, lower case; a name before those it is a prefix of.
ORDERED = ["0", "1", "10", "2", "A", "B", "V1", "Z", "_", "_a", "a", "a-b", "a.b", "aB", "a_b", "ab", "v1", "v1.0"]
PREFIXES = ["", "a", "A", "v1", "v10", "_", "a.", "1", "zz", "v1.0.0", "%", "a%", "*", "\x7f", "é"]


def test_tags_are_listed_in_byte_order_however_they_came(store, repository):
    tag_all(store, reversed(ORDERED))
    assert list(repository.tags()) == ORDERED == sorted(ORDERED, key=str.encode)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_taken_literally(store, repository, prefix):
    tag_all(store, ORDERED)
    assert list(repository.tags(prefix=prefix)) == [name for name in ORDERED if name.startswith(prefix)]


@pytest.mark.parametrize("after", ["", "0", "11", "A", "Z", "_", "a", "aa", "v1", "v9", "\x00", "z", "zzz", "é"])
def test_a_list_begins_behind_a_name_that_need_not_be_a_tag(store, repository, after):
    tag_all(store, ORDERED)
    assert list(repository.tags(after=after)) == [name for name in ORDERED if name > after]


def test_prefix_after_and_limit_work_together(store, repository):
    tag_all(store, ORDERED)
    assert list(repository.tags(prefix="a", after="a.b", limit=2)) == ["aB", "a_b"]
    assert list(repository.tags(prefix="v", after="a", limit=1)) == ["v1"]
    assert list(repository.tags(prefix="a", after="b")) == []


MANY = sorted((f"{letter}{number}" for number in range(500) for letter in ("v", "V", "_")), key=str.encode)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A repository of 1,500 tags, which is more than one page of a listing."""
    with Store.open(tmp_path_factory.mktemp("many") / "store") as store:
        tag_all(store, MANY)
        yield store.repository("library/app")


def test_1_500_tags_are_listed_whole(many):
    assert list(many.tags()) == MANY


@pytest.mark.parametrize("limit", [0, 1, 999, 1000, 1001, 1499, 1500, 1501, 10**12])
def test_no_more_than_the_limit_is_listed(many, limit):
    assert list(many.tags(limit=limit)) == MANY[:limit]


@pytest.mark.parametrize("limit", [7, 100, 1000, 1500])
def test_pages_put_together_are_the_whole_list(many, limit):
    pages, after = [], ""
    while page := list(many.tags(after=after, limit=limit)):
        pages.append(page)
        after = page[-1]
    assert [name for page in pages for name in page] == MANY
    assert {len(page) for page in pages[:-1]} <= {limit}


def test_a_prefix_reaches_over_pages(many):
    assert list(many.tags(prefix="v")) == [name for name in MANY if name.startswith("v")]


def test_tags_can_change_while_they_are_listed(store, repository):
    tag_all(store, MANY)
    listing = repository.tags()
    first = list(islice(listing, 500))
    repository.untag(MANY[1200])
    repository.tag("zzz", ONE)
    assert first + list(listing) == [*(name for name in MANY if name != MANY[1200]), "zzz"]


def test_tags_of_another_repository_are_not_listed(store, stocked):
    tag_all(store, ["other"], repository="library/app2")
    stocked.tag("mine", ONE)
    assert list(stocked.tags()) == ["mine"]


# --- setting ----------------------------------------------------------------------------------------------------------


def test_a_tag_resolves_to_what_it_was_set_to(stocked):
    stocked.tag("v1", ONE)
    assert stocked.resolve("v1").digest == ONE
    assert stocked.get_manifest("v1").content == note(1).manifest


def test_tags_that_differ_in_case_are_different_tags(stocked):
    stocked.tag("v1", ONE)
    stocked.tag("V1", TWO)
    assert (stocked.resolve("v1").digest, stocked.resolve("V1").digest) == (ONE, TWO)


def test_a_moved_tag_leaves_the_old_manifest_readable_under_its_digest(stocked):
    stocked.tag("v1", ONE)
    stocked.tag("v1", TWO)
    assert stocked.resolve("v1").digest == TWO
    assert stocked.get_manifest(ONE).content == note(1).manifest
    assert ONE in [found.digest for found in stocked.manifests()]


def test_a_manifest_pushed_under_a_used_tag_leaves_the_old_one_readable_under_its_digest(repository):
    push(repository, note(1), "latest")
    push(repository, note(2), "latest")
    assert repository.get_manifest("latest").content == note(2).manifest
    assert repository.get_manifest(ONE).content == note(1).manifest


def test_a_moved_tag_has_the_size_and_type_of_what_it_points_at_now(repository):
    push(repository, APP, "it")
    push(repository, index([APP], annotations={"long": "x" * 1000}), "it")
    resolved, manifest = repository.resolve("it"), repository.get_manifest("it")
    assert (resolved.media_type, resolved.size) == (manifest.media_type, len(manifest.content))
    assert manifest.media_type == "application/vnd.oci.image.index.v1+json"
    push(repository, APP, "it")
    assert repository.resolve("it").size == len(APP.manifest)


@pytest.mark.parametrize("kind", ["unknown", "of another repository", "of a blob"])
def test_a_tag_is_only_set_to_a_manifest_of_its_repository(store, stocked, kind):
    digest = Digest.of(b"x")
    if kind == "of another repository":
        digest = push(store.repository("other"), note("other")).digest
    elif kind == "of a blob":
        stocked.put_blob(b"x")
    with unchanged(store.root), pytest.raises(ManifestNotFoundError) as caught:
        stocked.tag("v1", digest)
    assert (caught.value.reference, caught.value.repository) == (digest, "library/app")


# --- compare and swap -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected"),
    [(None, ANY), (ONE, ANY), (None, None), (ONE, ONE), (ONE, str(ONE))],
    ids=["absent, any", "there, any", "absent, absent", "there, the same", "there, the same as text"],
)
def test_a_tag_that_is_as_expected_is_set(stocked, now, expected):
    if now is not None:
        stocked.tag("v1", now)
    stocked.tag("v1", TWO, expected=expected)
    assert stocked.resolve("v1").digest == TWO


@pytest.mark.parametrize("target", [TWO, THREE], ids=["moves", "points there already"])
@pytest.mark.parametrize(
    ("now", "expected"),
    [(TWO, None), (TWO, ONE), (None, ONE)],
    ids=["there, absent expected", "there, another expected", "absent, one expected"],
)
def test_a_tag_that_is_not_as_expected_is_left_alone(store, stocked, now, expected, target):
    if now is not None:
        stocked.tag("v1", now)
    with unchanged(store.root), pytest.raises(TagConflictError) as caught:
        stocked.tag("v1", target, expected=expected)
    error = caught.value
    assert (error.name, error.repository, error.expected, error.actual) == ("v1", "library/app", expected, now)


def test_a_tag_that_went_with_its_manifest_counts_as_absent(stocked):
    stocked.tag("v1", ONE)
    stocked.delete_manifest(ONE)
    stocked.tag("v1", TWO, expected=None)
    assert stocked.resolve("v1").digest == TWO


def test_of_many_threads_that_create_a_tag_one_wins(store, stocked):
    barrier = threading.Barrier(8)
    results = []

    def create(digest):
        barrier.wait()
        try:
            stocked.tag("v1", digest, expected=None)
        except TagConflictError as error:
            results.append(error.actual)
        else:
            results.append(f"won with {digest}")

    threads = [threading.Thread(target=create, args=((ONE, TWO)[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = stocked.resolve("v1").digest
    assert sorted(results) == sorted([f"won with {won}"] + [won] * 7)


# --- removing ---------------------------------------------------------------------------------------------------------


def test_untag_keeps_the_manifest_and_its_other_tags(stocked):
    stocked.tag("v1", ONE)
    stocked.tag("latest", ONE)
    stocked.untag("v1")
    assert list(stocked.tags()) == ["latest"]
    assert stocked.get_manifest("latest").content == note(1).manifest
    assert stocked.get_manifest(ONE).content == note(1).manifest


def test_untag_of_the_last_tag_keeps_the_manifest_under_its_digest(stocked):
    stocked.tag("v1", ONE)
    stocked.untag("v1")
    assert stocked.get_manifest(ONE).content == note(1).manifest
    with pytest.raises(ManifestNotFoundError) as caught:
        stocked.resolve("v1")
    assert (caught.value.reference, caught.value.repository) == ("v1", "library/app")


@pytest.mark.parametrize("name", ["v1", "V", "v2"])
def test_untag_of_what_is_no_tag_is_refused(store, stocked, name):
    stocked.tag("v", ONE)
    tag_all(store, ["v2"], repository="other")
    with unchanged(store.root), pytest.raises(ManifestNotFoundError) as caught:
        stocked.untag(name)
    assert caught.value.reference == name


ASK = {
    "tags": lambda repository: repository.tags(),
    "tag": lambda repository: repository.tag("v1", ONE),
    "untag": lambda repository: repository.untag("v1"),
    "resolve": lambda repository: repository.resolve("v1"),
    "history": lambda repository: repository.history(),
    "history of a tag": lambda repository: repository.history("v1"),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_asking_a_repository_that_does_not_exist_says_so_and_makes_none(store, repository, ask):
    tag_all(store, ["v1"], repository="other")
    with unchanged(store.root), pytest.raises(RepositoryNotFoundError) as caught:
        ask(repository)
    assert caught.value.name == "library/app"


# --- history ----------------------------------------------------------------------------------------------------------


def told(events):
    return [(event.tag, event.old, event.new) for event in events]


def test_history_tells_each_change_newest_first(stocked):
    stocked.tag("v1", ONE)
    stocked.tag("v1", TWO)
    stocked.tag("v2", TWO)
    stocked.untag("v1")
    assert told(stocked.history()) == [("v1", TWO, None), ("v2", None, TWO), ("v1", ONE, TWO), ("v1", None, ONE)]


def test_history_of_one_tag_tells_of_no_other(stocked):
    stocked.tag("v1", ONE)
    stocked.tag("v10", TWO)
    stocked.tag("v1", TWO)
    assert told(stocked.history("v1")) == [("v1", ONE, TWO), ("v1", None, ONE)]
    assert told(stocked.history("v2")) == []


def test_an_event_says_when_and_by_whom(store, stocked):
    store.actor = "ci-robot"
    before = datetime.now(UTC)
    stocked.tag("v1", ONE)
    after = datetime.now(UTC)
    store.actor = "somebody"
    stocked.untag("v1")
    removed, made = stocked.history()
    assert (made.actor, removed.actor) == ("ci-robot", "somebody")
    assert before.timestamp() - 0.001 <= made.at.timestamp() <= after.timestamp()
    assert made.at.utcoffset() == UTC.utcoffset(None)


def test_without_a_name_the_login_name_is_noted(store, stocked):
    stocked.tag("v1", ONE)
    (event,) = stocked.history()
    assert event.actor == store.actor != ""


def test_events_are_ordered_by_their_number_and_not_by_the_clock(stocked, monkeypatch):
    stocked.tag("v1", ONE)
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)  # a clock set back by decades
    stocked.tag("v1", TWO)
    newest, oldest = stocked.history()
    assert newest.new == TWO
    assert newest.id > oldest.id
    assert newest.at < oldest.at


def test_a_manifest_put_under_tags_makes_an_event_for_each(repository):
    repository.put_manifest(note(1).manifest, tags=["a", "b"])
    assert sorted(told(repository.history())) == [("a", None, ONE), ("b", None, ONE)]


def test_deleting_a_manifest_makes_an_event_for_each_tag_it_takes_along(stocked):
    stocked.tag("a", ONE)
    stocked.tag("b", ONE)
    stocked.tag("c", TWO)
    stocked.delete_manifest(ONE)
    assert sorted(told(stocked.history(limit=2))) == [("a", ONE, None), ("b", ONE, None)]
    assert len(list(stocked.history())) == 5


def test_deleting_a_repository_makes_an_event_for_each_tag_and_its_history_stays(store, stocked):
    stocked.tag("a", ONE)
    stocked.tag("b", TWO)
    store.delete_repository("library/app")
    with pytest.raises(RepositoryNotFoundError):
        stocked.history()
    push(stocked, note(3), "new")
    assert told(stocked.history()) == [
        ("new", None, THREE),
        ("b", TWO, None),
        ("a", ONE, None),
        ("b", None, TWO),
        ("a", None, ONE),
    ]


@pytest.mark.parametrize(
    "nothing",
    [
        lambda repository: repository.tag("v1", ONE),
        lambda repository: repository.tag("v1", ONE, expected=ONE),
        lambda repository: repository.put_manifest(note(1).manifest, tags=["v1"]),
    ],
    ids=["tag", "compare and swap", "push"],
)
def test_what_changes_no_tag_makes_no_event(stocked, nothing):
    stocked.tag("v1", ONE)
    nothing(stocked)
    assert len(list(stocked.history())) == 1


def test_history_tells_nothing_of_another_repository(store, stocked):
    tag_all(store, ["v1"], repository="library/app2")
    assert list(stocked.history()) == []


def test_history_of_more_events_than_fit_one_page_is_whole(store, stocked):
    with store.transaction() as transaction:
        for number in range(1_100):
            transaction.repository("library/app").tag("v1", (ONE, TWO)[number % 2])
    events = list(stocked.history("v1"))
    assert [event.new for event in events] == [(TWO, ONE)[number % 2] for number in range(1_100)]
    assert [event.id for event in events] == sorted((event.id for event in events), reverse=True)
    assert list(stocked.history(limit=1_050)) == events[:1_050]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4])
def test_no_more_events_than_the_limit_are_told(stocked, limit):
    for digest in (ONE, TWO, THREE):
        stocked.tag("v1", digest)
    assert [event.new for event in stocked.history(limit=limit)] == [THREE, TWO, ONE][:limit]

"""How much a collection would take: the same as a forecast that remembers everything, in linear time and no memory."""

import json
import random
import sqlite3
import tracemalloc
from datetime import timedelta

import pytest
from images import APP, Image, artifact, document, image, index, push
from state import catalog, rows
from steps import counted_steps

from ocistore import CollectionRefusedError, Digest
from ocistore.catalog import relations
from ocistore.clock import milliseconds
from ocistore.upkeep.dryrun import forecast
from ocistore.upkeep.gcestimate import losses_of
from ocistore.upkeep.preflight import refuse_too_much

NOW = timedelta(0)
HOUR = timedelta(hours=1)


def counted(store, **options):
    now = milliseconds()
    return losses_of(store._core.catalog, **{"now": now, "untagged_before": now, "before": now, **options})


def remembered(store, **options):
    now = milliseconds()
    with store._core.catalog.snapshot() as connection:
        found = forecast(connection, **{"now": now, "untagged_before": now, "before": now, **options})
    return len(found.blobs), found.bytes


def left_by_manifests(store):
    """What goes as a consequence of manifests that go, once the grace of it is over; nothing that goes by itself."""
    now = milliseconds()
    with store._core.catalog.snapshot() as connection:
        found = forecast(connection, now=now, untagged_before=now, before=now)
        left = {
            (repository, blob)
            for repository, manifest in found.manifests
            for blob in relations.blobs_of(connection, repository, manifest)
        }
    going = found.manifests.keys() | (left & found.parts.keys())
    with catalog(store.root) as bare:
        servers = bare.execute(
            "SELECT repository_id, blob_id FROM repository_blobs"
            " UNION ALL SELECT repository_id, manifest_id FROM repository_manifests"
        ).fetchall()
        sizes = dict(bare.execute("SELECT id, size FROM blobs WHERE state = 'live'"))
    served = {blob for repository, blob in servers if (repository, blob) not in going}
    gone = ({blob for _, blob in going} - served) & sizes.keys()
    return len(gone), sum(sizes[blob] for blob in gone)


def sharing(number, base):
    """An image with a base layer that others have too."""
    made = image(f"sharing {number}")
    shared = image(base)
    manifest = json.loads(made.manifest)
    manifest["layers"] = [*json.loads(shared.manifest)["layers"], *manifest["layers"]]
    return Image(document(manifest), (*made.blobs, *shared.blobs[1:]))


@pytest.fixture
def dead(store):
    """A function that pushes so many images of which only the last is tagged; all share its base layer."""

    def pushing(count):
        with store.transaction() as together:
            repository = together.repository("app")
            for number in range(count):
                push(repository, sharing(number, "base"))
            push(repository, sharing(count, "base"), "alive")

    return pushing


def test_what_is_shared_with_the_living_is_not_counted(store, dead):
    dead(5)
    expected = [sharing(number, "base") for number in range(5)]
    found = counted(store)
    assert found == remembered(store)
    own = {blob for each in expected for blob in each.blobs} - set(image("base").blobs)
    assert found.blobs == 5 + len(own)


def test_each_thing_is_counted_once(store, repository):
    children = [image(number) for number in range(3)]
    with store.transaction() as together:
        for name in ("a", "b"):
            for number in range(4):
                push(together.repository(name), index([*children, image(f"own {number}")]))
            push(together.repository(name), artifact("note", subject=children[0]))
            together.repository(name).put_blob(children[0].manifest)
            together.repository(name).put_blob(b"loose")
    found = counted(store)
    assert found == remembered(store)
    assert found.blobs == len([row for row in rows(store.root)["blobs"] if row[3] == "live"])
    store.repository("b").tag("kept", index([*children, image("own 1")]).digest)
    assert counted(store) == remembered(store)


def test_long_lists_are_read_in_pages(store, repository, monkeypatch):
    monkeypatch.setattr("ocistore.catalog.losses.PAGE", 2)
    with store.transaction() as together:
        for name in ("a", "b", "c"):
            push(together.repository(name), APP)
            for number in range(5):
                push(together.repository(name), artifact(f"note {number}", subject=APP))
                push(together.repository(name), sharing(number, "base"))
                together.repository(name).put_blob(b"%d" % number)
    assert counted(store) == remembered(store)
    store.repository("c").tag("kept", artifact("note 3", subject=APP).digest)
    assert counted(store) == remembered(store)


def test_what_is_young_or_leased_is_not_counted(store, repository):
    push(repository, image("young"))
    repository.put_blob(b"young")
    assert counted(store, untagged_before=0, before=0) == (0, 0)
    with store.lease(ttl=HOUR):
        push(repository, APP)
        repository.put_blob(b"leased")
        assert counted(store) == remembered(store)
        assert counted(store).blobs == 3 + 1  # what is young


def random_store(store, rng):
    """Push at random what refers to one another, in several repositories, and tag and delete some of it."""
    made = [image(number, layers=1 + number % 3) for number in range(5)]
    for number in range(rng.randrange(12)):
        some = rng.sample(made, min(len(made), 3))
        made.append(rng.choice([index(some), index(some, subject=some[0]), artifact(f"{number}", subject=some[0])]))
    for _ in range(rng.randrange(1, 12)):
        repository = store.repository(rng.choice("abc"))
        pushed = rng.choice(made)
        push(repository, pushed, *rng.choice([(), (), ("v1",)]))
        if rng.random() < 0.2:
            repository.put_blob(rng.choice([b"loose", pushed.manifest]))
        if rng.random() < 0.2 and "v1" in list(repository.tags()):
            repository.untag("v1")
    if rng.random() < 0.5:
        store.gc(grace=NOW, keep_untagged=HOUR, force=True)


@pytest.mark.parametrize("seed", range(25))
def test_it_counts_what_a_forecast_remembers(store, seed):
    rng = random.Random(seed)
    random_store(store, rng)
    assert counted(store) == remembered(store)
    # A manifest that is a loose blob too has a grace of its own, which a forecast leaves out where its index goes.
    found = rows(store.root)
    if {row[0] for row in found["manifests"]}.isdisjoint(row[1] for row in found["repository_blobs"]):
        assert counted(store, before=0) == left_by_manifests(store)


@pytest.mark.parametrize("few", [40, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", [counted, remembered])
def test_the_work_grows_with_what_is_due_and_not_with_its_square(store, dead, how, few):
    taken = []
    for count in (few, 4 * few):
        dead(count)
        with counted_steps() as counting:
            how(store)
        taken.append((counting.steps, counting.statements))
    (steps, statements), (more_steps, more_statements) = taken
    assert more_statements < 5 * statements
    assert more_steps < 6 * steps  # what was counted once is looked at with four times as many beside it


@pytest.mark.parametrize(
    ("bounds", "counts"),
    # With fewer the bounds are not reached.
    [((10, 5), (60, 180)), pytest.param((50, 20), (500, 1000), marks=pytest.mark.slow)],
)
def test_the_memory_does_not_grow(store, dead, monkeypatch, bounds, counts):
    monkeypatch.setattr("ocistore.catalog.reachability._REMEMBERED", bounds[0])
    monkeypatch.setattr("ocistore.catalog.losses.PAGE", bounds[1])
    taken = []
    for count in counts:
        dead(count)
        counted(store)
        peaks = []
        for _ in range(2):  # what the interpreter does besides is in some of them
            tracemalloc.start()
            counted(store)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        taken.append(min(peaks))
    assert taken[1] < 1.5 * taken[0]


@pytest.mark.parametrize("length", [150, pytest.param(600, marks=pytest.mark.slow)])
def test_a_chain_of_referrers_takes_the_memory_of_one(store, repository, monkeypatch, length):
    monkeypatch.setattr("ocistore.catalog.reachability._REMEMBERED", 50)
    chain = [APP]
    with store.transaction() as together:
        push(together.repository("a"), APP)
        for number in range(length):
            chain.append(artifact(f"{number}", subject=chain[-1]))
            push(together.repository("a"), chain[-1])
    counted(store)  # what is made once
    tracemalloc.start()
    found = counted(store)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == remembered(store)
    assert peak < 500 * length


def test_no_state_of_the_store_is_held(store, dead):
    dead(50)
    held = []

    class Watching:
        def __init__(self, catalog):
            self._catalog = catalog

        def read(self):
            with sqlite3.connect(store.root / "catalog.db") as other:
                held.append(other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            other.close()
            return self._catalog.read()

    now = milliseconds()
    losses_of(Watching(store._core.catalog), now=now, untagged_before=now, before=now)
    assert len(held) > 50
    assert set(held) == {0}


def test_the_guard_says_how_much_it_would_be(store, dead, monkeypatch):
    monkeypatch.setattr("ocistore.upkeep.preflight._GUARDED_BLOBS", 10)
    dead(20)
    now = milliseconds()
    blobs, size = remembered(store)
    with pytest.raises(CollectionRefusedError, match=f"{blobs:,} blobs, {size:,} bytes"):
        refuse_too_much(store._core, now=now, untagged_before=now, before=now)
    assert store.repository("app").stat_blob(Digest.of(image("base").blobs[-1]))

"""What keeps a manifest: what is remembered of others changes no answer, whatever order is asked in."""

import contextlib
import random
from datetime import timedelta

import pytest
from images import APP, document, image, index, push
from invariants import check
from state import catalog

from ocistore import ReferencedError, Store
from ocistore.catalog import aside, keepers
from ocistore.catalog.collection import Membership
from ocistore.oci import mediatypes
from ocistore.upkeep import collection

ZERO = timedelta(0)


def grown(store, chosen):
    """A repository in which manifests keep each other by indexes and subjects, some of them in rings, some tagged."""
    repository = store.repository("app")
    made = [image(f"root {number}", layers=0) for number in range(3)]
    for number in range(25):
        children = chosen.sample(made, chosen.choice([0, 0, 1, 2]))
        # The subject of an index may be its own child: each keeps the other then.
        subject = chosen.choice([None, *made, *children])
        made.append(index(children, subject=subject, annotations={"number": str(number)}))
    for each in made:
        push(repository, each)
    for each in chosen.sample(made, chosen.choice([0, 1, 3])):
        repository.tag(f"t{each.digest[7:20]}", each.digest)
    with catalog(store.root) as bare:
        return [key for (key,) in bare.execute("SELECT manifest_id FROM repository_manifests")]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_remembered_changes_no_answer(store, seed):
    chosen = random.Random(seed)
    members = grown(store, chosen)
    later = 1 << 60  # nobody is young
    with store.catalog.snapshot() as connection:
        repository = connection.driver.execute("SELECT id FROM repositories").fetchone()[0]

        def alive(member, known):
            return keepers.alive(connection, repository, member, now=later, before=later, known=known)

        apart = {member: alive(member, keepers.Known()) for member in members}
        waits = {
            member: not keepers.removable(connection, repository, member, known=keepers.Known())
            for member in members
            if not apart[member]
        }
        for climbed in (1000, 2):
            for _ in range(5):
                known = keepers.Known(climbed=climbed)
                asked = chosen.sample(members, len(members))
                assert {member: alive(member, known) for member in asked} == apart
                for member in asked:
                    if not apart[member]:
                        found = keepers.removable(connection, repository, member, known=known)
                        assert (not found) == waits[member]


def everything_goes(store):
    """Once no tag is left, nothing stays behind that no collection would ever look at."""
    repository = store.repository("app")
    for tag in list(repository.tags()):
        repository.untag(tag)
    store.gc(grace=ZERO, keep_untagged=ZERO)
    return check(store) == [] and store.usage().blobs == 0


@pytest.mark.parametrize("seed", range(4))
def test_what_is_looked_at_outside_the_lock_goes_and_stays_as_the_rest_does(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(collection, "_MANIFESTS", 3)
    left = []
    for above in (1000, 2, 1):
        monkeypatch.setattr(collection, "_ABOVE", above)
        with Store.open(tmp_path / str(above)) as store:
            grown(store, random.Random(seed))
            report = store.gc(grace=ZERO, keep_untagged=ZERO)
            left.append((report.manifests, {each.digest for each in store.repository("app").manifests()}))
            assert check(store) == []
            with catalog(store.root) as bare:
                queued = "SELECT count(*) FROM repository_manifests WHERE collect_after IS NOT NULL"
                assert bare.execute(queued).fetchone() == (0,)
            assert everything_goes(store)
    assert left[0] == left[1] == left[2]


def act(store, chosen):
    """One thing that somebody else does."""
    repository = store.repository("app")
    here = [each.digest for each in repository.manifests()]
    kind = chosen.choice(["tag", "untag", "delete", "index", "collect"])
    with contextlib.suppress(ReferencedError):
        if kind == "tag" and here:
            repository.tag("mine", chosen.choice(here))
        elif kind == "untag":
            for tag in list(repository.tags())[:1]:
                repository.untag(tag)
        elif kind == "delete" and here:
            repository.delete_manifest(chosen.choice(here))
        elif kind == "index":
            children = [repository.resolve(each) for each in chosen.sample(here, min(2, len(here)))]
            repository.put_manifest(
                document(
                    {
                        "schemaVersion": 2,
                        "mediaType": mediatypes.OCI_INDEX,
                        "manifests": [
                            {"mediaType": each.media_type, "digest": each.digest, "size": each.size}
                            for each in children
                        ],
                    }
                )
            )
        else:
            store.gc(grace=ZERO, keep_untagged=ZERO, maximum_batches=2)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_left_by_what_happens_after_it_was_looked_at(store, monkeypatch, seed):
    chosen = random.Random(seed)
    monkeypatch.setattr(collection, "_MANIFESTS", 3)
    monkeypatch.setattr(collection, "_ABOVE", 1)
    grown(store, chosen)
    look, batch, looked = aside.is_in_ring, collection._Collection._batch, []

    def noted(connection, *key):
        looked.append(key)
        return look(connection, *key)

    def after_something_else(self):
        if looked:
            looked.clear()
            with monkeypatch.context() as patch:
                patch.setattr(collection, "_ABOVE", 1000)
                act(store, chosen)
        return batch(self)

    with monkeypatch.context() as patch:
        patch.setattr(aside, "is_in_ring", noted)
        patch.setattr(collection._Collection, "_batch", after_something_else)
        store.gc(grace=ZERO, keep_untagged=ZERO, maximum_batches=100)
    assert check(store) == []
    assert everything_goes(store)


@pytest.mark.parametrize("kept", [True, False])
def test_no_transaction_climbs_through_all_that_is_above_a_manifest(store, monkeypatch, kept):
    monkeypatch.setattr(collection, "_MANIFESTS", 5)
    monkeypatch.setattr(collection, "_ABOVE", 5)
    repository = store.repository("app")
    push(repository, image("subject"), "subject")
    for number in range(40):
        push(repository, index([image("child")], subject=image("subject"), annotations={"n": str(number)}))
    push(repository, index([image("lower")], subject=image("child")))
    if not kept:
        repository.untag("subject")
    climbed = []
    for name in ("alive", "removable", "_directly"):
        call = getattr(keepers, name)

        def noted(connection, *arguments, _call=call, **options):
            found = _call(connection, *arguments, **options)
            if connection.writing and isinstance(found, list):
                climbed.append(len(found))
            elif connection.writing:
                climbed.append(1000)
            return found

        monkeypatch.setattr(keepers, name, noted)
    store.gc(grace=ZERO, keep_untagged=ZERO)
    assert max(climbed, default=0) <= 6
    assert check(store) == []
    assert len(list(repository.manifests())) == (44 if kept else 0)


def test_only_what_is_below_something_leaves_its_place_in_the_queue_and_only_while_that_is_its_place(store):
    repository = store.repository("app")
    push(repository, index([image("child")], subject=image("subject")))
    push(repository, image("subject"))
    members = "SELECT repository_id, manifest_id, collect_after FROM repository_manifests ORDER BY manifest_id"
    with store.catalog.write() as connection:
        rows = [Membership(*row) for row in connection.driver.execute(members)]
        child, around, subject = rows
        aside.put_aside(connection, [aside.Aside(row._replace(since=row.since - 1), None) for row in rows])
        assert [Membership(*row) for row in connection.driver.execute(members)] == rows
        aside.put_aside(connection, [aside.Aside(child, 7), aside.Aside(around, None), aside.Aside(subject, None)])
        assert [row[2] for row in connection.driver.execute(members)] == [7, None, subject.since]


def test_what_is_above_itself_is_in_a_ring(store):
    repository = store.repository("app")
    ring = index([APP], subject=APP)
    push(repository, ring)
    below = index([image("below")], subject=ring)
    push(repository, below)
    push(repository, index([ring]))
    with store.catalog.snapshot() as connection:
        found = {
            digest: aside.is_in_ring(connection, *key)
            for digest, *key in connection.driver.execute(
                "SELECT digest, repository_id, manifest_id FROM repository_manifests JOIN blobs ON id = manifest_id"
            )
        }
    assert {digest for digest, in_ring in found.items() if in_ring} == {APP.digest, ring.digest}
    assert len(found) == 5

"""What keeps a manifest: what is remembered of others changes no answer, whatever order is asked in."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from images import image, index, push
from state import catalog

from ocistore import Digest
from ocistore.catalog import reachability


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
    with store._core.catalog.snapshot() as connection:
        repository = connection.driver.execute("SELECT id FROM repositories").fetchone()[0]

        def alive(member, known):
            return reachability.alive(connection, repository, member, now=later, before=later, known=known)

        apart = {member: alive(member, reachability.Known()) for member in members}
        waits = {
            member: not reachability.removable(connection, repository, member, known=reachability.Known())
            for member in members
            if not apart[member]
        }
        for climbed in (1000, 2):
            for _ in range(5):
                known = reachability.Known(climbed=climbed)
                asked = chosen.sample(members, len(members))
                assert {member: alive(member, known) for member in asked} == apart
                for member in asked:
                    if not apart[member]:
                        found = reachability.removable(connection, repository, member, known=known)
                        assert (not found) == waits[member]


def test_a_grace_of_any_length_can_be_explained(store, repository):
    push(repository, image("app"))
    repository.put_blob(b"loose")
    for digest in (image("app").digest, image("app").blobs[0], b"loose"):
        wanted = digest if isinstance(digest, str) else Digest.of(digest)
        [found] = store.explain(wanted, grace=timedelta.max, keep_untagged=timedelta.max).repositories
        assert found.due == datetime.max.replace(tzinfo=UTC)

"""What a dry run says is what a collection at that instant does, whatever came before and whatever its times are."""

import contextlib
import contextvars
import os
import random
import shutil
from datetime import timedelta

import pytest
from images import artifact, image, index, push
from passing import Clock

from ocistore import BlobNotFoundError, Digest, ManifestNotFoundError, ReferencedError, RepositoryNotFoundError, Store

pytestmark = pytest.mark.every_pool

GONE = (BlobNotFoundError, ManifestNotFoundError, RepositoryNotFoundError, ReferencedError)
TIMES = [timedelta(milliseconds=each) for each in (0, 7, 1_800_011, 3_600_013, 14 * 86_400_000 + 17)]
"""No sums of the steps: what is due to the very millisecond may go a millisecond later, where it waits for others."""
STEPS = [0, 0, 1, 60_000, 1_800_000, 3_600_000, 14 * 86_400_000]
"""Milliseconds between two things that happen."""
SHORT, LONG = 25, 400
"""How many histories are tried, in a plain run and in the long form."""


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


BASES = [image(number, layers=1 + number % 2) for number in range(3)]
CONTENT = [
    *BASES,
    index(BASES[:2]),
    index([index(BASES[1:]), image("inner")]),
    artifact(subject=BASES[0]),
    artifact("on the artifact", subject=artifact(subject=BASES[0])),
    index([artifact(subject=BASES[2])], subject=BASES[1]),
]
BLOBS = [b"loose", BASES[0].layers[0], BASES[1].config]
BLOBS_OF_BASES = [Digest.of(blob) for base in BASES for blob in base.blobs]


def abandoned(store, repository, content, chance):
    """A lease of a process that dies while it holds it, and what was pushed under it."""
    store.lease(ttl=chance.choice([timedelta(minutes=1), timedelta(days=20)])).__enter__()
    repository.put_blob(chance.choice(BLOBS))
    if chance.random() < 0.5:
        push(repository, content)
    repository.stat_blob(chance.choice(BLOBS_OF_BASES))


def happen(store, chance):
    repository = store.repository(chance.choice("ab"))
    content = chance.choice(CONTENT)
    match chance.randrange(13):
        case 0 | 1 | 2:
            push(repository, content, chance.choice("xyz"))
        case 3:
            push(repository, content)
        case 4:
            repository.put_blob(chance.choice(BLOBS))
        case 5 | 6:
            repository.untag(chance.choice("xyz"))
        case 7:
            repository.delete_manifest(content.digest)
        case 8:
            repository.delete_blob(Digest.of(chance.choice(BLOBS)))
        case 9:
            store.delete_repository(repository.name)
        case 10:
            contextvars.copy_context().run(abandoned, store, repository, content, chance)
        case 11:
            repository.start_upload().close()
        case 12:
            grace, keep = chance.choice(TIMES), chance.choice(TIMES)
            store.gc(grace=grace, keep_untagged=keep, force=True, maximum_batches=chance.choice([None, 1, 3]))


def both(store, **times):
    """What a dry run said, and what the collection did."""
    blobs = store.root / "blobs" / "sha256"
    before = set(os.listdir(blobs)) if blobs.is_dir() else set()
    said = store.gc(dry_run=True, **times)
    assert said.refused == ()
    done = store.gc(force=True, **times)
    gone = before - (set(os.listdir(blobs)) if blobs.is_dir() else set())
    counts = [
        (each.manifests, each.memberships, each.blobs, each.bytes, each.uploads, each.abandoned, each.leases)
        for each in (said, done)
    ]
    return counts[0], counts[1], {Digest.parse(each.digest).encoded for each in said.candidates}, gone


@pytest.mark.parametrize(
    "seed",
    # The last of the short ones: what waits for what was let go earlier.
    [*range(SHORT), 366, *(pytest.param(n, marks=pytest.mark.slow) for n in range(SHORT, LONG) if n != 366)],
)
def test_a_dry_run_says_what_a_collection_does(tmp_path, empty_store, clock, seed):
    chance = random.Random(seed)
    shutil.copytree(empty_store, tmp_path / "store")
    with Store.open(tmp_path / "store") as store:
        for _ in range(4):
            for _ in range(chance.randrange(1, 12)):
                with contextlib.suppress(*GONE):
                    happen(store, chance)
                clock.pass_by(chance.choice(STEPS))
            grace, keep = chance.choice(TIMES), chance.choice(TIMES)
            said, done, named, gone = both(store, grace=grace, keep_untagged=keep)
            assert said == done, (grace, keep)
            assert named == gone


@pytest.mark.needs_files
def test_bytes_of_a_manifest_that_are_a_blob_too_are_in_use_until_what_names_them_goes(store, clock):
    repository = store.repository("a")
    base = image("base")
    referrer = artifact(subject=base)
    push(repository, base)
    push(repository, referrer)
    repository.put_blob(base.manifest)
    clock.pass_by(60_000)
    times = {"grace": timedelta(milliseconds=7), "keep_untagged": timedelta(0)}
    said, done, named, gone = both(store, **times)
    assert said == done
    assert done[:3] == (2, 0, 1)
    assert named == gone == {Digest.parse(referrer.digest).encoded}
    clock.pass_by(8)
    said, done, _, _ = both(store, **times)
    assert said == done
    assert (done[1], os.listdir(store.root / "blobs" / "sha256")) == (1 + len(set(base.blobs + referrer.blobs)), [])

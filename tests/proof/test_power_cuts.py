"""What was acknowledged before the power went can be read when it is back."""

import contextlib
import contextvars
import itertools
import os
import random
import signal
import time
import traceback
from datetime import timedelta

import pytest
from images import image, push
from invariants import check
from power import disk

from ocistore import BlobNotFoundError, Digest, DigestMismatchError, ManifestNotFoundError, OCIStoreError, Store
from ocistore.blobs import ingester, syncing, uploads

CUTS = 50
"""On each filesystem, in the long form."""

MOMENT = timedelta(milliseconds=1)


def _work(root, run, say):
    """Push, tag, delete and collect; say what was done once it is."""
    with Store.open(root) as store:
        repository = store.repository("app")
        lease = store.lease(ttl=timedelta(hours=1), reason="of somebody whose power goes")
        contextvars.copy_context().run(lease.__enter__)
        for number in itertools.count():
            pushed = push(repository, image(f"{run}.{number}", layers=2), f"t{run}.{number}")
            say(f"pushed {number}")
            repository.tag(f"latest{run}", pushed.digest)
            say(f"latest {number}")
            if number % 4 == 3:
                repository.delete_manifest(image(f"{run}.{number - 2}", layers=2).digest)
                say(f"deleted {number - 2}")
            if number % 4 == 2:
                with lease.use():
                    repository.put_blob(b"leased %d" % number)
                say(f"leased {number}")
            if number % 8 == 7:
                store.gc(grace=MOMENT, keep_untagged=MOMENT, force=True)


def _acknowledged(made, run, wrong, wait):
    """Start the work, cut the power after some seconds, and give the lines that came before that."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            wrong()
            _work(made.directory / "store", run, lambda line: os.write(writing, line.encode() + b"\n"))
        except OCIStoreError:
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    first = os.read(reading, 1)  # the work has begun
    time.sleep(wait)
    # Not what is said later: a cut of the real power has no moment in which the disk is off and a process still speaks.
    os.set_blocking(reading, False)
    said = first
    with contextlib.suppress(BlockingIOError):
        while more := os.read(reading, 65536):
            said += more
    made.cut()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    return said.decode().split("\n")[:-1]


def _lost(root, run, lines):
    """What was acknowledged and is not so, in words."""
    done = [line.split() for line in lines]
    deleted = {int(number) for word, number in done if word == "deleted"}
    found = check(root, hashes=True, idle=False)
    try:
        with Store.open(root) as store:
            repository = store.repository("app")
            store.gc(grace=MOMENT, keep_untagged=MOMENT, force=True)
            for word, number in done:
                if word == "pushed":
                    found += _missing(repository, run, int(number), deleted)
                elif word == "leased" and not _is_served(repository, b"leased " + number.encode()):
                    found.append(f"what a lease kept is lost: {number}")
            latest = [int(number) for word, number in done if word == "latest"]
            if latest and repository.resolve(f"latest{run}").digest not in {
                image(f"{run}.{number}", layers=2).digest for number in range(latest[-1], latest[-1] + 100)
            }:
                found.append(f"latest is not {latest[-1]}")
            push(repository, image(f"after {run}"), "after")
    except OCIStoreError as error:
        found.append(repr(error))
    return found


def _is_served(repository, content):
    try:
        with repository.open_blob(Digest.of(content)) as reader:
            return reader.read() == content
    except BlobNotFoundError:
        return False


def _missing(repository, run, number, deleted):
    pushed = image(f"{run}.{number}", layers=2)
    try:
        there = repository.get_manifest(f"t{run}.{number}").content == pushed.manifest
    except ManifestNotFoundError:
        # Its deletion may have come to the disk and not to us.
        return [] if number in deleted or number % 4 == 1 else [f"push {number} is lost"]
    if number in deleted:
        return [f"{number} was deleted and is back"]
    found = [] if there else [f"push {number} has other bytes"]
    for blob in pushed.blobs:
        with repository.open_blob(Digest.of(blob)) as reader:
            if reader.read() != blob:
                found.append(f"a blob of push {number} has other bytes")
    return found


def _cuts(kind, tmp_path, count, *, wrong=lambda: None):
    """Cut the power so often, or until something is lost. What is lost, and how much was acknowledged."""
    rng, lines, found = random.Random(kind), 0, []
    with disk(kind, tmp_path) as made:
        Store.open(made.directory / "store").close()
        os.sync()
        for run in range(count):
            said = _acknowledged(made, run, wrong, rng.random() * 0.3)
            made.unmount()
            made.mount()
            lines += len(said)
            found = _lost(made.directory / "store", run, said)
            if found:
                break
    return found, lines


def _sync_nothing():
    syncing.sync_files = lambda descriptors: None
    syncing.sync_filesystem = lambda descriptor: None
    syncing.os = ingester.os = uploads.os = _WithoutSync()


class _WithoutSync:
    """The module ``os``, but ``fsync`` does nothing."""

    def __getattr__(self, name):
        return (lambda descriptor: None) if name == "fsync" else getattr(os, name)


def test_what_was_acknowledged_survives_a_power_cut(tmp_path, record_property):
    found, lines = _cuts("ext4", tmp_path, 1)
    record_property("acknowledged", lines)
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_acknowledged_survives_many_power_cuts(tmp_path, kind, record_property):
    found, lines = _cuts(kind, tmp_path, CUTS)
    record_property("acknowledged", lines)
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_catch_a_pool_that_syncs_nothing(tmp_path, kind):
    found, _ = _cuts(kind, tmp_path, CUTS, wrong=_sync_nothing)
    assert found


# --- upload sessions --------------------------------------------------------------------------------------------------

DURABLE, MORE = os.urandom(1 << 20) + b"odd", os.urandom(4 << 20)


def _lengthen(path):
    """Give a file on the disk the length that it is to have, and none of the bytes, as a cut may find it."""
    descriptor = os.open(path, os.O_RDWR)
    os.ftruncate(descriptor, len(DURABLE) + len(MORE))
    os.fsync(descriptor)
    os.ftruncate(descriptor, len(DURABLE))  # for who looks now; the journal keeps it in memory for some seconds
    os.close(descriptor)


def _after_a_cut_in_an_upload(kind, tmp_path):
    """Where a session goes on whose second part was written and not closed, and whether it can be ended then."""
    with disk(kind, tmp_path) as made:
        root = made.directory / "store"
        with Store.open(root) as store, store.repository("app").start_upload() as upload:
            upload.write(DURABLE)
            id_ = upload.id
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                resumed = Store.open(root).repository("app").upload(id_)
                _lengthen(root / "uploads" / id_)
                for place in range(0, len(MORE), 1 << 20):
                    resumed.write(MORE[place : place + (1 << 20)])
                os.write(writing, b"!")
                time.sleep(60)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writing)
        assert os.read(reading, 1) == b"!"
        time.sleep(0.2)  # some of it is on its way to the disk
        made.cut()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        made.unmount()
        made.mount()
        with Store.open(root) as store:
            told = store.repository("app").stat_upload(id_).offset
            with store.repository("app").upload(id_) as resumed:
                found = resumed.offset
                resumed.write((DURABLE + MORE)[found:], offset=found)
                try:
                    resumed.commit(Digest.of(DURABLE + MORE))
                except DigestMismatchError:
                    return told, found, "its bytes are torn"
        return told, found, "whole"


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_an_upload_goes_on_from_what_was_durable(tmp_path, kind):
    assert _after_a_cut_in_an_upload(kind, tmp_path) == (len(DURABLE), len(DURABLE), "whole")


def test_a_power_cut_catches_a_session_that_believes_the_length_of_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "page_cache", lambda descriptor: "the same for ever")
    told, found, how = _after_a_cut_in_an_upload("ext4", tmp_path)
    assert (told, found) != (len(DURABLE), len(DURABLE)) or how != "whole"

"""Exports with ``verify``: all that goes out is read before anything is written."""

import errno
import io
import os
import threading
from _thread import get_ident
from datetime import timedelta

import pytest
from archived import member, tarred
from handmade import verified
from images import Image, described, document, image, index, push
from state import pool

from ocistore import BlobNotFoundError, CorruptError, StorageError, threads
from ocistore.blobs import hashing, provider
from ocistore.layouts.exports import verifying
from ocistore.oci import mediatypes

MAIN = get_ident()
SMALL = tarred([member("small", b"a small layer")])
LARGE = tuple(tarred([member("large", bytes([number]) * (2 << 20))]) for number in range(1, 5))


def image_of(*layers):
    config = document(
        {"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(b) for b in layers]}}
    )
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(config, mediatypes.OCI_CONFIG),
        "layers": [described(layer, mediatypes.OCI_LAYER) for layer in layers],
    }
    return Image(document(body), (config, *layers))


def digest(content):
    return described(content)["digest"]


IMAGE = image_of(*LARGE[:2], SMALL, *LARGE[2:])
FORMS = ["copy", "link", "oci-archive", "docker-archive", "stream"]


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """Three cores, whatever the machine has."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(threads, "_PATIENCE", 5)
    yield
    assert not threads._busy


@pytest.fixture
def filled(store):
    push(store.repository("app"), IMAGE, "v1")
    return store


def exported(store, form, tmp_path, **more):
    """Export it so, verified; what came out, and where."""
    if form in {"copy", "link"}:
        destination = tmp_path / "out"
        return store.export(destination, mode=form, verify=True, **more), destination
    if form == "stream":
        stream = io.BytesIO()
        return store.export(stream, verify=True, **more), stream
    destination = tmp_path / "out.tar"
    return store.export(destination, format=form, verify=True, **more), destination


def file_of(store, content):
    return store.root / "blobs" / digest(content).replace(":", "/")


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(content))


def is_untouched(destination):
    return not destination.getvalue() if isinstance(destination, io.BytesIO) else not destination.exists()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_good_goes_out_as_it_does_without(filled, form, tmp_path):
    report, destination = exported(filled, form, tmp_path)
    if form in {"copy", "link"}:
        assert verified(destination) == pool(filled.root)
    else:
        plain = io.BytesIO()
        filled.export(plain, format="docker-archive" if form == "docker-archive" else "oci-archive")
        content = destination.getvalue() if form == "stream" else destination.read_bytes()
        assert content == plain.getvalue()
    assert report.names == ("app:v1",)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrong", [SMALL, LARGE[2], IMAGE.config], ids=["small", "large", "config"])
def test_wrong_bytes_are_an_error_and_nothing_is_written(filled, form, wrong, tmp_path):
    damage(file_of(filled, wrong))
    destination = tmp_path / "out" if form in {"copy", "link"} else tmp_path / "out.tar"
    stream = io.BytesIO()
    with pytest.raises(CorruptError, match=f"{digest(wrong)}.*its bytes are not those"):
        if form == "stream":
            filled.export(stream, verify=True)
        else:
            exported(filled, form, tmp_path)
    assert is_untouched(destination)
    assert is_untouched(stream)


def test_a_dry_run_verifies_too(filled, tmp_path):
    assert exported(filled, "copy", tmp_path, dry_run=True)[0].dry_run
    damage(file_of(filled, LARGE[0]))
    with pytest.raises(CorruptError, match=digest(LARGE[0])):
        exported(filled, "copy", tmp_path, dry_run=True)
    assert not (tmp_path / "out").exists()


def test_only_what_goes_out_is_read(filled, tmp_path):
    other = image_of(b"of another image")
    push(filled.repository("other"), other, "v1")
    damage(file_of(filled, b"of another image"))
    report, destination = exported(filled, "copy", tmp_path, references=["app"])
    assert verified(destination).keys() == {digest(blob) for blob in (*IMAGE.blobs, IMAGE.manifest)}
    assert report.names == ("app:v1",)


def test_an_index_that_is_made_is_not_looked_for_in_the_store(store, tmp_path):
    push(store.repository("app"), index([IMAGE, image("another", os="plan9")]), "v1")
    report = store.export(tmp_path / "out", ["app"], platforms=["linux/arm64"], verify=True)
    assert len(report.replaced) == 1
    assert set(report.replaced.values()) <= verified(tmp_path / "out").keys()


def test_large_blobs_are_hashed_by_threads_at_once(filled, tmp_path, monkeypatch):
    plain, sizes, together = provider.digest_of, {}, threading.Barrier(3, timeout=10)

    def digest_of(descriptor, algorithm, **more):
        size = os.fstat(descriptor).st_size
        sizes.setdefault(size, []).append(get_ident())
        if size == len(LARGE[0]) and len(sizes[size]) <= 3:
            together.wait()
        return plain(descriptor, algorithm, **more)

    monkeypatch.setattr(provider, "digest_of", digest_of)
    exported(filled, "link", tmp_path)
    large = sizes.pop(len(LARGE[0]))
    assert MAIN not in large
    assert len(set(large)) == 3
    assert set().union(*sizes.values()) == {MAIN}


def test_where_no_thread_can_be_had_they_are_hashed_all_the_same(filled, tmp_path, monkeypatch):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    exported(filled, "link", tmp_path)
    damage(file_of(filled, LARGE[3]))
    with pytest.raises(CorruptError, match=digest(LARGE[3])):
        exported(filled, "copy", tmp_path)


def test_what_cannot_be_read_is_not_called_damaged(filled, tmp_path, monkeypatch):
    plain, unreadable = os.readv, os.stat(file_of(filled, LARGE[1])).st_ino

    def refused(descriptor, buffers):
        if os.fstat(descriptor).st_ino == unreadable:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(descriptor, buffers)

    monkeypatch.setattr(hashing.os, "readv", refused)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        exported(filled, "link", tmp_path)
    assert digest(LARGE[1]).partition(":")[2] in str(caught.value)


def test_what_was_collected_meanwhile_is_told_from_damage(filled, tmp_path, monkeypatch):
    plain = verifying.verify_all

    def late(*arguments):
        filled.repository("app").untag("v1")
        filled.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
        plain(*arguments)

    monkeypatch.setattr("ocistore.layouts.exporting.verify_all", late)
    with pytest.raises(BlobNotFoundError):
        exported(filled, "copy", tmp_path)


@pytest.mark.parametrize("form", ["copy", "link", "oci-archive"])
def test_progress_counts_what_is_read_and_what_is_written(filled, form, tmp_path):
    told = []

    def progress(done, total):
        assert get_ident() == MAIN
        told.append((done, total))

    report, _ = exported(filled, form, tmp_path, progress=progress)
    assert told[-1] == (2 * report.bytes, 2 * report.bytes)
    assert {total for _, total in told} == {2 * report.bytes}
    assert told == sorted(set(told))

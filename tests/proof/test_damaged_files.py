"""Each file of a store damaged in each way: an error that names it, never wrong bytes; and the repair works."""

import contextlib
import os
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from images import APP, artifact, image, index, push
from invariants import check

from ocistore import (
    BlobNotFoundError,
    Digest,
    ManifestNotFoundError,
    OCIStoreError,
    RepositoryNotFoundError,
    Store,
    rebuild,
)
from ocistore.repository import Repository
from ocistore.upkeep import refsfile

ALL = index([APP, image("other", layers=2)])
SIGNATURE = artifact(subject=APP)
UPLOAD = "the bytes of an upload"
EXPECTED = [
    *((("library/app", name), ALL.manifest) for name in ("v1", "latest", ALL.digest)),
    *((("library/app", each.digest), each.manifest) for each in (*ALL.children, SIGNATURE)),
    *((("library/app", Digest.of(blob)), blob) for each in (*ALL.children, SIGNATURE) for blob in each.blobs),
]
NOT_THERE = (BlobNotFoundError, ManifestNotFoundError, RepositoryNotFoundError)


def flip(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def replace_by_link(path):
    elsewhere = next(parent for parent in path.parents if parent.name == "store").with_name("elsewhere")
    shutil.copy(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: os.truncate(path, 0),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a bit flipped": lambda path: flip(path, path.stat().st_size // 2) if path.stat().st_size else None,
    "a link": replace_by_link,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}
FILES = [
    "catalog.db",
    "catalog.db-wal",
    "catalog.db-shm",
    "catalog.snapshot",
    "index.json",
    "oci-layout",
    "reserved",
    "uploads",
    "write.lock",
    *(f"blobs/sha256/{Digest.of(each).encoded}" for each in (ALL.manifest, APP.manifest, APP.config, APP.blobs[-1])),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store whose process was killed while it had it open, an export of it, and what it holds."""
    base = tmp_path_factory.mktemp("damaged")
    with Store.open(base / "open") as store:
        push(store.repository("library/app"), ALL, "v1", "latest")
        push(store.repository("library/app"), SIGNATURE)
        store.export(base / "good", referrers=True)
        store.export_in_place()
        refsfile.refresh(store._core.catalog, store._core.paths, older_than=timedelta(0))
        with store.repository("library/app").start_upload() as upload:
            upload.write(UPLOAD.encode())
        shutil.copytree(base / "open", base / "store")
    return base


@pytest.fixture
def root(template, tmp_path):
    shutil.copytree(template / "good", tmp_path / "good")
    return shutil.copytree(template / "store", tmp_path / "store")


def path_of(root, name):
    return next((root / name).iterdir()) if name == "uploads" else root / name


def read(store, where):
    repository, name = store.repository(where[0]), where[1]
    try:
        return repository.get_manifest(name).content
    except ManifestNotFoundError:
        if ":" not in name:
            raise
        with repository.open_blob(name, verify=True) as blob:
            return blob.read()


def errors_of_reading(root):
    """Everything that is read is right, or an error of ours; those errors."""
    errors = []
    try:
        with Store.open(root) as store:
            for where, content in EXPECTED:
                try:
                    assert read(store, where) == content
                except OCIStoreError as error:
                    errors.append(error)
    except OCIStoreError as error:
        errors.append(error)
    return errors


def repair(root, name, path):
    """What docs/promises.md says to do about such a file."""
    if name.startswith("blobs/"):
        with Store.open(root) as store:
            assert store.scrub(level="deep", heal_from=[root.parent / "good"]).exit_code <= 1
        return
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    elif not name.startswith("catalog.db"):
        path.unlink(missing_ok=True)
    if name.startswith("catalog.db"):
        rebuild(root, force=True)
    with Store.open(root) as store:
        store.export_in_place()
        for repository in store.repositories():
            for session in store.repository(repository).uploads():
                with contextlib.suppress(OCIStoreError):
                    store.repository(repository).upload(session.id).cancel()


def names_it(error, name, root):
    return Path(name).name.removesuffix("-wal").removesuffix("-shm") in f"{error} {getattr(error, 'path', '')}"


def _marks(file, damage):
    """Every second pair is tried in every run, so that each file and each damage is."""
    return [pytest.mark.slow] if (FILES.index(file) + list(DAMAGES).index(damage)) % 2 else []


@pytest.mark.parametrize(
    ("name", "damage"),
    [pytest.param(name, damage, marks=_marks(name, damage)) for name in FILES for damage in DAMAGES],
)
def test_a_damaged_file_is_an_error_that_names_it_and_can_be_repaired(root, name, damage):
    path = path_of(root, name)
    DAMAGES[damage](path)
    errors = errors_of_reading(root)
    # A WAL ends, for SQLite, where it is damaged: what it held behind that was never written.
    lost = NOT_THERE if name == "catalog.db-wal" else ()
    assert [error for error in errors if not names_it(error, name, root) and not isinstance(error, lost)] == []
    if name.startswith("blobs/"):
        assert errors != []
    repair(root, name, path)
    assert errors_of_reading(root) == []
    assert check(root, hashes=True, idle=False) == []


def test_a_reader_that_verifies_nothing_is_caught(root, monkeypatch):
    path = path_of(root, f"blobs/sha256/{Digest.of(APP.blobs[-1]).encoded}")
    DAMAGES["a bit flipped"](path)
    opened = Repository.open_blob
    monkeypatch.setattr(Repository, "open_blob", lambda repository, digest, **_: opened(repository, digest))
    with pytest.raises(AssertionError):
        errors_of_reading(root)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 200))])
def test_no_flipped_bit_of_a_catalog_gives_wrong_bytes(root, seed):
    with Store.open(root):
        pass  # the WAL is in the file now
    path = root / "catalog.db"
    flip(path, random.Random(seed).randrange(path.stat().st_size))
    errors_of_reading(root)
    rebuild(root, force=True)
    assert errors_of_reading(root) == []
    assert check(root, hashes=True, idle=False) == []

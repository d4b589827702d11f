"""The fixtures of ocistore.testing.fixtures, as somebody else's tests use them."""

import subprocess
import sys

from images import APP, push

from ocistore.testing.memory import MemoryPool


def test_the_store_is_open_empty_and_in_memory(oci_store):
    assert list(oci_store.repositories()) == []
    push(oci_store.repository("app"), APP, "v1")
    assert oci_store.repository("app").get_manifest("v1").content == APP.manifest
    assert not (oci_store.root / "blobs").exists()


def test_each_store_is_another_one(make_oci_store):
    one, other = make_oci_store(), make_oci_store()
    push(one.repository("app"), APP, "v1")
    assert list(other.repositories()) == []
    one.copy_to(other)
    assert list(other.repositories()) == ["app"]


def test_the_pool_may_be_given_or_be_files(make_oci_store):
    pool = MemoryPool()
    digest = make_oci_store(pool=pool).repository("app").put_blob(b"given").digest
    assert pool.read(digest, 5) == b"given"
    store = make_oci_store(pool=None)
    store.repository("app").put_blob(b"given")
    assert (store.root / "blobs" / "sha256" / digest.encoded).read_bytes() == b"given"


PROJECT = """
import pytest
from ocistore import StoreClosedError

kept = []

def test_they_work(oci_store, make_oci_store):
    digest = oci_store.repository("app").put_blob(b"bytes").digest
    assert make_oci_store().root != oci_store.root
    assert oci_store.repository("app").stat_blob(digest).size == 5
    kept.append(oci_store)

def test_stores_are_closed_at_the_end_of_their_test():
    with pytest.raises(StoreClosedError):
        list(kept[0].repositories())
"""


def test_they_work_in_a_project_of_its_own(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ocistore.testing.fixtures"]\n')
    (tmp_path / "test_it.py").write_text(PROJECT)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", tmp_path]
    command = [sys.executable, "-W", "error", "-m", "pytest", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

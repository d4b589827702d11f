"""A disk that fails in the middle of a commit: what may have happened keeps its files, whichever way it went."""

import os
import shutil
import subprocess
import sys

import pytest
from invariants import check
from state import strays

from ocistore import BlobNotFoundError, RepositoryNotFoundError, Store, UncertainCommitError
from ocistore.oci.digest import Digest

PUT = """
import os, sys
import ocistore
store = ocistore.Store.open(sys.argv[1])
try:
    store.repository("a").put_blob(b"in doubt")
    print("acknowledged")
except ocistore.OCIStoreError as error:
    print(type(error).__name__)
sys.stdout.flush()
os._exit(0)  # as a kill would: nothing is closed, and the next opening recovers what lies in the WAL
"""


@pytest.fixture
def strace():
    found = shutil.which("strace")
    if found is None:
        if os.environ.get("OCISTORE_REQUIRE_ALL"):
            pytest.fail("strace is not installed")
        pytest.skip("strace is not installed")
    return found


def test_a_commit_that_failed_is_uncertain_and_loses_no_file(tmp_path, empty_store, strace):
    said = set()
    for number in range(1, 6):
        root = shutil.copytree(empty_store, tmp_path / str(number))
        fault = f"inject=fdatasync:error=EIO:when={number}"
        tracer = [strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=fdatasync", "-e", fault]
        done = subprocess.run(
            [*tracer, sys.executable, "-c", PUT, root],
            capture_output=True,
            text=True,
            check=True,
        )
        answer = done.stdout.strip()
        said.add(answer)
        with Store.open(root) as store:
            assert check(store, hashes=True, idle=False) == []
            for name in strays(root):  # left for a collection, because nobody could say whether it has a row
                assert answer == UncertainCommitError.__name__
                published = root / "blobs" / "sha256" / Digest.of(b"in doubt").encoded
                assert (root / "uploads" / name).samefile(published)
            try:
                store.repository("a").stat_blob(Digest.of(b"in doubt"))
            except (BlobNotFoundError, RepositoryNotFoundError):
                assert answer != "acknowledged"
    assert {"acknowledged", UncertainCommitError.__name__} <= said

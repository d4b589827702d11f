"""A disk that fails in the middle of a commit: what may have happened keeps its files, whichever way it went."""

import os
import shutil

from invariants import check
from state import strays
from tracing import failing, require_strace

from ocistore import BlobNotFoundError, OCIStoreError, RepositoryNotFoundError, Store, UncertainCommitError
from ocistore.oci.digest import Digest


def put(root, said):
    store = Store.open(root)
    try:
        store.repository("a").put_blob(b"in doubt")
        said.write_text("acknowledged")
    except OCIStoreError as error:
        said.write_text(type(error).__name__)
    os._exit(0)  # as a kill would: nothing is closed, and the next opening recovers what lies in the WAL


def test_a_commit_that_failed_is_uncertain_and_loses_no_file(tmp_path, empty_store):
    require_strace()
    said = set()
    for number in range(1, 6):
        root, file = shutil.copytree(empty_store, tmp_path / str(number)), tmp_path / "said"
        assert failing(put, root, file, at=("fdatasync", number), error="EIO", calls="fdatasync") == 0
        answer = file.read_text()
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

from pathlib import Path

import pytest

from ocistore.blobs.paths import StorePaths
from ocistore.errors import InvalidNameError
from ocistore.oci.digest import Digest

PATHS = StorePaths(Path("/store"))


def test_a_blob_lies_under_its_algorithm():
    digest = Digest.of(b"content", "sha512")
    assert PATHS.blob(digest) == Path("/store/blobs/sha512") / digest.encoded
    assert PATHS.algorithm("sha512") == PATHS.blob(digest).parent


def test_every_path_lies_in_the_root():
    directories = ("blobs", "uploads", "trash", "quarantine")
    names = (*directories, "catalog", "write_lock", "reserved", "oci_layout", "index_json")
    named = {name: getattr(PATHS, name) for name in names}
    assert all(path.parent == PATHS.root for path in named.values())
    assert len(set(named.values())) == len(named)
    assert (named["oci_layout"].name, named["index_json"].name) == ("oci-layout", "index.json")


def test_only_a_checked_digest_becomes_a_path():
    with pytest.raises(InvalidNameError) as caught:
        PATHS.blob("sha256:../../etc/passwd")
    assert caught.value.kind == "digest"


@pytest.mark.parametrize("algorithm", ["..", "md5", "", "sha256/x"])
def test_only_a_registered_algorithm_becomes_a_path(algorithm):
    with pytest.raises(InvalidNameError):
        PATHS.algorithm(algorithm)


@pytest.mark.parametrize(
    "name",
    ["", "..", "a" * 31, "a" * 33, "A" * 32, "g" * 32, "a" * 32 + "\n", "../" + "a" * 29, "\u0663" * 32, None, b"a"],
)
def test_only_the_name_of_an_upload_becomes_a_path(name):
    with pytest.raises(InvalidNameError) as caught:
        PATHS.upload(name)
    assert (caught.value.kind, caught.value.name) == ("upload", name)


def test_the_name_of_an_upload_becomes_a_path():
    assert PATHS.upload("0123456789abcdef" * 2) == Path("/store/uploads") / ("0123456789abcdef" * 2)

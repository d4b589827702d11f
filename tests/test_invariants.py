"""The checker finds what it is there to find: each kind of damage is made once, by hand."""

import os
import shutil
import sqlite3

import pytest
from images import artifact, image, index, push
from invariants import check

from ocistore import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("filled") / "store"
    with Store.open(root) as store:
        repository = store.repository("app")
        with store.transaction() as transaction:
            pending = transaction.repository("app")
            push(pending, index([image("a"), image("b")]), "v1")
            push(pending, image("c"), "old")
            push(pending, artifact(subject=image("c")))
            pending.put_blob(b"loose")
        repository.tag("old", repository.resolve("v1").digest)
    return root


@pytest.fixture
def filled(tmp_path, template):
    """The directory of a closed store: opening it would only cost time."""
    return shutil.copytree(template, tmp_path / "store")


def change(root, *statements):
    connection = sqlite3.connect(root / "catalog.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_good_store_has_no_violations(filled):
    assert check(filled, hashes=True) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE blobs SET state = 'condemned' WHERE id IN (SELECT blob_id FROM repository_blobs)", "which is condemn"),
        ("UPDATE blobs SET state = 'condemned' WHERE id IN (SELECT blob_id FROM manifests)", "which is condemn"),
        ("DELETE FROM repository_manifests", "which its repository does not hold"),
        ("DELETE FROM repository_blobs", "it does not serve"),
        ("UPDATE edges SET size = size + 1 WHERE role = 'layer'", "it has"),
        ("UPDATE manifests SET subject_id = NULL", "as an edge"),
        ("UPDATE repository_blobs SET unreferenced_since = NULL", "no collection will look at it"),
        ("UPDATE repository_manifests SET unreferenced_since = NULL", None),
        ("DELETE FROM tags WHERE name = 'v1'", "the history and the tag disagree"),
        ("UPDATE tag_events SET old_digest = 'sha256:0' WHERE new_digest IS NOT NULL", "goes from"),
        ("UPDATE blobs SET size = size + 1", "bytes, not"),
        ("DELETE FROM edges WHERE role = 'config'", "the manifest says"),
        ('UPDATE manifests SET annotations = \'{"a":"b"}\'', "are noted as"),
        ("INSERT INTO uploads VALUES (hex(zeroblob(16)), 1, 'sha256', 0, 0, 0, 0, NULL)", "has no file"),
        ("DELETE FROM repository_edges WHERE role = 'subject'", "its own edges"),
        ("INSERT INTO repository_edges VALUES (1, 1, 1, 'layer')", "its own edges"),
        ("DELETE FROM repositories", "breaks a foreign key"),
        ("DELETE FROM store", "rows in the table store"),
        ("INSERT INTO blobs (digest, size, state) VALUES ('sha256:0', 0, 'absent')", "nothing holds"),
    ],
)
def test_damaged_rows_are_found(filled, statement, words):
    change(filled, "PRAGMA foreign_keys = OFF", statement)
    found = check(filled, hashes=True)
    if words is None:  # everything in it is kept by tags, except the one that lost its tag and its referrer
        assert [line for line in found if "nothing in app keeps the manifest" in line] == found
        assert len(found) == 2
    else:
        assert any(words in line for line in found), found


def rewrite(blob):
    blob.chmod(0o644)
    blob.write_bytes(bytes(blob.stat().st_size))
    blob.chmod(0o444)


def replace_by_link(blob):
    blob.unlink()
    blob.symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root, blob: blob.unlink(), "has no file"),
        (lambda root, blob: os.truncate(blob, 1), "has 1 bytes"),
        (lambda root, blob: rewrite(blob), "has other bytes"),
        (lambda root, blob: blob.chmod(0o644), "has mode 644"),
        (lambda root, blob: replace_by_link(blob), "has no business in the pool"),
        (lambda root, blob: (blob.parent / "app").touch(), "has no business in the pool"),
        (lambda root, blob: (root / "uploads" / ("0" * 32)).touch(), "belongs to no open session"),
        (lambda root, blob: (root / "core").touch(), "has no business in the store"),
    ],
)
def test_damaged_files_are_found(filled, damage, words):
    blob = min((filled / "blobs" / "sha256").iterdir(), key=lambda path: (-path.stat().st_size, path))
    damage(filled, blob)
    found = check(filled, hashes=True)
    assert any(words in line for line in found), found

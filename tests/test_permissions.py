"""Who may read and write what a store is made of, whatever the umask says."""

import grp
import os
import shutil
import stat
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from images import image, push
from invariants import check
from processes import run_python

from ocistore import Digest, Store

NOW = timedelta(0)


@pytest.fixture
def umask(request):
    previous = os.umask(request.param)
    yield request.param
    os.umask(previous)


def live(root, backup):
    """A full life of a store: everything that makes a file or a directory in it, or in a backup."""
    with Store.open(root) as store:
        push(store.repository("app"), image("first"), "v1")
        push(store.repository("app"), image("second"), "v2")
        damaged = image("second").layers[0]
        session = store.repository("app").start_upload()
        session.write(b"sent ")
        session.close()
        session = store.repository("app").upload(session.id)
        session.write(b"in pieces")
        session.commit(Digest.of(b"sent in pieces"))
        store.repository("app").start_upload().close()
        store.repository("app").put_blob(b"other", algorithm="sha512")
        store.repository("app").untag("v1")
        store.gc(grace=NOW, keep_untagged=NOW)
        path = root / "blobs" / "sha256" / Digest.of(damaged).encoded
        path.chmod(0o644)
        path.write_bytes(b"damaged")
        store.scrub()
        store.repository("app").put_blob(damaged)
        store.export_in_place()
        store.export_in_place()
        store.backup(backup)
        store.backup(backup)
        store.gc(grace=NOW, keep_untagged=NOW)
        modes(root)
    Store.open(root).close()


def modes(root):
    """The mode of everything there, by relative name."""
    found = {".": stat.S_IMODE(root.stat().st_mode)}
    for directory, directories, names in os.walk(root):
        for name in (*directories, *names):
            path = Path(directory, name)
            found[str(path.relative_to(root))] = stat.S_IMODE(path.lstat().st_mode)
    return found


def wrong(root, *, directory, file):
    """What has another mode than it should have."""
    expected = {}
    for name in modes(root):
        path = root / name
        is_blob = name.startswith(("blobs/", "quarantine/"))
        expected[name] = directory if path.is_dir() else {0o444, 0o644} if is_blob else {file}
    return {
        name: oct(mode)
        for name, mode in modes(root).items()
        if mode not in ({expected[name]} if isinstance(expected[name], int) else expected[name])
    }


@pytest.mark.parametrize("umask", [0, 0o022, 0o077], indirect=True)
@pytest.mark.usefixtures("umask")
def test_a_store_is_its_owners_alone(tmp_path):
    root, backup = tmp_path / "below" / "store", tmp_path / "backup"
    live(root, backup)
    assert "quarantine" in modes(root)
    assert wrong(root, directory=0o700, file=0o600) == {}
    assert wrong(backup, directory=0o700, file=0o600) == {}


@pytest.mark.parametrize(("umask", "mode"), [(0, 0o2770), (0o022, 0o2775), (0o077, 0o2770)], indirect=["umask"])
@pytest.mark.usefixtures("umask")
def test_a_store_in_a_setgid_directory_of_a_group_is_the_groups(tmp_path, mode):
    root, backup = tmp_path / "store", tmp_path / "backup"
    group = next(entry.gr_gid for entry in grp.getgrall() if entry.gr_gid != os.getegid())
    for directory in (root, backup):
        directory.mkdir()
        os.chown(directory, -1, group)
        directory.chmod(mode)
    live(root, backup)
    assert wrong(root, directory=mode, file=mode & 0o666) == {}
    assert wrong(backup, directory=mode, file=mode & 0o666) == {}
    for name in modes(root):
        assert (root / name).lstat().st_gid == group, name


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o2750])
def test_a_directory_that_is_not_set_up_for_a_group_becomes_no_groups_store(tmp_path, mode):
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(mode)
    with Store.open(root) as store:
        store.repository("app").put_blob(b"one")
        found = modes(root)
    assert found.pop(".") == mode
    for name, inner in found.items():
        assert inner & 0o077 == (0o044 if inner == 0o444 else 0), name


MEMBER = """
import os, sys, tempfile
from datetime import timedelta
from ocistore import Digest, Store


def work(root, user):
    with Store.open(root) as store:
        app = store.repository("app")
        app.put_blob(b"of " + user.encode())
        for session in list(app.uploads()):
            app.upload(session.id).commit(Digest.of(b"begun by one"))
        session = app.start_upload()
        session.write(b"begun by")
        session.close()
        for session in list(app.uploads()):
            upload = app.upload(session.id)
            upload.write(b" one")
            upload.close()
        store.gc(grace=timedelta(0), keep_untagged=timedelta(0))
        store.scrub()
        store.export_in_place()
        return store.usage().uploads


with tempfile.TemporaryDirectory() as rehearsal:
    work(rehearsal, "")  # which imports everything: Python's own files may not be everybody's to read
os.umask(0o077)
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[3]))
print(work(sys.argv[1], sys.argv[3]))
"""


def test_the_members_of_a_group_work_with_one_store():
    if os.geteuid() != 0:
        pytest.skip("taking another user's identity needs root")
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        root = Path(top) / "store"
        root.mkdir()
        os.chown(root, 1001, 3000)
        root.chmod(0o2770)
        for user in (1001, 1002, 1003, 1001):
            assert run_python(MEMBER, root, 3000, user).strip() == "1"
        assert check(root, hashes=True, idle=False) == []


def test_new_directories_of_algorithms_are_those_of_who_owns_the_pool(tmp_path, empty_store):
    if os.geteuid() != 0:
        pytest.skip("giving directories away needs root")
    root = shutil.copytree(empty_store, tmp_path / "store")
    subprocess.run(["chown", "-R", "1001:3000", root], check=True)
    (root / "blobs").chmod(0o2751)
    with Store.open(root) as store:
        store.repository("app").put_blob(b"one")
    status = (root / "blobs" / "sha256").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1001, 3000, 0o2751)


def test_a_file_of_an_export_in_place_that_others_may_read_stays_so(store):
    push(store.repository("app"), image("first"), "v1")
    store.export_in_place()
    (store.root / "index.json").chmod(0o644)
    store.export_in_place()
    assert stat.S_IMODE((store.root / "index.json").stat().st_mode) == 0o644
    assert stat.S_IMODE((store.root / "oci-layout").stat().st_mode) == 0o600

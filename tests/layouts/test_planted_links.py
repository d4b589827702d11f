"""Links and pipes that somebody else made where everybody may write: nothing goes out through them."""

import os
import threading

import pytest
from images import image, push
from state import unchanged

from ocistore import StorageError
from ocistore.artifacts import pull_files, push_files
from ocistore.files.plantedlinks import followed

STRANGER, NEIGHBOUR = 4711, 4712

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to be somebody else needs root")


@pytest.fixture
def shared(tmp_path):
    """A directory like /tmp, of somebody else; and in it a link of a stranger."""
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o1777)
    os.chown(directory, NEIGHBOUR, NEIGHBOUR)
    return directory


@pytest.fixture
def stocked(store):
    push(store.repository("app"), image("app"), "v1")
    return store


def plant(path, target, *, owner=STRANGER):
    path.symlink_to(target)
    os.lchown(path, owner, owner)
    return path


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "dir"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
def test_no_export_goes_through_a_planted_link(stocked, shared, tmp_path, form, there, dry_run):  # noqa: PLR0917
    target = tmp_path / "precious"
    if there and form == "dir":
        target.mkdir()
    elif there:
        target.write_bytes(b"precious")
    link = plant(shared / "out", target)
    with pytest.raises(StorageError, match="somebody else made"), unchanged(stocked.root):
        stocked.export(link, format=form, dry_run=dry_run)
    assert os.path.lexists(target) == there
    assert form == "dir" or not there or target.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == sorted({"shared", "store"} | ({"precious"} if there else set()))


def test_no_link_of_a_link_is_followed_either(stocked, shared, tmp_path):
    plant(shared / "out", tmp_path / "precious")
    (tmp_path / "mine").symlink_to(shared / "out")
    with pytest.raises(StorageError, match="somebody else made"):
        stocked.export(tmp_path / "mine", format="oci-archive")


def test_no_pull_and_no_backup_goes_through_a_planted_link(stocked, shared, tmp_path):
    (tmp_path / "note").write_bytes(b"note")
    push_files(stocked, "notes:v1", [tmp_path / "note"])
    (tmp_path / "precious").mkdir()
    link = plant(shared / "out", tmp_path / "precious")
    with pytest.raises(StorageError, match="somebody else made"):
        pull_files(stocked, "notes:v1", link)
    with pytest.raises(StorageError, match="somebody else made"):
        stocked.backup(link)
    assert os.listdir(tmp_path / "precious") == []


@pytest.mark.parametrize("owner", [os.geteuid(), NEIGHBOUR])
def test_own_links_and_those_of_who_owns_the_directory_are_followed(stocked, shared, tmp_path, owner):
    link = plant(shared / "out.tar", tmp_path / "real.tar", owner=owner)
    stocked.export(link)
    assert link.is_symlink()
    assert stocked.import_(tmp_path / "real.tar").tags == ("app:v1",)


def test_a_strangers_link_elsewhere_is_followed(stocked, tmp_path):
    # Who may write there may do anything to what is there.
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    stocked.export(plant(tmp_path / "open" / "out.tar", tmp_path / "real.tar"))
    assert (tmp_path / "real.tar").exists()


def test_links_lead_as_far_as_the_kernel_follows(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "to-e").symlink_to("d/e")
    (tmp_path / "to-e" / "link").symlink_to("../../to-e/../new")
    assert followed(tmp_path / "to-e" / "link") == tmp_path / "d" / "new"
    (tmp_path / "ring").symlink_to("gnir")
    (tmp_path / "gnir").symlink_to("ring")
    with pytest.raises(OSError, match="Too many levels"):
        followed(tmp_path / "ring")


def test_nothing_is_written_into_a_planted_pipe(stocked, shared):
    pipe = shared / "out.tar"
    os.mkfifo(pipe)
    os.chown(pipe, STRANGER, STRANGER)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with pytest.raises(StorageError, match="pipe that somebody else made"):
        stocked.export(pipe)
    reader.join(30)
    assert read == [b""]

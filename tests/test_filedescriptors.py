"""Open files that belong to objects."""

import gc
import os

import pytest
from processes import run_python
from state import descriptors

from ocistore.filedescriptors import FileDescriptor, OpenFile, owned


def is_open(number):
    return os.path.lexists(f"/proc/self/fd/{number}")


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "file"
    found.write_bytes(b"bytes")
    return str(found)


def test_a_file_is_closed_with_the_last_reference_to_its_descriptor(path):
    descriptor = owned(os.open, path, os.O_RDONLY)
    number, other = int(descriptor), descriptor
    assert type(number) is int
    del descriptor
    assert is_open(number)
    assert os.read(other, 5) == b"bytes"
    del other
    assert not is_open(number)


def test_a_descriptor_in_a_reference_cycle_is_closed_with_it(path):
    cycle = [owned(os.open, path, os.O_RDONLY)]
    number = int(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert not is_open(number)


def test_what_cannot_be_opened_owns_nothing(tmp_path):
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        owned(os.open, tmp_path / "nothing", os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        OpenFile(str(tmp_path / "nothing"), os.O_RDONLY)
    assert descriptors() == before


def test_an_open_file_is_closed_when_it_is_told_to_be_and_only_once(path):
    file = OpenFile(path, os.O_RDONLY)
    number = file.number
    assert type(number) is int  # nobody who has it keeps the file open
    assert not os.get_inheritable(number)
    assert not file.closed
    file.close()
    assert file.closed
    assert not is_open(number)
    stranger = os.open(path, os.O_RDONLY)
    try:
        assert stranger == number
        file.close()
        del file
        assert is_open(stranger)
    finally:
        os.close(stranger)


def test_a_closed_file_has_no_number(path):
    file = OpenFile(path, os.O_RDONLY)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        _ = file.number


def test_an_open_file_is_closed_with_the_last_reference_to_it(path):
    file = OpenFile(path, os.O_RDONLY)
    number = file.number
    del file
    assert not is_open(number)


def test_a_descriptor_is_a_number_and_nothing_else(path):
    descriptor = owned(os.open, path, os.O_RDONLY)
    assert isinstance(descriptor, FileDescriptor)
    with pytest.raises(AttributeError):
        descriptor.name = "file"


def test_what_is_loaded_when_no_file_can_be_opened_any_more_is_our_error(store):
    code = """
import resource, sys
from ocistore import OCIStoreError, Store

with Store.open(sys.argv[1]) as store:
    calls = [
        lambda: store.export(sys.argv[1] + "-out"), store.export_in_place, lambda: store.import_(sys.argv[1]),
        store.gc, store.scrub, lambda: store.backup(sys.argv[1] + "-copy"), lambda: store.prune_history(keep_last=1),
        store.compact,
    ]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    for call in calls:
        try:
            call()
        except OCIStoreError as error:
            print("Too many open files" in str(error))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    store.gc()
"""
    assert run_python(code, store.root, fresh=True).split() == ["True"] * 8

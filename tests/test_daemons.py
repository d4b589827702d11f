"""Processes that close what they do not know, or run without standard streams: no file is taken for another one."""

import gc
import os

import pytest
from images import image, push
from invariants import check
from processes import run_python

from ocistore import Store, StoreNotFoundError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def pushed(store, name):
    push(store.repository("app"), image(name), name)


@pytest.mark.parametrize("past_hooks", [False, True], ids=["fork", "fork from C"])
def test_a_child_that_closes_every_number_uses_the_store_and_nobody_elses_files(store, tmp_path, past_hooks):
    pushed(store, "parent")
    used = [store] if not past_hooks else []
    if past_hooks:  # a store that is open over such a fork is refused; this one was closed before
        store.close()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.closerange(3, 256)
            others = [os.open(tmp_path / f"other{n}", os.O_RDWR | os.O_CREAT) for n in range(20)]
            others += [os.open(tmp_path, os.O_RDONLY) for _ in range(20)]
            mine = used.pop() if used else Store.open(store.root)
            pushed(mine, "child")
            list(mine.repository("app").tags())
            mine.gc()
            mine.close()
            del mine
            gc.collect()
            assert all(os.fstat(other).st_size == 0 for other in others[:20])
            for other in others:
                os.close(other)  # each is still open
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with Store.open(store.root) as again:
        assert list(again.repository("app").tags()) == ["child", "parent"]
        assert check(again, hashes=True) == []


def test_a_child_holds_the_root_that_it_finds_and_knows_when_it_is_moved(store, tmp_path):
    pushed(store, "parent")
    child = os.fork()
    if not child:
        status = 1
        try:
            pushed(store, "child")
            store.root.rename(tmp_path / "elsewhere")
            store.root.mkdir()
            with pytest.raises(StoreNotFoundError, match="moved"):
                pushed(store, "lost")
            assert os.listdir(store.root) == []
            store.root.rmdir()
            (tmp_path / "elsewhere").rename(store.root)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


WITHOUT_STREAMS = """
import io, os, sys
from images import image, push
from ocistore import Store

def shout(*_):
    for number in range(3):
        try:
            os.write(number, b"warning: this belongs to standard error" * 10)
        except OSError:
            pass

class Loud(io.BytesIO):
    def read(self, size=-1):
        shout()
        return super().read(min(size, 1000) if size > 0 else size)

if sys.argv[2] == "before":
    for number in range(3):
        os.close(number)
with Store.open(sys.argv[1]) as store:
    if sys.argv[2] == "after":
        for number in range(3):
            os.close(number)
    for number in range(3):
        push(store.repository("app"), image(str(number)), f"t{number}")
        shout()
        store.repository("app").put_blob(Loud(b"x" * 10_000))
        shout()
    for number in range(3):
        try:
            where = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if sys.argv[1] in where:
            os._exit(5)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_printed_without_standard_streams_goes_into_no_file_of_a_store(tmp_path, when):
    run_python(WITHOUT_STREAMS, tmp_path / "store", when)
    with Store.open(tmp_path / "store") as store:
        assert list(store.repository("app").tags()) == ["t0", "t1", "t2"]
        assert check(store, hashes=True) == []
        assert store.scrub(level="deep").damaged == 0

"""Whatever is closed while other threads work with it, no number of a descriptor is used for another file, and each
call did what it says or says that the store is closed."""

import faulthandler
import gc
import os
import pickle
import threading
import time
import traceback
from functools import partial

import pytest
from images import image, push
from invariants import check

from ocistore import Store, StoreClosedError
from ocistore.blobs.directories import Directories
from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.catalog.connection import Connection
from ocistore.catalog.database import Database


class Crowd:
    """Threads that work until they are stopped, or end with the error of a store that is closed."""

    def __init__(self, *works, closed=()):
        """``closed`` is what may end them."""
        self.stop = threading.Event()
        self.wrong = []
        self._closed = closed
        self._threads = [threading.Thread(target=self._run, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def _run(self, work):
        number = 0
        try:
            while not self.stop.is_set():
                number += 1
                self.wrong += work(number) or []
        except self._closed:
            return
        except BaseException:
            self.wrong.append(traceback.format_exc())

    def join(self):
        for thread in self._threads:
            thread.join(30)
            if thread.is_alive():
                self.wrong.append("a thread is stuck")


def close_a_store(directory, turns):
    """Over and over, while threads push to it, and to the same one opened once more. Another one's files come next."""
    wrong = []
    root, other, staying = directory / "store", Store.open(directory / "other"), Store.open(directory / "store")
    push(other.repository("kept"), image("kept"), "v1")

    def push_and_read(store, turn, number):
        name = f"t{turn}.{threading.get_ident()}.{number}"
        push(store.repository("app"), image(name), name)
        store.repository("app").resolve(name)

    for turn in range(turns):
        closing = Store.open(root)
        theirs = Crowd(*[partial(push_and_read, closing, turn)] * 2, closed=StoreClosedError)
        ours = Crowd(*[partial(push_and_read, staying, turn)] * 2)
        time.sleep(0.01 * (turn % 4))
        closing.close()
        list(other.repository("kept").tags())
        ours.stop.set()
        for crowd in (theirs, ours):
            crowd.join()
            wrong += crowd.wrong
        if wrong:
            break
    found = check(other, hashes=True)
    other.close()
    staying.close()
    del closing, theirs, ours, crowd
    gc.collect()
    open_still = [path for path in map(_target, os.listdir("/proc/self/fd")) if path.startswith(f"{directory}/")]
    return wrong + found + check(root, hashes=True, idle=False) + [f"still open: {path}" for path in open_still]


def close_a_pool(directory, turns):
    """Over and over, while three threads work with it, and two open and close directories of their own."""
    pool = FilePool(StorePaths(directory / "store"))
    pool.create()

    def stage_and_publish(number):
        content = b"%d %d" % (threading.get_ident(), number)
        staged = pool.stage(content)
        pool.publish([staged])
        if not pool.holds(staged) or pool.read(staged.digest, staged.size) != content:
            return ["it is not there"]
        pool.discard([staged])
        return []

    def open_and_close(number):
        """Gets the numbers that were closed: nothing may appear in this directory."""
        elsewhere = directory / f"other{threading.get_ident()}"
        elsewhere.mkdir(exist_ok=True)
        held = [os.open(elsewhere, os.O_RDONLY) for _ in range(5)]
        for descriptor in held:
            os.close(descriptor)
        return os.listdir(elsewhere)

    crowd = Crowd(*[stage_and_publish] * 3, *[open_and_close] * 2)
    until = time.monotonic() + turns * 0.1
    while time.monotonic() < until and not crowd.wrong:
        pool.close()
    crowd.stop.set()
    crowd.join()
    pool.close()
    return crowd.wrong


def _target(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""


def _tried(scene, directory, turns, wrong_way=lambda: None):
    """What a process says that tries it: one of its own, because of what wrong ways do to its descriptors."""
    directory.mkdir()
    said = directory / "said"
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        status = 1
        try:
            wrong_way()
            try:
                found = scene(directory, turns)
            except Exception:
                found = [traceback.format_exc()]
            said.write_bytes(pickle.dumps(found))  # which may fail, too, where threads close what is not theirs
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # SQLite, whose connection is closed while another thread is in it, may end the process.
    return pickle.loads(said.read_bytes()) if status == 0 else [f"it ended with {status}"]


SCENES = pytest.mark.parametrize("scene", [close_a_store, close_a_pool], ids=["a store", "a pool"])


@SCENES
@pytest.mark.parametrize("turns", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_closing_beside_threads_harms_nobody(tmp_path, scene, turns):
    assert _tried(scene, tmp_path / "tried", turns) == []


def descriptors_are_closed_by_whoever_closes():
    """And not when nobody works with them any more."""

    def let_go(directories):
        for descriptor in tuple(directories._held.values()):
            os.close(int(descriptor))
        directories._algorithms.clear()
        directories._held.clear()

    Directories.let_go_in_child = let_go


def connections_are_closed_by_whoever_closes():
    """Whether or not others have the store open."""

    def leave(database, holder, *, wait=True):
        database.holders.discard(holder)
        for each in tuple(database._connections):
            if (connection := each()) is not None:
                connection.close()
        database.shut(settle=False)

    Database.leave = leave
    # Right in itself: only a read, which takes microseconds, takes longer.
    execute = Connection.execute

    def slowly(connection, *arguments):
        time.sleep(0.0 if connection.writing else 0.002)
        return execute(connection, *arguments)

    Connection.execute = slowly


@pytest.mark.parametrize(
    ("scene", "wrong_way"),
    [
        (close_a_pool, descriptors_are_closed_by_whoever_closes),
        (close_a_store, descriptors_are_closed_by_whoever_closes),
        (close_a_store, connections_are_closed_by_whoever_closes),
    ],
)
def test_closing_beside_threads_catches_each_wrong_way(tmp_path, scene, wrong_way):
    assert any(_tried(scene, tmp_path / str(number), 100, wrong_way) for number in range(3))

"""Ways to collect and to push that look right and lose data. A harness that does not catch them proves nothing.

Each function makes this process work that way; it is called in a child that is forked for it.
"""

import contextlib
import os
import random
import signal
import time

import races

from ocistore import StorageError, clock, commit, core, largechanges, lease
from ocistore.blobs.filepool import FilePool
from ocistore.catalog import deletions, holds, leases, reachability
from ocistore.catalog import gc as statements
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.oci.digest import Digest
from ocistore.upkeep import hold, rebuild
from ocistore.upkeep.gc import _Run


def _doomed(run, connection):
    due = statements.due_blobs(connection, before=run._before, limit=100)
    doomed = [row.id for row in due if not row.absent and not row.served]
    deletions.keep_blobs(connection, {row.id for row in due}.difference(doomed))
    deletions.condemn(connection, doomed)
    return statements.condemned(connection, limit=100)


def the_row_goes_before_the_file(pause=lambda: time.sleep(random.random() * 0.005)):
    """A push in between finds no row and a file, and makes a row for the file that is about to go."""

    def condemn(run):
        with run._batch() as connection:
            doomed = _doomed(run, connection)
            deletions.reap(connection, [key for key, _, _ in doomed])
        pause()
        for _, digest, _ in doomed:
            run._sweeper.trash(Digest.parse(digest))
        return False

    _Run._condemn = condemn


def file_and_row_go_in_one_transaction(dying=0.02):
    """A collector that dies in between, as this one does so often, rolls the row back to life, without its file."""

    def condemn(run):
        with run._batch() as connection:
            doomed = _doomed(run, connection)
            for _, digest, _ in doomed:
                run._sweeper.trash(Digest.parse(digest))
                if random.random() < dying:
                    os.kill(os.getpid(), signal.SIGKILL)
            deletions.reap(connection, [key for key, _, _ in doomed])
        return False

    _Run._condemn = condemn


def a_child_goes_before_its_index():
    """Somebody tags the index in between, and has half of it."""
    reachability.removable = lambda connection, repository, manifest, **_: [manifest]


def a_push_believes_its_name_stands():
    """A collection that took the name away, between publishing and the commit, is not noticed."""
    _slow_to_commit()
    FilePool.holds = lambda pool, blob: True


def a_commit_does_not_look_again():
    """Nor is one that took away what the push relied on."""
    _slow_to_commit()
    commit.gone = lambda connection, pool, staged, published: []


def a_collector_looks_at_no_leases():
    """What is pushed slowly goes before what refers to it comes."""
    races.WORK[:] = [races._under_a_lease]
    late = {"now": 2**62}
    due_blob_memberships, alive = statements.due_blob_memberships, reachability.alive
    statements.due_blob_memberships = lambda connection, **options: due_blob_memberships(connection, **(options | late))
    reachability.alive = lambda *arguments, **options: alive(*arguments, **(options | late))


def a_lease_goes_on_naming_what_was_taken():
    """The blob that it names cannot be deleted, and a collection ends there."""
    races.WORK[:] = [races._under_a_lease]
    races.PAUSE = 0.2  # else what a lease keeps has left the queue before that ends
    leases.forget = lambda connection, members: None
    end = lease._end

    def slowly(core, ended):
        # Right in itself, as above: only the time between two transactions is longer.
        with core.catalog.write() as connection:
            leases.expire(connection, ended)
        time.sleep(random.random() * 0.4)
        end(core, ended)

    lease._end = slowly


def a_large_change_is_seen_as_it_comes():
    """Each of its parts is a commit of its own."""
    races.WORK[:] = [races._in_parts]

    def commit_large(catalog, pool, changes, **options):
        for part in largechanges._parts(changes):
            done = commit.commit(catalog, pool, part, **options)
        return done

    core.commit_large = commit_large


def _slow_to_commit():
    # Right in itself: only the time between the two steps, which a busy machine makes as long, is longer.
    publish = FilePool.publish

    def slowly(pool, staged):
        publish(pool, staged)
        time.sleep(random.random() * 0.01)

    FilePool.publish = slowly


def a_hold_looks_at_the_clock_before_the_lock():
    """A hold that ran out while the lock was waited for, and under which a collection acted, seems to have lasted."""
    holds.forget_expired = lambda connection, *, now: None

    def confirm(held):
        now = clock.milliseconds()
        with held._catalog.write() as connection:
            kept = holds.renew(connection, held._id, now=now, expires=now + hold._HOLD)
        if not kept:
            raise StorageError("the backup", errno=None, reason="run it again")

    hold.Hold.confirm = confirm


def a_backup_does_not_ask_whether_it_was_held():
    """It may have stood still, and what its catalog names was collected."""
    hold.Hold.confirm = lambda held: None


def a_session_looks_at_the_clock_before_the_lock():
    """It is over when it begins."""

    def find_before(lock):
        def write(catalog, *arguments, **options):
            now = clock.milliseconds()
            catalog.now = lambda: now
            return lock(catalog, *arguments, **options)

        return write

    SQLiteCatalog.write = find_before(SQLiteCatalog.write)


def a_stall_costs_what_is_published():
    """A commit that does not look again, whatever was collected while it stood still."""
    commit.gone = lambda connection, pool, staged, published: []


IN_A_STALL = {
    "backup": [a_backup_does_not_ask_whether_it_was_held],
    "slow backup": [a_hold_looks_at_the_clock_before_the_lock],
    "upload": [a_session_looks_at_the_clock_before_the_lock],
    "transaction": [a_stall_costs_what_is_published],
}
"""By the scene in which they are caught."""


WITHOUT_KILLS = [
    a_collector_looks_at_no_leases,
    a_lease_goes_on_naming_what_was_taken,
    a_large_change_is_seen_as_it_comes,
]
"""Caught where pushes and collections come to their end, so that kills only hide them."""

WRONG_WAYS = [
    the_row_goes_before_the_file,
    file_and_row_go_in_one_transaction,
    a_child_goes_before_its_index,
    a_push_believes_its_name_stands,
    a_commit_does_not_look_again,
    *WITHOUT_KILLS,
]


def a_wal_goes_before_its_database():
    """A rebuild that is killed between the two leaves the catalog without what was committed last."""

    def put_in_place(paths, aside, *, settled):
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{paths.catalog}{suffix}", f"{aside}{suffix}")
        os.rename(paths.rebuilt, paths.catalog)
        return aside.name

    rebuild.keep_names = lambda *_, **__: None  # which leaves no WAL
    rebuild.settle = lambda *_: False
    rebuild.put_in_place = put_in_place

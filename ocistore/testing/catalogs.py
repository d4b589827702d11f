# ruff: noqa: D102, PT012 - the names of the tests say what they test, and blocks that raise have something in them
"""The conformance suite of catalogs: what ``ocistore.catalog.contract.Catalog`` promises, as tests for any of them.

Subclass it in a test module of your own, give it a ``catalog`` that has the tables and no repositories, and say how
the same catalog is opened once more::

    class TestMyCatalog(CatalogTests):
        @pytest.fixture
        def catalog(self, tmp_path):
            ...

        def opened(self, catalog, *, read_only=False):
            ...  # another handle on what that one has open

It is for pytest, and nothing in ocistore imports it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements
from ocistore.errors import ReadOnlyStoreError, StoreBusyError, StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.contract import Catalog

_sql = Statements("conformance")

_LARGEST: Final = 2**63 - 1
_LONGEST: Final = 3.0
"""Seconds that something which must not wait is given before it is called waiting."""


class _OursError(Exception):
    """What a test raises in a block."""


def _add_one(connection: Connection, name: str, *, created: int = 0) -> None:
    connection.execute(_sql.ADD, {"name": name, "created": created})


def _names_in(catalog: Catalog) -> list[str]:
    with catalog.read() as connection:
        return connection.execute(_sql.NAMES).scalars()


class CatalogTests:
    """Every promise of a catalog as one test. See the module."""

    @pytest.fixture
    def catalog(self, tmp_path: Path) -> Iterator[Catalog]:
        """Give an open catalog that has the tables and no repositories."""
        raise NotImplementedError

    def opened(self, catalog: Catalog, *, read_only: bool = False) -> Catalog:
        """Return another handle on what ``catalog`` has open, or had before it was closed."""
        raise NotImplementedError

    # What is read.

    def test_what_is_committed_is_read_by_everybody(self, catalog: Catalog) -> None:
        with contextlib.closing(self.opened(catalog)) as other:
            assert _names_in(other) == []
            with catalog.write() as connection:
                _add_one(connection, "a")
            assert _names_in(catalog) == _names_in(other) == ["a"]

    def test_what_is_not_committed_is_read_by_nobody_else(self, catalog: Catalog) -> None:
        with contextlib.closing(self.opened(catalog)) as other, catalog.write() as connection:
            _add_one(connection, "a")
            assert _names_in(other) == []

    def test_a_write_reads_what_it_wrote(self, catalog: Catalog) -> None:
        with catalog.write() as connection:
            _add_one(connection, "a")
            assert connection.execute(_sql.NAMES).scalars() == ["a"]
            connection.execute(_sql.SET_TIME, {"called": "a", "to": 7})
            assert connection.execute(_sql.TIME_OF, {"called": "a"}).scalar() == 7

    def test_a_snapshot_stays_as_it_was_when_it_began(self, catalog: Catalog) -> None:
        with catalog.write() as connection:
            _add_one(connection, "a")
        with contextlib.closing(self.opened(catalog)) as other, catalog.snapshot() as connection:
            assert connection.execute(_sql.NAMES).scalars() == ["a"]
            with other.write() as writing:
                _add_one(writing, "b")
            with other.write() as writing:
                writing.execute(_sql.SET_TIME, {"called": "a", "to": 7})
            assert connection.execute(_sql.NAMES).scalars() == ["a"]
            assert connection.execute(_sql.TIME_OF, {"called": "a"}).scalar() == 0
        assert _names_in(catalog) == ["a", "b"]

    def test_a_snapshot_begins_when_its_block_does(self, catalog: Catalog) -> None:
        with contextlib.closing(self.opened(catalog)) as other, catalog.snapshot() as connection:
            with other.write() as writing:
                _add_one(writing, "b")
            assert connection.execute(_sql.NAMES).scalars() == []

    def test_a_write_begins_with_what_others_committed_while_it_waited(self, catalog: Catalog) -> None:
        inside, go = threading.Event(), threading.Event()

        def first() -> None:
            with self._another(catalog) as other, other.write() as connection:
                inside.set()
                assert go.wait(_LONGEST)
                _add_one(connection, "first")

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(first)
            assert inside.wait(_LONGEST)
            threading.Timer(0.2, go.set).start()
            with catalog.write() as connection:
                assert connection.execute(_sql.NAMES).scalars() == ["first"]
            running.result()

    def test_what_was_committed_is_there_after_everybody_closed_it(self, catalog: Catalog) -> None:
        with catalog.write() as connection:
            _add_one(connection, "a")
        catalog.close()
        with contextlib.closing(self.opened(catalog)) as other:
            assert _names_in(other) == ["a"]

    # Values.

    @pytest.mark.parametrize("number", [0, -1, 2**31, 2**53 + 1, _LARGEST], ids=str)
    def test_numbers_come_back_as_they_are(self, catalog: Catalog, number: int) -> None:
        with catalog.write() as connection:
            _add_one(connection, "a", created=number)
        with catalog.read() as connection:
            assert connection.execute(_sql.TIME_OF, {"called": "a"}).scalar() == number

    def test_text_is_ordered_by_its_bytes(self, catalog: Catalog) -> None:
        names = ["z", "Z", "é", "a-b", "a/b", "a.b", "a_b", "ab", "\U0001f40b", "\uffee"]
        with catalog.write() as connection:
            connection.execute(_sql.ADD, [{"name": name, "created": 0} for name in names])
        assert _names_in(catalog) == sorted(names, key=str.encode)

    def test_an_array_has_any_number_of_elements(self, catalog: Catalog) -> None:
        names = [f"{number}" for number in range(40_000)]
        with catalog.write() as connection:
            connection.execute(_sql.ADD, [{"name": name, "created": 0} for name in names[:3]])
            for some, found in (([], 0), (names, 3), (["0", "x", '"', "\\"], 1)):
                assert connection.execute(_sql.NAMED, {"wanted": bound(some)}).scalar() == found

    # What is written.

    def test_a_block_that_raises_changes_nothing(self, catalog: Catalog) -> None:
        with catalog.write() as connection:
            _add_one(connection, "a")
        with pytest.raises(_OursError), catalog.write() as connection:
            _add_one(connection, "b")
            connection.execute(_sql.SET_TIME, {"called": "a", "to": 7})
            raise _OursError
        with catalog.read() as connection:
            assert connection.execute(_sql.TIME_OF, {"called": "a"}).scalar() == 0
        assert _names_in(catalog) == ["a"]

    def test_a_block_that_is_interrupted_changes_nothing(self, catalog: Catalog) -> None:
        with pytest.raises(KeyboardInterrupt), catalog.write() as connection:
            _add_one(connection, "a")
            raise KeyboardInterrupt
        assert _names_in(catalog) == []

    def test_a_statement_that_breaks_a_constraint_takes_the_whole_block_with_it(self, catalog: Catalog) -> None:
        def twice() -> None:
            with catalog.write() as connection:
                _add_one(connection, "b")
                _add_one(connection, "b")

        with pytest.raises(Exception, match=r"(?i)unique"):
            twice()
        assert _names_in(catalog) == []
        with catalog.write() as connection:
            _add_one(connection, "b")
        assert _names_in(catalog) == ["b"]

    @pytest.mark.parametrize("named", [None, frozenset({"counter"})], ids=["of any repositories", "of this repository"])
    def test_writes_of_the_same_repositories_happen_one_after_another(
        self, catalog: Catalog, named: frozenset[str] | None
    ) -> None:
        with catalog.write() as connection:
            _add_one(connection, "counter")

        def count(handle: Catalog) -> None:
            for _ in range(25):
                with handle.write(repositories=named) as connection:
                    found = connection.execute(_sql.TIME_OF, {"called": "counter"}).scalar()
                    time.sleep(0)
                    connection.execute(_sql.SET_TIME, {"called": "counter", "to": found + 1})

        with contextlib.closing(self.opened(catalog)) as other, ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(count, handle) for handle in (catalog, other, catalog, other)]:
                each.result()
        with catalog.read() as connection:
            assert connection.execute(_sql.TIME_OF, {"called": "counter"}).scalar() == 100

    def test_a_write_that_is_not_to_wait_does_not(self, catalog: Catalog) -> None:
        with self._another_writing(catalog):
            began = time.monotonic()
            with pytest.raises(StoreBusyError), catalog.write(wait=False):
                pass
            assert time.monotonic() - began < _LONGEST / 2
        assert _names_in(catalog) == ["a"]

    def test_a_read_does_not_wait_for_a_write(self, catalog: Catalog) -> None:
        with self._another_writing(catalog):
            began = time.monotonic()
            assert _names_in(catalog) == []
            with catalog.snapshot() as connection:
                assert connection.execute(_sql.NAMES).scalars() == []
            assert time.monotonic() - began < _LONGEST / 2

    def test_nothing_is_written_to_what_is_open_for_reading(self, catalog: Catalog) -> None:
        with contextlib.closing(self.opened(catalog, read_only=True)) as reader:
            assert (reader.read_only, catalog.read_only) == (True, False)
            with pytest.raises(ReadOnlyStoreError), reader.write() as connection:
                _add_one(connection, "a")
            with pytest.raises(Exception), reader.read() as connection:  # noqa: B017, PT011 - each driver has its own
                _add_one(connection, "a")
        assert _names_in(catalog) == []

    # The clock.

    def test_now_is_in_milliseconds_of_unix_time(self, catalog: Catalog) -> None:
        found = catalog.now()
        assert isinstance(found, int)
        assert found == pytest.approx(time.time() * 1000, abs=60_000)
        time.sleep(0.02)
        assert found < catalog.now() < found + 10_000

    # Its end.

    def test_what_is_closed_is_used_by_nobody(self, catalog: Catalog) -> None:
        catalog.close()
        catalog.close()
        for block in (catalog.read, catalog.snapshot, catalog.write):
            with pytest.raises(StoreClosedError), block():
                pass

    def test_closing_one_handle_leaves_the_others_open(self, catalog: Catalog) -> None:
        other = self.opened(catalog)
        with other.write() as connection:
            _add_one(connection, "a")
        other.close()
        with catalog.write() as connection:
            _add_one(connection, "b")
        assert _names_in(catalog) == ["a", "b"]

    def test_a_block_that_is_under_way_ends_as_if_its_catalog_were_open(self, catalog: Catalog) -> None:
        with self._another(catalog) as other:
            with catalog.write() as connection:
                _add_one(connection, "a")
                catalog.close()
                _add_one(connection, "b")
            assert _names_in(other) == ["a", "b"]

    def test_it_can_be_had_again_whether_or_not_it_is_closed(self, catalog: Catalog) -> None:
        with contextlib.closing(catalog.again()) as again:
            catalog.close()
            with again.write() as connection:
                _add_one(connection, "a")
            assert _names_in(again) == ["a"]
        with contextlib.closing(catalog.again()) as again:
            assert _names_in(again) == ["a"]

    # Forks.

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_child_and_its_parent_both_use_it(self, catalog: Catalog) -> None:
        with catalog.write() as connection:
            _add_one(connection, "parent")

        def work() -> bool:
            if _names_in(catalog) != ["parent"]:
                return False
            with catalog.write() as connection:
                _add_one(connection, "child")
            catalog.close()
            return True

        assert _in_a_child(work)
        assert _names_in(catalog) == ["child", "parent"]
        with catalog.write() as connection:
            connection.execute(_sql.REMOVE_ALL)
        assert _names_in(catalog) == []

    # As one file.

    def test_a_copy_has_what_was_committed_and_no_more(self, catalog: Catalog, tmp_path: Path) -> None:
        if catalog.file is None:
            pytest.skip("it is not one file")
        with catalog.write() as connection:
            _add_one(connection, "a")
        (tmp_path / "copy").touch()
        with self._another(catalog) as other, catalog.write() as connection:
            _add_one(connection, "b")
            assert other.file is not None
            other.file.copy_to(tmp_path / "copy")
        assert b"\0" in (tmp_path / "copy").read_bytes()
        assert self.names_in_copy(tmp_path / "copy") == ["a"]

    def names_in_copy(self, copy: Path) -> list[str]:
        """Return the names of the repositories in a file that :meth:`CatalogFile.copy_to` made."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _another_writing(self, catalog: Catalog) -> Iterator[None]:
        """Let another handle add one in a transaction that ends after the block."""
        inside, done = threading.Event(), threading.Event()

        def hold() -> None:
            with self._another(catalog) as other, other.write() as connection:
                _add_one(connection, "a")
                inside.set()
                done.wait(_LONGEST)

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(hold)
            assert inside.wait(_LONGEST)
            try:
                yield
            finally:
                done.set()
            running.result()

    @contextlib.contextmanager
    def _another(self, catalog: Catalog) -> Iterator[Catalog]:
        with contextlib.closing(self.opened(catalog)) as other:
            yield other


def _in_a_child(work: Callable[[], bool]) -> bool:
    """Whether ``work``, done in a child, gave true."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

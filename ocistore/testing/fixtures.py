"""Fixtures for pytest: stores of a test, with their content in memory.

In the ``conftest.py`` at the top of your tests::

    pytest_plugins = ["ocistore.testing.fixtures"]

``oci_store`` is an open store for one test::

    def test_an_image_is_tagged(oci_store):
        repository = oci_store.repository("library/app")
        ...

``make_oci_store`` makes any number of them, and takes the options of ``Store.open``::

    def test_a_copy(make_oci_store):
        source, destination = make_oci_store(), make_oci_store()
        ...

Each has its catalog in a temporary directory and its content in a :class:`~ocistore.testing.memory.MemoryPool`, which
only this process sees; with ``make_oci_store(pool=None)`` the content is in files of that directory. They are closed
when the test ends.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import pytest

from ocistore import Store
from ocistore.testing.memory import MemoryPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.pools import Pool


class MakeStore(Protocol):
    """What ``make_oci_store`` is."""

    def __call__(self, *, pool: Pool | None = ..., any_filesystem: bool = ...) -> Store:
        """Make a store in a new directory, with a new pool in memory if none is given, and open it."""
        ...


@pytest.fixture
def make_oci_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStore]:
    """Return a function that makes stores, which are closed when the test ends."""
    with contextlib.ExitStack() as opened:

        def make(**options: object) -> Store:
            options.setdefault("pool", MemoryPool())
            root = tmp_path_factory.mktemp("oci-store") / "store"
            return opened.enter_context(Store.open(root, **options))  # type: ignore[arg-type] # those that it has

        yield make


@pytest.fixture
def oci_store(make_oci_store: MakeStore) -> Store:
    """Return an open store that nothing was put into."""
    return make_oci_store()

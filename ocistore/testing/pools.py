"""The conformance suite of pools: what :mod:`ocistore.blobs.pool` promises, as tests that any pool can run.

Subclass it in a test module of your own, and give it a fixture ``pool`` that returns an empty pool::

    class TestMyPool(PoolTests):
        @pytest.fixture
        def pool(self, tmp_path):
            ...

        def damage(self, pool, digest, content):
            ...  # replace the published bytes of a digest past the pool; without it, some tests are skipped

Each role has its part, for a class that fills only one: :class:`IngesterTests`, :class:`ProviderTests`,
:class:`UploadsTests`, :class:`SweeperTests`. It is for pytest, and nothing else in ocistore imports it.
"""

from __future__ import annotations

from ocistore.testing.ingesting import IngesterTests
from ocistore.testing.reading import ProviderTests
from ocistore.testing.sessions import UploadsTests
from ocistore.testing.sweeping import SweeperTests

__all__ = ["IngesterTests", "PoolTests", "ProviderTests", "SweeperTests", "UploadsTests"]


class PoolTests(IngesterTests, ProviderTests, UploadsTests, SweeperTests):
    """All roles of a pool."""

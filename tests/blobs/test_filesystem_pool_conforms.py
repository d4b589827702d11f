import os

import pytest

from ocistore.blobs.filesystem import FilesystemPool
from ocistore.blobs.paths import StorePaths
from ocistore.testing.pools import PoolTests


class TestFilesystemPool(PoolTests):
    @pytest.fixture
    def pool(self, tmp_path):
        self.paths = StorePaths(tmp_path / "store")
        pool = FilesystemPool(self.paths)
        pool.create()
        yield pool
        pool.close()

    def take_away(self, pool, digest):
        os.rename(self.paths.blob(digest), self.paths.trash / "taken")

    def left_aside(self, pool):
        return len(os.listdir(self.paths.uploads))

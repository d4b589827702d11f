"""What it means that the file of a blob does not exist: it was collected meanwhile, or the store is damaged."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ocistore.catalog import blobs
from ocistore.errors import BlobNotFoundError, CorruptError
from ocistore.oci.digest import Digest
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.core import Core

_LOOKS: Final = 3
"""How often to look: a process that pushes and collects the same over and over may come between two looks."""


@contextlib.contextmanager
def gone_is_damage(digest: str, *, noun: str = "blob", of: str = "") -> Iterator[None]:
    """Read the file of a blob.

    Raises:
        CorruptError: it does not exist; see :func:`check_if_collected`.
    """
    try:
        yield
    except FileNotFoundError as error:
        pass_on_theirs(error)
        raise CorruptError(f"{noun} {digest}{of}", reason="its file is gone", gone=digest) from error


@contextlib.contextmanager
def check_if_collected(core: Core) -> Iterator[None]:
    """Read what was chosen from the store a while ago, and may have been collected since.

    Raises:
        BlobNotFoundError: it was.
    """
    try:
        yield
    except CorruptError as error:
        if error.gone is None:
            raise
        core.catalog.refuse_moved()
        if _is_damage(core, Digest.parse(error.gone)):
            raise
        raise BlobNotFoundError(error.gone, repository=None, meanwhile=True) from error


def _is_damage(core: Core, digest: Digest) -> bool:
    """Whether the catalog still says that the file exists."""
    for _ in range(_LOOKS):
        with core.catalog.read() as connection:
            if not blobs.live_sizes(connection, [digest]):
                return False
        if core.pool.size(digest) is not None:
            return False
    return True

"""The one place where a refusal by the operating system becomes an error of ocistore."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ocistore.errors import OCIStoreError, ReadOnlyStoreError, StorageError, StoreFullError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def translated(error: OSError, *, path: str, root: Path | None = None) -> OCIStoreError:
    """What ``error``, from an operation on ``path`` in the store at ``root`` or in no store, means to our callers."""
    if error.errno in _FULL:
        return StoreFullError(path)
    if error.errno == errno.EROFS and root is not None:
        return ReadOnlyStoreError(root, reason="its filesystem is read-only")
    return StorageError(path, errno=error.errno, reason=error.strerror or str(error))


class Translating:
    """A block in which every ``OSError`` is about ``path``, in the store at ``root`` or in none, and leaves as ours.

    A class and not a generator: it stands around each file that is staged, and costs a third of one. Likewise ``path``
    may be a function that gives the path, which costs more to make than the system call it is for.
    """

    __slots__ = ("_path", "_root")

    def __init__(self, path: str | Callable[[], Path], *, root: Path | None = None) -> None:
        self._path = path
        self._root = root

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            path = str(self._path() if callable(self._path) else self._path)
            raise translated(error, path=path, root=self._root) from error

"""The one place where a refusal by the operating system becomes an error of ocistore.

Not every ``OSError`` is one (see :mod:`ocistore.refusals`): each is asked whose it is before it is translated.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ocistore.errors import OCIStoreError, ReadOnlyStoreError, StorageError, StoreFullError
from ocistore.refusals import is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import NoReturn


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def translated(error: OSError, *, path: str, root: Path | None = None) -> OCIStoreError:
    """Return what ``error``, of an operation on ``path`` in the store at ``root`` or in none, means to our callers."""
    if error.errno in _FULL:
        return StoreFullError(path)
    if error.errno == errno.EROFS and root is not None:
        return ReadOnlyStoreError(root, reason="its filesystem is read-only")
    return StorageError(path, errno=error.errno, reason=error.strerror or str(error))


def raise_translated(error: OSError, *, path: str, root: Path | None = None) -> NoReturn:
    """Raise what ``error`` means to our callers; itself, where it is not the operating system's.

    Raises:
        OCIStoreError: see :func:`translated`.
        OSError: somebody else raised it in the middle of our work.
    """
    if not is_refusal(error):
        raise error
    raise translated(error, path=path, root=root) from error


class Translating:
    """A block in which every refusal is about ``path``, in the store at ``root`` or in none, and leaves as ours.

    What anybody else raises in it comes out unchanged: see :func:`is_refusal`.

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
        if isinstance(error, OSError) and is_refusal(error):
            path = str(self._path() if callable(self._path) else self._path)
            raise translated(error, path=path, root=self._root) from error

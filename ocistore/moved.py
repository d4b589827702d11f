"""A store whose directory was moved, replaced or removed while it is open, distinguished from one that is damaged."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ocistore.errors import CorruptError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocistore.core import Core

_P = ParamSpec("_P")
_R = TypeVar("_R")


def check_if_moved(work: Callable[Concatenate[Core, _P], _R]) -> Callable[Concatenate[Core, _P], _R]:
    """Do work on a store; where the store is no longer there, raise StoreNotFoundError, and call nothing damaged.

    Single reads and every write look for themselves; this is for what reads much.
    """

    @functools.wraps(work)
    def called(core: Core, /, *arguments: _P.args, **keywords: _P.kwargs) -> _R:
        try:
            return work(core, *arguments, **keywords)
        except (CorruptError, StorageError):
            core.catalog.refuse_moved()
            raise

    return called

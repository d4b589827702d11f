"""Descriptors that close themselves, so that neither an interrupt nor a thread that closes the pool can do harm.

A number that is closed while another thread is about to use it is soon the number of another file, perhaps of another
store. And between a call that opens and the assignment of what it returns, an interrupt loses the number for ever. So
an open file is an object: it is closed when nobody has it any more, and an argument of a running call counts.
"""

from __future__ import annotations

import fcntl
import os
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING

from ocistore import standardstreams

if TYPE_CHECKING:
    from collections.abc import Callable


class Descriptor(int):
    """The number of an open file, which is closed when the last reference to this object goes. Never close it itself.

    To close it early is to let go of it; a copy of the number (``int(descriptor)``) keeps nothing open.
    """

    # A function in Python would be entered before it closes anything, and that is where an interrupt comes in.
    __del__ = property(partial(partial, os.close))


def owned(call: Callable[..., int], *arguments: object, **keywords: object) -> Descriptor:
    """What ``call`` opens, as an object that owns it.

    Both happen in one step of the interpreter, between whose parts no interrupt comes.
    """
    descriptor = next(map(Descriptor, starmap(partial(call, *arguments, **keywords), ((),))))
    if descriptor < standardstreams.FIRST:
        descriptor = owned(fcntl.fcntl, descriptor, fcntl.F_DUPFD_CLOEXEC, standardstreams.FIRST)
        standardstreams.occupy()
    return descriptor

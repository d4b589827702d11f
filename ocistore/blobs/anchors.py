"""The files in ``uploads/`` that this process is making, or has staged: each is somebody's, and goes with its owner.

Whoever is done with one says so. An interrupt may come before anybody can: then the owner becomes garbage, its name is
noted, and the next who uses the pool, in this process, removes the file. What a killed process leaves is swept by age.
"""

from __future__ import annotations

import os
import secrets
import weakref
from typing import TYPE_CHECKING

from ocistore.refusals import Ignoring

if TYPE_CHECKING:
    from collections.abc import Callable


class Anchor:
    """Owns one name in ``uploads/``."""

    __slots__ = ("__weakref__", "name")

    def __init__(self, name: str) -> None:
        self.name = name


class _Reference(weakref.ref[Anchor]):
    """What notes that an anchor is garbage."""

    __slots__ = ("name", "process")  # there may be 100,000 of them

    name: str
    """Not set where an interrupt came before."""
    process: int
    """A forked child has the anchors of its parent too, and they are not its own."""


class Anchors:
    """Those of one pool. Safe for any number of threads, and without a lock: no interrupt can leave one taken."""

    def __init__(self, remove: Callable[[str], None]) -> None:
        """Delete files with ``remove``, which takes a name and does nothing where there is none."""
        self._remove = remove
        self._held: dict[str, _Reference] = {}
        self._lost: list[weakref.ref[Anchor]] = []
        self._note_lost = self._lost.append  # one object for all references, as is the number below
        self._process = os.getpid()

    def new(self) -> Anchor:
        """Return a name that nobody has, 32 hexadecimal digits. What was lost is removed first."""
        if self._lost:
            self.sweep()
        anchor = Anchor(secrets.token_hex(16))
        # The callback is no function in Python: it is never interrupted, and interrupts nobody.
        reference = _Reference(anchor, self._note_lost)
        process = os.getpid()
        if process != self._process:
            self._process = process
        reference.process, reference.name = self._process, anchor.name
        self._held[anchor.name] = reference
        return anchor

    def let_go(self, name: str) -> None:
        """Forget a name: its file is gone, or somebody else's from now on."""
        self._held.pop(name, None)

    def sweep(self) -> None:
        """Remove the files whose owners are gone."""
        for reference in self._lost[:]:
            if isinstance(reference, _Reference) and getattr(reference, "name", None) in self._held:
                if reference.process == os.getpid():
                    with Ignoring():  # then it is swept by age
                        self._remove(reference.name)
                self.let_go(reference.name)
            if reference in self._lost:  # another thread may have been here too
                self._lost.remove(reference)

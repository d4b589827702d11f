"""Where everything of a store is on disk: the one place that builds these paths."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.arguments import absolute_path
from ocistore.argumenttypes import checks_types
from ocistore.blobs import permissions
from ocistore.errors import InvalidNameError, StorageError
from ocistore.oci.digest import ALGORITHMS, Digest
from ocistore.oserrors import Translating

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_ROOT: Final = 493
"""Bytes. SQLite takes 511 for the name of a database and of what lies beside it (os_unix.c, MAX_PATHNAME)."""

CATALOG: Final = "catalog.db"
"""What the directory of a store has in it, and no other directory."""

_UPLOAD_NAME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


def listed_paths(given: Iterable[str | os.PathLike[str]], *, kind: str) -> list[str | os.PathLike[str]]:
    """Return the paths given where there may be several.

    Raises:
        TypeError: one text, which is an iterable of texts too, one for each letter.
    """
    if isinstance(given, str):
        raise TypeError(f"{kind} must be a list of paths, not one text")
    return list(given)


@checks_types
def is_store(root: str | os.PathLike[str]) -> bool:
    """Whether a directory is that of a store, usable or not: it has a catalog in it. Opens and changes nothing.

    Raises:
        InvalidNameError: nothing can have that name.
        StorageError: the directory cannot be looked into.
    """
    path = absolute_path(root, kind="path of a store")
    with Translating(path):
        return Path(path, CATALOG).exists()


@dataclass(frozen=True)
class StorePaths:
    """The paths of one store, built from validated values only.

    ::

        ROOT/
          catalog.db  (-wal, -shm)    the catalog
          blobs/<alg>/<hex>           the pool: 0444, never changed, only linked in and renamed out
          uploads/<32 hex>            bytes on their way in, and what anchors them until their transaction is over
          trash/                      bytes on their way out
          quarantine/                 damaged content that scrub found
          write.lock                  one writer at a time
          catalog.snapshot            what is called what, for when the catalog is lost
          catalog.db.rebuilt          a catalog in the making, when one was lost
          catalog.db.unfinished       the catalog of a backup that is being written
          catalog.db.damaged-<time>   the one that was replaced; also its -wal
          pool                        which other pool has the blobs, where they are not here
          reserved                    given up when the disk is full, so that deleting still works
          oci-layout, index.json      only when exported in place: then ROOT itself is a plain OCI layout
    """

    root: Path

    @classmethod
    def at(cls, root: str | os.PathLike[str], *, spare: int = 0) -> StorePaths:
        """Return the paths of the store at ``root``, which need not exist.

        Absolute, so that the process may change its directory; symbolic links above the root are the user's.

        Args:
            root: as the caller was given it.
            spare: by how many bytes a name is longer than that of the catalog that SQLite is to open there.

        Raises:
            InvalidNameError: no directory can have that name.
            StorageError: it is too long, or is relative to a directory that is gone.
        """
        absolute = absolute_path(root, kind="path of a store")
        length = len(os.fsencode(absolute))
        if length > LONGEST_ROOT - spare:
            reason = f"its {length} bytes are more than the {LONGEST_ROOT - spare} that SQLite can work with here"
            raise StorageError(absolute, errno=errno.ENAMETOOLONG, reason=reason)
        return cls(Path(absolute))

    # Those that every blob or every collection needs are cached: to make a path costs as much as a system call.

    @property
    def catalog(self) -> Path:
        """The database; SQLite adds ``-wal`` and ``-shm`` beside it."""
        return self.root / CATALOG

    @cached_property
    def blobs(self) -> Path:
        """The directory that holds one directory per algorithm."""
        return self.root / "blobs"

    def algorithm(self, algorithm: str) -> Path:
        """Return the directory of the blobs whose digests are of that algorithm.

        Raises:
            InvalidNameError: it is not the name of a registered algorithm.
        """
        if algorithm not in ALGORITHMS:
            raise InvalidNameError(algorithm, kind="algorithm", reason=f"known are {', '.join(ALGORITHMS)}")
        return self.blobs / algorithm

    def blob(self, digest: Digest) -> Path:
        """Return the file of one blob.

        Raises:
            InvalidNameError: ``digest`` is a string that nobody checked.
        """
        if not isinstance(digest, Digest):
            raise InvalidNameError(digest, kind="digest", reason="only a Digest becomes a path")
        return self.blobs / digest.algorithm / digest.encoded

    @cached_property
    def uploads(self) -> Path:
        """The directory of what is staged and of open upload sessions."""
        return self.root / "uploads"

    def upload(self, name: str) -> Path:
        """Return the file of one upload session, or of something staged.

        Raises:
            InvalidNameError: ``name`` is not 32 lower-case hexadecimal digits.
        """
        return self.uploads / checked_upload_name(name)

    @cached_property
    def trash(self) -> Path:
        """The directory of what collection took out of the pool."""
        return self.root / "trash"

    @cached_property
    def quarantine(self) -> Path:
        """The directory of what scrub found damaged."""
        return self.root / "quarantine"

    @cached_property
    def permissions(self) -> permissions.Permissions:
        """The modes of what is made here. Asked for first when the root exists."""
        return permissions.of_root(self.root)

    @property
    def write_lock(self) -> Path:
        """The file whose lock makes one writer at a time."""
        return self.root / "write.lock"

    @property
    def refs_file(self) -> Path:
        """The file that says which tag points at which manifest, for when the catalog is lost."""
        return self.root / "catalog.snapshot"

    @property
    def new_catalog(self) -> Path:
        """The catalog of a store that is being made, until it is whole."""
        return self.root / "catalog.db.new"

    @cached_property
    def rebuilt(self) -> Path:
        """A catalog in the making, which takes the place of a lost one."""
        return self.root / "catalog.db.rebuilt"

    @property
    def unfinished_backup(self) -> Path:
        """The catalog of a backup that is being written here."""
        return self.root / "catalog.db.unfinished"

    def damaged(self, at: int) -> Path:
        """Return where a catalog goes that was replaced at that instant, in milliseconds since the epoch."""
        return self.root / f"catalog.db.damaged-{at:d}"

    @property
    def pool(self) -> Path:
        """The file that names the pool, of a store whose blobs are not in its own directory."""
        return self.root / "pool"

    @property
    def reserved(self) -> Path:
        """The file that is given up when the disk is full."""
        return self.root / "reserved"

    @property
    def oci_layout(self) -> Path:
        """The marker file of an OCI layout (image-layout, "oci-layout file")."""
        return self.root / "oci-layout"

    @property
    def index_json(self) -> Path:
        """The entry point of an OCI layout (image-layout, "index.json file")."""
        return self.root / "index.json"


def checked_upload_name(name: str) -> str:
    """Return ``name``, where it is 32 lower-case hexadecimal digits and nothing else: then it is safe inside a path.

    Raises:
        InvalidNameError: it is anything else.
    """
    if not isinstance(name, str) or _UPLOAD_NAME.fullmatch(name) is None:
        raise InvalidNameError(name, kind="upload", reason="it must be 32 lower-case hexadecimal digits")
    return name

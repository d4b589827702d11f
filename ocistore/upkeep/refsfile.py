"""The refs file beside the catalog: what a store calls its manifests, for when the catalog is lost.

The pool holds every manifest, but not which repository has it nor which tag points at it. So ``catalog.snapshot`` has a
line of JSON for each tag and each untagged manifest, between a first line that says when it was taken and a last one
with the hash of all before. A collection that finds work writes it anew, where tags changed and it is older than an
hour; so does one that finds none, if this process has not looked for an hour; so does a backup. A push never pays for
it, and no lock is held.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ocistore.catalog import refs
from ocistore.catalog.refs import Ref
from ocistore.clock import milliseconds
from ocistore.errors import CorruptError, ManifestInvalidError
from ocistore.filedescriptors import owned
from ocistore.files.durability import sync_path
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import Descriptor
from ocistore.oci.digest import Digest
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from ocistore.blobs.paths import StorePaths
    from ocistore.catalog.contract import Catalog

MAXIMUM_AGE: Final = timedelta(hours=1)
"""How old a refs file may be before it is written anew."""

_VERSION: Final = 1
_INCOMPLETE: Final = "incomplete"
"""What is said of a manifest that lacked something when it was pushed: that is absent, and not lost."""

_UNKNOWN: Final = -1
"""In the place of the last change of a tag: no change has this id, so that the next refs file is written."""

_PAGE: Final = 1000
_MAXIMUM_LINE: Final = 64 * 1024
"""Bytes; a repository's name has 255 characters at most, a tag 128, a digest 135, and what is said of it besides
:data:`ocistore.catalog.refs.MAXIMUM_ENTRY`, each of which JSON may need twelve bytes for."""

_ANY: Final = {"mediaType": mediatypes.OCI_MANIFEST, "digest": str(Digest.of(b"")), "size": 0}
"""An entry, except for what is said of one besides."""

_NO_FILE: Final = frozenset({errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENOTDIR})
"""There is no refs file, or something else in its place."""


@dataclass(frozen=True)
class Header:
    """The first line of the refs file."""

    taken: int
    """Milliseconds since the epoch."""
    events: int
    """The id of the last change of a tag by then; negative where it was not known."""


def refresh(
    catalog: Catalog,
    paths: StorePaths,
    *,
    older_than: timedelta = MAXIMUM_AGE,
    check: Callable[[], None] = lambda: None,
) -> bool:
    """Write the refs file anew, where tags have changed since the last one and that is older than ``older_than``.

    Durable when it returns; killed at any moment it leaves the old one. Constant memory; seconds for a million tags.

    Args:
        catalog: whose names.
        paths: of its store.
        older_than: leave a younger one.
        check: called now and then. What it raises ends this, and the old one is still there.

    Returns:
        Whether it took one.

    Raises:
        StoreFullError, StorageError, ReadOnlyStoreError: it could not be written; the old one is still there.
    """
    now = milliseconds()
    with Translating(str(paths.refs_file), root=paths.root):
        last = header(paths)
    if last is not None and 0 <= now - last.taken < older_than // timedelta(milliseconds=1):
        return False
    with catalog.read() as connection:
        events = refs.newest_event(connection)
    if last is not None and last.events == events != refs.UNKNOWN:
        return False
    _take(catalog, paths, Header(now, events), check)
    return True


def take(catalog: Catalog, paths: StorePaths) -> None:
    """Write the refs file now, whether or not there is one; as :func:`refresh`. The history of tags may be damaged.

    Raises:
        StoreFullError, StorageError, ReadOnlyStoreError: it could not be written; the old one is still there.
    """
    try:
        with catalog.read() as connection:
            events = refs.newest_event(connection)
    except CorruptError:
        events = _UNKNOWN
    _take(catalog, paths, Header(milliseconds(), events), lambda: None)


def _take(catalog: Catalog, paths: StorePaths, first: Header, check: Callable[[], None]) -> None:
    temporary = paths.upload(secrets.token_hex(16))  # there collection finds it, where this process is killed
    with Translating(str(paths.refs_file), root=paths.root):
        try:
            with open(temporary, "xb") as file:
                os.fchmod(file.fileno(), paths.permissions.file)
                _write(file, catalog, first, check)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, paths.refs_file)
            sync_path(paths.root)
        except BaseException:
            with Ignoring():
                os.unlink(temporary)
            raise


def _write(file: BinaryIO, catalog: Catalog, first: Header, check: Callable[[], None]) -> None:
    state = hashlib.sha256()

    def write(line: bytes) -> None:
        state.update(line)
        file.write(line)

    write(_line({"version": _VERSION, "taken": first.taken, "events": first.events}))
    for name in _all(catalog, check):
        called = [name.repository, name.tag, name.digest]
        said = [_INCOMPLETE] if name.incomplete else []
        write(_line([*called, *(said or [""]), name.entry] if name.entry else [*called, *said]))
    file.write(json.dumps({"sha256": state.hexdigest()}).encode() + b"\n")


def _line(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _all(catalog: Catalog, check: Callable[[], None]) -> Iterator[Ref]:
    # Page by page, each in a state of its own: one state for all of it would keep the WAL from being reset for seconds.
    tagged = (-1, "")
    while True:
        check()
        with catalog.read() as connection:
            page = refs.page_of_tags(connection, after=tagged, limit=_PAGE)
        if not page:
            break
        yield from page
        tagged = (page[-1].repository_id, page[-1].tag or "")
    untagged = (-1, -1)
    while True:
        check()
        with catalog.read() as connection:
            page, place = refs.page_of_untagged(connection, after=untagged, limit=_PAGE)
        if not page:
            break
        yield from page
        untagged = place


def header(paths: StorePaths) -> Header | None:
    """Return when the refs file was written; None where there is none, or it is damaged at its beginning.

    Raises:
        OSError: it could not be read, which does not mean that it is damaged.
    """
    try:
        with _opened(paths.refs_file) as file:
            return _header(file.readline(_MAXIMUM_LINE))
    except CorruptError:
        return None
    except OSError as error:
        pass_on_theirs(error)
        if error.errno in _NO_FILE:
            return None
        raise


def read(paths: StorePaths) -> Iterator[Ref]:
    """Yield what the refs file says, verified as a whole before the first line is given.

    Raises:
        FileNotFoundError: there is none.
        CorruptError: it is damaged, or no plain file.
        OSError: it could not be read.
    """
    state = hashlib.sha256()
    with _opened(paths.refs_file) as file:
        _header(file.readline(_MAXIMUM_LINE))
        file.seek(0)
        previous = b""
        while line := file.readline(_MAXIMUM_LINE):
            state.update(previous)
            previous = line
        if _document(previous) != {"sha256": state.hexdigest()}:
            raise CorruptError(str(paths.refs_file), reason="it is not as it was written")
        file.seek(0)
        file.readline(_MAXIMUM_LINE)
        while isinstance(entry := _document(file.readline(_MAXIMUM_LINE)), list):
            match entry:
                case [str(repository), str() | None as tag, str(digest)]:
                    yield Ref(0, repository, tag, digest)
                case [str(repository), str() | None as tag, str(digest), "" | "incomplete" as said, *besides] if (
                    not besides or _is_entry(besides)
                ):
                    yield Ref(0, repository, tag, digest, said == _INCOMPLETE, *besides)
                case _:
                    raise CorruptError(str(paths.refs_file), reason="a line of it is no name")


def _is_entry(besides: list[Any]) -> bool:
    """Whether this is one text that says what an entry of an index.json says besides its name."""
    if len(besides) != 1 or not isinstance(besides[0], str):
        return False
    try:
        document = strictjson.loads(besides[0].encode(), maximum=_MAXIMUM_LINE)
        Descriptor.from_json({**_ANY, **document} if isinstance(document, dict) else None, path="")
    except (ManifestInvalidError, UnicodeEncodeError):
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    descriptor = owned(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", closefd=False) as file:
        yield file


def _header(line: bytes) -> Header:
    match _document(line):
        case {"version": version, "taken": int(taken), "events": int(events)} if version == _VERSION:
            return Header(taken, events)
    raise CorruptError("catalog.snapshot", reason="its first line is not one that this version writes")


def _document(line: bytes) -> object:
    try:
        found: object = strictjson.loads(line, maximum=_MAXIMUM_LINE)
    except ManifestInvalidError as error:
        raise CorruptError("catalog.snapshot", reason=f"a line of it cannot be read: {error}") from error
    return found

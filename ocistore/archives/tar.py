"""Reading a tar archive as a stream, member by member, in constant memory; strictly, because archives are hostile.

Read are the forms that tools of today write: ustar, GNU and pax (IEEE 1003.1, pax, "pax Interchange Format"). The
fields of a header are parsed by the standard library; what is around them is done here, because ``tarfile`` takes
a damaged header for the end of the archive, and reads extended headers of any size into memory.

Nothing is extracted. Who reads decides what each kind of member means, and whether its name is acceptable.
"""

from __future__ import annotations

import errno
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from ocistore.errors import ArchiveInvalidError
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK: Final = 512
"""Bytes. Headers have this size, and content is padded to a multiple of it."""

MAXIMUM_EXTENDED_HEADER: Final = 1024 * 1024
"""Bytes of the pax and GNU headers before one member: its names and attributes. Linux allows attributes of 64 KiB."""
_MAXIMUM_SIZE: Final = 1 << 62
"""Bytes of a member. No disk has as many, and sums of a few of them still fit 64 bits."""
_SKIPPED_AT_ONCE: Final = 1024 * 1024
_MAXIMUM_RECORDS: Final = 10_000
"""Records in the extended headers before one member. Each costs a microsecond, and a hundred thousand fit into the
bytes allowed; a file has some dozens of attributes at most."""
_FREE_RECORDS: Final = 100_000
_RECORDS_OF_A_MEMBER: Final = 16
"""Records in all extended headers of an archive, and what is added to that for each member: name, times and owners are
eight. A record takes five bytes, which compress to almost none: a few hundred kilobytes could keep a processor busy for
minutes."""
_MAXIMUM_END: Final = 64 * 1024 * 1024
"""Bytes of zeros after the last member. Tar pads to records, of 10 KiB or what it is asked for; a hole has exabytes."""

Kind: TypeAlias = Literal[
    "file", "directory", "symlink", "hardlink", "character device", "block device", "fifo", "sparse file"
]

_GNU_MAGIC: Final = b"ustar  \0"
_USTAR_MAGIC: Final = b"ustar\0"
_PREFIX: Final = 345
"""Where a header of ustar has the beginning of a long name; one of GNU's has the times of access and change there."""
_TIME: Final = re.compile(rb"\0.{11}|[\x80\xff].{11}|[0-7 \0]{12}", re.DOTALL)
"""One of these two: none, a number in base 256, or one in octal."""

_ATTRIBUTE: Final = "SCHILY.xattr."
"""What the keys of extended attributes begin with in extended headers (tar(5) of libarchive; Go, GNU tar and star)."""

_LABEL: Final = b"V"
"""What ``tar --label`` begins an archive with: a name, and no member."""

_KINDS: Final[dict[bytes, Kind]] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
    tarfile.GNUTYPE_SPARSE: "sparse file",
}


def begins_like_tar(first: bytes) -> bool:
    """Whether an archive begins with these bytes: the first :data:`BLOCK` of something, or all where there are fewer.

    No bytes at all are taken for an archive without members, as they are in a layer.
    """
    if not first.strip(b"\0"):
        return True
    try:
        tarfile.TarInfo.frombuf(first[:BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class Readable(Protocol):
    """What an archive is read from: a binary file that need not be seekable."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


class Seekable(Readable, Protocol):
    """The same of a file in which what is left out need not be read."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Stand elsewhere."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, as its header says. Nothing in it was checked but the form."""

    name: str
    """The name as the header has it: perhaps absolute, perhaps with ``..`` in it. Bytes that are no UTF-8 are escaped
    as in ``os.fsdecode``."""
    kind: Kind
    size: int
    """Bytes of content that follow in the archive; of a sparse file, without its holes."""
    offset: int
    """Where they begin, counted from the beginning of the archive."""
    target: str
    """Of a link: what it leads to. A symlink's is relative to its directory, a hardlink's to the archive."""
    mode: int
    mtime: int
    """Seconds since the Unix epoch."""
    uid: int
    gid: int
    xattrs: tuple[tuple[str, bytes], ...] = ()
    """Extended attributes, each with its name and value."""


class TarReader:
    """The members of one archive, in order. Between two of them, the content of the first may be read.

    Every member must be whole. What the archive is padded with may lack: some tools write neither the blocks of zeros
    at its end nor what fills the last block of the last member.
    """

    def __init__(self, source: Readable, *, name: str, seek: Seekable | None = None, is_layer: bool = False) -> None:
        """Read ``source`` from its position.

        Args:
            source: the archive, not compressed.
            name: what messages call it.
            seek: the same object as ``source``, where content that nobody wants may be skipped by seeking.
            is_layer: whether it is to be read as those read a layer who unpack one: no bytes at all are an archive
                without members, and what follows the two blocks of zeros at its end means nothing.
        """
        self._source = source
        self._is_layer = is_layer
        self._name = name
        self._seek = seek
        self._position = 0
        self._left = 0
        """Bytes of the current member's content that were not read."""
        self._padding = 0
        self._extended_size = 0
        """Bytes of the extended headers before the member that comes next."""
        self._records = 0
        """Records in these."""
        self._allowed = _FREE_RECORDS
        """Records that may still come."""

    def __iter__(self) -> Iterator[Member]:
        """Yield each member.

        Raises:
            ArchiveInvalidError: the archive is damaged, cut short, of an unknown form, or followed by something else.
            OSError: it could not be read.
        """
        while (member := self._next()) is not None:
            yield member

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes of the content of the member that was given last; none at its end.

        Raises:
            ArchiveInvalidError: the archive ends within it.
            OSError: it could not be read.
        """
        wanted = min(size, self._left)
        if wanted <= 0:
            return b""
        data = self._source.read(wanted)
        if not data:
            raise self._error("it is cut short")
        self._left -= len(data)
        self._position += len(data)
        return data

    # --- headers ------------------------------------------------------------------------------------------------------

    def _next(self) -> Member | None:
        self._skip(self._left)
        whole = self._skip_padding(self._padding)
        self._left = self._padding = self._extended_size = self._records = 0
        self._allowed += _RECORDS_OF_A_MEMBER
        attributes: dict[str, str] = {}
        names: dict[str, str] = {}
        while True:
            block = self._block() if whole else None
            if block is None or not block.strip(b"\0"):
                if attributes or names:
                    raise self._error("it ends with a header that belongs to nothing")
                if block is None:
                    # Even an empty archive ends with zeros; some tools leave them out after the last member, and what
                    # pads its content, too.
                    if self._position == 0 and not self._is_layer:
                        raise self._error("it is empty")
                    return None
                self._check_end()
                return None
            header = self._header(block)
            if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                attributes = self._pax(header)
            elif header.type == tarfile.XGLTYPE:
                self._refuse_global(self._pax(header))
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                names["path"] = self._long_name(header)
            elif header.type == tarfile.GNUTYPE_LONGLINK:
                names["linkpath"] = self._long_name(header)
            elif header.type != _LABEL or header.size:
                # Of several that say the same, the last counts; and a name of GNU's before one of pax, as in Go.
                said = attributes | {key: name for key, name in names.items() if name}
                return self._member(block, header, said)

    def _header(self, block: bytes) -> tarfile.TarInfo:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._error(f"it is no tar archive, or damaged, at byte {self._position - BLOCK}: {error}") from error
        self._check_size(header.size)
        if block[_PREFIX] and header.type not in tarfile.GNU_TYPES:
            header.name = _own_name(block, header.name)
        return header

    def _member(self, block: bytes, header: tarfile.TarInfo, extended: dict[str, str]) -> Member:
        kind = _KINDS.get(header.type)
        name = extended.get("path", header.name)
        if kind == "directory" and not name:
            name = "."  # what Python's tarfile calls the directory that everything is in, if asked to
        if kind is None:
            raise self._error(f"its kind, {header.type!r}, is unknown", member=name)
        target = extended.get("linkpath", header.linkname)
        if "\0" in name or not name or "\0" in target:
            raise self._error("a member's name is empty, or it or what it leads to has a zero byte in it", member=name)
        size = self._number(extended["size"]) if "size" in extended else header.size
        self._check_size(size)
        if any(key.startswith("GNU.sparse.") for key in extended):
            kind, name = "sparse file", extended.get("GNU.sparse.name", name)
        if header.type == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_map(more=bool(block[482]))
        if kind not in ("file", "sparse file"):
            size = 0  # whatever the header says: of no other kind content is stored (IEEE 1003.1, pax, ``typeflag``)
        self._left, self._padding = size, -size % BLOCK
        return Member(
            name=name,
            kind=kind,
            size=size,
            offset=self._position,
            target=target,
            mode=header.mode & 0o7777,
            mtime=self._stated(extended, "mtime", int(header.mtime)),
            uid=self._stated(extended, "uid", header.uid),
            gid=self._stated(extended, "gid", header.gid),
            xattrs=_attributes(extended) if extended else (),
        )

    def _skip_sparse_map(self, *, more: bool) -> None:
        """Skip the blocks of the map that follow in GNU's old form, each of which says whether another follows."""
        while more:
            block = self._exactly(BLOCK)
            if block is None:
                raise self._error("it is cut short")
            more = bool(block[504])

    def _pax(self, header: tarfile.TarInfo) -> dict[str, str]:
        """Return the records of an extended header, each "LENGTH KEY=VALUE" with a line feed after it.

        A record without a value revokes what was said: the plain header counts.
        """
        content = self._extended(header)
        found: dict[str, str] = {}
        position = 0
        while position < len(content):
            self._records += 1
            self._allowed -= 1
            if self._records > _MAXIMUM_RECORDS:
                raise self._error(f"a member has more than {_MAXIMUM_RECORDS} attributes")
            if self._allowed < 0:
                raise self._error("its members have more attributes than anybody writes")
            digits, space, _ = content[position : position + 20].partition(b" ")
            if not space or not digits.isdigit():
                raise self._error("an extended header is damaged")
            end = position + int(digits)
            record = content[position + len(digits) + 1 : end]
            key, equals, value = record.partition(b"=")
            if not equals or end > len(content) or not value.endswith(b"\n"):
                raise self._error("an extended header is damaged")
            found[key.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
            position = end
        return {key: value for key, value in found.items() if value}

    def _refuse_global(self, records: dict[str, str]) -> None:
        """Refuse records for all members that follow, except a comment, as git writes one.

        A name or a size would do harm.
        """
        if not records.keys().isdisjoint({"path", "linkpath", "size"}) or any(
            key.startswith("GNU.sparse.") for key in records
        ):
            raise self._error("a global header gives all members one name or size")

    def _long_name(self, header: tarfile.TarInfo) -> str:
        return self._extended(header).partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def _extended(self, header: tarfile.TarInfo) -> bytes:
        self._extended_size += header.size
        if self._extended_size > MAXIMUM_EXTENDED_HEADER:
            raise self._error(f"a member's name and attributes have more than {MAXIMUM_EXTENDED_HEADER} bytes")
        content = self._exactly(header.size + -header.size % BLOCK)
        if content is None and header.size:
            raise self._error("it is cut short")
        return b"" if content is None else content[: header.size]

    def _stated(self, extended: dict[str, str], key: str, plain: int) -> int:
        """Return what an extended header says, without its fraction, where the plain one had no room for it."""
        if key not in extended:
            return plain
        whole = extended[key].partition(".")[0]
        return -self._number(whole[1:]) if whole.startswith("-") else self._number(whole)

    def _number(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 20:
            raise self._error(f"{text!r:.50} is no number")
        return int(text)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= _MAXIMUM_SIZE:
            raise self._error(f"a member says that it has {size} bytes")

    # --- bytes --------------------------------------------------------------------------------------------------------

    def _block(self) -> bytes | None:
        """Return the next block.

        None at the end of the stream, also where that lacks some of the zeros that it ends with.
        """
        block = self._some(BLOCK)
        if len(block) < BLOCK and block.strip(b"\0"):
            whole = self._position >= BLOCK
            raise self._error("it is cut short" if whole else "it is cut short, or no tar archive")
        return block if len(block) == BLOCK else None

    def _skip_padding(self, size: int) -> bool:
        """Skip what a member is padded with. Return whether all of it exists: at the end of an archive it may lack."""
        return len(self._some(size)) == size

    def _exactly(self, size: int) -> bytes | None:
        """Return exactly ``size`` bytes; None at the end of the stream."""
        content = self._some(size)
        if not content:
            return None
        if len(content) < size:
            raise self._error("it is cut short")
        return content

    def _some(self, size: int) -> bytes:
        """Return ``size`` bytes, or what there is to the end of the stream."""
        pieces = []
        left = size
        while left and (data := self._source.read(left)):
            pieces.append(data)
            left -= len(data)
        self._position += size - left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _skip(self, size: int) -> None:
        if not size:
            return
        if self._seek is not None:
            # The last byte is read, so that a size beyond the end is noticed.
            try:
                self._seek.seek(size - 1, 1)
            except OSError as error:
                pass_on_theirs(error)
                if error.errno != errno.EINVAL:
                    raise
                raise self._error("it is cut short") from error  # farther than any file reaches
            self._position += size - 1
            if self._exactly(1) is None:
                raise self._error("it is cut short")
            return
        while size:
            data = self._source.read(min(size, _SKIPPED_AT_ONCE))
            if not data:
                raise self._error("it is cut short")
            size -= len(data)
            self._position += len(data)

    def _check_end(self) -> None:
        """Check that nothing but zeros follows the first block of zeros: what else follows, some tools read, some not.

        After the second one of a layer, none that unpacks it does.
        """
        if self._is_layer and not self._some(BLOCK).strip(b"\0"):
            while self._source.read(_SKIPPED_AT_ONCE):
                pass
            return
        if self._is_layer:
            raise self._error("something follows the end of the archive")
        zeros = 0
        while data := self._source.read(_SKIPPED_AT_ONCE):
            zeros += len(data)
            if data.count(0) != len(data):
                raise self._error("something follows the end of the archive")
            if zeros > _MAXIMUM_END:
                raise self._error(f"more than {_MAXIMUM_END} zero bytes follow the end of the archive")

    def _error(self, reason: str, *, member: str = "") -> ArchiveInvalidError:
        return ArchiveInvalidError(self._name, reason=reason, member=member)


def _attributes(extended: dict[str, str]) -> tuple[tuple[str, bytes], ...]:
    return tuple(
        (key.removeprefix(_ATTRIBUTE), value.encode("utf-8", "surrogateescape"))
        for key, value in extended.items()
        if key.startswith(_ATTRIBUTE)
    )


def _own_name(block: bytes, name: str) -> str:
    """Return the name in a header, before which the standard library puts a prefix whatever is in its place.

    In headers of GNU's these are times; but Go wrote prefixes there until 1.8, which are known by being none.
    """
    magic = block[257:265]
    times = _TIME.fullmatch(block[_PREFIX : _PREFIX + 12]) and _TIME.fullmatch(block[_PREFIX + 12 : _PREFIX + 24])
    if magic.startswith(_USTAR_MAGIC) or (magic == _GNU_MAGIC and not times):
        return name
    misread = block[_PREFIX:500].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return name.removeprefix(f"{misread}/")

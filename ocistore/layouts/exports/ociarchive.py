"""Writing an OCI layout as a tar archive: the layout's two files first, then manifests, then all other blobs.

In that order a reader of the archive as a stream knows what each member is when it comes: the names, then the
indexes from the top down, then the manifests they lead to, and with these all configs and layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ocistore.archives.tarwriting import TarWriter
from ocistore.layouts.directory import BLOBS, INDEX_JSON, OCI_LAYOUT
from ocistore.layouts.exports.sink import SMALL
from ocistore.layouts.index import LAYOUT_FILE, index_bytes, merged
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocistore.blobs.pool import Provider
    from ocistore.layouts.exports.selection import Selection
    from ocistore.layouts.exports.sink import ArchiveSink

_WRITTEN_AT_ONCE: Final = 64 * 1024
"""Bytes of an index.json, which may have thousands of times as many."""


def write_oci_archive(outlet: ArchiveSink, pool: Provider, selection: Selection, *, left_out: frozenset[str]) -> None:
    """Write all that was chosen, except the blobs to be left out. The same choice gives the same bytes.

    Raises:
        CorruptError: a blob is missing, or has another size.
        StorageError, StoreFullError: it could not be written.
    """
    entries = merged([], selection.entries)
    manifests = list(_from_the_top(pool, selection, entries.digests))
    manifest_set = set(manifests)
    blobs = [digest for digest, node in selection.nodes.items() if node.here and digest not in manifest_set]
    written = [*manifests, *sorted(digest for digest in blobs if digest not in left_out)]
    tar = TarWriter(outlet.write)
    tar.file(OCI_LAYOUT, LAYOUT_FILE)
    index = index_bytes(entries)
    tar.begin_file(INDEX_JSON, len(index))
    for begin in range(0, len(index), _WRITTEN_AT_ONCE):
        outlet.write(bytes(memoryview(index)[begin : begin + _WRITTEN_AT_ONCE]))
    tar.end_file()
    del index
    tar.directory(BLOBS)
    for algorithm in sorted({digest.partition(":")[0] for digest in written}):
        tar.directory(f"{BLOBS}/{algorithm}")
    for text in written:
        digest = Digest(text)
        name = f"{BLOBS}/{digest.replace(':', '/')}"
        if digest in selection.made:
            tar.file(name, selection.made[digest].content)
            continue
        size = selection.nodes[text].size
        if size <= SMALL:
            tar.file(name, outlet.read(pool, digest, size))
        else:
            tar.begin_file(name, size)
            outlet.send(pool, digest, size)
            tar.end_file()
    tar.finish()


def _from_the_top(pool: Provider, selection: Selection, roots: Iterable[Digest]) -> Iterator[str]:
    """Yield all manifests, no child before the first of its parents."""
    level: dict[str, None] = dict.fromkeys(roots)
    seen: set[str] = set()
    while level:
        yield from level
        seen |= level.keys()
        below: dict[str, None] = {}
        for digest in level:
            for child in _children(pool, selection, digest):
                if child in selection.made or _is_manifest(selection, child):
                    below[child] = None
        level = {digest: None for digest in below if digest not in seen}


def _is_manifest(selection: Selection, digest: str) -> bool:
    node = selection.nodes.get(digest)
    return node is not None and node.here and node.media_type is not None


def _children(pool: Provider, selection: Selection, digest: str) -> list[str]:
    """Return what an index lists; nothing for other manifests."""
    made = selection.made.get(Digest(digest))
    if made is not None:
        return [child.digest for child in made.manifests]
    node = selection.nodes[digest]
    if node.media_type is None or not mediatypes.is_index_type(node.media_type):
        return []
    document = strictjson.loads(pool.read(Digest(digest), node.size), maximum=node.size)
    children = document.get("manifests") if isinstance(document, dict) else None
    return [child["digest"] for child in children or ()]

"""What an export lacks: which layer, or which image, of what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.errors import ManifestInvalidError
from ocistore.oci import mediatypes
from ocistore.oci.manifest import check_manifest, kind_of
from ocistore.refusals import Ignoring

if TYPE_CHECKING:
    from ocistore.blobs.pool import Provider
    from ocistore.layouts.exports.selection import Selection
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.manifest import Manifest


def kinds(pool: Provider, selection: Selection) -> dict[str, str]:
    """Return what each digest of ``selection.absent`` is, such as ``image for linux/arm64 in app:v1``.

    Where many refer to one, the first decides.

    Reads manifests from the entries down until nothing is left to be named, and none where nothing is absent. What is
    damaged is passed over: it is found when it is written.

    Raises:
        StorageError: one could not be read.
    """
    found = dict(selection.left_out)
    unnamed = set(selection.absent) - found.keys()
    seen: set[str] = set()
    for entry in selection.entries:
        pending = [entry.descriptor]
        while unnamed and pending:
            descriptor = pending.pop()
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            manifest = selection.made.get(descriptor.digest) or _read(pool, descriptor)
            for edge in manifest.edges() if manifest is not None else ():
                child = edge.descriptor
                if child.digest in unnamed:
                    unnamed.discard(child.digest)
                    kind = kind_of(child) if edge.role == "manifest" else edge.role
                    found[child.digest] = f"{kind} in {entry.image_name}"
                elif edge.role == "manifest" and mediatypes.is_known_manifest(child.media_type):
                    pending.append(child)
    return dict(sorted(found.items()))


def _read(pool: Provider, descriptor: Descriptor) -> Manifest | None:
    with Ignoring(FileNotFoundError, ManifestInvalidError):
        return check_manifest(
            pool.read(descriptor.digest, descriptor.size), media_type=descriptor.media_type, maximum=descriptor.size
        )
    return None

"""An index.json that is the index of one image: what lists nothing but images for several platforms, none with a name.

Tools that write an index as a layout (go-containerregistry's ``layout.Write``, apko) make it the index.json, and
``crane push`` pushes it as that: its bytes are a manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.errors import ManifestInvalidError
from ocistore.layouts.directory import INDEX_JSON, NotPlainError
from ocistore.layouts.index import MAXIMUM_INDEX_SIZE
from ocistore.oci.manifest import check_manifest
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocistore.layouts.imports.source import Source
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.manifest import Manifest


def index_of_platforms(source: Source, entries: Sequence[Descriptor], *, maximum: int) -> Manifest | None:
    """Return the index that index.json is; None where it is a list of things that have no more in common.

    Args:
        source: where it is.
        entries: all that it lists.
        maximum: bytes of a manifest.
    """
    platforms = {entry.platform for entry in entries if entry.stated_platform is not None}
    if len(platforms) < len(entries):
        return None
    try:
        return check_manifest(source.read(INDEX_JSON, maximum=MAXIMUM_INDEX_SIZE), maximum=maximum)
    except (ManifestInvalidError, NotPlainError, OSError) as error:
        pass_on_theirs(error)
        return None

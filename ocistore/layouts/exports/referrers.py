"""What is about exported content: by its subject, or by a tag that has the digest of what it is about.

Signatures, SBOMs and attestations have the manifest that they are about as their subject, or, as cosign wrote them
before version 3, a tag made of its digest (see :mod:`ocistore.oci.referrertags`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ocistore.catalog import manifests
from ocistore.catalog.about import reach, tagged_about
from ocistore.oci import mediatypes
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE, Manifest, check_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ocistore.catalog import graph
    from ocistore.catalog.connection import Connection
    from ocistore.oci.descriptor import Descriptor


def left_out(connection: Connection, repository_id: int, roots: Iterable[str], going: Collection[str]) -> set[str]:
    """Return the digests of what is about something below ``roots``, to any depth, and is not itself exported."""
    everything = reach(connection, repository_id, roots)
    about = {node.digest for node in everything.nodes if node.refers and node.media_type is not None}
    return about.union(everything.tagged.values()).difference(going)


def all_about(connection: Connection, repository_id: int, digest: str) -> set[str]:
    """Return the digests of what is about one manifest, to any depth. What is below it is not looked at."""
    by_subject = manifests.referrers(connection, repository_id, digest, artifact_type=None)
    direct: set[str] = {referrer.digest for referrer in by_subject}
    direct.update(tagged_about(connection, repository_id, [digest]).values())
    return direct | left_out(connection, repository_id, direct, going=())


def listed(connection: Connection, repository_id: int, nodes: Iterable[graph.Node]) -> dict[str, dict[str, Descriptor]]:
    """Return the referrers of each of these manifests that are themselves among them, by subject and digest.

    As a registry lists them: with artifact type and annotations (distribution specification, "Listing Referrers").
    """
    own = [node.digest for node in nodes if node.media_type is not None]
    going = set(own)
    found = {}
    for subject in own:
        referrers = {
            str(referrer.digest): referrer
            for referrer in manifests.referrers(connection, repository_id, subject, artifact_type=None)
            if referrer.digest in going
        }
        if referrers:
            found[subject] = referrers
    return found


def list_index(referrers: Mapping[str, Descriptor]) -> Manifest:
    """Return the index that lists referrers, in byte order of digests, so that the same ones give the same bytes.

    Raises:
        ManifestInvalidError: there are more than an index can list.
    """
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [referrers[digest].to_json() for digest in sorted(referrers)],
    }
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return check_manifest(content, media_type=mediatypes.OCI_INDEX, maximum=max(MAXIMUM_MANIFEST_SIZE, len(content)))

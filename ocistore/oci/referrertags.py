"""Tags that name what is about a manifest, by the manifest's digest: cosign's, and the specification's own.

cosign (before version 3) tags a signature of ``sha256:HEX`` as ``sha256-HEX.sig``, an attestation ``.att``, an SBOM
``.sbom``; such a manifest has no subject. The distribution specification ("Referrers Tag Schema") has clients list
the referrers of a manifest in an index tagged ``sha256-HEX`` where a registry cannot list them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ocistore.oci.digest import Digest

PREFIXES: Final = ("sha256-", "sha512-")
"""How every one of these tags begins."""

_SUFFIXES: Final = (".sig", ".att", ".sbom")
_LONGEST_ALGORITHM: Final = 32
_LONGEST_ENCODED: Final = 64
"""Characters of a digest that a list's tag has (distribution specification, "Referrers Tag Schema")."""

_LIST: Final = re.compile(r"sha(256|512)-[0-9a-f]{32,64}", re.ASCII)
_ANY: Final = re.compile(r"sha(256|512)-[0-9a-f]{32,128}(\.(sig|att|sbom))?", re.ASCII)


def list_tag(digest: Digest) -> str:
    """Return the tag of the index that lists the referrers of a manifest."""
    return f"{digest.algorithm[:_LONGEST_ALGORITHM]}-{digest.encoded[:_LONGEST_ENCODED]}"


def tags_about(digest: Digest) -> tuple[str, ...]:
    """Return every tag under which something about a manifest may be found."""
    name = f"{digest.algorithm}-{digest.encoded}"
    return (*(f"{name}{suffix}" for suffix in _SUFFIXES), list_tag(digest))


def is_list_tag(tag: str) -> bool:
    """Whether an index with this tag lists the referrers of something."""
    return _LIST.fullmatch(tag) is not None


def is_about(tag: str) -> bool:
    """Whether what has this tag is about something else."""
    return _ANY.fullmatch(tag) is not None

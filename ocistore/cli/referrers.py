"""Printing trees of referrers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ocistore.cli.printing import print_line, readable_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocistore.artifacts import Referrer

_DEEPEST: Final = 32
"""Levels that are shown by indentation. A chain of ten thousand would print a hundred megabytes of blanks."""


def print_referrers(referrers: Sequence[Referrer], *, indent: str = "", with_annotations: bool = False) -> None:
    """Print one line for each: artifact type, digest and size, indented by its depth."""
    for referrer in referrers:
        descriptor = referrer.descriptor
        blanks = indent + "  " * min(referrer.depth, _DEEPEST)
        deeper = f"({referrer.depth}) " if referrer.depth > _DEEPEST else ""
        kind = descriptor.artifact_type or descriptor.media_type
        print_line(f"{blanks}{deeper}{kind}  {descriptor.digest}  {readable_size(descriptor.size)}")
        if with_annotations:
            for name, value in sorted(descriptor.annotations.items()):
                print_line(f"{blanks}    {name}: {value}")

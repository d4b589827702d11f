"""How much of everything a run measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Sizes:
    """Counts, bytes where it says so."""

    big_blob: int
    """Bytes."""
    big_rounds: int
    few_images: int
    many_images: int
    pushes: int
    """Of small images in each round."""
    push_rounds: int
    few_tags: int
    many_tags: int
    lookups: int
    """Of random tags in each round."""
    lookup_rounds: int
    page_rounds: int
    open_rounds: int
    import_rounds: int
    """Of importing the module."""
    layout_blobs: int
    layout_rounds: int
    image: int
    """Bytes of the layers of one big image."""
    image_layers: int
    image_rounds: int
    directory_files: int
    """Files that are as many bytes together as the image."""
    link_rounds: int
    tagged_images: int
    counted_images: int
    """Of these the first and the last that are looked at by themselves."""
    tagged_rounds: int
    large_change: int
    """Images in one import, transaction or deletion."""
    writers: int
    writer_pushes: int
    """Of each of the processes that write at once."""
    writer_rounds: int
    dead_blobs: int
    collected_among: int
    collect_rounds: int
    dead_blobs_beside: int
    pushes_beside: int
    recovery_rounds: int
    peer_rounds: int


FULL: Final = Sizes(
    big_blob=1 << 30,
    big_rounds=5,
    few_images=1_000,
    many_images=100_000,
    pushes=20,
    push_rounds=40,
    few_tags=1_000,
    many_tags=1_000_000,
    lookups=500,
    lookup_rounds=40,
    page_rounds=60,
    open_rounds=60,
    import_rounds=25,
    layout_blobs=10_000,
    layout_rounds=5,
    image=2 << 30,
    image_layers=8,
    image_rounds=5,
    directory_files=64,
    link_rounds=20,
    tagged_images=5_000,
    counted_images=500,
    tagged_rounds=3,
    large_change=50_000,
    writers=8,
    writer_pushes=100,
    writer_rounds=3,
    dead_blobs=10_000,
    collected_among=20_000,
    collect_rounds=3,
    dead_blobs_beside=100_000,
    pushes_beside=1_000,
    recovery_rounds=20,
    peer_rounds=2,
)
QUICK: Final = Sizes(
    big_blob=16 << 20,
    big_rounds=2,
    few_images=50,
    many_images=500,
    pushes=3,
    push_rounds=3,
    few_tags=50,
    many_tags=2_000,
    lookups=20,
    lookup_rounds=3,
    page_rounds=5,
    open_rounds=3,
    import_rounds=2,
    layout_blobs=60,
    layout_rounds=2,
    image=16 << 20,
    image_layers=4,
    image_rounds=2,
    directory_files=8,
    link_rounds=2,
    tagged_images=60,
    counted_images=10,
    tagged_rounds=2,
    large_change=1_200,
    writers=3,
    writer_pushes=5,
    writer_rounds=1,
    dead_blobs=100,
    collected_among=200,
    collect_rounds=2,
    dead_blobs_beside=300,
    pushes_beside=20,
    recovery_rounds=2,
    peer_rounds=1,
)
"""Only to see that everything runs: what it measures says nothing about what the full sizes take."""

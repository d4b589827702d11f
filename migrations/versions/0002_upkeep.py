"""Upkeep: why no collection may run, the order in which scrub reads, what a lease keeps, whose backup this is.

Revision: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _columns() -> list[sa.Column[int]]:
    """Those that the table had before."""
    return [
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True),
        sa.Column("layout_version", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "collection_holds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.Integer, nullable=False),
        sa.Column("expires", sa.Integer),
        sqlite_strict=True,
    )
    # Made anew and not altered, so that the new column may be required. Nothing refers to it.
    op.rename_table("store", "store_0001")
    op.create_table(
        "store",
        *_columns(),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("backup_of", sa.Text),
        sqlite_strict=True,
    )
    op.execute(
        "INSERT INTO store (id, layout_version, epoch, created, identity)"
        " SELECT id, layout_version, epoch, created, lower(hex(randomblob(16))) FROM store_0001"
    )
    op.drop_table("store_0001")
    op.create_index("ix_blobs_verified_at", "blobs", ["verified_at"])
    op.drop_index("ix_lease_blobs_repository_id")
    op.create_index("ix_lease_blobs_repository_id_blob_id", "lease_blobs", ["repository_id", "blob_id"])


def downgrade() -> None:
    op.drop_index("ix_lease_blobs_repository_id_blob_id")
    op.create_index("ix_lease_blobs_repository_id", "lease_blobs", ["repository_id"])
    op.drop_index("ix_blobs_verified_at")
    op.rename_table("store", "store_0002")
    op.create_table("store", *_columns(), sqlite_strict=True)
    op.execute(
        "INSERT INTO store (id, layout_version, epoch, created)"
        " SELECT id, layout_version, epoch, created FROM store_0002"
    )
    op.drop_table("store_0002")
    op.drop_table("collection_holds")

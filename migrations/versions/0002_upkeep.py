"""Upkeep: why no collection may run, the order in which scrub reads, what a lease keeps.

Revision: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "collection_holds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.Integer, nullable=False),
        sa.Column("expires", sa.Integer),
        sqlite_strict=True,
    )
    op.create_index("ix_blobs_verified_at", "blobs", ["verified_at"])
    op.drop_index("ix_lease_blobs_repository_id")
    op.create_index("ix_lease_blobs_repository_id_blob_id", "lease_blobs", ["repository_id", "blob_id"])


def downgrade() -> None:
    op.drop_index("ix_lease_blobs_repository_id_blob_id")
    op.create_index("ix_lease_blobs_repository_id", "lease_blobs", ["repository_id"])
    op.drop_index("ix_blobs_verified_at")
    op.drop_table("collection_holds")

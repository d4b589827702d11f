"""Rows of large changes among those of the repository that they are for, hidden until one row reveals all of them.

Revision: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_STAGED = ("repository_blobs", "repository_manifests", "tags")


def upgrade() -> None:
    op.add_column("batches", sa.Column("revealed", sa.Integer))
    for table in _STAGED:
        op.add_column(table, sa.Column("batch", sa.Integer))
    op.add_column("tags", sa.Column("fresh", sa.Integer))
    op.add_column("tags", sa.Column("next_id", sa.Integer))
    op.add_column("tags", sa.Column("next_entry", sa.Text))
    for table in _STAGED:
        op.create_index(f"ix_{table}_batch", table, ["batch"], sqlite_where=sa.text("batch IS NOT NULL"))
    op.create_index(
        "ix_tags_repository_id_next_id",
        "tags",
        ["repository_id", "next_id"],
        sqlite_where=sa.text("next_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_tags_repository_id_next_id", "tags")
    for table in _STAGED:
        op.drop_index(f"ix_{table}_batch", table)
    for column in ("next_entry", "next_id", "fresh"):
        op.execute(f"ALTER TABLE tags DROP COLUMN {column}")
    for table in _STAGED:
        op.execute(f"ALTER TABLE {table} DROP COLUMN batch")
    op.execute("ALTER TABLE batches DROP COLUMN revealed")

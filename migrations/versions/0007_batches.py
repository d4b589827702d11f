"""Large changes, which are written into hidden repositories and revealed by one commit.

Revision: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def _make_deleted_repositories_anew(*, named: bool) -> None:
    op.rename_table("deleted_repositories", "deleted_repositories_before")
    op.create_table(
        "deleted_repositories",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), primary_key=True),
        sa.Column("name", sa.Text, nullable=not named),
        sa.Column("deleted", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("next_event", sa.Integer),
        sqlite_strict=True,
    )
    op.execute("INSERT INTO deleted_repositories SELECT * FROM deleted_repositories_before WHERE name IS NOT NULL")
    op.drop_table("deleted_repositories_before")


def upgrade() -> None:
    op.add_column("tag_events", sa.Column("batch", sa.Integer))
    _make_deleted_repositories_anew(named=False)
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("expires", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_batches_expires", "batches", ["expires"])
    op.create_table(
        "staged_repositories",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), primary_key=True),
        sa.Column("batch_id", sa.Integer, sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_staged_repositories_batch_id", "staged_repositories", ["batch_id"])


def downgrade() -> None:
    op.drop_table("staged_repositories")
    op.drop_table("batches")
    _make_deleted_repositories_anew(named=True)
    op.execute("ALTER TABLE tag_events DROP COLUMN batch")

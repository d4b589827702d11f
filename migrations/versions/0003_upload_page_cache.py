"""Upload sessions say which page cache has the bytes that nobody synced yet.

Revision: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEPT = 'id, repository_id, algorithm, "offset", started, touched, expires'


def upgrade() -> None:
    _make_anew(sa.Column("page_cache", sa.Text))


def downgrade() -> None:
    _make_anew()


def _make_anew(*columns: sa.Column[str]) -> None:
    """Made anew and not altered, so that the text of the table is that of one that was just made."""
    op.drop_index("ix_uploads_expires")
    op.drop_index("ix_uploads_repository_id_id")
    op.rename_table("uploads", "uploads_before")
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("offset", sa.Integer, sa.CheckConstraint('"offset" >= 0', name="offset"), nullable=False),
        sa.Column("started", sa.Integer, nullable=False),
        sa.Column("touched", sa.Integer, nullable=False),
        sa.Column("expires", sa.Integer, nullable=False),
        *columns,
        sqlite_strict=True,
    )
    op.execute(f"INSERT INTO uploads ({_KEPT}) SELECT {_KEPT} FROM uploads_before")  # noqa: S608 - names of columns
    op.drop_table("uploads_before")
    op.create_index("ix_uploads_repository_id_id", "uploads", ["repository_id", "id"])
    op.create_index("ix_uploads_expires", "uploads", ["expires"])

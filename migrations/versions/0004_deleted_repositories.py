"""Repositories that are deleted in one small step, and emptied in many.

Revision: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _make_repositories_anew(*, nullable: bool) -> None:
    """With a name that may be missing, or not."""
    # So that what refers to the table still refers to what has its name in the end (sqlite.org/lang_altertable.html).
    op.execute("PRAGMA legacy_alter_table = ON")
    op.rename_table("repositories", "repositories_before")
    op.execute("PRAGMA legacy_alter_table = OFF")
    op.create_table(
        "repositories",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=nullable),
        sa.Column("created", sa.Integer, nullable=False),
        sa.UniqueConstraint("name"),
        sqlite_strict=True,
    )
    op.execute("INSERT INTO repositories (id, name, created) SELECT id, name, created FROM repositories_before")
    op.drop_table("repositories_before")


def upgrade() -> None:
    _make_repositories_anew(nullable=True)
    op.create_table(
        "deleted_repositories",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("deleted", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("next_event", sa.Integer),
        sqlite_strict=True,
    )


def downgrade() -> None:
    op.drop_table("deleted_repositories")
    _make_repositories_anew(nullable=False)

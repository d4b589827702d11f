"""Tags by when they were last moved, to list the newest ones without reading all.

Revision: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

_INDEX = "ix_tags_repository_id_updated_name"


def upgrade() -> None:
    op.create_index(_INDEX, "tags", ["repository_id", "updated", "name"])


def downgrade() -> None:
    op.drop_index(_INDEX, "tags")

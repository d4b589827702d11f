"""Which manifests a repository holds although it lacks some of what they refer to: sparse indexes.

Revision: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("repository_manifests", sa.Column("incomplete", sa.Integer))


def downgrade() -> None:
    op.execute("ALTER TABLE repository_manifests DROP COLUMN incomplete")

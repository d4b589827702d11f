"""What the index.json that a tag or manifest came from said of it besides: annotations and a platform.

Revision: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("tags", sa.Column("entry", sa.Text))
    op.add_column("repository_manifests", sa.Column("entry", sa.Text))


def downgrade() -> None:
    op.execute("ALTER TABLE repository_manifests DROP COLUMN entry")
    op.execute("ALTER TABLE tags DROP COLUMN entry")

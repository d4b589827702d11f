"""The first schema.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "store",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True),
        sa.Column("layout_version", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "repositories",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.UniqueConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "blobs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, sa.CheckConstraint("size >= 0", name="size"), nullable=False),
        sa.Column(
            "state",
            sa.Text,
            sa.CheckConstraint("state IN ('live', 'condemned', 'absent')", name="state"),
            nullable=False,
        ),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("collect_after", sa.Integer),
        sa.Column("verified_at", sa.Integer),
        sa.UniqueConstraint("digest"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_blobs_collect_after", "blobs", ["collect_after"], sqlite_where=sa.text("collect_after IS NOT NULL")
    )
    op.create_table(
        "repository_blobs",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), nullable=False),
        sa.Column("blob_id", sa.Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.Column("linked_at", sa.Integer, nullable=False),
        sa.Column("collect_after", sa.Integer),
        sa.PrimaryKeyConstraint("repository_id", "blob_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_repository_blobs_blob_id", "repository_blobs", ["blob_id"])
    op.create_index(
        "ix_repository_blobs_collect_after",
        "repository_blobs",
        ["collect_after"],
        sqlite_where=sa.text("collect_after IS NOT NULL"),
    )
    op.create_table(
        "manifests",
        sa.Column("blob_id", sa.Integer, sa.ForeignKey("blobs.id"), primary_key=True),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("artifact_type", sa.Text),
        sa.Column("config_media_type", sa.Text),
        sa.Column("subject_id", sa.Integer, sa.ForeignKey("blobs.id")),
        sa.Column("annotations", sa.Text),
        sa.Column("platform", sa.Text),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_manifests_subject_id", "manifests", ["subject_id"], sqlite_where=sa.text("subject_id IS NOT NULL")
    )
    op.create_table(
        "edges",
        sa.Column("parent_id", sa.Integer, sa.ForeignKey("manifests.blob_id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column(
            "role",
            sa.Text,
            sa.CheckConstraint("role IN ('config', 'layer', 'manifest', 'subject')", name="role"),
            nullable=False,
        ),
        sa.Column("child_id", sa.Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("parent_id", "position"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_edges_child_id", "edges", ["child_id"])
    op.create_table(
        "repository_manifests",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), nullable=False),
        sa.Column("manifest_id", sa.Integer, sa.ForeignKey("manifests.blob_id"), nullable=False),
        sa.Column("pushed_at", sa.Integer, nullable=False),
        sa.Column("collect_after", sa.Integer),
        sa.PrimaryKeyConstraint("repository_id", "manifest_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_repository_manifests_manifest_id", "repository_manifests", ["manifest_id"])
    op.create_index(
        "ix_repository_manifests_collect_after",
        "repository_manifests",
        ["collect_after"],
        sqlite_where=sa.text("collect_after IS NOT NULL"),
    )
    op.create_table(
        "repository_edges",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), nullable=False),
        sa.Column("child_id", sa.Integer, nullable=False),
        sa.Column("parent_id", sa.Integer, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "child_id", "parent_id", "role"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tags",
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("manifest_id", sa.Integer, nullable=False),
        sa.Column("updated", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "name"),
        sa.ForeignKeyConstraint(
            ["repository_id", "manifest_id"],
            ["repository_manifests.repository_id", "repository_manifests.manifest_id"],
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tags_repository_id_manifest_id", "tags", ["repository_id", "manifest_id"])
    op.create_table(
        "tag_events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("repository", sa.Text, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("old_digest", sa.Text),
        sa.Column("new_digest", sa.Text),
        sa.Column("at", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_tag_events_repository", "tag_events", ["repository"])
    op.create_index("ix_tag_events_repository_tag", "tag_events", ["repository", "tag"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("offset", sa.Integer, sa.CheckConstraint('"offset" >= 0', name="offset"), nullable=False),
        sa.Column("started", sa.Integer, nullable=False),
        sa.Column("touched", sa.Integer, nullable=False),
        sa.Column("expires", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_uploads_repository_id_id", "uploads", ["repository_id", "id"])
    op.create_index("ix_uploads_expires", "uploads", ["expires"])
    op.create_table(
        "leases",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("expires", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_leases_expires", "leases", ["expires"])
    op.create_table(
        "lease_blobs",
        sa.Column("lease_id", sa.Text, sa.ForeignKey("leases.id", ondelete="CASCADE"), nullable=False),
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), nullable=False),
        sa.Column("blob_id", sa.Integer, sa.ForeignKey("blobs.id"), nullable=False),
        sa.PrimaryKeyConstraint("lease_id", "repository_id", "blob_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_lease_blobs_blob_id", "lease_blobs", ["blob_id"])
    op.create_index("ix_lease_blobs_repository_id", "lease_blobs", ["repository_id"])


def downgrade() -> None:
    for name in (
        "lease_blobs",
        "leases",
        "uploads",
        "tag_events",
        "tags",
        "repository_edges",
        "repository_manifests",
        "edges",
        "manifests",
        "repository_blobs",
        "blobs",
        "repositories",
        "store",
    ):
        op.drop_table(name)

"""The queue of gc by the name of what it says, condemned blobs found by their state, and no columns that nobody reads.

Before, a condemned blob was queued at the instant 0, and a row without bytes that no manifest names any more at 1. Now
the first leaves the queue, and the second goes with the last manifest that names it.

Revision: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"

_QUEUES = ("blobs", "repository_blobs", "repository_manifests")
_UNREAD = (("store", "layout_version"), ("blobs", "generation"), ("repository_blobs", "linked_at"))

_INDEX = "CREATE INDEX ix_{table}_{column} ON {table} ({column}) WHERE {column} IS NOT NULL"

# As they were in revision 0009; what nobody read is as in a row that was made at the epoch and has never changed.
_BEFORE = {
    "store": (
        """CREATE TABLE store (
            id INTEGER NOT NULL CONSTRAINT ck_store_one_row CHECK (id = 1),
            layout_version INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            created INTEGER NOT NULL,
            identity TEXT NOT NULL,
            backup_of TEXT,
            CONSTRAINT pk_store PRIMARY KEY (id)
        ) STRICT""",
        "id, 1, epoch, created, identity, backup_of",
    ),
    "blobs": (
        """CREATE TABLE blobs (
            id INTEGER NOT NULL,
            digest TEXT NOT NULL,
            size INTEGER NOT NULL CONSTRAINT ck_blobs_size CHECK (size >= 0),
            state TEXT NOT NULL CONSTRAINT ck_blobs_state CHECK (state IN ('live', 'condemned', 'absent')),
            generation INTEGER NOT NULL,
            collect_after INTEGER,
            verified_at INTEGER,
            CONSTRAINT pk_blobs PRIMARY KEY (id),
            CONSTRAINT uq_blobs_digest UNIQUE (digest)
        ) STRICT""",
        """id, digest, size, state, state <> 'absent',
           CASE state WHEN 'condemned' THEN 0 ELSE unreferenced_since END, verified_at""",
    ),
    "repository_blobs": (
        """CREATE TABLE repository_blobs (
            repository_id INTEGER NOT NULL,
            blob_id INTEGER NOT NULL,
            linked_at INTEGER NOT NULL,
            collect_after INTEGER,
            batch INTEGER,
            leaves INTEGER,
            CONSTRAINT pk_repository_blobs PRIMARY KEY (repository_id, blob_id),
            CONSTRAINT fk_repository_blobs_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id),
            CONSTRAINT fk_repository_blobs_blob_id FOREIGN KEY(blob_id) REFERENCES blobs (id)
        ) WITHOUT ROWID, STRICT""",
        "repository_id, blob_id, 0, unreferenced_since, batch, leaves",
    ),
}


def upgrade() -> None:
    for table in _QUEUES:
        op.execute(f"DROP INDEX ix_{table}_collect_after")
        op.execute(f"ALTER TABLE {table} RENAME COLUMN collect_after TO unreferenced_since")
        op.execute(_INDEX.format(table=table, column="unreferenced_since"))
    for table, column in _UNREAD:
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    op.execute("UPDATE blobs SET unreferenced_since = NULL WHERE state = 'condemned'")
    op.execute(
        """DELETE FROM blobs WHERE state = 'absent' AND unreferenced_since IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM edges WHERE child_id = blobs.id)"""
    )
    op.execute("UPDATE blobs SET unreferenced_since = NULL WHERE state = 'absent'")
    op.execute("CREATE INDEX ix_blobs_condemned ON blobs (id) WHERE state = 'condemned'")


def downgrade() -> None:
    op.execute("DROP INDEX ix_repository_manifests_unreferenced_since")
    op.execute("ALTER TABLE repository_manifests RENAME COLUMN unreferenced_since TO collect_after")
    for table, (made, columns) in _BEFORE.items():
        op.execute(f"CREATE TEMPORARY TABLE kept AS SELECT {columns} FROM {table}")  # noqa: S608 - from above
        op.execute(f"DROP TABLE {table}")
        op.execute(made)
        op.execute(f"INSERT INTO {table} SELECT * FROM kept")  # noqa: S608
        op.execute("DROP TABLE kept")
    op.execute("CREATE INDEX ix_blobs_verified_at ON blobs (verified_at)")
    op.execute("CREATE INDEX ix_repository_blobs_blob_id ON repository_blobs (blob_id)")
    op.execute("CREATE INDEX ix_repository_blobs_batch ON repository_blobs (batch) WHERE batch IS NOT NULL")
    for table in _QUEUES:
        op.execute(_INDEX.format(table=table, column="collect_after"))

"""The schema of the catalog, in one place: what each table holds and what each column means.

    store ─ one row: epoch and identity; the schema's revision is Alembic's own ``alembic_version``
    repositories
     ├─ repository_blobs ──────▶ blobs          membership: this repository may serve that blob
     ├─ repository_manifests ──▶ manifests      membership: this repository may serve that manifest
     ├─ repository_edges                        the edges of those manifests, to be found by child
     ├─ tags ──────────────────▶ repository_manifests
     ├─ uploads                                 open sessions; their bytes lie in uploads/<id>
     ├─ staged_repositories ──▶ batches          large changes on their way: hidden, until one row reveals them
     ├─ deleted_repositories                    deleted, and not yet emptied: their rows go in small transactions
     └─ (tag_events)                            by name, so that it outlives the repository
    manifests ─▶ blobs                          what a manifest says, parsed once, when it was put
     └─ edges ─▶ blobs                          what it refers to: config, layers, manifests, subject
    leases ─ lease_blobs ─▶ blobs               what must not be collected until when, and why
    collection_holds                            why no collection may run at all, and until when

Digests are stored once, in ``blobs``; everything else refers to them by integer. A blob is in one of three states:

    live        its file exists, complete and durable; what a manifest must refer to is always live
    condemned   gc decided that it goes; nobody may rely on it; pushing it again makes it live
    absent      no bytes: a manifest names it as a subject, a foreign layer or the child of a sparse index

so a foreign key can hold the promise that nothing referred to is ever deleted: ``edges.child_id`` restricts it.

The role of an edge says as what its child is held: ``manifest`` as a manifest, ``config`` and ``layer`` as a blob. What
an index lists under a media type that is no manifest's is a ``layer``, too; a ``subject`` is held as nothing.

"Does a manifest of this repository refer to that?" is asked by every delete and every gc, about content such as
the empty config, to which the manifests of all repositories together may refer a million times. So each repository has
its own copy of its manifests' edges, ordered by child.

``unreferenced_since`` is the queue of gc. It is NULL while something is known to refer to the row, and otherwise the
instant since when perhaps nothing does; gc looks at the row once its own grace has passed after that instant, and
takes it out of the queue where something refers to it after all: so it may be set generously. Every transaction that
removes a reference sets it on what was referred to. What refers to what: a blob is held by its memberships and by
edges; the membership of a blob by the manifests of that repository with an edge to it; the membership of a manifest by
tags, by indexes alive in that repository, by its subject, and by leases. A condemned blob has left the queue.

``batch`` names the large change that wrote a row, or is changing or removing it, in a repository that others see. What
it does is hidden as long as the row of that batch does not say ``revealed``; soon after, the column is NULL again or
the row is gone. See ``statements/staged.py`` for what is seen meanwhile.

All instants are integers: milliseconds since the Unix epoch, UTC. They are never identities and never decide an order.
Only TEXT and INTEGER occur, because the tables are STRICT.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

store = Table(
    "store",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True),
    Column("epoch", Integer, nullable=False),  # see epoch.py: by it an older copy that was restored is recognised
    Column("created", Integer, nullable=False),
    Column("identity", Text, nullable=False),  # random; see identity.py
    Column("backup_of", Text),  # the identity of another store, which may overwrite this; NULL: nobody may
    sqlite_strict=True,
)

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text),  # NULL: nobody sees it or what it holds, because it is deleted or still staged
    Column("created", Integer, nullable=False),
    UniqueConstraint("name"),
    sqlite_strict=True,
)

deleted_repositories = Table(
    "deleted_repositories",
    metadata,
    Column("repository_id", Integer, ForeignKey("repositories.id"), primary_key=True),
    Column("name", Text),  # what it was called, for the events of its tags; NULL: nobody has ever seen it, nor them
    Column("deleted", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("next_event", Integer),  # ids of tag_events from here on are kept for its tags; NULL: none are
    sqlite_strict=True,
)

blobs = Table(
    "blobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("size", Integer, CheckConstraint("size >= 0", name="size"), nullable=False),
    Column("state", Text, CheckConstraint("state IN ('live', 'condemned', 'absent')", name="state"), nullable=False),
    Column("unreferenced_since", Integer),
    Column("verified_at", Integer),  # when its bytes were last hashed and found good
    UniqueConstraint("digest"),
    sqlite_strict=True,
)
Index("ix_blobs_verified_at", blobs.c.verified_at)
Index("ix_blobs_unreferenced_since", blobs.c.unreferenced_since, sqlite_where=text("unreferenced_since IS NOT NULL"))
Index("ix_blobs_condemned", blobs.c.id, sqlite_where=text("state = 'condemned'"))

repository_blobs = Table(
    "repository_blobs",
    metadata,
    Column("repository_id", Integer, ForeignKey("repositories.id"), nullable=False),
    Column("blob_id", Integer, ForeignKey("blobs.id"), nullable=False),
    Column("unreferenced_since", Integer),
    Column("batch", Integer),  # what brings it, or takes it away; see is_seen in statements/staged.py
    Column("leaves", Integer),  # 1: it goes with its batch; NULL: it comes with it, if it has one
    PrimaryKeyConstraint("repository_id", "blob_id"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("ix_repository_blobs_blob_id", repository_blobs.c.blob_id)
Index("ix_repository_blobs_batch", repository_blobs.c.batch, sqlite_where=text("batch IS NOT NULL"))
Index(
    "ix_repository_blobs_unreferenced_since",
    repository_blobs.c.unreferenced_since,
    sqlite_where=text("unreferenced_since IS NOT NULL"),
)

manifests = Table(
    "manifests",
    metadata,
    Column("blob_id", Integer, ForeignKey("blobs.id"), primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("artifact_type", Text),
    Column("config_media_type", Text),
    Column("subject_id", Integer, ForeignKey("blobs.id")),
    Column("annotations", Text),  # a JSON object; NULL when there are none
    Column("platform", Text),  # a JSON object, from the image's config; NULL for everything else
    sqlite_strict=True,
)
Index("ix_manifests_subject_id", manifests.c.subject_id, sqlite_where=text("subject_id IS NOT NULL"))

edges = Table(
    "edges",
    metadata,
    Column("parent_id", Integer, ForeignKey("manifests.blob_id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),  # in the document: config, layers, manifests, subject
    Column(
        "role", Text, CheckConstraint("role IN ('config', 'layer', 'manifest', 'subject')", name="role"), nullable=False
    ),
    Column("child_id", Integer, ForeignKey("blobs.id"), nullable=False),
    Column("size", Integer, nullable=False),  # as the descriptor declares it
    Column("media_type", Text, nullable=False),
    PrimaryKeyConstraint("parent_id", "position"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("ix_edges_child_id", edges.c.child_id)

repository_manifests = Table(
    "repository_manifests",
    metadata,
    Column("repository_id", Integer, ForeignKey("repositories.id"), nullable=False),
    Column("manifest_id", Integer, ForeignKey("manifests.blob_id"), nullable=False),
    Column("pushed_at", Integer, nullable=False),
    Column("unreferenced_since", Integer),
    # 1: the repository lacked something of it when it was put, and it was accepted all the same; NULL: it has all
    Column("incomplete", Integer),
    Column("entry", Text),  # as in tags, of what came in without one
    Column("batch", Integer),  # as in repository_blobs
    Column("leaves", Integer),  # likewise
    PrimaryKeyConstraint("repository_id", "manifest_id"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("ix_repository_manifests_manifest_id", repository_manifests.c.manifest_id)
Index("ix_repository_manifests_batch", repository_manifests.c.batch, sqlite_where=text("batch IS NOT NULL"))
Index(
    "ix_repository_manifests_unreferenced_since",
    repository_manifests.c.unreferenced_since,
    sqlite_where=text("unreferenced_since IS NOT NULL"),
)

repository_edges = Table(
    "repository_edges",
    metadata,
    Column("repository_id", Integer, ForeignKey("repositories.id"), nullable=False),
    Column("child_id", Integer, nullable=False),
    Column("parent_id", Integer, nullable=False),
    Column("role", Text, nullable=False),  # as in edges, of which this is a part in another order
    PrimaryKeyConstraint("repository_id", "child_id", "parent_id", "role"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("repository_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("manifest_id", Integer, nullable=False),
    Column("updated", Integer, nullable=False),
    # what the index.json it came from said of it besides: a JSON object of annotations and platform; NULL: nothing
    Column("entry", Text),
    Column("batch", Integer),  # what is changing it; what is seen meanwhile is below
    Column("fresh", Integer),  # 1: it comes to be with its batch; NULL: it points at manifest_id until then
    Column("next_id", Integer),  # what it points at from then on; NULL: it is removed then, if it has a batch
    Column("next_entry", Text),
    Column("conditional", Integer),  # 1: its batch may not be revealed once somebody else moves or removes it
    PrimaryKeyConstraint("repository_id", "name"),
    ForeignKeyConstraint(
        ["repository_id", "manifest_id"],
        ["repository_manifests.repository_id", "repository_manifests.manifest_id"],
    ),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("ix_tags_repository_id_manifest_id", tags.c.repository_id, tags.c.manifest_id)
Index(
    "ix_tags_repository_id_next_id",
    tags.c.repository_id,
    tags.c.next_id,
    sqlite_where=text("next_id IS NOT NULL"),
)
Index("ix_tags_repository_id_updated_name", tags.c.repository_id, tags.c.updated, tags.c.name)
Index("ix_tags_batch", tags.c.batch, sqlite_where=text("batch IS NOT NULL"))

tag_events = Table(
    "tag_events",
    metadata,
    Column("id", Integer, primary_key=True),  # the order of events; the clock is only information
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("old_digest", Text),  # NULL: the tag did not exist
    Column("new_digest", Text),  # NULL: the tag was removed
    Column("at", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("batch", Integer),  # as long as there is a batch of that id that is not revealed, it has not happened yet
    sqlite_strict=True,
)
Index("ix_tag_events_repository", tag_events.c.repository)
Index("ix_tag_events_repository_tag", tag_events.c.repository, tag_events.c.tag)

batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),  # random, and never used again
    Column("expires", Integer, nullable=False),
    Column("revealed", Integer),  # 1: everybody sees what is in it, and its rows are made ones without a batch
    sqlite_strict=True,
)
Index("ix_batches_expires", batches.c.expires)

staged_repositories = Table(
    "staged_repositories",
    metadata,
    Column("repository_id", Integer, ForeignKey("repositories.id"), primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("name", Text, nullable=False),  # of the repository that is to have what is in it; it may be that one itself
    sqlite_strict=True,
)
Index("ix_staged_repositories_batch_id", staged_repositories.c.batch_id)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("repository_id", Integer, ForeignKey("repositories.id"), nullable=False),
    Column("algorithm", Text, nullable=False),
    Column(
        "offset", Integer, CheckConstraint('"offset" >= 0', name="offset"), nullable=False
    ),  # durable at least so far
    Column("started", Integer, nullable=False),
    Column("touched", Integer, nullable=False),
    Column("expires", Integer, nullable=False),
    Column("page_cache", Text),  # where bytes after offset may be, which are kept only while it is the same
    sqlite_strict=True,
)
Index("ix_uploads_repository_id_id", uploads.c.repository_id, uploads.c.id)
Index("ix_uploads_expires", uploads.c.expires)

leases = Table(
    "leases",
    metadata,
    Column("id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("expires", Integer, nullable=False),
    sqlite_strict=True,
)
Index("ix_leases_expires", leases.c.expires)

lease_blobs = Table(
    "lease_blobs",
    metadata,
    Column("lease_id", Text, ForeignKey("leases.id", ondelete="CASCADE"), nullable=False),
    Column("repository_id", Integer, ForeignKey("repositories.id"), nullable=False),
    Column("blob_id", Integer, ForeignKey("blobs.id"), nullable=False),
    PrimaryKeyConstraint("lease_id", "repository_id", "blob_id"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("ix_lease_blobs_blob_id", lease_blobs.c.blob_id)
Index("ix_lease_blobs_repository_id_blob_id", lease_blobs.c.repository_id, lease_blobs.c.blob_id)

collection_holds = Table(
    "collection_holds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since", Integer, nullable=False),
    Column("expires", Integer),  # NULL: until a person says that the store is as it should be
    sqlite_strict=True,
)

version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""The revision of the schema, as Alembic makes and keeps it."""

CREATE TABLE batches (
	id INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	revealed INTEGER,
	CONSTRAINT pk_batches PRIMARY KEY (id)
)
 STRICT;
CREATE INDEX ix_batches_expires ON batches (expires);
CREATE TABLE blobs (
	id INTEGER NOT NULL,
	digest TEXT NOT NULL,
	size INTEGER NOT NULL CONSTRAINT ck_blobs_size CHECK (size >= 0),
	state TEXT NOT NULL CONSTRAINT ck_blobs_state CHECK (state IN ('live', 'condemned', 'absent')),
	unreferenced_since INTEGER,
	verified_at INTEGER,
	CONSTRAINT pk_blobs PRIMARY KEY (id),
	CONSTRAINT uq_blobs_digest UNIQUE (digest)
)
 STRICT;
CREATE INDEX ix_blobs_condemned ON blobs (id) WHERE state = 'condemned';
CREATE INDEX ix_blobs_unreferenced_since ON blobs (unreferenced_since) WHERE unreferenced_since IS NOT NULL;
CREATE INDEX ix_blobs_verified_at ON blobs (verified_at);
CREATE TABLE collection_holds (
	id INTEGER NOT NULL,
	reason TEXT NOT NULL,
	since INTEGER NOT NULL,
	expires INTEGER,
	CONSTRAINT pk_collection_holds PRIMARY KEY (id)
)
 STRICT;
CREATE TABLE leases (
	id TEXT NOT NULL,
	reason TEXT NOT NULL,
	created INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	CONSTRAINT pk_leases PRIMARY KEY (id)
)
 STRICT;
CREATE INDEX ix_leases_expires ON leases (expires);
CREATE TABLE repositories (
	id INTEGER NOT NULL,
	name TEXT,
	created INTEGER NOT NULL,
	CONSTRAINT pk_repositories PRIMARY KEY (id),
	CONSTRAINT uq_repositories_name UNIQUE (name)
)
 STRICT;
CREATE TABLE store (
	id INTEGER NOT NULL CONSTRAINT ck_store_one_row CHECK (id = 1),
	epoch INTEGER NOT NULL,
	created INTEGER NOT NULL,
	identity TEXT NOT NULL,
	backup_of TEXT,
	CONSTRAINT pk_store PRIMARY KEY (id)
)
 STRICT;
CREATE TABLE tag_events (
	id INTEGER NOT NULL,
	repository TEXT NOT NULL,
	tag TEXT NOT NULL,
	old_digest TEXT,
	new_digest TEXT,
	at INTEGER NOT NULL,
	actor TEXT NOT NULL,
	batch INTEGER,
	CONSTRAINT pk_tag_events PRIMARY KEY (id)
)
 STRICT;
CREATE INDEX ix_tag_events_repository ON tag_events (repository);
CREATE INDEX ix_tag_events_repository_tag ON tag_events (repository, tag);
CREATE TABLE deleted_repositories (
	repository_id INTEGER NOT NULL,
	name TEXT,
	deleted INTEGER NOT NULL,
	actor TEXT NOT NULL,
	next_event INTEGER,
	CONSTRAINT pk_deleted_repositories PRIMARY KEY (repository_id),
	CONSTRAINT fk_deleted_repositories_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id)
)
 STRICT;
CREATE TABLE lease_blobs (
	lease_id TEXT NOT NULL,
	repository_id INTEGER NOT NULL,
	blob_id INTEGER NOT NULL,
	CONSTRAINT pk_lease_blobs PRIMARY KEY (lease_id, repository_id, blob_id),
	CONSTRAINT fk_lease_blobs_lease_id FOREIGN KEY(lease_id) REFERENCES leases (id) ON DELETE CASCADE,
	CONSTRAINT fk_lease_blobs_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id),
	CONSTRAINT fk_lease_blobs_blob_id FOREIGN KEY(blob_id) REFERENCES blobs (id)
)
 WITHOUT ROWID,
 STRICT;
CREATE INDEX ix_lease_blobs_blob_id ON lease_blobs (blob_id);
CREATE INDEX ix_lease_blobs_repository_id_blob_id ON lease_blobs (repository_id, blob_id);
CREATE TABLE manifests (
	blob_id INTEGER NOT NULL,
	media_type TEXT NOT NULL,
	artifact_type TEXT,
	config_media_type TEXT,
	subject_id INTEGER,
	annotations TEXT,
	platform TEXT,
	CONSTRAINT pk_manifests PRIMARY KEY (blob_id),
	CONSTRAINT fk_manifests_blob_id FOREIGN KEY(blob_id) REFERENCES blobs (id),
	CONSTRAINT fk_manifests_subject_id FOREIGN KEY(subject_id) REFERENCES blobs (id)
)
 STRICT;
CREATE INDEX ix_manifests_subject_id ON manifests (subject_id) WHERE subject_id IS NOT NULL;
CREATE TABLE repository_blobs (
	repository_id INTEGER NOT NULL,
	blob_id INTEGER NOT NULL,
	unreferenced_since INTEGER,
	batch INTEGER,
	leaves INTEGER,
	CONSTRAINT pk_repository_blobs PRIMARY KEY (repository_id, blob_id),
	CONSTRAINT fk_repository_blobs_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id),
	CONSTRAINT fk_repository_blobs_blob_id FOREIGN KEY(blob_id) REFERENCES blobs (id)
)
 WITHOUT ROWID,
 STRICT;
CREATE INDEX ix_repository_blobs_batch ON repository_blobs (batch) WHERE batch IS NOT NULL;
CREATE INDEX ix_repository_blobs_blob_id ON repository_blobs (blob_id);
CREATE INDEX ix_repository_blobs_unreferenced_since ON repository_blobs (unreferenced_since) WHERE unreferenced_since IS NOT NULL;
CREATE TABLE repository_edges (
	repository_id INTEGER NOT NULL,
	child_id INTEGER NOT NULL,
	parent_id INTEGER NOT NULL,
	role TEXT NOT NULL,
	CONSTRAINT pk_repository_edges PRIMARY KEY (repository_id, child_id, parent_id, role),
	CONSTRAINT fk_repository_edges_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id)
)
 WITHOUT ROWID,
 STRICT;
CREATE TABLE staged_repositories (
	repository_id INTEGER NOT NULL,
	batch_id INTEGER NOT NULL,
	name TEXT NOT NULL,
	CONSTRAINT pk_staged_repositories PRIMARY KEY (repository_id),
	CONSTRAINT fk_staged_repositories_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id),
	CONSTRAINT fk_staged_repositories_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
)
 STRICT;
CREATE INDEX ix_staged_repositories_batch_id ON staged_repositories (batch_id);
CREATE TABLE uploads (
	id TEXT NOT NULL,
	repository_id INTEGER NOT NULL,
	algorithm TEXT NOT NULL,
	"offset" INTEGER NOT NULL CONSTRAINT ck_uploads_offset CHECK ("offset" >= 0),
	started INTEGER NOT NULL,
	touched INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	page_cache TEXT,
	CONSTRAINT pk_uploads PRIMARY KEY (id),
	CONSTRAINT fk_uploads_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id)
)
 STRICT;
CREATE INDEX ix_uploads_expires ON uploads (expires);
CREATE INDEX ix_uploads_repository_id_id ON uploads (repository_id, id);
CREATE TABLE edges (
	parent_id INTEGER NOT NULL,
	position INTEGER NOT NULL,
	role TEXT NOT NULL CONSTRAINT ck_edges_role CHECK (role IN ('config', 'layer', 'manifest', 'subject')),
	child_id INTEGER NOT NULL,
	size INTEGER NOT NULL,
	media_type TEXT NOT NULL,
	CONSTRAINT pk_edges PRIMARY KEY (parent_id, position),
	CONSTRAINT fk_edges_parent_id FOREIGN KEY(parent_id) REFERENCES manifests (blob_id) ON DELETE CASCADE,
	CONSTRAINT fk_edges_child_id FOREIGN KEY(child_id) REFERENCES blobs (id)
)
 WITHOUT ROWID,
 STRICT;
CREATE INDEX ix_edges_child_id ON edges (child_id);
CREATE TABLE repository_manifests (
	repository_id INTEGER NOT NULL,
	manifest_id INTEGER NOT NULL,
	pushed_at INTEGER NOT NULL,
	unreferenced_since INTEGER,
	incomplete INTEGER,
	entry TEXT,
	batch INTEGER,
	leaves INTEGER,
	CONSTRAINT pk_repository_manifests PRIMARY KEY (repository_id, manifest_id),
	CONSTRAINT fk_repository_manifests_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id),
	CONSTRAINT fk_repository_manifests_manifest_id FOREIGN KEY(manifest_id) REFERENCES manifests (blob_id)
)
 WITHOUT ROWID,
 STRICT;
CREATE INDEX ix_repository_manifests_batch ON repository_manifests (batch) WHERE batch IS NOT NULL;
CREATE INDEX ix_repository_manifests_manifest_id ON repository_manifests (manifest_id);
CREATE INDEX ix_repository_manifests_unreferenced_since ON repository_manifests (unreferenced_since) WHERE unreferenced_since IS NOT NULL;
CREATE TABLE tags (
	repository_id INTEGER NOT NULL,
	name TEXT NOT NULL,
	manifest_id INTEGER NOT NULL,
	updated INTEGER NOT NULL,
	entry TEXT,
	batch INTEGER,
	fresh INTEGER,
	next_id INTEGER,
	next_entry TEXT,
	conditional INTEGER,
	CONSTRAINT pk_tags PRIMARY KEY (repository_id, name),
	CONSTRAINT fk_tags_repository_id_manifest_id FOREIGN KEY(repository_id, manifest_id) REFERENCES repository_manifests (repository_id, manifest_id)
)
 WITHOUT ROWID,
 STRICT;
CREATE INDEX ix_tags_batch ON tags (batch) WHERE batch IS NOT NULL;
CREATE INDEX ix_tags_repository_id_manifest_id ON tags (repository_id, manifest_id);
CREATE INDEX ix_tags_repository_id_next_id ON tags (repository_id, next_id) WHERE next_id IS NOT NULL;
CREATE INDEX ix_tags_repository_id_updated_name ON tags (repository_id, updated, name);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

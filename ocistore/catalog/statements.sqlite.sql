-- Written by tests/catalog/written.py.

-- batches.BEING_EMPTIED
SELECT deleted_repositories.repository_id
FROM deleted_repositories
WHERE deleted_repositories.repository_id = :repository;

-- batches.CALL
UPDATE repositories SET name=(SELECT staged_repositories.name
FROM staged_repositories
WHERE staged_repositories.repository_id = repositories.id) WHERE repositories.id IN (SELECT staged_repositories.repository_id
FROM staged_repositories
WHERE staged_repositories.batch_id = :batch) AND repositories.name IS NULL;

-- batches.DELETE
DELETE FROM batches WHERE batches.id = :batch;

-- batches.DROP_THESE_EVENTS
DELETE FROM tag_events WHERE tag_events.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1);

-- batches.EXPIRED
SELECT batches.id, batches.expires, batches.revealed
FROM batches
WHERE batches.expires <= :now ORDER BY batches.expires
 LIMIT 1 OFFSET 0;

-- batches.FORGET_SOME_STAGED
DELETE FROM staged_repositories WHERE staged_repositories.repository_id IN (SELECT some.repository_id
FROM staged_repositories AS some
WHERE some.batch_id = :batch
 LIMIT :limit OFFSET 0);

-- batches.FORGET_STAGED
DELETE FROM staged_repositories WHERE staged_repositories.repository_id = :staged;

-- batches.IS_REVEALED
SELECT batches.id
FROM batches
WHERE batches.id = :batch AND batches.revealed IS NOT NULL;

-- batches.MAKE
INSERT INTO repositories (name, created) VALUES (:name, :created) RETURNING id;

-- batches.NOTE
INSERT INTO staged_repositories (repository_id, batch_id, name) VALUES (:repository_id, :batch_id, :name);

-- batches.OCCUPANT
SELECT batches.id, batches.expires, batches.revealed
FROM staged_repositories CROSS JOIN batches ON batches.id = staged_repositories.batch_id
WHERE staged_repositories.repository_id = :repository;

-- batches.OVERTAKE
UPDATE batches SET expires=0 WHERE batches.id IN (SELECT staged_repositories.batch_id
FROM staged_repositories
WHERE staged_repositories.repository_id = :repository) AND batches.revealed IS NULL;

-- batches.RENEW
UPDATE batches SET expires=:until WHERE batches.id = :batch AND batches.expires > :now;

-- batches.REVEAL
UPDATE batches SET expires=:now, revealed=1 WHERE batches.id = :batch;

-- batches.SETTLE_BLOBS
UPDATE repository_blobs SET batch=NULL WHERE (repository_blobs.repository_id, repository_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- batches.SETTLE_MANIFESTS
UPDATE repository_manifests SET batch=NULL WHERE (repository_manifests.repository_id, repository_manifests.manifest_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- batches.SOME_BLOBS
SELECT repository_blobs.repository_id, repository_blobs.blob_id
FROM repository_blobs
WHERE repository_blobs.batch = :batch ORDER BY repository_blobs.repository_id, repository_blobs.blob_id
 LIMIT :limit OFFSET 0;

-- batches.SOME_EVENTS
SELECT tag_events.id
FROM tag_events
WHERE tag_events.repository = :name AND tag_events.batch = :batch
 LIMIT :limit OFFSET 0;

-- batches.SOME_MANIFESTS
SELECT repository_manifests.repository_id, repository_manifests.manifest_id
FROM repository_manifests
WHERE repository_manifests.batch = :batch ORDER BY repository_manifests.repository_id, repository_manifests.manifest_id
 LIMIT :limit OFFSET 0;

-- batches.SOME_OF_BATCH
SELECT staged_repositories.repository_id, staged_repositories.name, repositories.name IS NULL AS anon_1
FROM staged_repositories CROSS JOIN repositories ON repositories.id = staged_repositories.repository_id
WHERE staged_repositories.batch_id = :batch
 LIMIT :limit OFFSET 0;

-- batches.START
INSERT INTO batches (id, expires, revealed) VALUES (:id, :expires, :revealed);

-- batches.TAKEN
SELECT 1
FROM staged_repositories CROSS JOIN repositories ON repositories.name = staged_repositories.name
WHERE staged_repositories.batch_id = :batch AND repositories.id != staged_repositories.repository_id
 LIMIT 1 OFFSET 0;

-- batches.TO_BE_EMPTIED
INSERT INTO deleted_repositories (repository_id, name, deleted, actor, next_event) VALUES (:repository_id, :name, :deleted, :actor, :next_event);

-- blobs.ADD_MEMBERSHIPS
INSERT INTO repository_blobs (repository_id, blob_id, unreferenced_since, batch) SELECT :repository_id AS anon_1, blobs.id, :now AS anon_2, :batch AS anon_3
FROM json_each(:digests) AS anon_4 CROSS JOIN blobs ON blobs.digest = anon_4.value
WHERE blobs.state = 'live' ON CONFLICT (repository_id, blob_id) DO UPDATE SET unreferenced_since = excluded.unreferenced_since, batch = CASE WHEN (repository_blobs.leaves IS NOT NULL AND repository_blobs.batch IN (SELECT batches.id
FROM batches
WHERE batches.revealed IS NULL) AND excluded.batch IS NULL OR repository_blobs.leaves IS NULL AND excluded.batch IS NOT NULL) THEN repository_blobs.batch END, leaves = CASE WHEN (repository_blobs.leaves IS NOT NULL AND repository_blobs.batch IN (SELECT batches.id
FROM batches
WHERE batches.revealed IS NULL) AND excluded.batch IS NULL) THEN repository_blobs.leaves END WHERE repository_blobs.unreferenced_since IS NOT NULL OR repository_blobs.batch IS NOT NULL;

-- blobs.BYTES_OF_LIVE
SELECT coalesce(sum(blobs.size >> 32), 0) AS coalesce_1, coalesce(sum(blobs.size & 4294967295), 0) AS coalesce_2
FROM blobs
WHERE blobs.state = 'live';

-- blobs.ID_OF
SELECT blobs.id
FROM blobs
WHERE blobs.digest = :digest AND ((EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id AND repository_blobs.repository_id = :repository_id AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)))) OR NOT ((EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = blobs.id))));

-- blobs.LIVE
SELECT blobs.digest, blobs.size
FROM json_each(:digests) AS anon_1 CROSS JOIN blobs ON blobs.digest = anon_1.value
WHERE blobs.state = 'live';

-- blobs.MEMBERSHIP
SELECT blobs.size, CASE WHEN (NOT (EXISTS (SELECT 1
FROM repository_edges
WHERE repository_edges.repository_id = repository_blobs.repository_id AND repository_edges.child_id = repository_blobs.blob_id AND repository_edges.role IN ('config', 'layer')))) THEN repository_blobs.unreferenced_since END AS anon_1
FROM repositories CROSS JOIN blobs ON blobs.digest = :digest CROSS JOIN repository_blobs ON repository_blobs.repository_id = repositories.id AND repository_blobs.blob_id = blobs.id
WHERE repositories.name = :repository AND blobs.state = 'live' AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL));

-- blobs.NAME
INSERT INTO blobs (digest, size, state) SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3, 'absent' AS anon_4
FROM json_each(:rows) AS anon_2
WHERE 1 = 1 ON CONFLICT (digest) DO NOTHING;

-- blobs.PAGE
SELECT repository_blobs.blob_id, blobs.digest, blobs.size
FROM repository_blobs CROSS JOIN blobs ON blobs.id = repository_blobs.blob_id
WHERE repository_blobs.repository_id = :repository_id AND repository_blobs.blob_id > :after AND blobs.state = 'live' AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)) ORDER BY repository_blobs.blob_id
 LIMIT :limit OFFSET 0;

-- blobs.PAGE_OF_LIVE
SELECT blobs.id, blobs.digest, blobs.size
FROM blobs
WHERE blobs.id > :after AND blobs.state = 'live' ORDER BY blobs.id
 LIMIT :limit OFFSET 0;

-- blobs.PUBLISH
INSERT INTO blobs (digest, size, state) SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3, 'live' AS anon_4
FROM json_each(:rows) AS anon_2
WHERE 1 = 1 ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = 'live', unreferenced_since = CASE WHEN (blobs.state = 'live') THEN blobs.unreferenced_since END, verified_at = NULL WHERE blobs.state != 'live' OR blobs.size != excluded.size;

-- blobs.QUEUE
UPDATE blobs SET unreferenced_since=:now WHERE blobs.digest = :this_digest;

-- blobs.REFERRERS
SELECT parent.digest
FROM blobs CROSS JOIN repository_edges ON repository_edges.repository_id = :repository_id AND repository_edges.child_id = blobs.id CROSS JOIN blobs AS parent ON parent.id = repository_edges.parent_id
WHERE blobs.digest = :digest AND repository_edges.role IN (SELECT anon_1.value
FROM json_each(:roles) AS anon_1) AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = repository_edges.parent_id AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL AND batches.id != :own_batch)) = (repository_manifests.leaves IS NOT NULL))))
 LIMIT 1000 OFFSET 0;

-- blobs.REMOVE_MEMBERSHIP
DELETE FROM repository_blobs WHERE repository_blobs.repository_id = :this_repository AND repository_blobs.blob_id = (SELECT blobs.id
FROM blobs
WHERE blobs.digest = :digest) AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)) RETURNING blob_id;

-- blobs.TOUCH
UPDATE repository_blobs SET unreferenced_since=:now WHERE repository_blobs.repository_id = :this_repository AND repository_blobs.blob_id = (SELECT blobs.id
FROM blobs
WHERE blobs.digest = :digest) AND repository_blobs.unreferenced_since IS NOT NULL;

-- blobs.WITH_ROWS
SELECT blobs.digest
FROM blobs
WHERE blobs.digest IN (SELECT anon_1.value
FROM json_each(:digests) AS anon_1) AND blobs.state != 'absent';

-- check.CHILDREN
SELECT edges.role, blobs.digest, edges.size, edges.media_type
FROM edges JOIN blobs ON blobs.id = edges.child_id
WHERE edges.parent_id = :blob ORDER BY edges.position;

-- check.CORRECT
UPDATE manifests SET media_type=:said_media_type, artifact_type=:said_artifact_type, config_media_type=:said_config_media_type, annotations=:said_annotations, platform=:said_platform WHERE manifests.blob_id = :blob;

-- check.DANGLING[0]
SELECT 1
WHERE NOT (EXISTS (SELECT 1
FROM repositories, tags
WHERE repositories.id = tags.repository_id)) OR NOT (EXISTS (SELECT 1
FROM blobs, tags
WHERE blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END))
 LIMIT 1 OFFSET 0;

-- check.DANGLING[1]
SELECT 1
WHERE NOT (EXISTS (SELECT 1
FROM repositories, repository_manifests
WHERE repositories.id = repository_manifests.repository_id)) OR NOT (EXISTS (SELECT 1
FROM blobs, repository_manifests
WHERE blobs.id = repository_manifests.manifest_id))
 LIMIT 1 OFFSET 0;

-- check.DESCRIBED
SELECT manifests.media_type, manifests.artifact_type, manifests.config_media_type, manifests.annotations, manifests.platform, subject.digest
FROM manifests LEFT OUTER JOIN blobs AS subject ON subject.id = manifests.subject_id
WHERE manifests.blob_id = :blob;

-- check.EVERY_COLUMN[0]
SELECT batches.id, batches.expires, batches.revealed
FROM batches
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[10]
SELECT repository_blobs.repository_id, repository_blobs.blob_id, repository_blobs.unreferenced_since, repository_blobs.batch, repository_blobs.leaves
FROM repository_blobs
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[11]
SELECT repository_edges.repository_id, repository_edges.child_id, repository_edges.parent_id, repository_edges.role
FROM repository_edges
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[12]
SELECT staged_repositories.repository_id, staged_repositories.batch_id, staged_repositories.name
FROM staged_repositories
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[13]
SELECT uploads.id, uploads.repository_id, uploads.algorithm, uploads."offset", uploads.started, uploads.touched, uploads.expires, uploads.page_cache
FROM uploads
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[14]
SELECT edges.parent_id, edges.position, edges.role, edges.child_id, edges.size, edges.media_type
FROM edges
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[15]
SELECT repository_manifests.repository_id, repository_manifests.manifest_id, repository_manifests.pushed_at, repository_manifests.unreferenced_since, repository_manifests.incomplete, repository_manifests.entry, repository_manifests.batch, repository_manifests.leaves
FROM repository_manifests
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[16]
SELECT tags.repository_id, tags.name, tags.manifest_id, tags.updated, tags.entry, tags.batch, tags.fresh, tags.next_id, tags.next_entry, tags.conditional
FROM tags
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[1]
SELECT blobs.id, blobs.digest, blobs.size, blobs.state, blobs.unreferenced_since, blobs.verified_at
FROM blobs
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[2]
SELECT collection_holds.id, collection_holds.reason, collection_holds.since, collection_holds.expires
FROM collection_holds
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[3]
SELECT leases.id, leases.reason, leases.created, leases.expires
FROM leases
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[4]
SELECT repositories.id, repositories.name, repositories.created
FROM repositories
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[5]
SELECT store.id, store.epoch, store.created, store.identity, store.backup_of
FROM store
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[6]
SELECT tag_events.id, tag_events.repository, tag_events.tag, tag_events.old_digest, tag_events.new_digest, tag_events.at, tag_events.actor, tag_events.batch
FROM tag_events
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[7]
SELECT deleted_repositories.repository_id, deleted_repositories.name, deleted_repositories.deleted, deleted_repositories.actor, deleted_repositories.next_event
FROM deleted_repositories
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[8]
SELECT lease_blobs.lease_id, lease_blobs.repository_id, lease_blobs.blob_id
FROM lease_blobs
 LIMIT 0 OFFSET 0;

-- check.EVERY_COLUMN[9]
SELECT manifests.blob_id, manifests.media_type, manifests.artifact_type, manifests.config_media_type, manifests.subject_id, manifests.annotations, manifests.platform
FROM manifests
 LIMIT 0 OFFSET 0;

-- check.EXCESS_EDGES
SELECT count(*) AS count_1
FROM (SELECT repository_edges.repository_id AS repository_id, repository_edges.child_id AS child_id, repository_edges.parent_id AS parent_id, repository_edges.role AS role
FROM repository_edges EXCEPT SELECT repository_manifests.repository_id AS repository_id, edges.child_id AS child_id, edges.parent_id AS parent_id, edges.role AS role
FROM repository_manifests JOIN edges ON edges.parent_id = repository_manifests.manifest_id) AS anon_1;

-- check.LACKING
SELECT count(*) AS count_1
FROM repository_manifests JOIN repositories ON repositories.id = repository_manifests.repository_id JOIN edges ON edges.parent_id = repository_manifests.manifest_id
WHERE repositories.name IS NOT NULL AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)) AND repository_manifests.incomplete IS NULL AND (edges.role = 'manifest' AND NOT (EXISTS (SELECT 1
FROM repository_manifests AS child
WHERE child.repository_id = repository_manifests.repository_id AND child.manifest_id = edges.child_id AND (child.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = child.batch AND batches.revealed IS NULL)) = (child.leaves IS NOT NULL)))) OR edges.role IN ('config', 'layer') AND (edges.media_type NOT IN ('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'application/vnd.oci.image.layer.nondistributable.v1.tar', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd')) AND NOT (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = repository_manifests.repository_id AND repository_blobs.blob_id = edges.child_id AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)))));

-- check.MISSING_EDGES
SELECT count(*) AS count_1
FROM (SELECT repository_manifests.repository_id AS repository_id, edges.child_id AS child_id, edges.parent_id AS parent_id, edges.role AS role
FROM repository_manifests JOIN edges ON edges.parent_id = repository_manifests.manifest_id EXCEPT SELECT repository_edges.repository_id AS repository_id, repository_edges.child_id AS child_id, repository_edges.parent_id AS parent_id, repository_edges.role AS role
FROM repository_edges) AS anon_1;

-- check.SERVED_WITHOUT_BYTES
SELECT (SELECT count(*) AS count_1
FROM repository_blobs JOIN blobs ON blobs.id = repository_blobs.blob_id
WHERE blobs.state != 'live') + (SELECT count(*) AS count_2
FROM repository_manifests JOIN blobs ON blobs.id = repository_manifests.manifest_id
WHERE blobs.state != 'live') AS anon_1
WHERE 1 = 1;

-- conformance.ADD
INSERT INTO repositories (name, created) VALUES (:name, :created);

-- conformance.NAMED
SELECT count(*) AS count_1
FROM json_each(:wanted) AS anon_1
WHERE anon_1.value IN (SELECT repositories.name
FROM repositories);

-- conformance.NAMES
SELECT repositories.name
FROM repositories ORDER BY repositories.name;

-- conformance.REMOVE_ALL
DELETE FROM repositories;

-- conformance.SET_TIME
UPDATE repositories SET created=:to WHERE repositories.name = :called;

-- conformance.TIME_OF
SELECT repositories.created
FROM repositories
WHERE repositories.name = :called;

-- deletions.ABSENT_CHILDREN
SELECT DISTINCT blobs.id
FROM json_each(:ids) AS anon_1 CROSS JOIN edges ON edges.parent_id = anon_1.value CROSS JOIN blobs ON blobs.id = edges.child_id
WHERE blobs.state = 'absent';

-- deletions.CONDEMN
UPDATE blobs SET state='condemned', unreferenced_since=NULL WHERE blobs.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1);

-- deletions.DELETE_ABSENT
DELETE FROM blobs WHERE blobs.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND blobs.state = 'absent' AND NOT (EXISTS (SELECT 1
FROM edges
WHERE edges.child_id = blobs.id));

-- deletions.DELETE_EMPTY
DELETE FROM blobs WHERE blobs.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND blobs.state = 'condemned';

-- deletions.DELETE_MANIFESTS
DELETE FROM manifests WHERE manifests.blob_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1);

-- deletions.EMPTY
UPDATE blobs SET state='absent', unreferenced_since=NULL, verified_at=NULL WHERE blobs.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND (EXISTS (SELECT 1
FROM edges
WHERE edges.child_id = blobs.id));

-- deletions.KEEP_BLOBS
UPDATE blobs SET unreferenced_since=NULL WHERE blobs.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1);

-- deletions.KEEP_BLOB_MEMBERSHIPS
UPDATE repository_blobs SET unreferenced_since=NULL WHERE (repository_blobs.repository_id, repository_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- deletions.KEEP_MANIFEST_MEMBERSHIPS
UPDATE repository_manifests SET unreferenced_since=NULL WHERE (repository_manifests.repository_id, repository_manifests.manifest_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- deletions.PUT_BEHIND
UPDATE repository_manifests SET unreferenced_since=(SELECT max(around.unreferenced_since) + 1 AS anon_1
FROM repository_edges CROSS JOIN repository_manifests AS around ON around.repository_id = repository_edges.repository_id AND around.manifest_id = repository_edges.parent_id
WHERE repository_edges.repository_id = repository_manifests.repository_id AND repository_edges.child_id = repository_manifests.manifest_id AND repository_edges.role = 'manifest') WHERE (repository_manifests.repository_id, repository_manifests.manifest_id) IN (SELECT json_extract(anon_3.value, '$[0]') AS anon_2, json_extract(anon_3.value, '$[1]') AS anon_4
FROM json_each(:rows) AS anon_3) AND (SELECT max(around.unreferenced_since) + 1 AS anon_1
FROM repository_edges CROSS JOIN repository_manifests AS around ON around.repository_id = repository_edges.repository_id AND around.manifest_id = repository_edges.parent_id
WHERE repository_edges.repository_id = repository_manifests.repository_id AND repository_edges.child_id = repository_manifests.manifest_id AND repository_edges.role = 'manifest') <= :before;

-- deletions.QUEUE_BLOBS
UPDATE blobs SET unreferenced_since=max(coalesce(blobs.unreferenced_since, 0), :since) WHERE blobs.id = :blob;

-- deletions.REMOVE_BLOB_MEMBERSHIPS
DELETE FROM repository_blobs WHERE (repository_blobs.repository_id, repository_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- epoch.FIND
SELECT store.epoch, store.identity, store.backup_of
FROM store;

-- epoch.INCREMENT
UPDATE store SET epoch=(store.epoch + 1);

-- epoch.SET
UPDATE store SET epoch=:number;

-- events.COUNT
SELECT count(*) AS count_1
FROM tag_events;

-- events.FORGET
DELETE FROM tag_events WHERE tag_events.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1);

-- events.OLD
SELECT tag_events.id, (SELECT count(*) AS count_1
FROM (SELECT 1
FROM tag_events AS later
WHERE later.repository = tag_events.repository AND later.tag = tag_events.tag AND later.id > tag_events.id
 LIMIT :keep_last OFFSET 0) AS anon_2) >= :keep_last AND tag_events.id < (SELECT max(tag_events.id) AS max_1
FROM tag_events) AS anon_1
FROM tag_events
WHERE tag_events.id > :after AND tag_events.at < :before AND (tag_events.batch IS NULL OR NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tag_events.batch AND batches.revealed IS NULL))) ORDER BY tag_events.id
 LIMIT :limit OFFSET 0;

-- gc.CONDEMNED
SELECT blobs.id, blobs.digest, blobs.size
FROM blobs
WHERE blobs.state = 'condemned' AND blobs.id > :after ORDER BY blobs.id
 LIMIT :limit OFFSET 0;

-- gc.COUNT_LIVE
SELECT max(anon_1.id) AS max_1, coalesce(sum(anon_1.size >> 32), 0) AS coalesce_1, coalesce(sum(anon_1.size & 4294967295), 0) AS coalesce_2
FROM (SELECT blobs.id AS id, CASE WHEN (blobs.state = 'live') THEN blobs.size ELSE 0 END AS size
FROM blobs
WHERE blobs.id > :after ORDER BY blobs.id
 LIMIT :limit OFFSET 0) AS anon_1;

-- gc.DUE_BLOBS
SELECT blobs.id, blobs.digest, blobs.size, blobs.state = 'absent' AS anon_1, (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = blobs.id)) AS anon_2, blobs.unreferenced_since
FROM blobs
WHERE blobs.unreferenced_since <= :before AND (blobs.unreferenced_since, blobs.id) > (:since, :first) ORDER BY blobs.unreferenced_since, blobs.id
 LIMIT :limit OFFSET 0;

-- gc.DUE_BLOB_MEMBERSHIPS
SELECT repository_blobs.repository_id, repository_blobs.blob_id, repository_blobs.unreferenced_since, (EXISTS (SELECT 1
FROM repository_edges
WHERE repository_edges.repository_id = repository_blobs.repository_id AND repository_edges.child_id = repository_blobs.blob_id AND repository_edges.role IN ('config', 'layer'))) OR (EXISTS (SELECT 1
FROM lease_blobs, leases
WHERE lease_blobs.repository_id = repository_blobs.repository_id AND lease_blobs.blob_id = repository_blobs.blob_id AND leases.id = lease_blobs.lease_id AND leases.expires > :now)) AS anon_1
FROM repository_blobs
WHERE repository_blobs.unreferenced_since <= :before AND (repository_blobs.unreferenced_since, repository_blobs.repository_id, repository_blobs.blob_id) > (:since, :first, :second) AND (repository_blobs.repository_id NOT IN (SELECT repositories.id
FROM repositories
WHERE repositories.name IS NULL UNION SELECT staged_repositories.repository_id
FROM staged_repositories)) ORDER BY repository_blobs.unreferenced_since, repository_blobs.repository_id, repository_blobs.blob_id
 LIMIT :limit OFFSET 0;

-- gc.DUE_BYTES[0]
SELECT coalesce(sum(blobs.size >> 32), 0) AS coalesce_1, coalesce(sum(blobs.size & 4294967295), 0) AS coalesce_2
FROM blobs
WHERE blobs.unreferenced_since <= :before AND blobs.state = 'live';

-- gc.DUE_BYTES[1]
SELECT coalesce(sum(blobs.size >> 32), 0) AS coalesce_1, coalesce(sum(blobs.size & 4294967295), 0) AS coalesce_2
FROM repository_blobs CROSS JOIN blobs ON blobs.id = repository_blobs.blob_id
WHERE repository_blobs.unreferenced_since <= :before;

-- gc.DUE_MANIFEST_MEMBERSHIPS
SELECT repository_manifests.repository_id, repository_manifests.manifest_id, repository_manifests.unreferenced_since
FROM repository_manifests
WHERE repository_manifests.unreferenced_since <= :before AND (repository_manifests.unreferenced_since, repository_manifests.repository_id, repository_manifests.manifest_id) > (:since, :first, :second) AND (repository_manifests.repository_id NOT IN (SELECT repositories.id
FROM repositories
WHERE repositories.name IS NULL UNION SELECT staged_repositories.repository_id
FROM staged_repositories)) ORDER BY repository_manifests.unreferenced_since, repository_manifests.repository_id, repository_manifests.manifest_id
 LIMIT :limit OFFSET 0;

-- gc.EDGE_COUNTS
SELECT (SELECT count(*) AS count_1
FROM edges
WHERE edges.parent_id = anon_2.value) AS anon_1
FROM json_each(:rows) AS anon_2;

-- gc.OUTLOOK
SELECT EXISTS (SELECT 1
FROM collection_holds
WHERE collection_holds.expires IS NULL OR collection_holds.expires > :now) AS anon_1, (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.unreferenced_since <= :untagged_before)) OR (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.unreferenced_since <= :before)) OR (EXISTS (SELECT 1
FROM blobs
WHERE blobs.unreferenced_since <= :before)) OR (EXISTS (SELECT 1
FROM blobs
WHERE blobs.state = 'condemned' AND blobs.id > 0)) OR (EXISTS (SELECT 1
FROM leases
WHERE leases.expires <= :now)) OR (EXISTS (SELECT 1
FROM uploads
WHERE uploads.expires <= :now)) OR (EXISTS (SELECT 1
FROM deleted_repositories
WHERE deleted_repositories.repository_id IS NOT NULL)) OR (EXISTS (SELECT 1
FROM batches
WHERE batches.expires <= :now)) AS anon_2;

-- gc.WIDTHS
SELECT (SELECT count(*) AS count_1
FROM (SELECT 1
FROM edges
WHERE edges.parent_id = json_extract(anon_3.value, '$[1]')
 LIMIT :limit OFFSET 0) AS anon_2) + (SELECT count(*) AS count_2
FROM (SELECT 1
FROM manifests
WHERE manifests.subject_id = json_extract(anon_3.value, '$[1]')
 LIMIT :limit OFFSET 0) AS anon_4) + (SELECT count(*) AS count_3
FROM (SELECT 1
FROM repository_edges
WHERE repository_edges.repository_id = json_extract(anon_3.value, '$[0]') AND repository_edges.child_id = json_extract(anon_3.value, '$[1]')
 LIMIT :limit OFFSET 0) AS anon_5) AS anon_1
FROM json_each(:rows) AS anon_3;

-- graph.WALK
WITH RECURSIVE reached(id) AS
(SELECT blobs.id AS id
FROM json_each(:roots) AS anon_3 CROSS JOIN blobs ON blobs.digest = anon_3.value UNION SELECT edges.child_id AS child_id
FROM reached CROSS JOIN edges ON edges.parent_id = reached.id
WHERE (EXISTS (SELECT 1
FROM repository_manifests AS holder
WHERE holder.manifest_id = reached.id AND holder.repository_id = :repository_id AND (holder.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = holder.batch AND batches.revealed IS NULL)) = (holder.leaves IS NOT NULL)))) AND CASE WHEN (reached.id IS NOT NULL) THEN edges.role != 'subject' END = 1)
 SELECT blobs.digest, blobs.size, blobs.state = 'live' AND ((EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository_id AND repository_blobs.blob_id = reached.id AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)))) AND (EXISTS (SELECT 1
FROM repository_edges
WHERE repository_edges.repository_id = :repository_id AND repository_edges.child_id = reached.id AND repository_edges.role IN ('config', 'layer'))) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = reached.id AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL))))) AS anon_1, manifests.media_type, manifests.artifact_type, manifests.subject_id IS NOT NULL AS anon_2
FROM reached CROSS JOIN blobs ON blobs.id = reached.id LEFT OUTER JOIN manifests ON manifests.blob_id = reached.id AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = reached.id AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)))) ORDER BY blobs.digest;

-- graph.WALK_WITH_REFERRERS
WITH RECURSIVE reached(id) AS
(SELECT blobs.id AS id
FROM json_each(:roots) AS anon_3 CROSS JOIN blobs ON blobs.digest = anon_3.value UNION SELECT edges.child_id AS child_id
FROM reached CROSS JOIN edges ON edges.parent_id = reached.id
WHERE (EXISTS (SELECT 1
FROM repository_manifests AS holder
WHERE holder.manifest_id = reached.id AND holder.repository_id = :repository_id AND (holder.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = holder.batch AND batches.revealed IS NULL)) = (holder.leaves IS NOT NULL)))) AND CASE WHEN (reached.id IS NOT NULL) THEN edges.role != 'subject' END = 1 UNION SELECT manifests.blob_id AS blob_id
FROM reached CROSS JOIN manifests ON manifests.subject_id = reached.id
WHERE CASE WHEN (reached.id IS NOT NULL) THEN EXISTS (SELECT 1
FROM repository_manifests AS holder
WHERE holder.manifest_id = manifests.blob_id AND holder.repository_id = :repository_id AND (holder.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = holder.batch AND batches.revealed IS NULL)) = (holder.leaves IS NOT NULL))) END = 1)
 SELECT blobs.digest, blobs.size, blobs.state = 'live' AND ((EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository_id AND repository_blobs.blob_id = reached.id AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)))) AND (EXISTS (SELECT 1
FROM repository_edges
WHERE repository_edges.repository_id = :repository_id AND repository_edges.child_id = reached.id AND repository_edges.role IN ('config', 'layer'))) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = reached.id AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL))))) AS anon_1, manifests.media_type, manifests.artifact_type, manifests.subject_id IS NOT NULL AS anon_2
FROM reached CROSS JOIN blobs ON blobs.id = reached.id LEFT OUTER JOIN manifests ON manifests.blob_id = reached.id AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = reached.id AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)))) ORDER BY blobs.digest;

-- holds.CLEAR_TEMPORARY
DELETE FROM collection_holds WHERE collection_holds.expires IS NOT NULL;

-- holds.CONFIRM
DELETE FROM collection_holds WHERE collection_holds.expires IS NULL RETURNING reason;

-- holds.FORGET
DELETE FROM collection_holds WHERE collection_holds.expires <= :now;

-- holds.IN_FORCE
SELECT collection_holds.id, collection_holds.reason
FROM collection_holds
WHERE collection_holds.expires IS NULL OR collection_holds.expires > :now ORDER BY collection_holds.id;

-- holds.LIFT
DELETE FROM collection_holds WHERE collection_holds.id = :hold;

-- holds.PLACE
INSERT INTO collection_holds (reason, since, expires) VALUES (:reason, :since, :expires) RETURNING id;

-- holds.RENEW
UPDATE collection_holds SET expires=:until WHERE collection_holds.id = :hold AND collection_holds.expires > :now;

-- holds.TEMPORARY
SELECT collection_holds.id
FROM collection_holds
WHERE collection_holds.expires IS NOT NULL ORDER BY collection_holds.id;

-- holds.WAITING
SELECT collection_holds.reason
FROM collection_holds
WHERE collection_holds.expires IS NULL
 LIMIT 1 OFFSET 0;

-- identity.FIND
SELECT store.identity, store.backup_of
FROM store;

-- identity.MARK
UPDATE store SET identity=:new, backup_of=store.identity;

-- identity.UNMARK
UPDATE store SET backup_of=NULL WHERE store.backup_of IS NOT NULL;

-- leases.DELETE
DELETE FROM leases WHERE leases.id = :lease;

-- leases.DROP
DELETE FROM lease_blobs WHERE lease_blobs.lease_id = :lease AND (lease_blobs.repository_id, lease_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- leases.EVERY
SELECT leases.id
FROM leases;

-- leases.EXPIRE
UPDATE leases SET expires=0 WHERE leases.id = :lease;

-- leases.EXPIRED
SELECT leases.id
FROM leases
WHERE leases.expires <= :now ORDER BY leases.expires
 LIMIT :limit OFFSET 0;

-- leases.EXPIRES
SELECT leases.expires
FROM leases
WHERE leases.id = :lease;

-- leases.FORGET
DELETE FROM lease_blobs WHERE (lease_blobs.repository_id, lease_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2) AND NOT (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = lease_blobs.repository_id AND repository_blobs.blob_id = lease_blobs.blob_id)) AND NOT (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = lease_blobs.repository_id AND repository_manifests.manifest_id = lease_blobs.blob_id));

-- leases.INSERT
INSERT INTO leases (id, reason, created, expires) VALUES (:id, :reason, :created, :expires);

-- leases.KEEP
INSERT INTO lease_blobs (lease_id, repository_id, blob_id) SELECT :lease AS anon_1, :repository_id AS anon_2, blobs.id
FROM json_each(:digests) AS anon_3 CROSS JOIN blobs ON blobs.digest = anon_3.value
WHERE (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository_id AND repository_blobs.blob_id = blobs.id)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = blobs.id)) ON CONFLICT (lease_id, repository_id, blob_id) DO UPDATE SET lease_id = excluded.lease_id;

-- leases.LET_GO[0]
SELECT DISTINCT lease_blobs.repository_id, lease_blobs.blob_id
FROM leases CROSS JOIN lease_blobs ON lease_blobs.lease_id = leases.id
WHERE leases.expires <= :now AND (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = lease_blobs.repository_id AND repository_blobs.blob_id = lease_blobs.blob_id AND repository_blobs.unreferenced_since IS NULL));

-- leases.LET_GO[1]
SELECT DISTINCT lease_blobs.repository_id, lease_blobs.blob_id
FROM leases CROSS JOIN lease_blobs ON lease_blobs.lease_id = leases.id
WHERE leases.expires <= :now AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = lease_blobs.repository_id AND repository_manifests.manifest_id = lease_blobs.blob_id AND repository_manifests.unreferenced_since IS NULL));

-- leases.OF
SELECT leases.id, leases.reason, leases.created, leases.expires
FROM lease_blobs CROSS JOIN leases ON leases.id = lease_blobs.lease_id
WHERE lease_blobs.repository_id = :repository_id AND lease_blobs.blob_id = :blob AND leases.expires > :now ORDER BY leases.expires;

-- leases.PAGE
SELECT leases.id, leases.reason, leases.created, leases.expires, (SELECT count(*) AS count_1
FROM lease_blobs
WHERE lease_blobs.lease_id = leases.id) AS anon_1, (SELECT count(*) AS count_1
FROM lease_blobs
WHERE lease_blobs.lease_id = leases.id AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = lease_blobs.repository_id AND repository_manifests.manifest_id = lease_blobs.blob_id))) AS anon_2
FROM leases
WHERE leases.id > :after AND leases.expires > :now ORDER BY leases.id
 LIMIT :limit OFFSET 0;

-- leases.QUEUE[0]
UPDATE repository_blobs SET unreferenced_since=:now WHERE (repository_blobs.repository_id, repository_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2) AND repository_blobs.unreferenced_since IS NULL;

-- leases.QUEUE[1]
UPDATE repository_manifests SET unreferenced_since=:now WHERE (repository_manifests.repository_id, repository_manifests.manifest_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2) AND repository_manifests.unreferenced_since IS NULL;

-- leases.RENEW
UPDATE leases SET expires=:until WHERE leases.id = :lease AND leases.expires > :now;

-- leases.SOME
SELECT lease_blobs.repository_id, lease_blobs.blob_id
FROM lease_blobs
WHERE lease_blobs.lease_id = :lease ORDER BY lease_blobs.repository_id, lease_blobs.blob_id
 LIMIT :limit OFFSET 0;

-- leases.STANDING
SELECT leases.expires, EXISTS (SELECT 1
FROM lease_blobs
WHERE lease_blobs.lease_id = :lease AND lease_blobs.repository_id = (SELECT repositories.id
FROM repositories
WHERE repositories.name = :repository) AND lease_blobs.blob_id = (SELECT blobs.id
FROM blobs
WHERE blobs.digest = :digest)) AS anon_1
FROM leases
WHERE leases.id = :lease;

-- losses.BLOBS_OF
SELECT blobs.id, blobs.size
FROM blobs
WHERE blobs.id IN (SELECT edges.child_id
FROM edges
WHERE edges.parent_id = :manifest) AND blobs.state = 'live' AND (SELECT repository_blobs.repository_id
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id ORDER BY repository_blobs.repository_id DESC
 LIMIT 1 OFFSET 0) = :repository AND (SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = blobs.id AND repository_edges.role IN ('config', 'layer') ORDER BY repository_edges.parent_id DESC
 LIMIT 1 OFFSET 0) = :manifest;

-- losses.CHILDREN
SELECT DISTINCT edges.child_id
FROM edges
WHERE edges.parent_id = :manifest AND edges.role = 'manifest' AND (SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = edges.child_id AND repository_edges.role = 'manifest' ORDER BY repository_edges.parent_id DESC
 LIMIT 1 OFFSET 0) = :manifest AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = edges.child_id AND repository_manifests.unreferenced_since IS NULL));

-- losses.IDLE
SELECT repository_blobs.repository_id, repository_blobs.blob_id, repository_blobs.unreferenced_since, (SELECT blobs.size
FROM blobs
WHERE blobs.id = repository_blobs.blob_id AND blobs.state = 'live') AS anon_1, (SELECT other.repository_id
FROM repository_blobs AS other
WHERE other.blob_id = repository_blobs.blob_id ORDER BY other.repository_id DESC
 LIMIT 1 OFFSET 0) = repository_blobs.repository_id AND (SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = repository_blobs.repository_id AND repository_edges.child_id = repository_blobs.blob_id AND repository_edges.role IN ('config', 'layer') ORDER BY repository_edges.parent_id DESC
 LIMIT 1 OFFSET 0) IS NULL AS anon_2
FROM repository_blobs
WHERE repository_blobs.unreferenced_since <= :before AND (repository_blobs.unreferenced_since, repository_blobs.repository_id, repository_blobs.blob_id) > (:since, :first, :second) AND (repository_blobs.repository_id NOT IN (SELECT repositories.id
FROM repositories
WHERE repositories.name IS NULL UNION SELECT staged_repositories.repository_id
FROM staged_repositories)) ORDER BY repository_blobs.unreferenced_since, repository_blobs.repository_id, repository_blobs.blob_id
 LIMIT :limit OFFSET 0;

-- losses.ITSELF
SELECT blobs.id, blobs.size
FROM blobs
WHERE blobs.id = :manifest AND blobs.state = 'live' AND NOT (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id)) AND (SELECT repository_manifests.repository_id
FROM repository_manifests
WHERE repository_manifests.manifest_id = blobs.id ORDER BY repository_manifests.repository_id DESC
 LIMIT 1 OFFSET 0) = :repository;

-- losses.REFERRERS
SELECT manifests.blob_id, (SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = manifests.blob_id AND repository_edges.role = 'manifest' ORDER BY repository_edges.parent_id DESC
 LIMIT 1 OFFSET 0) IS NULL AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.blob_id AND repository_manifests.unreferenced_since IS NULL)) AS anon_1
FROM manifests
WHERE manifests.subject_id = :manifest AND manifests.blob_id > :after ORDER BY manifests.blob_id
 LIMIT :limit OFFSET 0;

-- losses.SERVERS
SELECT repository_blobs.repository_id, repository_blobs.unreferenced_since, EXISTS (SELECT 1
FROM lease_blobs, leases
WHERE lease_blobs.repository_id = repository_blobs.repository_id AND lease_blobs.blob_id = repository_blobs.blob_id AND leases.id = lease_blobs.lease_id AND leases.expires > :now) AS anon_1
FROM repository_blobs
WHERE repository_blobs.blob_id = :blob AND repository_blobs.repository_id > :after ORDER BY repository_blobs.repository_id
 LIMIT :limit OFFSET 0;

-- losses.SERVERS_AS_MANIFEST
SELECT repository_manifests.repository_id
FROM repository_manifests
WHERE repository_manifests.manifest_id = :blob AND repository_manifests.repository_id > :after ORDER BY repository_manifests.repository_id
 LIMIT :limit OFFSET 0;

-- losses.USERS
SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = :blob AND repository_edges.role IN ('config', 'layer') AND repository_edges.parent_id > :after ORDER BY repository_edges.parent_id
 LIMIT :limit OFFSET 0;

-- manifests.ADD_MEMBERSHIP
INSERT INTO repository_manifests (repository_id, manifest_id, pushed_at, unreferenced_since, incomplete, entry, batch) SELECT :repository_id AS anon_1, json_extract(anon_3.value, '$[0]') AS anon_2, :now AS anon_4, :now AS anon_5, json_extract(anon_3.value, '$[1]') AS anon_6, json_extract(anon_3.value, '$[2]') AS anon_7, :batch AS anon_8
FROM json_each(:rows) AS anon_3
WHERE 1 = 1 ON CONFLICT (repository_id, manifest_id) DO UPDATE SET pushed_at = excluded.pushed_at, unreferenced_since = excluded.unreferenced_since, incomplete = excluded.incomplete, entry = coalesce(excluded.entry, CASE WHEN (NOT (repository_manifests.leaves IS NOT NULL AND NOT (repository_manifests.leaves IS NOT NULL AND repository_manifests.batch IN (SELECT batches.id
FROM batches
WHERE batches.revealed IS NULL) AND excluded.batch IS NULL))) THEN repository_manifests.entry END), batch = CASE WHEN (repository_manifests.leaves IS NOT NULL AND repository_manifests.batch IN (SELECT batches.id
FROM batches
WHERE batches.revealed IS NULL) AND excluded.batch IS NULL OR repository_manifests.leaves IS NULL AND excluded.batch IS NOT NULL) THEN repository_manifests.batch END, leaves = CASE WHEN (repository_manifests.leaves IS NOT NULL AND repository_manifests.batch IN (SELECT batches.id
FROM batches
WHERE batches.revealed IS NULL) AND excluded.batch IS NULL) THEN repository_manifests.leaves END;

-- manifests.BELOW
SELECT DISTINCT blobs.digest
FROM json_each(:ids) AS anon_1 CROSS JOIN edges ON edges.parent_id = anon_1.value CROSS JOIN blobs ON blobs.id = edges.child_id;

-- manifests.BY_DIGEST
SELECT blobs.digest, blobs.size, manifests.media_type, manifests.artifact_type
FROM repositories CROSS JOIN blobs ON blobs.digest = :reference CROSS JOIN repository_manifests ON repository_manifests.repository_id = repositories.id AND repository_manifests.manifest_id = blobs.id CROSS JOIN manifests ON manifests.blob_id = blobs.id
WHERE repositories.name = :repository AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL));

-- manifests.BY_TAG
SELECT blobs.digest, blobs.size, manifests.media_type, manifests.artifact_type
FROM repositories CROSS JOIN tags ON tags.repository_id = repositories.id CROSS JOIN manifests ON manifests.blob_id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END CROSS JOIN blobs ON blobs.id = manifests.blob_id
WHERE repositories.name = :repository AND tags.name = :reference;

-- manifests.CHILDREN
SELECT blobs.digest, blobs.id, blobs.size, blobs.state, (SELECT repository_blobs.leaves IS NOT NULL AND (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL AND batches.id != :own_batch)) AS anon_2
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository_id AND repository_blobs.blob_id = blobs.id AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL AND batches.id != :own_batch)) = (repository_blobs.leaves IS NOT NULL))) AS anon_1, (SELECT repository_manifests.leaves IS NOT NULL AND (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL AND batches.id != :own_batch)) AS anon_4
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = blobs.id AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL AND batches.id != :own_batch)) = (repository_manifests.leaves IS NOT NULL))) AS anon_3, manifests.media_type
FROM json_each(:digests) AS anon_5 CROSS JOIN blobs ON blobs.digest = anon_5.value LEFT OUTER JOIN manifests ON manifests.blob_id = blobs.id;

-- manifests.DISOWN
DELETE FROM repository_edges WHERE repository_edges.repository_id = :in_repository AND repository_edges.child_id IN (SELECT edges.child_id
FROM edges
WHERE edges.parent_id = :this_manifest) AND repository_edges.parent_id = :this_manifest;

-- manifests.ENTRIES
SELECT blobs.digest, (SELECT repository_manifests.entry
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = blobs.id) AS anon_1
FROM json_each(:digests) AS anon_2 CROSS JOIN blobs ON blobs.digest = anon_2.value;

-- manifests.ID_OF
SELECT blobs.id
FROM blobs JOIN manifests ON manifests.blob_id = blobs.id
WHERE blobs.digest = :digest AND ((EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = blobs.id AND repository_manifests.repository_id = :repository_id AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)))) OR NOT ((EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = blobs.id)) OR (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id))));

-- manifests.MEMBERS
SELECT repository_manifests.manifest_id, repository_manifests.incomplete, repository_manifests.entry
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1);

-- manifests.NOTE_PLATFORM
UPDATE manifests SET platform=:said WHERE manifests.blob_id = :id AND manifests.platform IS NULL;

-- manifests.NOT_QUEUED
SELECT manifests.blob_id
FROM manifests CROSS JOIN repository_manifests ON repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id = manifests.blob_id
WHERE manifests.subject_id = :this_manifest AND coalesce(repository_manifests.unreferenced_since, -1) < :since
 LIMIT :limit OFFSET 0;

-- manifests.OWN_EDGES
INSERT INTO repository_edges (repository_id, child_id, parent_id, role) SELECT :repository_id AS anon_1, edges.child_id, edges.parent_id, edges.role
FROM json_each(:ids) AS anon_2 CROSS JOIN edges ON edges.parent_id = anon_2.value
WHERE 1 = 1 ON CONFLICT DO NOTHING;

-- manifests.PAGE
SELECT repository_manifests.manifest_id, blobs.digest, blobs.size, manifests.media_type, manifests.artifact_type
FROM repository_manifests CROSS JOIN manifests ON manifests.blob_id = repository_manifests.manifest_id CROSS JOIN blobs ON blobs.id = repository_manifests.manifest_id
WHERE repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id > :after AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)) ORDER BY repository_manifests.manifest_id
 LIMIT :limit OFFSET 0;

-- manifests.PLATFORM
SELECT manifests.platform
FROM blobs CROSS JOIN manifests ON manifests.blob_id = blobs.id
WHERE blobs.digest = :digest;

-- manifests.PUT
INSERT INTO manifests (blob_id, media_type, artifact_type, config_media_type, subject_id, annotations, platform) VALUES (:blob_id, :media_type, :artifact_type, :config_media_type, :subject_id, :annotations, :platform);

-- manifests.PUT_EDGES
INSERT INTO edges (parent_id, position, role, child_id, size, media_type) VALUES (:parent_id, :position, :role, :child_id, :size, :media_type);

-- manifests.QUEUE_BLOBS
UPDATE repository_blobs SET unreferenced_since=:now WHERE repository_blobs.repository_id = :in_repository AND repository_blobs.blob_id IN (SELECT edges.child_id
FROM edges
WHERE edges.parent_id = :this_manifest) AND repository_blobs.unreferenced_since IS NOT :now;

-- manifests.QUEUE_CHILDREN
UPDATE repository_manifests SET unreferenced_since=:since WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT edges.child_id
FROM edges
WHERE edges.parent_id = :this_manifest) AND coalesce(repository_manifests.unreferenced_since, -1) < :since;

-- manifests.QUEUE_SELF
UPDATE blobs SET unreferenced_since=max(coalesce(blobs.unreferenced_since, 0), :since) WHERE blobs.id = :this_manifest;

-- manifests.QUEUE_THESE
UPDATE repository_manifests SET unreferenced_since=:since WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND coalesce(repository_manifests.unreferenced_since, -1) < :since;

-- manifests.REFERRERS
SELECT blobs.digest, blobs.size, manifests.media_type, manifests.artifact_type, manifests.annotations
FROM blobs AS subject CROSS JOIN manifests ON manifests.subject_id = subject.id CROSS JOIN repository_manifests ON repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = manifests.blob_id CROSS JOIN blobs ON blobs.id = manifests.blob_id
WHERE subject.digest = :digest AND blobs.digest > :after AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)) ORDER BY blobs.digest
 LIMIT :limit OFFSET 0;

-- manifests.REFERRERS_OF_TYPE
SELECT blobs.digest, blobs.size, manifests.media_type, manifests.artifact_type, manifests.annotations
FROM blobs AS subject CROSS JOIN manifests ON manifests.subject_id = subject.id CROSS JOIN repository_manifests ON repository_manifests.repository_id = :repository_id AND repository_manifests.manifest_id = manifests.blob_id CROSS JOIN blobs ON blobs.id = manifests.blob_id
WHERE subject.digest = :digest AND blobs.digest > :after AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)) AND manifests.artifact_type = :artifact_type ORDER BY blobs.digest
 LIMIT :limit OFFSET 0;

-- manifests.REFERRING
SELECT manifests.blob_id
FROM manifests CROSS JOIN repository_manifests ON repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id = manifests.blob_id
WHERE manifests.subject_id = :this_manifest AND manifests.blob_id > :after ORDER BY manifests.blob_id
 LIMIT :limit OFFSET 0;

-- manifests.REMOVE_MEMBERSHIP
DELETE FROM repository_manifests WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id = :this_manifest;

-- migrate.INSERT_STORE
INSERT INTO store (id, epoch, created, identity) VALUES (1, 1, :now, :who);

-- migrate.INSERT_VERSION
INSERT INTO alembic_version (version_num) VALUES (:revision);

-- migrate.SELECT_SCHEMA
SELECT sqlite_master.type, sqlite_master.name, sqlite_master.sql
FROM sqlite_master
WHERE sqlite_master.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND sqlite_master.name != 'alembic_version' ORDER BY sqlite_master.type, sqlite_master.name;

-- migrate.SELECT_VERSION
SELECT alembic_version.version_num
FROM alembic_version;

-- migrate.SELECT_VERSIONED
SELECT sqlite_master.name
FROM sqlite_master
WHERE sqlite_master.name = 'alembic_version';

-- reachability.ABOVE
WITH RECURSIVE up(id) AS
(SELECT :manifest AS id UNION SELECT repository_edges.parent_id AS parent_id
FROM up CROSS JOIN repository_edges ON repository_edges.child_id = up.id AND repository_edges.repository_id = CASE WHEN (up.id IS NOT NULL) THEN :repository END
WHERE CASE WHEN (up.id IS NOT NULL) THEN repository_edges.role = 'manifest' END = 1 UNION SELECT manifests.subject_id AS subject_id
FROM up CROSS JOIN manifests ON manifests.blob_id = up.id
WHERE CASE WHEN (up.id IS NOT NULL) THEN EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.subject_id) END = 1)
 SELECT up.id, (EXISTS (SELECT 1
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = up.id AND repository_edges.role = 'manifest')) OR (EXISTS (SELECT 1
FROM manifests, repository_manifests
WHERE manifests.blob_id = up.id AND repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.subject_id)) AS anon_1
FROM up;

-- reachability.ALIVE
WITH RECURSIVE up(id) AS
(SELECT :manifest AS id UNION SELECT repository_edges.parent_id AS parent_id
FROM up CROSS JOIN repository_edges ON repository_edges.child_id = up.id AND repository_edges.repository_id = CASE WHEN (up.id IS NOT NULL) THEN :repository END
WHERE CASE WHEN (up.id IS NOT NULL) THEN repository_edges.role = 'manifest' END = 1 AND CASE WHEN (up.id IS NOT NULL) THEN (repository_edges.parent_id NOT IN (SELECT anon_1.value
FROM json_each(:dead) AS anon_1)) END = 1 UNION SELECT manifests.subject_id AS subject_id
FROM up CROSS JOIN manifests ON manifests.blob_id = up.id
WHERE CASE WHEN (up.id IS NOT NULL) THEN EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.subject_id) END = 1 AND CASE WHEN (up.id IS NOT NULL) THEN (manifests.subject_id NOT IN (SELECT anon_1.value
FROM json_each(:dead) AS anon_1)) END = 1)
 SELECT up.id
FROM up
WHERE (EXISTS (SELECT 1
FROM tags
WHERE tags.repository_id = :repository AND tags.manifest_id = up.id)) OR (EXISTS (SELECT 1
FROM tags
WHERE tags.repository_id = :repository AND tags.next_id = up.id)) OR (EXISTS (SELECT 1
FROM lease_blobs, leases
WHERE lease_blobs.repository_id = :repository AND lease_blobs.blob_id = up.id AND leases.id = lease_blobs.lease_id AND leases.expires > :now)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = up.id AND repository_manifests.unreferenced_since > :before))
 LIMIT 1 OFFSET 0;

-- reachability.ALIVE_ONCE_LEASES_END
WITH RECURSIVE up(id) AS
(SELECT :manifest AS id UNION SELECT repository_edges.parent_id AS parent_id
FROM up CROSS JOIN repository_edges ON repository_edges.child_id = up.id AND repository_edges.repository_id = CASE WHEN (up.id IS NOT NULL) THEN :repository END
WHERE CASE WHEN (up.id IS NOT NULL) THEN repository_edges.role = 'manifest' END = 1 AND CASE WHEN (up.id IS NOT NULL) THEN (repository_edges.parent_id NOT IN (SELECT anon_1.value
FROM json_each(:dead) AS anon_1)) END = 1 UNION SELECT manifests.subject_id AS subject_id
FROM up CROSS JOIN manifests ON manifests.blob_id = up.id
WHERE CASE WHEN (up.id IS NOT NULL) THEN EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.subject_id) END = 1 AND CASE WHEN (up.id IS NOT NULL) THEN (manifests.subject_id NOT IN (SELECT anon_1.value
FROM json_each(:dead) AS anon_1)) END = 1)
 SELECT up.id
FROM up
WHERE (EXISTS (SELECT 1
FROM tags
WHERE tags.repository_id = :repository AND tags.manifest_id = up.id)) OR (EXISTS (SELECT 1
FROM tags
WHERE tags.repository_id = :repository AND tags.next_id = up.id)) OR (EXISTS (SELECT 1
FROM lease_blobs, leases
WHERE lease_blobs.repository_id = :repository AND lease_blobs.blob_id = up.id AND leases.id = lease_blobs.lease_id AND leases.expires > :now)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = up.id AND repository_manifests.unreferenced_since > :before)) OR (EXISTS (SELECT 1
FROM lease_blobs, leases, repository_manifests
WHERE lease_blobs.repository_id = :repository AND lease_blobs.blob_id = up.id AND leases.id = lease_blobs.lease_id AND leases.expires <= :now AND repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = up.id AND repository_manifests.unreferenced_since IS NULL))
 LIMIT 1 OFFSET 0;

-- reachability.DIRECTLY_ABOVE
SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = :manifest AND repository_edges.role = 'manifest' UNION SELECT manifests.subject_id
FROM manifests
WHERE manifests.blob_id = :manifest AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.subject_id));

-- reachability.QUEUED_FIRST
SELECT coalesce(min(coalesce(repository_manifests.unreferenced_since, 0)), 0) AS coalesce_1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:these) AS anon_1);

-- reachability.QUEUED_LAST
SELECT coalesce(max(coalesce(repository_manifests.unreferenced_since, 0)), 0) AS coalesce_1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:these) AS anon_1);

-- rebuild.COUNT_OF
SELECT (SELECT count(*) AS count_1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository) AS anon_1, (SELECT count(*) AS count_2
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository) AS anon_2;

-- rebuild.ELSEWHERE
SELECT anon_1.value
FROM json_each(:ids) AS anon_1
WHERE EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = anon_1.value AND repository_manifests.repository_id != :in_repository);

-- rebuild.FORGET_VERIFIED
UPDATE blobs SET verified_at=NULL WHERE blobs.digest IN (SELECT anon_1.value
FROM json_each(:digests) AS anon_1);

-- rebuild.KEEP_LOOSE
INSERT INTO repository_blobs (repository_id, blob_id, unreferenced_since) SELECT :in_repository AS anon_1, blobs.id, :now AS anon_2
FROM blobs
WHERE blobs.id IN (SELECT anon_3.value
FROM json_each(:ids) AS anon_3) AND blobs.state = 'live' AND NOT (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id)) AND NOT (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = blobs.id)) ON CONFLICT DO NOTHING;

-- rebuild.LEAVE
DELETE FROM repository_manifests WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1);

-- rebuild.LEAVE_EDGES
DELETE FROM repository_edges WHERE repository_edges.repository_id = :in_repository AND (repository_edges.child_id, repository_edges.parent_id) IN (SELECT edges.child_id, edges.parent_id
FROM json_each(:ids) AS anon_1 CROSS JOIN edges ON edges.parent_id = anon_1.value);

-- rebuild.LIVE
INSERT INTO blobs (digest, size, state, verified_at) SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3, 'live' AS anon_4, :now AS anon_5
FROM json_each(:rows) AS anon_2
WHERE 1 = 1 ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = 'live', verified_at = excluded.verified_at;

-- rebuild.NOTE_INCOMPLETE
UPDATE repository_manifests SET incomplete=1 WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND (EXISTS (SELECT 1
FROM edges
WHERE edges.parent_id = repository_manifests.manifest_id AND edges.role != 'subject' AND NOT (EXISTS (SELECT 1
FROM repository_manifests AS child, repository_manifests
WHERE child.repository_id = repository_manifests.repository_id AND child.manifest_id = edges.child_id)) AND NOT (EXISTS (SELECT 1
FROM repository_blobs, repository_manifests
WHERE repository_blobs.repository_id = repository_manifests.repository_id AND repository_blobs.blob_id = edges.child_id))));

-- rebuild.SAY
UPDATE repository_manifests SET entry=:said WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id = :manifest;

-- rebuild.SERVE_BLOBS
INSERT INTO repository_blobs (repository_id, blob_id, unreferenced_since) SELECT DISTINCT :in_repository AS anon_1, edges.child_id, :now AS anon_2
FROM json_each(:ids) AS anon_3 CROSS JOIN edges ON edges.parent_id = anon_3.value CROSS JOIN blobs ON blobs.id = edges.child_id
WHERE edges.role IN ('config', 'layer') AND blobs.state = 'live' ON CONFLICT DO NOTHING;

-- rebuild.SERVE_EDGES
INSERT INTO repository_edges (repository_id, child_id, parent_id, role) SELECT :repository AS anon_1, edges.child_id, edges.parent_id, edges.role
FROM json_each(:rows) AS anon_2 JOIN blobs ON blobs.digest = anon_2.value JOIN edges ON edges.parent_id = blobs.id
WHERE 1 = 1 ON CONFLICT DO NOTHING;

-- rebuild.SERVE_MANIFEST
INSERT INTO repository_manifests (repository_id, manifest_id, pushed_at, unreferenced_since) SELECT :repository AS anon_1, manifests.blob_id, :now AS anon_2, :now AS anon_3
FROM json_each(:rows) AS anon_4 JOIN blobs ON blobs.digest = anon_4.value JOIN manifests ON manifests.blob_id = blobs.id
WHERE 1 = 1 ON CONFLICT DO NOTHING;

-- rebuild.SMALL
SELECT blobs.id, blobs.digest, blobs.size
FROM blobs
WHERE blobs.id > :after AND blobs.size <= :maximum AND blobs.state = 'live' ORDER BY blobs.id
 LIMIT :limit OFFSET 0;

-- rebuild.WIDTHS
SELECT repository_manifests.manifest_id, (SELECT count(*) AS count_1
FROM edges
WHERE edges.parent_id = repository_manifests.manifest_id) AS anon_1
FROM repository_manifests
WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id > :after ORDER BY repository_manifests.manifest_id
 LIMIT :limit OFFSET 0;

-- rebuild.WIDTHS_OF
SELECT blobs.id, (SELECT count(*) AS count_1
FROM edges
WHERE edges.parent_id = blobs.id) AS anon_1
FROM json_each(:digests) AS anon_2 CROSS JOIN blobs ON blobs.digest = anon_2.value;

-- refs.NEWEST_EVENT
SELECT coalesce(max(tag_events.id), 0) AS coalesce_1, EXISTS (SELECT 1
FROM batches
WHERE batches.revealed IS NULL) AS anon_1
FROM tag_events;

-- refs.PAGE_OF_TAGS
SELECT tags.repository_id, (SELECT repositories.name
FROM repositories
WHERE repositories.id = tags.repository_id) AS anon_1, tags.name, blobs.digest, EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = tags.repository_id AND repository_manifests.manifest_id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END AND repository_manifests.incomplete IS NOT NULL) AS anon_2, CASE WHEN (length(CASE WHEN (tags.batch IS NULL) THEN tags.entry WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_entry WHEN (tags.fresh IS NULL) THEN tags.entry END) <= 4096) THEN CASE WHEN (tags.batch IS NULL) THEN tags.entry WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_entry WHEN (tags.fresh IS NULL) THEN tags.entry END END AS anon_3
FROM tags CROSS JOIN blobs ON blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END
WHERE (tags.repository_id, tags.name) > (:repository, :after) AND (SELECT repositories.name
FROM repositories
WHERE repositories.id = tags.repository_id) IS NOT NULL ORDER BY tags.repository_id, tags.name
 LIMIT :limit OFFSET 0;

-- refs.PAGE_OF_UNTAGGED
SELECT repository_manifests.repository_id, (SELECT repositories.name
FROM repositories
WHERE repositories.id = repository_manifests.repository_id) AS anon_1, repository_manifests.manifest_id, blobs.digest, repository_manifests.incomplete IS NOT NULL AS anon_2, CASE WHEN (length(repository_manifests.entry) <= 4096) THEN repository_manifests.entry END AS anon_3
FROM repository_manifests CROSS JOIN blobs ON blobs.id = repository_manifests.manifest_id
WHERE (repository_manifests.repository_id, repository_manifests.manifest_id) > (:repository, :after) AND (SELECT repositories.name
FROM repositories
WHERE repositories.id = repository_manifests.repository_id) IS NOT NULL AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL)) AND NOT ((EXISTS (SELECT 1
FROM tags
WHERE tags.repository_id = repository_manifests.repository_id AND tags.name IN (SELECT there.name
FROM tags AS there
WHERE there.repository_id = repository_manifests.repository_id AND there.manifest_id = repository_manifests.manifest_id) AND CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END = repository_manifests.manifest_id)) OR (EXISTS (SELECT 1
FROM tags
WHERE tags.repository_id = repository_manifests.repository_id AND tags.name IN (SELECT there.name
FROM tags AS there
WHERE there.repository_id = repository_manifests.repository_id AND there.next_id = repository_manifests.manifest_id) AND CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END = repository_manifests.manifest_id))) ORDER BY repository_manifests.repository_id, repository_manifests.manifest_id
 LIMIT :limit OFFSET 0;

-- relations.BLOB
SELECT blobs.id, blobs.digest, blobs.size, blobs.state = 'absent' AS anon_1, (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.blob_id = blobs.id)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = blobs.id)) AS anon_2, blobs.unreferenced_since
FROM blobs
WHERE blobs.id = :blob AND blobs.state = 'live';

-- relations.BLOBS_OF
SELECT DISTINCT edges.child_id
FROM edges
WHERE edges.parent_id = :manifest AND (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository AND repository_blobs.blob_id = edges.child_id));

-- relations.DIGEST_OF
SELECT blobs.digest
FROM blobs
WHERE blobs.id = :blob;

-- relations.LEASED_HERE
SELECT lease_blobs.lease_id
FROM lease_blobs, leases
WHERE lease_blobs.repository_id = :repository AND lease_blobs.blob_id = :blob AND leases.id = lease_blobs.lease_id AND leases.expires > :now;

-- relations.NAMING_OTHERWISE
SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = :blob AND (repository_edges.role NOT IN ('config', 'layer'))
 LIMIT :limit OFFSET 0;

-- relations.RELATIVES
SELECT edges.child_id
FROM edges
WHERE edges.parent_id = :manifest AND edges.role = 'manifest' AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = edges.child_id)) UNION SELECT manifests.blob_id
FROM manifests
WHERE manifests.subject_id = :manifest AND (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.blob_id));

-- relations.ROW_OF
SELECT blobs.id, blobs.state, blobs.unreferenced_since
FROM blobs
WHERE blobs.digest = :digest;

-- relations.SERVERS
SELECT repository_blobs.repository_id, 0
FROM repository_blobs
WHERE repository_blobs.blob_id = :blob UNION ALL SELECT repository_manifests.repository_id, 1
FROM repository_manifests
WHERE repository_manifests.manifest_id = :blob
 LIMIT :limit OFFSET 0;

-- relations.SINCE
SELECT repository_blobs.unreferenced_since
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository AND repository_blobs.blob_id = :blob;

-- relations.USERS
SELECT repository_edges.parent_id
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = :blob AND repository_edges.role IN ('config', 'layer')
 LIMIT :limit OFFSET 0;

-- relations.WHY
WITH RECURSIVE up(id) AS
(SELECT :manifest AS id UNION SELECT repository_edges.parent_id AS parent_id
FROM up CROSS JOIN repository_edges ON repository_edges.child_id = up.id AND repository_edges.repository_id = CASE WHEN (up.id IS NOT NULL) THEN :repository END
WHERE CASE WHEN (up.id IS NOT NULL) THEN repository_edges.role = 'manifest' END = 1 UNION SELECT manifests.subject_id AS subject_id
FROM up CROSS JOIN manifests ON manifests.blob_id = up.id
WHERE CASE WHEN (up.id IS NOT NULL) THEN EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = manifests.subject_id) END = 1)
 SELECT up.id, blobs.digest, EXISTS (SELECT 1
FROM up AS below
WHERE CASE WHEN (below.id IS NOT NULL) THEN EXISTS (SELECT 1
FROM repository_edges
WHERE repository_edges.repository_id = :repository AND repository_edges.child_id = below.id AND repository_edges.parent_id = up.id AND repository_edges.role = 'manifest') END = 1) AS anon_1, coalesce((SELECT tags.name
FROM tags
WHERE tags.repository_id = :repository AND tags.manifest_id = up.id
 LIMIT 1 OFFSET 0), (SELECT tags.name
FROM tags
WHERE tags.repository_id = :repository AND tags.next_id = up.id
 LIMIT 1 OFFSET 0)) AS coalesce_1, repository_manifests.unreferenced_since
FROM up CROSS JOIN blobs ON blobs.id = up.id CROSS JOIN repository_manifests ON repository_manifests.repository_id = CASE WHEN (up.id IS NOT NULL) THEN :repository END AND repository_manifests.manifest_id = up.id
 LIMIT :limit OFFSET 0;

-- repositories.DELETE
DELETE FROM repositories WHERE repositories.id = :in_repository;

-- repositories.DELETE_NOTE
DELETE FROM deleted_repositories WHERE deleted_repositories.repository_id = :in_repository;

-- repositories.DROP_BLOBS
DELETE FROM repository_blobs WHERE repository_blobs.repository_id = :in_repository AND repository_blobs.blob_id IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1
FROM json_each(:rows) AS anon_2);

-- repositories.DROP_EDGES
DELETE FROM repository_edges WHERE repository_edges.repository_id = :in_repository AND (repository_edges.child_id, repository_edges.parent_id, repository_edges.role) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3, json_extract(anon_2.value, '$[2]') AS anon_4
FROM json_each(:rows) AS anon_2);

-- repositories.DROP_LEASED
DELETE FROM lease_blobs WHERE lease_blobs.repository_id = :in_repository AND (lease_blobs.lease_id, lease_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- repositories.DROP_MANIFESTS
DELETE FROM repository_manifests WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1
FROM json_each(:rows) AS anon_2);

-- repositories.DROP_TAGS
DELETE FROM tags WHERE tags.repository_id = :in_repository AND tags.name <= :last;

-- repositories.DROP_UPLOADS
DELETE FROM uploads WHERE uploads.id IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1);

-- repositories.FEW_HOLDERS
SELECT repositories.name
FROM blobs CROSS JOIN repository_blobs ON repository_blobs.blob_id = blobs.id CROSS JOIN repositories ON repositories.id = repository_blobs.repository_id
WHERE blobs.digest = :digest AND blobs.state = 'live' AND repositories.name IS NOT NULL AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)) UNION SELECT repositories.name
FROM blobs CROSS JOIN repository_manifests ON repository_manifests.manifest_id = blobs.id CROSS JOIN repositories ON repositories.id = repository_manifests.repository_id
WHERE blobs.digest = :digest AND blobs.state = 'live' AND repositories.name IS NOT NULL AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL))
 LIMIT :limit OFFSET 0;

-- repositories.FIND
SELECT repositories.id
FROM repositories
WHERE repositories.name = :name;

-- repositories.HIDE
UPDATE repositories SET name=NULL WHERE repositories.id = :in_repository;

-- repositories.HOLDERS
SELECT repositories.name
FROM repositories
WHERE repositories.name > :after AND ((EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = repositories.id AND repository_blobs.blob_id = (SELECT blobs.id
FROM blobs
WHERE blobs.digest = :digest AND blobs.state = 'live') AND (repository_blobs.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_blobs.batch AND batches.revealed IS NULL)) = (repository_blobs.leaves IS NOT NULL)))) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = repositories.id AND repository_manifests.manifest_id = (SELECT blobs.id
FROM blobs
WHERE blobs.digest = :digest AND blobs.state = 'live') AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL))))) ORDER BY repositories.name
 LIMIT :limit OFFSET 0;

-- repositories.INSERT
INSERT INTO repositories (name, created) VALUES (:name, :created) RETURNING id;

-- repositories.LAST_TAG
SELECT count(*) AS count_1, max(tags.name) AS max_1
FROM tags
WHERE tags.repository_id = :in_repository AND CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END IS NOT NULL;

-- repositories.NAME_OF
SELECT repositories.name
FROM repositories
WHERE repositories.id = :repository;

-- repositories.NEWEST_EVENT
SELECT coalesce(max(tag_events.id), 0) AS coalesce_1
FROM tag_events;

-- repositories.NEXT_DELETED
SELECT deleted_repositories.repository_id, deleted_repositories.name, deleted_repositories.deleted, deleted_repositories.actor, deleted_repositories.next_event
FROM deleted_repositories ORDER BY deleted_repositories.repository_id
 LIMIT 1 OFFSET 0;

-- repositories.NOTE_DELETED
INSERT INTO deleted_repositories (repository_id, name, deleted, actor, next_event) VALUES (:repository_id, :name, :deleted, :actor, :next_event);

-- repositories.PAGE
SELECT repositories.name
FROM repositories
WHERE repositories.name > :after AND repositories.name >= :prefix AND repositories.name < :beyond ORDER BY repositories.name
 LIMIT :limit OFFSET 0;

-- repositories.QUEUE_BLOBS
UPDATE blobs SET unreferenced_since=:now WHERE blobs.id IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1
FROM json_each(:rows) AS anon_2);

-- repositories.RECORD
INSERT INTO tag_events (repository, tag, old_digest, new_digest, at, actor) VALUES (:repository, :tag, :old_digest, :new_digest, :at, :actor);

-- repositories.RECORD_AGAIN
INSERT INTO tag_events (id, repository, tag, old_digest, new_digest, at, actor) VALUES (:id, :repository, :tag, :old_digest, :new_digest, :at, :actor) ON CONFLICT (id) DO NOTHING;

-- repositories.RECORD_NUMBERED
INSERT INTO tag_events (id, repository, tag, old_digest, new_digest, at, actor) VALUES (:id, :repository, :tag, :old_digest, :new_digest, :at, :actor);

-- repositories.RESERVE
UPDATE deleted_repositories SET next_event=:event WHERE deleted_repositories.repository_id = :in_repository;

-- repositories.SOME_BLOBS
SELECT repository_blobs.blob_id
FROM repository_blobs
WHERE repository_blobs.repository_id = :in_repository
 LIMIT :limit OFFSET 0;

-- repositories.SOME_EDGES
SELECT repository_edges.child_id, repository_edges.parent_id, repository_edges.role
FROM repository_edges
WHERE repository_edges.repository_id = :in_repository
 LIMIT :limit OFFSET 0;

-- repositories.SOME_LEASED
SELECT lease_blobs.lease_id, lease_blobs.blob_id
FROM lease_blobs
WHERE lease_blobs.repository_id = :in_repository
 LIMIT :limit OFFSET 0;

-- repositories.SOME_MANIFESTS
SELECT repository_manifests.manifest_id
FROM repository_manifests
WHERE repository_manifests.repository_id = :in_repository
 LIMIT :limit OFFSET 0;

-- repositories.SOME_TAGS
SELECT tags.name, (SELECT blobs.digest
FROM blobs
WHERE blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END) AS anon_1
FROM tags
WHERE tags.repository_id = :in_repository ORDER BY tags.name
 LIMIT :limit OFFSET 0;

-- repositories.SOME_UPLOADS
SELECT uploads.id
FROM uploads
WHERE uploads.repository_id = :in_repository
 LIMIT :limit OFFSET 0;

-- repositories.TARGET
SELECT blobs.digest
FROM tags CROSS JOIN blobs ON blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END
WHERE tags.repository_id = :in_repository AND tags.name = :tag;

-- repositories.THIS_DELETED
SELECT deleted_repositories.repository_id, deleted_repositories.name, deleted_repositories.deleted, deleted_repositories.actor, deleted_repositories.next_event
FROM deleted_repositories
WHERE deleted_repositories.repository_id = :in_repository;

-- scrub.MARK
UPDATE blobs SET verified_at=:now WHERE blobs.id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND blobs.state = 'live';

-- scrub.NEVER_VERIFIED
SELECT blobs.id, blobs.digest, blobs.size, blobs.verified_at
FROM blobs
WHERE blobs.verified_at IS NULL AND blobs.id > :after AND blobs.state = 'live' AND blobs.id % :parts = :number AND (:repository IS NULL OR (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository AND repository_blobs.blob_id = blobs.id)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = blobs.id))) ORDER BY blobs.id
 LIMIT :limit OFFSET 0;

-- scrub.SERVING
SELECT repositories.id, repositories.name
FROM repositories
WHERE repositories.name IS NOT NULL AND (repositories.id IN (SELECT repository_blobs.repository_id
FROM repository_blobs
WHERE repository_blobs.blob_id = :blob) OR repositories.id IN (SELECT repository_manifests.repository_id
FROM repository_manifests
WHERE repository_manifests.manifest_id = :blob)) ORDER BY repositories.name
 LIMIT :limit OFFSET 0;

-- scrub.SIZE
SELECT blobs.size
FROM blobs
WHERE blobs.digest = :digest AND blobs.state = 'live';

-- scrub.TAGS_ABOVE
WITH RECURSIVE up(repository_id, id) AS
(SELECT :repository_id AS repository_id, :blob AS id UNION SELECT repository_edges.repository_id AS repository_id, repository_edges.parent_id AS parent_id
FROM up JOIN repository_edges ON repository_edges.repository_id = up.repository_id AND repository_edges.child_id = up.id AND repository_edges.role != 'subject')
 SELECT DISTINCT tags.name
FROM up JOIN tags ON tags.repository_id = up.repository_id AND tags.manifest_id = up.id ORDER BY tags.name
 LIMIT :limit OFFSET 0;

-- scrub.UNMARK
UPDATE blobs SET verified_at=NULL WHERE blobs.id = :blob;

-- scrub.VERIFIED
SELECT blobs.id, blobs.digest, blobs.size, blobs.verified_at
FROM blobs
WHERE blobs.verified_at <= :before AND (blobs.verified_at, blobs.id) > (:since, :after) AND blobs.state = 'live' AND blobs.id % :parts = :number AND (:repository IS NULL OR (EXISTS (SELECT 1
FROM repository_blobs
WHERE repository_blobs.repository_id = :repository AND repository_blobs.blob_id = blobs.id)) OR (EXISTS (SELECT 1
FROM repository_manifests
WHERE repository_manifests.repository_id = :repository AND repository_manifests.manifest_id = blobs.id))) ORDER BY blobs.verified_at, blobs.id
 LIMIT :limit OFFSET 0;

-- stageddeletions.BROUGHT_BLOBS
SELECT repository_blobs.blob_id
FROM repository_blobs
WHERE repository_blobs.repository_id = :in_repository AND repository_blobs.blob_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND repository_blobs.batch = :of_batch AND repository_blobs.leaves IS NULL;

-- stageddeletions.BROUGHT_MANIFESTS
SELECT repository_manifests.manifest_id
FROM repository_manifests
WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND repository_manifests.batch = :of_batch AND repository_manifests.leaves IS NULL;

-- stageddeletions.LEAVE_BLOBS
UPDATE repository_blobs SET batch=:of_batch, leaves=1 WHERE repository_blobs.repository_id = :in_repository AND repository_blobs.blob_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND repository_blobs.batch IS NULL;

-- stageddeletions.LEAVE_MANIFESTS
UPDATE repository_manifests SET batch=:of_batch, leaves=1 WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:ids) AS anon_1) AND repository_manifests.batch IS NULL;

-- stageddeletions.LEAVING_BLOBS
SELECT repository_blobs.repository_id, repository_blobs.blob_id
FROM repository_blobs
WHERE repository_blobs.batch = :of_batch AND repository_blobs.leaves IS NOT NULL ORDER BY repository_blobs.repository_id, repository_blobs.blob_id
 LIMIT :limit OFFSET 0;

-- stageddeletions.LEAVING_MANIFESTS
SELECT repository_manifests.repository_id, repository_manifests.manifest_id
FROM repository_manifests
WHERE repository_manifests.batch = :of_batch AND repository_manifests.leaves IS NOT NULL ORDER BY repository_manifests.repository_id, repository_manifests.manifest_id
 LIMIT :limit OFFSET 0;

-- stageddeletions.RESTORE_BLOBS
UPDATE repository_blobs SET batch=NULL, leaves=NULL WHERE (repository_blobs.repository_id, repository_blobs.blob_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- stageddeletions.RESTORE_MANIFESTS
UPDATE repository_manifests SET batch=NULL, leaves=NULL WHERE (repository_manifests.repository_id, repository_manifests.manifest_id) IN (SELECT json_extract(anon_2.value, '$[0]') AS anon_1, json_extract(anon_2.value, '$[1]') AS anon_3
FROM json_each(:rows) AS anon_2);

-- stageddeletions.WIDTHS
SELECT blobs.digest, (SELECT count(*) AS count_1
FROM (SELECT 1
FROM tags
WHERE tags.repository_id = :in_repository AND tags.manifest_id = blobs.id
 LIMIT :limit OFFSET 0) AS anon_2) AS anon_1, (SELECT count(*) AS count_2
FROM (SELECT 1
FROM tags
WHERE tags.repository_id = :in_repository AND tags.next_id = blobs.id
 LIMIT :limit OFFSET 0) AS anon_4) AS anon_3, (SELECT count(*) AS count_3
FROM (SELECT 1
FROM manifests
WHERE manifests.subject_id = blobs.id
 LIMIT :limit OFFSET 0) AS anon_6) AS anon_5
FROM json_each(:digests) AS anon_7 CROSS JOIN blobs ON blobs.digest = anon_7.value;

-- stagedtags.BOUND_TO
SELECT tags.name, EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL) AS anon_1
FROM tags
WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT there.name
FROM tags AS there
WHERE there.repository_id = :in_repository AND there.manifest_id = :manifest) AND tags.batch IS NOT NULL;

-- stagedtags.DROP_FRESH
DELETE FROM tags WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1) AND tags.fresh IS NOT NULL;

-- stagedtags.DROP_HIDDEN_EVENTS
DELETE FROM tag_events WHERE tag_events.repository = :repository AND tag_events.tag IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1) AND tag_events.batch = :of_batch;

-- stagedtags.HIDDEN_EVENTS
SELECT tag_events.tag, tag_events.new_digest, tag_events.at, tag_events.actor
FROM tag_events
WHERE tag_events.id IN (SELECT max(tag_events.id) AS max_1
FROM tag_events
WHERE tag_events.repository = :repository AND tag_events.tag IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1) AND tag_events.batch = :batch GROUP BY tag_events.tag);

-- stagedtags.LEAVE_TO_BATCH
UPDATE tags SET manifest_id=tags.next_id, entry=tags.next_entry, fresh=1 WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1) AND tags.next_id IS NOT NULL;

-- stagedtags.OVERTAKE
UPDATE batches SET expires=0 WHERE batches.id = :this_batch AND batches.revealed IS NULL;

-- stagedtags.QUEUE_LEFT
UPDATE repository_manifests SET unreferenced_since=:now WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT tags.manifest_id
FROM tags
WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1) AND tags.next_id IS NOT tags.manifest_id);

-- stagedtags.RECORD
INSERT INTO tag_events (repository, tag, old_digest, new_digest, at, actor, batch) VALUES (:repository, :tag, :old_digest, :new_digest, :at, :actor, :batch);

-- stagedtags.RESTORE
UPDATE tags SET batch=NULL, next_id=NULL, next_entry=NULL, conditional=NULL WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1);

-- stagedtags.ROWS
SELECT tags.name, tags.batch, EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL) AS anon_1, tags.next_id, tags.conditional, CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL AND batches.id != :own_batch))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END AS anon_2, (SELECT blobs.digest
FROM blobs
WHERE blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL AND batches.id != :own_batch))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END) AS anon_3, CASE WHEN (tags.batch IS NULL) THEN tags.entry WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL AND batches.id != :own_batch))) THEN tags.next_entry WHEN (tags.fresh IS NULL) THEN tags.entry END AS anon_4
FROM tags
WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_5.value
FROM json_each(:names) AS anon_5);

-- stagedtags.SETTLE
UPDATE tags SET manifest_id=tags.next_id, updated=CASE WHEN (tags.fresh IS NOT NULL OR tags.next_id != tags.manifest_id) THEN coalesce((SELECT batches.expires
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NOT NULL), tags.updated) ELSE tags.updated END, entry=tags.next_entry, batch=NULL, fresh=NULL, next_id=NULL, next_entry=NULL, conditional=NULL WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1) AND tags.next_id IS NOT NULL;

-- stagedtags.SETTLE_REMOVAL
DELETE FROM tags WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1) AND tags.batch IS NOT NULL AND tags.next_id IS NULL;

-- stagedtags.SOME
SELECT tags.repository_id, tags.name
FROM tags
WHERE tags.batch = :batch ORDER BY tags.repository_id, tags.name
 LIMIT :limit OFFSET 0;

-- stagedtags.STAGE
INSERT INTO tags (repository_id, name, manifest_id, updated, entry, batch, fresh, next_id, next_entry, conditional) SELECT :in_repository AS anon_1, json_extract(anon_3.value, '$[0]') AS anon_2, json_extract(anon_3.value, '$[1]') AS anon_4, :now AS anon_5, json_extract(anon_3.value, '$[2]') AS anon_6, :batch AS anon_7, 1 AS anon_8, json_extract(anon_3.value, '$[1]') AS anon_9, json_extract(anon_3.value, '$[2]') AS anon_10, json_extract(anon_3.value, '$[3]') AS anon_11
FROM json_each(:moves) AS anon_3
WHERE 1 = 1 ON CONFLICT (repository_id, name) DO UPDATE SET manifest_id = CASE WHEN (tags.fresh IS NULL) THEN tags.manifest_id ELSE excluded.manifest_id END, entry = CASE WHEN (tags.fresh IS NULL) THEN tags.entry ELSE excluded.entry END, batch = excluded.batch, next_id = excluded.next_id, next_entry = excluded.next_entry, conditional = coalesce(excluded.conditional, tags.conditional);

-- stagedtags.STAGE_REMOVAL
UPDATE tags SET batch=:of_batch, next_id=NULL, next_entry=NULL, conditional=coalesce(:is_conditional, tags.conditional) WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1);

-- tags.ALL
SELECT tags.name, blobs.digest
FROM tags CROSS JOIN blobs ON blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END
WHERE tags.repository_id = :in_repository ORDER BY tags.name;

-- tags.DROP
DELETE FROM tags WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1);

-- tags.HISTORY
SELECT tag_events.id, tag_events.tag, tag_events.old_digest, tag_events.new_digest, tag_events.at, tag_events.actor
FROM tag_events
WHERE tag_events.repository = :repository AND tag_events.id < :before AND (tag_events.batch IS NULL OR NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tag_events.batch AND batches.revealed IS NULL))) ORDER BY tag_events.id DESC
 LIMIT :limit OFFSET 0;

-- tags.HISTORY_OF_TAG
SELECT tag_events.id, tag_events.tag, tag_events.old_digest, tag_events.new_digest, tag_events.at, tag_events.actor
FROM tag_events
WHERE tag_events.repository = :repository AND tag_events.id < :before AND (tag_events.batch IS NULL OR NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tag_events.batch AND batches.revealed IS NULL))) AND tag_events.tag = :tag ORDER BY tag_events.id DESC
 LIMIT :limit OFFSET 0;

-- tags.LIST_BY_NAME
SELECT tags.name, tags.updated, blobs.digest, blobs.size, manifests.media_type, (SELECT latest.actor
FROM tag_events AS latest
WHERE latest.repository = :repository AND latest.tag = tags.name AND (latest.batch IS NULL OR NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = latest.batch AND batches.revealed IS NULL))) ORDER BY latest.id DESC
 LIMIT 1 OFFSET 0) AS anon_1
FROM tags CROSS JOIN blobs ON blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END CROSS JOIN manifests ON manifests.blob_id = blobs.id
WHERE tags.repository_id = :in_repository AND tags.name > :after AND tags.name >= :prefix AND tags.name < :beyond ORDER BY tags.name
 LIMIT :limit OFFSET 0;

-- tags.LIST_NEWEST
SELECT tags.name, tags.updated, blobs.digest, blobs.size, manifests.media_type, (SELECT latest.actor
FROM tag_events AS latest
WHERE latest.repository = :repository AND latest.tag = tags.name AND (latest.batch IS NULL OR NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = latest.batch AND batches.revealed IS NULL))) ORDER BY latest.id DESC
 LIMIT 1 OFFSET 0) AS anon_1
FROM tags CROSS JOIN blobs ON blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END CROSS JOIN manifests ON manifests.blob_id = blobs.id
WHERE tags.repository_id = :in_repository AND (tags.updated, tags.name) < (:updated, :after) AND substr(tags.name, 1, length(:prefix)) = :prefix ORDER BY tags.updated DESC, tags.name DESC
 LIMIT :limit OFFSET 0;

-- tags.LIST_OLDEST
SELECT tags.name, tags.updated, blobs.digest, blobs.size, manifests.media_type, (SELECT latest.actor
FROM tag_events AS latest
WHERE latest.repository = :repository AND latest.tag = tags.name AND (latest.batch IS NULL OR NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = latest.batch AND batches.revealed IS NULL))) ORDER BY latest.id DESC
 LIMIT 1 OFFSET 0) AS anon_1
FROM tags CROSS JOIN blobs ON blobs.id = CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END CROSS JOIN manifests ON manifests.blob_id = blobs.id
WHERE tags.repository_id = :in_repository AND (tags.updated, tags.name) > (:updated, :after) AND substr(tags.name, 1, length(:prefix)) = :prefix ORDER BY tags.updated, tags.name
 LIMIT :limit OFFSET 0;

-- tags.MOVE
INSERT INTO tags (repository_id, name, manifest_id, updated, entry) SELECT :in_repository AS anon_1, json_extract(anon_3.value, '$[0]') AS anon_2, json_extract(anon_3.value, '$[1]') AS anon_4, :now AS anon_5, json_extract(anon_3.value, '$[2]') AS anon_6
FROM json_each(:moves) AS anon_3
WHERE 1 = 1 ON CONFLICT (repository_id, name) DO UPDATE SET manifest_id = excluded.manifest_id, updated = excluded.updated, entry = excluded.entry, fresh = NULL;

-- tags.NOTE
UPDATE tags SET entry=:said WHERE tags.repository_id = :in_repository AND tags.name = :tag;

-- tags.OF_MANIFEST[0]
SELECT tags.name
FROM tags
WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT there.name
FROM tags AS there
WHERE there.repository_id = :in_repository AND there.manifest_id = :manifest) AND CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL AND batches.id != :own_batch))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END = :manifest ORDER BY tags.name
 LIMIT :limit OFFSET 0;

-- tags.OF_MANIFEST[1]
SELECT tags.name
FROM tags
WHERE tags.repository_id = :in_repository AND tags.name IN (SELECT there.name
FROM tags AS there
WHERE there.repository_id = :in_repository AND there.next_id = :manifest) AND CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL AND batches.id != :own_batch))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END = :manifest ORDER BY tags.name
 LIMIT :limit OFFSET 0;

-- tags.PAGE
SELECT tags.name
FROM tags
WHERE tags.repository_id = :in_repository AND tags.name > :after AND tags.name >= :prefix AND tags.name < :beyond AND CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END IS NOT NULL ORDER BY tags.name
 LIMIT :limit OFFSET 0;

-- tags.QUEUE
UPDATE repository_manifests SET unreferenced_since=:now WHERE repository_manifests.repository_id = :in_repository AND repository_manifests.manifest_id IN (SELECT anon_1.value
FROM json_each(:manifests) AS anon_1);

-- uploads.CLEAR
DELETE FROM uploads;

-- uploads.DELETE
DELETE FROM uploads WHERE uploads.id = :upload;

-- uploads.EXPIRED
SELECT uploads.expires, uploads.id, uploads.algorithm
FROM uploads
WHERE uploads.expires <= :now AND (uploads.expires, uploads.id) > (:after, :after_id) ORDER BY uploads.expires, uploads.id
 LIMIT :limit OFFSET 0;

-- uploads.FIND
SELECT uploads.id, uploads.algorithm, uploads."offset", uploads.started, uploads.touched, uploads.expires, uploads.page_cache
FROM uploads CROSS JOIN repositories ON repositories.id = uploads.repository_id
WHERE repositories.name = :repository AND uploads.id = :upload;

-- uploads.INSERT
INSERT INTO uploads (id, repository_id, algorithm, "offset", started, touched, expires, page_cache) VALUES (:id, :repository_id, :algorithm, :offset, :started, :touched, :expires, :page_cache);

-- uploads.KNOWN
SELECT uploads.id
FROM uploads
WHERE uploads.id IN (SELECT anon_1.value
FROM json_each(:names) AS anon_1);

-- uploads.PAGE
SELECT uploads.id, uploads.algorithm, uploads."offset", uploads.started, uploads.touched, uploads.expires, uploads.page_cache
FROM uploads
WHERE uploads.repository_id = :in_repository AND uploads.id > :after ORDER BY uploads.id
 LIMIT :limit OFFSET 0;

-- uploads.REMOVE_EXPIRED
DELETE FROM uploads WHERE uploads.id = :upload AND uploads.expires <= :now;

-- uploads.TOUCH
UPDATE uploads SET "offset"=:now_at, touched=:now, expires=((:now + uploads.expires) - uploads.touched), page_cache=:written_to WHERE uploads.id = :upload;

-- usage.COUNTS
SELECT (SELECT count(*) AS count_1
FROM repositories
WHERE repositories.name IS NOT NULL) AS anon_1, (SELECT count(*) AS count_2
FROM tags
WHERE (tags.repository_id NOT IN (SELECT repositories.id
FROM repositories
WHERE repositories.name IS NULL)) AND CASE WHEN (tags.batch IS NULL) THEN tags.manifest_id WHEN (NOT (EXISTS (SELECT 1
FROM batches
WHERE batches.id = tags.batch AND batches.revealed IS NULL))) THEN tags.next_id WHEN (tags.fresh IS NULL) THEN tags.manifest_id END IS NOT NULL) AS anon_2, (SELECT count(DISTINCT repository_manifests.manifest_id) AS count_3
FROM repository_manifests
WHERE (repository_manifests.repository_id NOT IN (SELECT repositories.id
FROM repositories
WHERE repositories.name IS NULL)) AND (repository_manifests.batch IS NULL OR (EXISTS (SELECT 1
FROM batches
WHERE batches.id = repository_manifests.batch AND batches.revealed IS NULL)) = (repository_manifests.leaves IS NOT NULL))) AS anon_3, (SELECT count(*) AS count_4
FROM blobs
WHERE blobs.state = 'live') AS anon_4, (SELECT count(*) AS count_5
FROM uploads
WHERE (uploads.repository_id NOT IN (SELECT repositories.id
FROM repositories
WHERE repositories.name IS NULL))) AS anon_5, (SELECT coalesce(sum(blobs.size >> 32), 0) AS coalesce_1
FROM blobs
WHERE blobs.state = 'live') AS anon_6, (SELECT coalesce(sum(blobs.size & 4294967295), 0) AS coalesce_2
FROM blobs
WHERE blobs.state = 'live') AS anon_7;

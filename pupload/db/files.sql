-- Files, given inputs and attachments.

-- name: insert_file
INSERT INTO files (id, account, name, key, size_bytes) VALUES ($1, $2, $3, $4, $5);

-- name: keep_file
-- Nothing comes back when it took so long that the file was given up.
UPDATE files SET state = 'kept', size_bytes = $2, content_type = $3, sha256 = $4, etag = $5, used_at = now()
WHERE id = $1 AND state = 'arriving'
RETURNING *;

-- name: find_file
SELECT * FROM files WHERE id = $1 AND account = $2 AND state = 'kept';

-- name: list_files
SELECT * FROM files
WHERE ($1::text IS NULL OR account = $1) AND state = 'kept' AND ($2::text IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3;

-- name: remove_file
UPDATE files SET state = 'removed' WHERE id = $1 AND account = $2 AND state = 'kept' RETURNING id;

-- name: give_up_file
UPDATE files SET state = 'doomed', used_at = now() WHERE id = $1 AND state = 'arriving';

-- name: use_files
-- In the transaction that makes a run of them. Written, not only locked: whoever waits to doom one of these must judge
-- the new row, not the one it saw.
UPDATE files SET used_at = now() WHERE id = ANY($1::text[]) AND state IN ('kept', 'removed') RETURNING id;

-- name: doom_files
-- $1 longer than any transaction lasts: what a run took up meanwhile is not seen here, but its use is. $2 longer than
-- any upload, $3 the retention.
UPDATE files f SET state = 'doomed'
WHERE (f.state = 'removed' AND f.used_at < now() - $1::interval
       OR f.state = 'arriving' AND f.used_at < now() - $2::interval
       OR f.state = 'kept' AND f.used_at < now() - $3::interval)
  AND NOT EXISTS (SELECT FROM artifacts a WHERE a.origin = f.id);

-- name: doomed_files
-- In no order: one that cannot be removed must not stand before the others for ever. $1 longer than a store takes to
-- end a put whose caller is gone.
SELECT id, key FROM files WHERE state = 'doomed' AND used_at < now() - $1::interval ORDER BY random() LIMIT 200;

-- name: forget_files
DELETE FROM files WHERE id = ANY($1::text[]) AND state = 'doomed';

-- name: insert_intakes
INSERT INTO intakes (run_id, edge, store, key, declared)
SELECT $1, t.* FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[]) AS t(edge, store, key, declared);

-- name: settle_intakes
DELETE FROM intakes WHERE run_id = $1 AND doomed_at IS NULL RETURNING edge;

-- name: give_up_intakes
UPDATE intakes SET doomed_at = now() WHERE run_id = $1 AND doomed_at IS NULL;

-- name: doom_intakes
-- $1 longer than any put takes.
UPDATE intakes SET doomed_at = now() WHERE doomed_at IS NULL AND created_at < now() - $1::interval;

-- name: doomed_intakes
-- $1 longer than a store takes to end a put whose caller is gone.
SELECT run_id, edge, store, key, declared FROM intakes WHERE doomed_at < now() - $1::interval ORDER BY random() LIMIT 200;

-- name: forget_intake
DELETE FROM intakes WHERE run_id = $1 AND edge = $2 AND doomed_at IS NOT NULL;

-- name: insert_attachments
INSERT INTO run_attachments SELECT $1, name, sealed FROM unnest($2::text[], $3::bytea[]) AS t(name, sealed);

-- name: attachments_of_run
SELECT name, sealed FROM run_attachments WHERE run_id = $1;

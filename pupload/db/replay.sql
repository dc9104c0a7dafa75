-- Objects that more than one run names, and what is removed. A run *names* an object by an artifact of its own.

-- name: lock_namers
-- One run for each object that names it and stays, held so until the caller has named it too. Only rows are locked
-- here: what they name is asked afterwards, as a statement does not see what was done while it waited.
SELECT id FROM runs
WHERE condemned_at IS NULL AND id IN (
    SELECT min(named.run_id)
    FROM (
        SELECT run_id, key FROM artifacts WHERE run_id = ANY($1::text[]) AND key = ANY($2::text[])
        UNION ALL
        SELECT run_id, key FROM artifacts WHERE origin = ANY($1::text[]) AND origin <> '' AND key = ANY($2::text[])
    ) AS named
    JOIN runs r ON r.id = named.run_id AND r.condemned_at IS NULL
    GROUP BY named.key
)
ORDER BY id FOR SHARE;

-- name: keys_named_by
-- Those of the keys that one of these runs names.
SELECT DISTINCT key FROM artifacts WHERE run_id = ANY($1::text[]) AND key = ANY($2::text[]);

-- name: named_keys
-- Those of an origin's keys that a run which stays still names: the origin itself or another.
SELECT a.key FROM artifacts a JOIN runs r ON r.id = a.run_id
WHERE a.run_id = $1 AND a.key = ANY($2::text[]) AND r.condemned_at IS NULL
UNION
SELECT a.key FROM artifacts a JOIN runs r ON r.id = a.run_id
WHERE a.origin = $1 AND a.origin <> '' AND a.key = ANY($2::text[]) AND r.condemned_at IS NULL;

-- name: condemn_run
-- Waits for those who are about to name an object of the run's.
UPDATE runs SET condemned_at = coalesce(condemned_at, now()) WHERE id = $1 AND finished_at IS NOT NULL RETURNING id;

-- name: borrowed_objects
-- What the run names of other runs' objects.
SELECT origin, store, key FROM artifacts WHERE run_id = $1 AND origin <> '';

-- name: insert_expiries
INSERT INTO expiries (run_id, edge, store, key, etag, origin, due)
SELECT a.run_id, a.edge, a.store, a.key, a.etag, a.origin, r.finished_at + t.lifetime
FROM unnest($2::text[], $3::interval[]) AS t(edge, lifetime)
JOIN artifacts a ON a.run_id = $1 AND a.edge = t.edge
JOIN runs r ON r.id = a.run_id
ON CONFLICT DO NOTHING;

-- name: due_expiries
-- In no order: an object that cannot be removed must not stand before the others for ever.
SELECT run_id, edge FROM expiries WHERE due < now() AND removed_at IS NULL ORDER BY random() LIMIT 200;

-- name: expiry
SELECT e.*, r.finished_at FROM expiries e JOIN runs r ON r.id = e.run_id WHERE e.run_id = $1 AND e.edge = $2;

-- name: forget_artifact
DELETE FROM artifacts WHERE run_id = $1 AND edge = $2;

-- name: mark_expired
UPDATE expiries SET removed_at = now() WHERE run_id = $1 AND edge = $2;

-- name: has_expired
SELECT EXISTS (SELECT FROM expiries WHERE run_id = $1 AND edge = $2 AND due < now());

-- name: run_secrets
SELECT store, encrypted FROM run_store_secrets WHERE run_id = $1;

-- name: leave_stores
-- In the transaction that removes the run: of the stores that it brought, those in which somebody names its objects.
INSERT INTO left_stores (run_id, store, plan, encrypted)
SELECT s.run_id, s.store, t.plan, s.encrypted
FROM run_store_secrets s JOIN unnest($2::text[], $3::json[]) AS t(store, plan) ON t.store = s.store
WHERE s.run_id = $1 AND EXISTS (SELECT FROM artifacts a WHERE a.origin = s.run_id AND a.store = s.store)
ON CONFLICT DO NOTHING;

-- name: left_store
SELECT plan, encrypted FROM left_stores WHERE run_id = $1 AND store = $2;

-- name: forget_left_stores
-- What has expired is named no more, and its object may still have to go.
DELETE FROM left_stores l
WHERE NOT EXISTS (SELECT FROM artifacts a WHERE a.origin = l.run_id AND a.store = l.store)
  AND NOT EXISTS (
      SELECT FROM expiries e WHERE e.removed_at IS NULL AND e.origin = l.run_id AND e.store = l.store
  );

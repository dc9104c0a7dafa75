-- Every statement of the project. Order of locks, everywhere: run row, then attempts by key, then the rest.

-- name: insert_run
-- Nothing comes back when the idempotency key is taken, or when the account has no room: for $16 runs that nobody calls,
-- and for $17 nodes with the $15 of this one. 0 is any number. Where neither is a limit, nothing is counted.
INSERT INTO runs (id, flow_name, flow_version, digest, session_id, status, counts, deadline, idempotency_key,
                  request_sha256, parent_run, parent_node, parent_attempt, root_run, replay_of, account, nodes)
SELECT $1::text, $2::text, $3::text, $4::text, $5::text, 'RUNNING', '{}', now() + $6::interval, $7::text, $8::bytea,
       $9::text, $10::text, $11::int, $12::text, $13::text, $14::text, $15::int
WHERE $16::bigint = 0 AND $17::bigint = 0 OR (
    SELECT ($16 = 0 OR count(*) FILTER (WHERE parent_run IS NULL) < $16) AND ($17 = 0 OR coalesce(sum(nodes), 0) + $15 <= $17)
    FROM runs WHERE account = $14 AND finished_at IS NULL
)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING now() AS now;

-- name: insert_plan
INSERT INTO run_plans (run_id, plan, documents, request, echo) VALUES ($1, $2, $3, $4, $5);

-- name: insert_store_secrets
INSERT INTO run_store_secrets SELECT $1, store, encrypted FROM unnest($2::text[], $3::bytea[]) AS t(store, encrypted);

-- name: insert_nodes
INSERT INTO run_nodes (run_id, node_id, position, status, unresolved)
SELECT $1, node_id, position, status, unresolved
FROM unnest($2::text[], $3::int[], $4::text[], $5::int[]) AS t(node_id, position, status, unresolved);

-- name: insert_uploads
INSERT INTO uploads (run_id, edge, store, key, max_size_bytes, hooked)
SELECT $1, edge, store, key, max_size_bytes, hooked
FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::boolean[]) AS t(edge, store, key, max_size_bytes, hooked);

-- name: find_idempotent
SELECT id, request_sha256 FROM runs WHERE idempotency_key = $1;

-- name: lock_runs
-- The runs' own rows, held until commit: one event of a run at a time. In one order, so that nobody waits in a circle.
SELECT id, counts, ending, failure, last_seq, started_at, finished_at, parent_run, now() AS now
FROM runs WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE;

-- name: load_plan
SELECT plan FROM run_plans WHERE run_id = $1;

-- name: load_secret
SELECT encrypted FROM run_store_secrets WHERE run_id = $1 AND store = $2;

-- name: load_nodes
-- The nodes that events concern: by name, and of the runs $3 also all that have begun and not ended.
SELECT n.* FROM unnest($1::text[], $2::text[]) AS t(run_id, node_id) JOIN run_nodes n USING (run_id, node_id)
UNION
SELECT * FROM run_nodes WHERE run_id = ANY($3::text[]) AND status IN ('READY', 'RUNNING', 'RETRYING', 'WAITING');

-- name: artifact_exists
SELECT EXISTS (SELECT FROM artifacts WHERE run_id = $1 AND edge = $2);

-- name: save_nodes
UPDATE run_nodes AS n
SET status = t.status, unresolved = t.unresolved, attempt = t.attempt, charged = t.charged, restarts = t.restarts,
    rounds = t.rounds, asked = t.asked, error = t.error, reason = t.reason, exit_code = t.exit_code, worker = t.worker,
    started_at = t.started_at, finished_at = t.finished_at,
    progress = CASE WHEN t.status = 'COMPLETE' THEN 100 WHEN t.attempt > n.attempt THEN 0 ELSE n.progress END
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[],
            $10::text[], $11::text[], $12::int[], $13::text[], $14::timestamptz[], $15::timestamptz[])
     AS t(run_id, node_id, status, unresolved, attempt, charged, restarts, rounds, asked, error, reason, exit_code,
          worker, started_at, finished_at)
WHERE n.run_id = t.run_id AND n.node_id = t.node_id;

-- name: save_runs
-- Last of a transaction's writes: the notification tells the runs' followers to look.
WITH saved AS (
    UPDATE runs AS r
    SET status = t.status, status_reason = t.status_reason, counts = t.counts, ending = t.ending, failure = t.failure,
        last_seq = t.last_seq, started_at = t.started_at, finished_at = t.finished_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::json[], $5::text[], $6::json[], $7::bigint[], $8::timestamptz[],
                $9::timestamptz[])
         AS t(id, status, status_reason, counts, ending, failure, last_seq, started_at, finished_at)
    WHERE r.id = t.id
)
SELECT pg_notify('pupload_run', id) FROM unnest($1) AS told(id);

-- name: insert_events
INSERT INTO events (run_id, seq, type, node_id, at, data)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::json[]);

-- name: insert_artifacts
INSERT INTO artifacts (run_id, edge, store, key, size_bytes, content_type, sha256, etag, node_id, attempt, origin)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::int[], $11::text[]);

-- name: settle_uploads
UPDATE uploads AS u SET state = 'received'
FROM unnest($1::text[], $2::text[]) AS t(run_id, edge) WHERE (u.run_id, u.edge) = (t.run_id, t.edge);

-- name: abandon_uploads
UPDATE uploads SET state = 'abandoned' WHERE run_id = ANY($1::text[]) AND state = 'awaiting';

-- name: insert_attempts
-- An attempt is missing in the answer when its worker has a new instance or no token any more, and would lose it at
-- once; or when it drains, and may have hung up on its last claim while we are at it.
-- Else what its image means in the run, "" while that is open; `known` is what its worker knows of it, and the first counts.
WITH wanted AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                         $10::text[])
         AS t(run_id, node_id, attempt, lease, worker_id, instance, tier, image, known)
), inserted AS (
    INSERT INTO attempts (run_id, node_id, attempt, state, lease, lease_until, worker_id, instance, tier)
    SELECT run_id, node_id, attempt, 'running', lease, now() + $1::interval, worker_id, w.instance, tier
    FROM wanted JOIN workers w ON (w.id, w.instance) = (worker_id, wanted.instance) AND revoked_at IS NULL AND NOT draining
    RETURNING run_id, node_id, attempt, lease
), pinned AS (
    INSERT INTO run_images (run_id, image, exact)
    SELECT run_id, image, min(known) FROM wanted JOIN inserted USING (lease, run_id) WHERE known <> '' GROUP BY 1, 2
    ON CONFLICT DO NOTHING
    RETURNING run_id, image, exact
)
SELECT i.lease, coalesce(p.exact, r.exact, '') AS exact
FROM inserted i JOIN wanted USING (lease)
LEFT JOIN pinned p ON (p.run_id, p.image) = (i.run_id, wanted.image)
LEFT JOIN run_images r ON (r.run_id, r.image) = (i.run_id, wanted.image);

-- name: hand_back_attempt
-- A claim whose answer the worker does not get.
UPDATE attempts SET state = $5, finished_at = now(), reason = $6, message = $7
WHERE run_id = $1 AND node_id = $2 AND attempt = $3 AND lease = $4 AND state = 'running'
RETURNING attempt;

-- name: stop_attempts
-- The workers that hold them are told at their next beat, and by the notification at once.
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[]) AS t(run_id, node_id, attempt, stop)
), held AS (
    SELECT a.run_id, a.node_id, a.attempt, wanted.stop FROM attempts a JOIN wanted USING (run_id, node_id, attempt)
    WHERE a.state IN ('running', 'calling')
    ORDER BY a.run_id, a.node_id, a.attempt FOR UPDATE OF a
), stopped AS (
    UPDATE attempts a SET stop = held.stop FROM held
    WHERE (a.run_id, a.node_id, a.attempt) = (held.run_id, held.node_id, held.attempt)
    RETURNING a.worker_id
)
SELECT pg_notify('pupload_worker', worker_id) FROM (SELECT DISTINCT worker_id FROM stopped) AS told;

-- name: end_attempts
-- The fence: nothing is written unless the token is the current one of an attempt that still runs.
UPDATE attempts a
SET state = t.state, finished_at = now(), reason = t.reason, message = t.message, exit_code = t.exit_code,
    image_digest = t.image_digest, log_key = t.log_key, bytes_in = t.bytes_in, bytes_out = t.bytes_out,
    timings = t.timings, snapshots = t.snapshots
FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[], $9::text[],
            $10::text[], $11::bigint[], $12::bigint[], $13::json[], $14::json[])
     AS t(run_id, node_id, attempt, lease, state, reason, message, exit_code, image_digest, log_key, bytes_in, bytes_out,
          timings, snapshots)
WHERE (a.run_id, a.node_id, a.attempt, a.lease) = (t.run_id, t.node_id, t.attempt, t.lease) AND a.state = 'running'
RETURNING a.lease;

-- name: held_leases
-- Of these, those that are the current one of an attempt that still runs. Under the runs' lock that stays so.
SELECT lease FROM attempts JOIN unnest($1::text[], $2::text[], $3::int[], $4::text[]) AS t(run_id, node_id, attempt, lease)
     USING (run_id, node_id, attempt, lease)
WHERE state = 'running';

-- name: count_lines
-- Nothing comes back when the lease is gone, or when other lines than the $5 before these are recorded.
UPDATE attempts SET lines = lines + $6
WHERE run_id = $1 AND node_id = $2 AND attempt = $3 AND lease = $4 AND state = 'running'
  AND lines = coalesce($5::int, lines)
RETURNING attempt;

-- name: known_lines
SELECT lines FROM attempts WHERE run_id = $1 AND node_id = $2 AND attempt = $3 AND lease = $4 AND state = 'running';

-- name: lose_attempt
-- Only if its lease is still over, or its worker has a new instance: a beat may have come in between.
UPDATE attempts a
SET state = 'lost', finished_at = now(), reason = 'lost', message = 'its worker was lost'
WHERE run_id = $1 AND node_id = $2 AND attempt = $3 AND state = 'running'
  AND (lease_until < now() OR NOT EXISTS (SELECT FROM workers w WHERE w.id = a.worker_id AND w.instance = a.instance))
RETURNING attempt;

-- name: extend_leases
WITH held AS (
    SELECT run_id, node_id, attempt, lease FROM attempts
    WHERE state = 'running' AND (run_id, node_id, attempt, lease)
          IN (SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[]))
    ORDER BY run_id, node_id, attempt FOR UPDATE
)
UPDATE attempts a SET lease_until = now() + $5::interval FROM held
WHERE (a.run_id, a.node_id, a.attempt) = (held.run_id, held.node_id, held.attempt)
RETURNING a.run_id, a.node_id, a.attempt, a.lease, a.stop;

-- name: stopping_attempts
SELECT run_id, node_id, attempt, lease, stop FROM attempts
WHERE worker_id = $1 AND state = 'running' AND stop IS NOT NULL;

-- name: lost_attempts
SELECT a.run_id, a.node_id, a.attempt FROM attempts a
WHERE a.state = 'running'
  AND (a.lease_until < now() OR NOT EXISTS (SELECT FROM workers w WHERE w.id = a.worker_id AND w.instance = a.instance))
ORDER BY a.lease_until LIMIT 200;

-- name: overdue_runs
SELECT id FROM runs WHERE finished_at IS NULL AND deadline < now() AND ending IS NULL ORDER BY deadline LIMIT 100;

-- name: unqueued_nodes
-- Nodes that wait for a worker and have no job: what a lost queue row would leave behind.
SELECT n.run_id, n.node_id, n.attempt + 1 AS attempt, n.position
FROM run_nodes n
WHERE n.status IN ('READY', 'RETRYING')
  AND NOT EXISTS (
      SELECT FROM pgqueuer q
      WHERE q.dedupe_key = n.run_id || '/' || n.node_id || '/' || (n.attempt + 1)
        AND q.status IN ('queued', 'picked')
  )
ORDER BY n.run_id, n.position LIMIT 1000;

-- name: awaited_uploads
SELECT run_id, edge, store, key, created_at, max_size_bytes, hooked FROM uploads WHERE state = 'awaiting' AND NOT hooked
ORDER BY created_at LIMIT 20000;

-- name: uploads_of_run
SELECT run_id, edge, store, key, created_at, max_size_bytes, hooked FROM uploads
WHERE run_id = $1 AND state = 'awaiting' ORDER BY edge;

-- name: upload
SELECT run_id, edge, store, key, created_at, max_size_bytes, hooked, state FROM uploads
WHERE run_id = $1 AND edge = $2;

-- name: note_input
-- What the first reader found the bytes of an upload to be; a later one must have found the same.
UPDATE artifacts SET sha256 = $3, content_type = CASE WHEN sha256 = '' THEN $4 ELSE content_type END
WHERE run_id = $1 AND edge = $2 AND sha256 IN ('', $3)
RETURNING edge;

-- name: artifacts_of_edges
SELECT * FROM artifacts WHERE run_id = $1 AND edge = ANY($2::text[]);

-- name: artifacts_of_nodes
SELECT a.* FROM unnest($1::text[], $2::text[]) AS t(run_id, edge) JOIN artifacts a USING (run_id, edge);

-- name: set_progress
UPDATE run_nodes SET progress = $3 WHERE run_id = $1 AND node_id = $2 AND status = 'RUNNING';

-- name: lock_sequence
-- For records that are no transitions (log lines, progress): numbered under the same lock.
UPDATE runs SET last_seq = last_seq + $2 WHERE id = $1 RETURNING last_seq - $2 AS last_seq;

-- name: notify_run
SELECT pg_notify('pupload_run', $1);

-- name: run_header
SELECT * FROM runs WHERE id = $1 AND condemned_at IS NULL;

-- name: nodes_of_run
SELECT * FROM run_nodes WHERE run_id = $1 ORDER BY position;

-- name: artifacts_of_run
SELECT * FROM artifacts WHERE run_id = $1 ORDER BY edge;

-- name: last_lines
-- The newest log lines of each node that has begun, at most $2 of each; of all together the newest $3 bytes.
SELECT node_id, at, data FROM (
    SELECT n.node_id, n.position, e.*, sum(octet_length(e.data::text)) OVER (ORDER BY e.seq DESC) AS size_bytes
    FROM run_nodes n
    CROSS JOIN LATERAL (
        SELECT seq, at, data FROM events e
        WHERE e.run_id = n.run_id AND e.node_id = n.node_id AND e.type = 'node_log'
        ORDER BY seq DESC LIMIT $2
    ) AS e
    WHERE n.run_id = $1 AND n.attempt > 0
) AS lines
WHERE size_bytes <= $3
ORDER BY position, seq;

-- name: events_after
-- Of each run the first so many after a number: they are numbered without a gap.
SELECT e.run_id, e.seq, e.type, e.node_id, e.at, e.data
FROM unnest($1::text[], $2::bigint[], $3::int[]) AS t(run_id, after, most)
JOIN events e ON e.run_id = t.run_id AND e.seq > t.after AND e.seq <= t.after + t.most
ORDER BY e.run_id, e.seq;

-- name: log_events
SELECT seq, at, data FROM events
WHERE run_id = $1 AND node_id = $2 AND type = 'node_log' AND seq > $3 ORDER BY seq LIMIT $4;

-- name: list_runs
SELECT * FROM runs
WHERE condemned_at IS NULL AND ($1::text IS NULL OR flow_name = $1) AND ($2::text[] IS NULL OR status = ANY($2))
  AND ($3::text IS NULL OR session_id = $3) AND ($4::text IS NULL OR id < $4) AND ($5::text IS NULL OR account = $5)
ORDER BY id DESC LIMIT $6;

-- name: delete_run
DELETE FROM runs WHERE id = $1 AND finished_at IS NOT NULL RETURNING id;

-- name: expired_runs
-- In no order: a run that cannot be removed must not stand before the others for ever.
-- Those that somebody began to remove are among them.
SELECT id FROM runs WHERE finished_at < now() - $1::interval OR condemned_at IS NOT NULL ORDER BY random() LIMIT 50;

-- name: runs_to_sweep
-- Ended long enough ago that no attempt of theirs can still be writing.
SELECT id FROM runs WHERE finished_at < now() - $1::interval AND swept_at IS NULL ORDER BY random() LIMIT 50;

-- name: mark_swept
UPDATE runs SET swept_at = now() WHERE id = $1;

-- name: referenced_keys
SELECT store, key FROM artifacts WHERE run_id = $1
UNION
SELECT store, key FROM artifacts WHERE origin = $1 AND origin <> ''
UNION
SELECT '', log_key FROM attempts WHERE run_id = $1 AND log_key <> '';

-- name: logs_of_attempts
SELECT node_id, attempt, log_key FROM attempts WHERE run_id = $1 AND node_id = $2 AND log_key <> '' ORDER BY attempt;

-- name: add_worker
INSERT INTO workers (id, name, token_sha256) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET token_sha256 = excluded.token_sha256, revoked_at = NULL
RETURNING id;

-- name: revoke_worker
UPDATE workers SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL RETURNING id;

-- name: find_worker
SELECT id, name, instance FROM workers WHERE token_sha256 = $1 AND revoked_at IS NULL;

-- name: greet_worker
UPDATE workers
SET instance = $2, version = $3, engine = $4, architecture = $5, capacity = $6, free = $6, draining = false, seen_at = now()
WHERE id = $1;

-- name: hear_worker
-- Who drains does so to its end, whichever beat of before comes late.
UPDATE workers SET free = $3, draining = draining OR $4, seen_at = now() WHERE id = $1 AND instance = $2 RETURNING id;

-- name: any_drains
SELECT EXISTS (
    SELECT FROM unnest($1::text[], $2::text[]) AS t(id, instance) JOIN workers USING (id, instance)
    WHERE draining AND revoked_at IS NULL
);

-- name: list_workers
SELECT w.id, w.name, w.version, w.engine, w.architecture, w.capacity, w.free, w.draining, w.seen_at,
       (SELECT count(*) FROM attempts a WHERE a.worker_id = w.id AND a.state = 'running') AS attempts,
       (w.seen_at > now() - $1::interval AND NOT w.draining) AS live
FROM workers w WHERE w.revoked_at IS NULL ORDER BY w.name;

-- name: clock
SELECT clock_timestamp();

-- Nodes that call a flow. Order of locks: the caller's run, its attempt, and only then anything of the called run.

-- name: insert_call
INSERT INTO attempts (run_id, node_id, attempt, state, lease, lease_until, worker_id, instance, tier)
VALUES ($1, $2, $3, 'calling', $4, 'infinity', '', '', '');

-- name: call
SELECT state, stop FROM attempts WHERE run_id = $1 AND node_id = $2 AND attempt = $3;

-- name: end_call
-- The fence: one end for each call.
UPDATE attempts
SET state = $4, finished_at = now(), reason = $5, message = $6, bytes_out = $7
WHERE run_id = $1 AND node_id = $2 AND attempt = $3 AND state = 'calling'
RETURNING attempt;

-- name: child_of_call
SELECT id FROM runs WHERE parent_run = $1 AND parent_node = $2 AND parent_attempt = $3;

-- name: children_of_run
-- The newest run of each node that calls a flow.
SELECT DISTINCT ON (parent_node) parent_node, id FROM runs
WHERE parent_run = $1 AND parent_attempt > 0 ORDER BY parent_node, parent_attempt DESC;

-- name: root_of_run
SELECT root_run FROM runs WHERE id = $1;

-- name: calls_without_run
-- Young ones are left to who is at it. In no order: one that cannot be helped must not stand before the others.
SELECT a.run_id, a.node_id, a.attempt FROM attempts a
WHERE a.state = 'calling' AND a.claimed_at < now() - $1::interval
  AND NOT EXISTS (
      SELECT FROM runs r WHERE (r.parent_run, r.parent_node, r.parent_attempt) = (a.run_id, a.node_id, a.attempt)
  )
ORDER BY random() LIMIT 200;

-- name: calls_with_ended_run
SELECT r.id FROM attempts a
JOIN runs r ON (r.parent_run, r.parent_node, r.parent_attempt) = (a.run_id, a.node_id, a.attempt)
WHERE a.state = 'calling' AND r.finished_at < now() - $1::interval
ORDER BY random() LIMIT 200;

-- name: unwanted_children
-- Runs that nobody waits for any more: their call was stopped, or has ended without them.
SELECT r.id FROM runs r
WHERE r.parent_run IS NOT NULL AND r.finished_at IS NULL AND r.parent_attempt > 0 AND r.ending IS NULL
  AND NOT EXISTS (
      SELECT FROM attempts a
      WHERE (a.run_id, a.node_id, a.attempt) = (r.parent_run, r.parent_node, r.parent_attempt)
        AND a.state = 'calling' AND a.stop IS NULL
  )
LIMIT 200;

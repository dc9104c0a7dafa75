-- What became of each attempt, for whoever looks for a fault.

-- name: traced_attempts
-- $2 picks one node, $3 one number; with $4 only the newest attempt of each node.
SELECT a.*, coalesce(w.name, '') AS worker
FROM attempts a
JOIN run_nodes n ON n.run_id = a.run_id AND n.node_id = a.node_id
LEFT JOIN workers w ON w.id = a.worker_id
WHERE a.run_id = $1 AND ($2::text IS NULL OR a.node_id = $2) AND ($3::int IS NULL OR a.attempt = $3)
  AND (NOT $4 OR a.attempt = n.attempt)
ORDER BY n.position, a.attempt;

-- name: queued_attempts
-- When each attempt was queued: by itself, or as the next one after a failure.
SELECT node_id, (data ->> 'Attempt')::int + (type = 'node_retrying')::int AS attempt, min(at) AS at
FROM events WHERE run_id = $1 AND type IN ('node_queued', 'node_retrying')
GROUP BY 1, 2;

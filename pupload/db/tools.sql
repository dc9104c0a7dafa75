-- Rounds of client tools. The run's row is locked by whoever writes here.

-- name: rounds_of_node
SELECT rounds FROM run_nodes WHERE run_id = $1 AND node_id = $2;

-- name: insert_round
-- A state that the attempt left as it found it is still that of the round before.
INSERT INTO tool_rounds (run_id, node_id, round, attempt, calls, state_key, state_bytes, state_sha256)
SELECT $1, $2, $3::int, $4, $5, coalesce($6, before.state_key, ''), coalesce($7, before.state_bytes, 0),
       coalesce($8, before.state_sha256, '')
FROM (VALUES (0)) AS one(x)
LEFT JOIN tool_rounds before ON before.run_id = $1 AND before.node_id = $2 AND before.round = $3::int - 1;

-- name: newest_round
SELECT results, state_key, state_bytes, state_sha256 FROM tool_rounds
WHERE run_id = $1 AND node_id = $2 ORDER BY round DESC LIMIT 1;

-- name: open_rounds
-- What the run waits for: of each node that waits, its newest round.
SELECT n.node_id, r.round, r.calls FROM run_nodes n
JOIN tool_rounds r ON r.run_id = n.run_id AND r.node_id = n.node_id AND r.round = n.rounds
WHERE n.run_id = $1 AND n.status = 'WAITING'
ORDER BY n.position;

-- name: answer_round
UPDATE tool_rounds SET results = $4, answered_at = now() WHERE run_id = $1 AND node_id = $2 AND round = $3;

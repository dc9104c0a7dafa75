-- Uploads in parts. A session is `open`, then `completing` or `aborting`, and ends `completed` or `aborted`.

-- name: insert_session
INSERT INTO upload_sessions (id, run_id, edge, store, key, store_upload, content_type, size_bytes, part_size_bytes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10::interval)
RETURNING *;

-- name: find_session
SELECT * FROM upload_sessions WHERE id = $1 AND run_id = $2 AND edge = $3;

-- name: claim_session
-- One completes at a time; one that was killed at it holds nobody up for long.
UPDATE upload_sessions SET state = 'completing', touched_at = now()
WHERE id = $1 AND (state = 'open' OR state = 'completing' AND touched_at < now() - $2::interval)
RETURNING id;

-- name: give_up_session
-- For good: whoever dies at it, or cannot reach the store, leaves it to the next who looks. Any number may be at it.
UPDATE upload_sessions SET state = 'aborting', touched_at = now()
WHERE id = $1 AND state IN ('open', 'aborting') RETURNING id;

-- name: hold_session
UPDATE upload_sessions SET touched_at = now() WHERE id = $1 AND state = 'completing' RETURNING id;

-- name: reopen_session
UPDATE upload_sessions SET state = 'open', touched_at = now() WHERE id = $1 AND state = 'completing' RETURNING id;

-- name: end_session
UPDATE upload_sessions SET state = $2, touched_at = now()
WHERE id = $1 AND state IN ('open', 'completing', 'aborting') RETURNING id;

-- name: sessions_of_run
SELECT * FROM upload_sessions WHERE run_id = $1 AND state IN ('open', 'completing', 'aborting');

-- name: has_session_for
-- True for an object that comes in parts, and may be larger than what comes at once.
SELECT EXISTS (
    SELECT FROM upload_sessions
    WHERE run_id = $1 AND edge = $2 AND key = $3 AND size_bytes = $4 AND state IN ('completing', 'completed')
);

-- name: stalled_sessions
-- Whoever was completing these is gone.
SELECT * FROM upload_sessions WHERE state = 'completing' AND touched_at < now() - $1::interval ORDER BY random() LIMIT 20;

-- name: abandoned_sessions
-- Given up; or open for too long, or for what nobody awaits any more.
SELECT s.* FROM upload_sessions s JOIN uploads u ON u.run_id = s.run_id AND u.edge = s.edge
WHERE s.state = 'aborting' OR s.state = 'open' AND (s.expires_at < now() OR u.state <> 'awaiting')
ORDER BY random() LIMIT 50;

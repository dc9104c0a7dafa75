-- Sessions. Order of locks: run row, session row, then attempts.

-- name: add_session
-- A session by itself, or with the run that it is made for.
INSERT INTO sessions (id, account, variables, born_with) VALUES ($1, $2, $3, $4);

-- name: use_session
-- A run joins; nothing comes back when there is no such session, or none any more.
UPDATE sessions SET used_at = now() WHERE id = $1 AND removed_at IS NULL RETURNING id;

-- name: look_up_session
SELECT * FROM sessions WHERE id = $1 AND account = $2 AND removed_at IS NULL;

-- name: list_sessions
SELECT * FROM sessions
WHERE ($1::text IS NULL OR account = $1) AND removed_at IS NULL AND ($2::text IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3;

-- name: last_runs_of_session
-- The newest runs, the oldest of them first.
SELECT * FROM (SELECT * FROM runs WHERE session_id = $1 ORDER BY id DESC LIMIT $2) AS newest ORDER BY id;

-- name: messages_sent
SELECT run_id, left(request::json ->> 'Message', $2) AS text, length(request::json ->> 'Message') AS length
FROM run_plans WHERE run_id = ANY($1::text[]) AND request::json ->> 'Message' IS NOT NULL;

-- name: objects_answered
-- What nodes wrote in the runs that came to their end.
SELECT a.* FROM artifacts a JOIN runs r ON r.id = a.run_id
WHERE a.run_id = ANY($1::text[]) AND r.status = 'COMPLETE' AND a.node_id IS NOT NULL ORDER BY a.run_id, a.edge;

-- name: lock_session
-- Held until commit: who uses the session is decided by one transaction at a time.
SELECT * FROM sessions WHERE id = $1 FOR NO KEY UPDATE;

-- name: users_of_session
SELECT run_id, node_id, session_alone FROM attempts WHERE session_id = $1 AND state = 'running';

-- name: was_overtaken
SELECT EXISTS (SELECT FROM attempts WHERE run_id = $1 AND node_id = $2 AND session_overtaken);

-- name: seat_attempt
WITH seated AS (
    UPDATE attempts SET session_id = $4, session_key = $5, session_alone = $6
    WHERE run_id = $1 AND node_id = $2 AND attempt = $3
)
UPDATE sessions SET used_at = now() WHERE id = $4;

-- name: keep_session_folder
-- The new state, unless another attempt has made one since this one began.
UPDATE sessions s SET version = s.version + 1, key = $5, size_bytes = $6, sha256 = $7, used_at = now()
FROM attempts a
WHERE a.run_id = $1 AND a.node_id = $2 AND a.attempt = $3 AND a.lease = $4 AND a.state = 'running'
  AND s.id = a.session_id AND s.key = a.session_key
RETURNING s.version;

-- name: overtake_attempt
UPDATE attempts SET session_overtaken = true WHERE run_id = $1 AND node_id = $2 AND attempt = $3 AND lease = $4;

-- name: waits_for_session
-- Attempts that have the session now, if the run waits for such; one with a session of its own waits for those alone.
SELECT a.run_id, a.node_id FROM attempts a JOIN sessions s ON s.id = a.session_id
WHERE a.session_id = $1 AND a.state = 'running' AND (a.session_alone OR s.born_with IS DISTINCT FROM $2)
ORDER BY a.claimed_at LIMIT 1;

-- name: sessions_to_sweep
-- In no order: sessions whose attempts run for long must not stand before the others.
SELECT id FROM sessions WHERE used_at > swept_at ORDER BY random() LIMIT 50;

-- name: archives_in_use
-- The newest archive of the session; of the attempts that run now what each began with, and whose key each writes.
SELECT s.key, a.session_key, a.run_id, a.node_id, a.attempt
FROM sessions s LEFT JOIN attempts a ON a.session_id = s.id AND a.state = 'running'
WHERE s.id = $1;

-- name: mark_session_swept
-- Not quite up to now: whoever was refused may still be writing. As long as an attempt runs, it is looked at again.
UPDATE sessions SET swept_at = now() - $2::interval
WHERE id = $1 AND NOT EXISTS (SELECT FROM attempts WHERE session_id = $1 AND state = 'running');

-- name: lock_session_to_remove
-- With $2, only if nobody has used it for so long.
SELECT id FROM sessions WHERE id = $1 AND removed_at IS NULL AND ($2::interval IS NULL OR used_at < now() - $2)
FOR UPDATE;

-- name: has_active_runs
SELECT id FROM runs WHERE session_id = $1 AND finished_at IS NULL LIMIT 1;

-- name: doom_session
UPDATE sessions SET removed_at = now() WHERE id = $1;

-- name: expired_sessions
SELECT s.id FROM sessions s
WHERE s.used_at < now() - $1::interval AND s.removed_at IS NULL
  AND NOT EXISTS (SELECT FROM runs r WHERE r.session_id = s.id AND r.finished_at IS NULL)
ORDER BY random() LIMIT 50;

-- name: doomed_sessions
SELECT id FROM sessions WHERE removed_at IS NOT NULL ORDER BY random() LIMIT 50;

-- name: delete_session
-- Not at once: an attempt that was given up may still be writing, and what it writes must be found.
DELETE FROM sessions WHERE id = $1 AND removed_at < now() - $2::interval;

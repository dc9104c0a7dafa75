-- What an account has, where it wants more.

-- name: hold_account
-- Whoever adds to an account that is near its limit waits here for who does so already.
SELECT pg_advisory_xact_lock(hashtextextended('pupload account ' || $1::text, 0));

-- name: account_load
-- What it has now, and how many runs of it have ended in the last minute.
SELECT count(*) FILTER (WHERE parent_run IS NULL) AS runs, coalesce(sum(nodes), 0) AS nodes,
       (SELECT count(*) FROM runs WHERE account = $1 AND finished_at > now() - interval '1 minute') AS ended
FROM runs WHERE account = $1 AND finished_at IS NULL;

-- name: stored_bytes
SELECT (SELECT coalesce(sum(size_bytes), 0) FROM files WHERE account = $1 AND state IN ('arriving', 'kept'))
     + (SELECT coalesce(sum(size_bytes), 0) FROM sessions WHERE account = $1 AND removed_at IS NULL);

-- name: large_accounts
-- Accounts that keep more than $1 bytes, with what they keep.
SELECT account, sum(size_bytes) AS stored
FROM (
    SELECT account, size_bytes FROM files WHERE state IN ('arriving', 'kept')
    UNION ALL
    SELECT account, size_bytes FROM sessions WHERE removed_at IS NULL AND size_bytes > 0
) AS kept
GROUP BY account HAVING sum(size_bytes) > $1;

-- name: account_of_run
SELECT account FROM runs WHERE id = $1;

-- name: open_uploads
SELECT count(*) FROM upload_sessions s JOIN runs r ON r.id = s.run_id
WHERE s.state IN ('open', 'completing') AND r.account = $1;

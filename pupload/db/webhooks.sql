-- Webhooks. A delivery is `pending`, then `delivered` or `failed`; a redelivery makes it `pending` again.

-- name: insert_webhooks
-- In the transaction of the step whose last records these are, so that the run's last number is known from its row.
WITH told AS (
    INSERT INTO webhooks (id, run_id, lane, seq, type, url)
    SELECT t.id, r.id, r.account, r.last_seq - t.back, t.type, $2
    FROM runs r, unnest($3::text[], $4::text[], $5::int[]) AS t(id, type, back)
    WHERE r.id = $1
)
SELECT pg_notify('pupload_webhooks', '');

-- name: claim_webhooks
-- Whoever claims is alone with it for a while; if it dies meanwhile, somebody else tries again after that.
-- There is room for $1 more, and the lanes $4 have $5 under way. A lane may have as many as stay free, so some always do.
WITH RECURSIVE lanes AS (
    SELECT min(lane) AS lane FROM webhooks WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(webhooks.lane) FROM webhooks WHERE state = 'pending' AND webhooks.lane > lanes.lane)
    FROM lanes WHERE lanes.lane IS NOT NULL
), due AS (
    SELECT first.id
    FROM lanes LEFT JOIN unnest($4::text[], $5::int[]) AS busy(lane, under_way) USING (lane)
    CROSS JOIN LATERAL (
        SELECT id, next_at FROM webhooks
        WHERE state = 'pending' AND next_at <= now() AND webhooks.lane = lanes.lane
        ORDER BY next_at LIMIT greatest(0, ($1 - coalesce(busy.under_way, 0) + 1) / 2)
    ) AS first
    ORDER BY first.next_at LIMIT $1
)
UPDATE webhooks SET next_at = now() + $2::interval, until = coalesce(until, now() + $3::interval)
WHERE id = ANY (ARRAY(
    SELECT id FROM webhooks
    WHERE id = ANY (ARRAY(SELECT id FROM due)) AND state = 'pending' AND next_at <= now() FOR UPDATE SKIP LOCKED
))
RETURNING id, run_id, seq, url, tries, lane, (SELECT account FROM runs WHERE runs.id = run_id) AS account;

-- name: record_try
-- $3: it arrived. $4: it never will. Otherwise it is tried again after $5, unless that is too late. A claim that was
-- overtaken, because it took too long, still tells what it saw.
WITH tried AS (
    INSERT INTO webhook_tries (webhook_id, at, status, error, duration_ms)
    SELECT id, now() - make_interval(secs => $8 / 1000.0), $6, $7, $8 FROM webhooks WHERE id = $1
)
UPDATE webhooks
SET tries = tries + 1, next_at = now() + $5::interval,
    state = CASE WHEN $3 THEN 'delivered' WHEN $4 OR now() + $5::interval > until THEN 'failed' ELSE 'pending' END
WHERE id = $1 AND state = 'pending' AND tries = $2
RETURNING state;

-- name: webhooks_of_run
SELECT * FROM webhooks WHERE run_id = $1 ORDER BY seq, id;

-- name: find_webhook
SELECT * FROM webhooks WHERE id = $1;

-- name: tries_of_webhooks
SELECT * FROM webhook_tries WHERE webhook_id = ANY($1::text[]) ORDER BY number;

-- name: redeliver_webhook
-- From the beginning, with the whole time before it.
WITH again AS (
    UPDATE webhooks SET state = 'pending', tries = 0, next_at = now(), until = NULL WHERE id = $1 RETURNING id
)
SELECT id, pg_notify('pupload_webhooks', '') FROM again;


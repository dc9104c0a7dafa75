-- Keys and accounts. A run's row is locked before its account's.

-- name: any_key
-- One that is revoked counts: to revoke the last key must not open the server to everybody.
SELECT EXISTS (SELECT FROM api_keys);

-- name: find_key
SELECT id, secret_sha256, account, scopes FROM api_keys
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: add_key
INSERT INTO api_keys (id, name, secret_sha256, account, expires_at, scopes)
VALUES ($1, $2, $3, $4, now() + $5::interval, $6)
ON CONFLICT (name) DO NOTHING RETURNING id;

-- name: list_keys
SELECT id, name, account, scopes, created_at, expires_at, revoked_at FROM api_keys ORDER BY created_at, id;

-- name: revoke_key
UPDATE api_keys SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL RETURNING id;

-- name: account
SELECT balance FROM accounts WHERE id = $1;

-- name: credit_account
-- What has no balance yet begins with nothing: from now on its runs are paid for.
INSERT INTO accounts (id, balance) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET balance = coalesce(accounts.balance, 0) + excluded.balance, updated_at = now()
RETURNING balance;

-- name: free_account
INSERT INTO accounts (id, balance) VALUES ($1, NULL) ON CONFLICT (id) DO UPDATE SET balance = NULL, updated_at = now();

-- name: set_budget
UPDATE runs SET budget = $2 WHERE id = $1;

-- name: charge_attempts
-- Each attempt once, however often its node changes afterwards. What the infrastructure lost costs nothing.
WITH ended AS (
    UPDATE attempts a
    SET cost = CASE WHEN a.state IN ('succeeded', 'failed', 'asked') AND a.reason IS DISTINCT FROM 'infra'
                    THEN t.price * extract(epoch FROM now() - a.claimed_at) ELSE 0 END
    FROM unnest($2::text[], $3::int[], $4::numeric[]) AS t(node_id, attempt, price)
    WHERE a.run_id = $1 AND a.node_id = t.node_id AND a.attempt = t.attempt AND a.cost IS NULL AND a.state <> 'running'
    RETURNING a.cost
), total AS (
    SELECT coalesce(sum(cost), 0) AS cost FROM ended
), charged AS (
    UPDATE runs SET spent = spent + total.cost FROM total WHERE id = $1 AND total.cost > 0 RETURNING account
)
UPDATE accounts SET balance = balance - total.cost, updated_at = now()
FROM charged, total WHERE accounts.id = charged.account AND balance IS NOT NULL;

-- name: exhausted_runs
-- Runs that move although their budget, or their account's balance less what runs now, is used up.
WITH prices AS (
    SELECT * FROM unnest($1::text[], $2::numeric[]) AS t(tier, price)
), accrued AS (
    SELECT a.run_id, r.account, sum(p.price * extract(epoch FROM now() - a.claimed_at)) AS amount
    FROM attempts a JOIN runs r ON r.id = a.run_id JOIN prices p ON p.tier = a.tier
    WHERE a.state = 'running' GROUP BY a.run_id, r.account
), by_account AS (
    SELECT account, sum(amount) AS amount FROM accrued GROUP BY account
)
SELECT r.id, r.budget - r.spent <= coalesce(c.amount, 0) IS TRUE AS over_budget
FROM runs r
LEFT JOIN accrued c ON c.run_id = r.id
LEFT JOIN by_account b ON b.account = r.account
LEFT JOIN accounts a ON a.id = r.account
WHERE r.status = 'RUNNING' AND r.ending IS NULL AND r.finished_at IS NULL
  AND (r.budget - r.spent <= coalesce(c.amount, 0) OR a.balance - coalesce(b.amount, 0) <= 0)
ORDER BY r.id LIMIT 200;

-- name: owner_of_run
SELECT account FROM runs WHERE id = $1;

-- name: owner_of_session
SELECT account FROM sessions WHERE id = $1;

-- name: owner_of_file
SELECT account FROM files WHERE id = $1;

-- name: owner_of_webhook
SELECT r.account FROM webhooks AS w JOIN runs AS r ON r.id = w.run_id WHERE w.id = $1;

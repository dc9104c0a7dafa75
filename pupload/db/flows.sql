-- Flows, their versions, node definitions. Order of locks: the flow's row, then its versions.
-- To read, a name means what the account has under it, else what the operator, account '', shares; the account's own
-- stands first, as '' sorts before every other. To change, it means the account's own alone.

-- name: put_draft
INSERT INTO flows (account, name, draft, secrets) VALUES ($1, $2, $3, $4)
ON CONFLICT (account, name) DO UPDATE SET draft = $3, secrets = $4, updated_at = now();

-- name: lock_flow
SELECT * FROM flows WHERE account = $1 AND name = $2 FOR UPDATE;

-- name: flow_header
SELECT f.*, COALESCE((SELECT max(n) FROM flow_versions WHERE (account, flow) = (f.account, f.name)), 0) AS newest
FROM flows AS f
WHERE f.account IN ($1, '') AND f.name = $2
ORDER BY f.account DESC LIMIT 1;

-- name: list_flows
SELECT DISTINCT ON (f.name)
       f.*, COALESCE((SELECT max(n) FROM flow_versions WHERE (account, flow) = (f.account, f.name)), 0) AS newest
FROM flows AS f
WHERE f.account IN ($1, '') AND ($2::text IS NULL OR f.name > $2)
ORDER BY f.name, f.account DESC LIMIT $3;

-- name: resolve_flow
-- One version of a flow beside its draft. $3 is production, draft, number or any; $4 the number.
SELECT f.draft, f.secrets AS draft_secrets, v.*
FROM flows AS f
LEFT JOIN flow_versions AS v ON v.account = f.account AND v.flow = f.name AND v.n = CASE $3
    WHEN 'production' THEN f.production
    WHEN 'number' THEN $4::int
    WHEN 'any' THEN COALESCE(f.production, (SELECT max(n) FROM flow_versions WHERE (account, flow) = (f.account, f.name)))
END
WHERE f.account IN ($1, '') AND f.name = $2
ORDER BY f.account DESC LIMIT 1;

-- name: drop_flow
DELETE FROM flows WHERE account = $1 AND name = $2;

-- name: drop_draft
UPDATE flows SET draft = NULL, secrets = NULL, updated_at = now() WHERE account = $1 AND name = $2;

-- name: newest_version
SELECT * FROM flow_versions WHERE account = $1 AND flow = $2 ORDER BY n DESC LIMIT 1;

-- name: insert_version
INSERT INTO flow_versions (account, flow, n, documents, secrets, digest, images, warnings)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: promote_version
UPDATE flows SET production = $3 WHERE account = $1 AND name = $2;

-- name: get_version
SELECT v.*, f.production IS NOT DISTINCT FROM v.n AS is_production
FROM flow_versions AS v JOIN flows AS f ON (f.account, f.name) = (v.account, v.flow)
WHERE v.account = $1 AND v.flow = $2 AND v.n = $3;

-- name: list_versions
-- Newest first, older than $3.
SELECT v.*, f.production IS NOT DISTINCT FROM v.n AS is_production
FROM flow_versions AS v JOIN flows AS f ON (f.account, f.name) = (v.account, v.flow)
WHERE v.account = $1 AND v.flow = $2 AND ($3::int IS NULL OR v.n < $3)
ORDER BY v.n DESC LIMIT $4;

-- name: insert_nodedef
INSERT INTO nodedefs (account, publisher, name, version, document) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING publisher;

-- name: replace_nodedef
UPDATE nodedefs SET document = $5, updated_at = now()
WHERE account = $1 AND publisher = $2 AND name = $3 AND version = $4;

-- name: nodedefs_of
-- Every version of each of these; where the account has one under the name, its own alone.
SELECT d.* FROM nodedefs AS d
JOIN unnest($2::text[], $3::text[]) AS t(publisher, name) ON t.publisher = d.publisher AND t.name = d.name
WHERE d.account = $1 OR d.account = '' AND NOT EXISTS (
    SELECT FROM nodedefs AS own WHERE (own.account, own.publisher, own.name) = ($1, d.publisher, d.name)
);

-- name: list_nodedefs
SELECT d.* FROM nodedefs AS d
WHERE ($2::text IS NULL OR d.publisher = $2)
  AND ($3::text IS NULL OR (d.publisher, d.name, d.version) > ($3, $4, $5))
  AND (d.account = $1 OR d.account = '' AND NOT EXISTS (
      SELECT FROM nodedefs AS own WHERE (own.account, own.publisher, own.name) = ($1, d.publisher, d.name)
  ))
ORDER BY d.publisher, d.name, d.version LIMIT $6;

-- Flows, their versions, node definitions. Order of locks: the flow's row, then its versions.

-- name: put_draft
INSERT INTO flows (name, draft, secrets) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET draft = $2, secrets = $3, updated_at = now();

-- name: lock_flow
SELECT * FROM flows WHERE name = $1 FOR UPDATE;

-- name: flow_header
SELECT f.*, COALESCE((SELECT max(n) FROM flow_versions WHERE flow = f.name), 0) AS newest FROM flows AS f WHERE name = $1;

-- name: list_flows
SELECT f.*, COALESCE((SELECT max(n) FROM flow_versions WHERE flow = f.name), 0) AS newest
FROM flows AS f
WHERE $1::text IS NULL OR f.name > $1
ORDER BY f.name LIMIT $2;

-- name: resolve_flow
-- One version of a flow beside its draft. $2 is production, draft, number or any; $3 the number.
SELECT f.draft, f.secrets AS draft_secrets, v.*
FROM flows AS f
LEFT JOIN flow_versions AS v ON v.flow = f.name AND v.n = CASE $2
    WHEN 'production' THEN f.production
    WHEN 'number' THEN $3::int
    WHEN 'any' THEN COALESCE(f.production, (SELECT max(n) FROM flow_versions WHERE flow = f.name))
END
WHERE f.name = $1;

-- name: drop_flow
DELETE FROM flows WHERE name = $1;

-- name: drop_draft
UPDATE flows SET draft = NULL, secrets = NULL, updated_at = now() WHERE name = $1;

-- name: newest_version
SELECT * FROM flow_versions WHERE flow = $1 ORDER BY n DESC LIMIT 1;

-- name: insert_version
INSERT INTO flow_versions (flow, n, documents, secrets, digest, images, warnings) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: promote_version
UPDATE flows SET production = $2 WHERE name = $1;

-- name: get_version
SELECT v.*, f.production IS NOT DISTINCT FROM v.n AS is_production
FROM flow_versions AS v JOIN flows AS f ON f.name = v.flow
WHERE v.flow = $1 AND v.n = $2;

-- name: list_versions
-- Newest first, older than $2.
SELECT v.*, f.production IS NOT DISTINCT FROM v.n AS is_production
FROM flow_versions AS v JOIN flows AS f ON f.name = v.flow
WHERE v.flow = $1 AND ($2::int IS NULL OR v.n < $2)
ORDER BY v.n DESC LIMIT $3;

-- name: insert_nodedef
INSERT INTO nodedefs (publisher, name, version, document) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING publisher;

-- name: replace_nodedef
UPDATE nodedefs SET document = $4, updated_at = now() WHERE publisher = $1 AND name = $2 AND version = $3;

-- name: nodedefs_of
-- Every version of each of these.
SELECT d.* FROM nodedefs AS d
JOIN unnest($1::text[], $2::text[]) AS t(publisher, name) ON t.publisher = d.publisher AND t.name = d.name;

-- name: list_nodedefs
SELECT * FROM nodedefs
WHERE ($1::text IS NULL OR publisher = $1) AND ($2::text IS NULL OR (publisher, name, version) > ($2, $3, $4))
ORDER BY publisher, name, version LIMIT $5;

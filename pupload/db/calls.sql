-- How runs were called.

-- name: run_as_called
-- The run's row with the small part of its request that answers repeat; the documents beside it stay where they are.
SELECT r.*, p.echo FROM runs AS r JOIN run_plans AS p ON p.run_id = r.id
WHERE r.id = $1 AND r.condemned_at IS NULL;

-- name: run_request
-- What was posted, without secrets.
SELECT documents, request FROM run_plans WHERE run_id = $1;

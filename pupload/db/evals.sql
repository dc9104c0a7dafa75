-- Evaluations of runs.

-- name: insert_evaluations
INSERT INTO evaluations (run_id, name, state)
SELECT $1, name, state FROM unnest($2::text[], $3::text[]) AS t(name, state);

-- name: evaluations_of_run
SELECT name, state, eval_run, verdict, error FROM evaluations WHERE run_id = $1 ORDER BY name;

-- name: begin_evaluation
UPDATE evaluations SET eval_run = $3 WHERE run_id = $1 AND name = $2;

-- name: settle_evaluation
-- Once. Whoever waits for the judged run's evaluations is told to look. $6 is the run that judged, "" where none could:
-- whoever began it may have died before that was noted.
WITH settled AS (
    UPDATE evaluations SET state = $3, verdict = $4, error = $5, eval_run = CASE $6 WHEN '' THEN eval_run ELSE $6 END
    WHERE run_id = $1 AND name = $2 AND state = 'pending' RETURNING run_id
)
SELECT pg_notify('pupload_run', run_id) FROM settled;

-- name: evaluations_without_run
-- Or with one that is not noted; it is found again by its key.
SELECT DISTINCT run_id FROM evaluations
WHERE state = 'pending' AND eval_run = '' AND created_at < now() - $1::interval
LIMIT 100;

-- name: evaluations_with_ended_run
SELECT r.id FROM evaluations e
JOIN runs r ON (r.parent_run, r.parent_node, r.parent_attempt) = (e.run_id, e.name, 0)
WHERE e.state = 'pending' AND r.finished_at < now() - $1::interval
ORDER BY random() LIMIT 100;

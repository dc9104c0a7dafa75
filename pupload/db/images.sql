-- What the names of images mean in a run.

-- name: pin_image
-- The first who says it settles it for the run; who comes later gets what was said. Nothing without the lease.
-- The run first: a claim holds it when it comes to the image, and would wait for us while our reference waits for it.
WITH run AS (
    SELECT id FROM runs WHERE id = $1 FOR KEY SHARE
)
INSERT INTO run_images (run_id, image, exact)
SELECT run.id, $5, $6 FROM run JOIN attempts ON run_id = run.id
WHERE node_id = $2 AND attempt = $3 AND lease = $4 AND state = 'running'
ON CONFLICT (run_id, image) DO UPDATE SET exact = run_images.exact
RETURNING exact;

-- name: insert_images
INSERT INTO run_images (run_id, image, exact)
SELECT $1, image, exact FROM unnest($2::text[], $3::text[]) AS t(image, exact);

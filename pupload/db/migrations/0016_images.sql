-- What the names of images mean in a run: what the first of its attempts found that looked, for all that come after.

CREATE TABLE run_images (
    run_id  text NOT NULL REFERENCES runs ON DELETE CASCADE,
    image   text NOT NULL,
    exact   text NOT NULL,
    PRIMARY KEY (run_id, image)
);

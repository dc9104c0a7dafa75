-- What goes away: runs that are being removed, and objects that are kept for a time only.

-- From here on nobody can begin to name the run's objects; it is removed soon, by whoever sees this.
ALTER TABLE runs ADD COLUMN condemned_at timestamptz;
CREATE INDEX runs_condemned ON runs (id) WHERE condemned_at IS NOT NULL;

-- Artifacts of ended runs whose wells have a lifetime. The rows stay, so that it can be told why there is no artifact.
CREATE TABLE expiries (
    run_id      text NOT NULL REFERENCES runs ON DELETE CASCADE,
    edge        text NOT NULL,
    store       text NOT NULL,
    key         text NOT NULL,
    etag        text NOT NULL,
    origin      text NOT NULL,
    due         timestamptz NOT NULL,
    removed_at  timestamptz,
    PRIMARY KEY (run_id, edge)
);
CREATE INDEX expiries_due ON expiries (due) WHERE removed_at IS NULL;

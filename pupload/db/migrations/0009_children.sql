-- Runs that other runs wait for: of nodes that call a flow, and evaluations.

-- An attempt that calls a flow has no worker and no lease: it is `calling` until its run has ended.
CREATE INDEX attempts_calling ON attempts (claimed_at) WHERE state = 'calling';
CREATE INDEX runs_called ON runs (parent_run) WHERE parent_run IS NOT NULL AND finished_at IS NULL;

-- The evaluations of an ended run. Their runs have it as their parent, its evaluation's name as the node, attempt 0.
CREATE TABLE evaluations (
    run_id      text NOT NULL REFERENCES runs ON DELETE CASCADE,
    name        text NOT NULL,
    state       text NOT NULL,
    eval_run    text NOT NULL DEFAULT '',
    verdict     json,
    error       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, name)
);
CREATE INDEX evaluations_pending ON evaluations (created_at) WHERE state = 'pending';

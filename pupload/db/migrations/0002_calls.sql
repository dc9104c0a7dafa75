-- How a run was called: by whom, from what definition, on behalf of which other run.

ALTER TABLE runs
    ADD COLUMN parent_run     text,
    ADD COLUMN parent_node    text,
    ADD COLUMN parent_attempt integer,
    ADD COLUMN root_run       text NOT NULL DEFAULT '',
    ADD COLUMN replay_of      text NOT NULL DEFAULT '',
    ADD COLUMN account        text NOT NULL DEFAULT '';
CREATE INDEX runs_by_parent ON runs (parent_run, parent_node, parent_attempt) WHERE parent_run IS NOT NULL;
CREATE INDEX runs_by_session ON runs (session_id, id) WHERE session_id <> '';

-- What was posted, without secrets: a replay begins from it, and the run's answer echoes the request.
ALTER TABLE run_plans
    ADD COLUMN documents text NOT NULL DEFAULT '{}',
    ADD COLUMN request   text NOT NULL DEFAULT '{}';

-- An object may belong to another run, or to a file: it must outlive its owner as long as it is named here.
ALTER TABLE artifacts ADD COLUMN origin text NOT NULL DEFAULT '';
CREATE INDEX artifacts_by_origin ON artifacts (origin, key) WHERE origin <> '';

-- What is counted of an account when it wants more.

ALTER TABLE runs ADD COLUMN nodes int NOT NULL DEFAULT 0;
CREATE INDEX runs_active ON runs (account) INCLUDE (nodes, parent_run) WHERE finished_at IS NULL;

-- From here on `size_bytes` of a file that is arriving is what was announced.
CREATE INDEX files_stored ON files (account) INCLUDE (size_bytes) WHERE state IN ('arriving', 'kept');

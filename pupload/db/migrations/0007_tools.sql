-- What nodes ask of the client, and what an attempt read and wrote, for whoever looks for a fault.

ALTER TABLE run_nodes
    ADD COLUMN rounds integer NOT NULL DEFAULT 0,
    ADD COLUMN asked  integer NOT NULL DEFAULT 0;

-- One row for each time that a node asked; `results` are null until the client has answered. The state is the tar of
-- the folder that the node goes on with, "" for an empty one.
CREATE TABLE tool_rounds (
    run_id        text NOT NULL REFERENCES runs ON DELETE CASCADE,
    node_id       text NOT NULL,
    round         integer NOT NULL,
    attempt       integer NOT NULL,
    calls         json NOT NULL,
    results       json,
    state_key     text NOT NULL DEFAULT '',
    state_bytes   bigint NOT NULL DEFAULT 0,
    state_sha256  text NOT NULL DEFAULT '',
    asked_at      timestamptz NOT NULL DEFAULT now(),
    answered_at   timestamptz,
    PRIMARY KEY (run_id, node_id, round)
);

ALTER TABLE attempts ADD COLUMN snapshots json;

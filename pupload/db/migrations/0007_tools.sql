-- What nodes ask of the client, and what an attempt read and wrote, for whoever looks for a fault.

ALTER TABLE run_nodes
    ADD COLUMN rounds integer NOT NULL DEFAULT 0,
    ADD COLUMN asked  integer NOT NULL DEFAULT 0;

-- One row for each time that a node asked; `results` are null until the client has answered.
CREATE TABLE tool_rounds (
    run_id       text NOT NULL REFERENCES runs ON DELETE CASCADE,
    node_id      text NOT NULL,
    round        integer NOT NULL,
    attempt      integer NOT NULL,
    calls        json NOT NULL,
    results      json,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    answered_at  timestamptz,
    PRIMARY KEY (run_id, node_id, round)
);

ALTER TABLE attempts ADD COLUMN snapshots json;

-- What is to be told to those who asked, and what became of each try.

CREATE TABLE webhooks (
    id          text PRIMARY KEY,
    run_id      text NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq         bigint NOT NULL,
    type        text NOT NULL,
    url         text NOT NULL,
    state       text NOT NULL DEFAULT 'pending',
    tries       integer NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    next_at     timestamptz NOT NULL DEFAULT now(),
    until       timestamptz
);
CREATE INDEX webhooks_of_run ON webhooks (run_id, seq);
CREATE INDEX webhooks_due ON webhooks (next_at) WHERE state = 'pending';

CREATE TABLE webhook_tries (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id   text NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    at           timestamptz NOT NULL,
    status       integer,
    error        text NOT NULL,
    duration_ms  integer NOT NULL
);
CREATE INDEX webhook_tries_of ON webhook_tries (webhook_id);

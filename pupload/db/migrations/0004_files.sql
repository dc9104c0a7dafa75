-- What comes from outside before there is a run, or beside its edges.

-- `used_at` is when a run last began with it, or when its upload was given up. arriving: its bytes may still come; kept; removed: nobody can name it any
-- more, and runs that hold it still read it; doomed: its object goes, then the row.
CREATE TABLE files (
    id            text PRIMARY KEY,
    account       text NOT NULL,
    name          text NOT NULL,
    state         text NOT NULL DEFAULT 'arriving',
    key           text NOT NULL,
    size_bytes    bigint NOT NULL DEFAULT 0,
    content_type  text NOT NULL DEFAULT '',
    sha256        text NOT NULL DEFAULT '',
    etag          text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    used_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_of_account ON files (account, id) WHERE state = 'kept';
CREATE INDEX files_by_use ON files (used_at);

-- Objects that are being put for runs that are not stored yet: written before the object, gone with the run's own
-- transaction. `declared` is how to reach a store that the flow brings, encrypted; null for the server's own. Once
-- `doomed_at` is set no run can have it, and some time later the object goes, then the row.
CREATE TABLE intakes (
    run_id      text NOT NULL,
    edge        text NOT NULL,
    store       text NOT NULL,
    key         text NOT NULL,
    declared    bytea,
    doomed_at   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, edge)
);

-- Where the attachments of a run are fetched from, encrypted: such a URL may be a secret.
CREATE TABLE run_attachments (
    run_id  text NOT NULL REFERENCES runs ON DELETE CASCADE,
    name    text NOT NULL,
    sealed  bytea NOT NULL,
    PRIMARY KEY (run_id, name)
);

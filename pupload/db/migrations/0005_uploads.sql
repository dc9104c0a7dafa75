-- Uploads in parts, and wells that are posted to.

-- `hooked`: comes through the server only, so no store is looked into for it.
ALTER TABLE uploads ADD COLUMN hooked boolean NOT NULL DEFAULT false;

-- `store_upload` is the store's own name for it.
CREATE TABLE upload_sessions (
    id               text PRIMARY KEY,
    run_id           text NOT NULL REFERENCES runs ON DELETE CASCADE,
    edge             text NOT NULL,
    store            text NOT NULL,
    key              text NOT NULL,
    store_upload     text NOT NULL,
    content_type     text NOT NULL,
    size_bytes       bigint NOT NULL,
    part_size_bytes  bigint NOT NULL,
    state            text NOT NULL DEFAULT 'open',
    created_at       timestamptz NOT NULL DEFAULT now(),
    touched_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL
);
CREATE INDEX upload_sessions_of_run ON upload_sessions (run_id);
CREATE INDEX upload_sessions_begun ON upload_sessions (expires_at) WHERE state IN ('open', 'completing');

-- Sessions: variables, and a folder that is kept between the containers of their runs.

-- `version` counts the states of the folder; `key` is the archive of the newest one, '' for an empty folder.
-- `born_with` is the run that the session was made for, null for one that was made by itself.
-- `removed_at` is set before anything goes: from then on nobody finds the session.
CREATE TABLE sessions (
    id          text PRIMARY KEY,
    account     text NOT NULL DEFAULT '',
    variables   text NOT NULL DEFAULT '{}',
    born_with   text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    used_at     timestamptz NOT NULL DEFAULT now(),
    swept_at    timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz,
    version     bigint NOT NULL DEFAULT 0,
    key         text NOT NULL DEFAULT '',
    size_bytes  bigint NOT NULL DEFAULT 0,
    sha256      text NOT NULL DEFAULT ''
);
CREATE INDEX sessions_of_account ON sessions (account, id);
CREATE INDEX sessions_by_use ON sessions (used_at);
CREATE INDEX sessions_to_sweep ON sessions (swept_at) WHERE used_at > swept_at;
CREATE INDEX sessions_removed ON sessions (removed_at) WHERE removed_at IS NOT NULL;

-- `session_key` is the archive that the attempt began with, '' for an empty folder. `session_alone`: no other may use the session meanwhile.
-- `session_overtaken`: another attempt's change came first, and this one did not count.
ALTER TABLE attempts
    ADD COLUMN session_id        text NOT NULL DEFAULT '',
    ADD COLUMN session_key       text NOT NULL DEFAULT '',
    ADD COLUMN session_alone     boolean NOT NULL DEFAULT false,
    ADD COLUMN session_overtaken boolean NOT NULL DEFAULT false;
CREATE INDEX attempts_by_session ON attempts (session_id) WHERE state = 'running' AND session_id <> '';

-- What keys may be used for, and whose things are.

-- A key that was made before could do all but what `admin` is for.
ALTER TABLE api_keys ADD COLUMN scopes text[] NOT NULL DEFAULT '{run:read,run:create,flow:write,files}';

CREATE INDEX runs_of_account ON runs (account, id);

-- Who may call, and what their runs may cost. Amounts are credits; a tier's price is in credits for each second.

CREATE TABLE accounts (
    id          text PRIMARY KEY,
    balance     numeric,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id             text PRIMARY KEY,
    name           text NOT NULL UNIQUE,
    secret_sha256  bytea NOT NULL,
    account        text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    revoked_at     timestamptz
);

ALTER TABLE runs
    ADD COLUMN budget numeric,
    ADD COLUMN spent  numeric NOT NULL DEFAULT 0;

-- What the attempt has cost, written once, when it has ended; null before that, and where nothing has a price.
ALTER TABLE attempts ADD COLUMN cost numeric;
